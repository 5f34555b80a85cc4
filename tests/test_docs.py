"""README's --help blocks are what the program prints."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_help_blocks_of_the_readme_are_true() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "help_blocks.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_has_a_block_for_the_commands_that_people_use() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("index", "search", "bench", "train dual"):
        assert f"<!-- help: {command} -->" in text
