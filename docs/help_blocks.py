"""Keep the ``--help`` blocks of README.md true: ``--write`` renews them, ``--check`` fails where they differ.

A block stands between ``<!-- help: COMMAND -->`` and ``<!-- /help -->``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- help: (?P<command>[a-z ]*?) ?-->\n).*?(<!-- /help -->)", re.DOTALL)


def help_of(command: str) -> str:
    """What ``trimodal COMMAND --help`` prints at 100 columns."""
    code = "import sys; from trimodal.cli import app; sys.argv[0] = 'trimodal'; app(prog_name='trimodal')"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--help"], capture_output=True, text=True, check=True,
        env={"COLUMNS": "100", "PATH": "/usr/bin:/bin", "TERM": "dumb", "NO_COLOR": "1"},
    )  # fmt: skip
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def renewed(text: str) -> str:
    """``text`` with every block renewed."""
    return BLOCK.sub(lambda m: f"{m[1]}```\n{help_of(m['command'])}\n```\n{m[3]}", text)


def main() -> None:
    """Write or check README.md."""
    text = README.read_text(encoding="utf-8")
    fresh = renewed(text)
    if "--write" in sys.argv:
        README.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        sys.exit("README.md: a --help block is not what the program prints; run `make docs`")


if __name__ == "__main__":
    main()
