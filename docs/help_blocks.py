"""Keep the ``--help`` blocks of docs/cli.md true: ``--write`` renews them, ``--check`` fails where they differ.

A block stands between ``<!-- help: COMMAND -->`` and ``<!-- /help -->``; the page has one for every command of the
program. Knows nothing of what the commands do.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import typer
from trimodal.cli import app

PAGE = Path(__file__).resolve().parent / "cli.md"
BLOCK = re.compile(r"(<!-- help: (?P<command>[a-z ]*?) ?-->\n).*?(<!-- /help -->)", re.DOTALL)
TERMINAL = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def commands() -> list[str]:
    """Every command of the program: "" for the program itself, "index", ..., "models list", ..."""
    return list(_below(typer.main.get_command(app), ""))


def _below(command: Any, name: str) -> Iterator[str]:
    """``name`` and the names of the commands inside ``command``, which is click's or Typer's own copy of it."""
    yield name
    for part, inner in getattr(command, "commands", {}).items():
        yield from _below(inner, f"{name} {part}".strip())


def help_of(command: str) -> str:
    """What ``trimodal COMMAND --help`` prints at 80 columns."""
    os.environ.update(TERMINAL)
    printed = io.StringIO()
    with redirect_stdout(printed):
        typer.main.get_command(app).main([*command.split(), "--help"], prog_name="trimodal", standalone_mode=False)
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def renewed(text: str) -> str:
    """``text`` with every block renewed."""
    return BLOCK.sub(lambda m: f"{m[1]}```\n{help_of(m['command'])}\n```\n{m[3]}", text)


def missing(text: str) -> list[str]:
    """Commands of the program that have no block in ``text``, and blocks of commands that it does not have."""
    blocks = [block["command"] for block in BLOCK.finditer(text)]
    return sorted(set(blocks).symmetric_difference(commands()))


def main() -> None:
    """Write or check docs/cli.md."""
    text = PAGE.read_text(encoding="utf-8")
    fresh = renewed(text)
    if names := missing(text):
        sys.exit(f"docs/cli.md: a block too many or too few, for {', '.join(names)}")
    if "--write" in sys.argv:
        PAGE.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        sys.exit("docs/cli.md: a --help block is not what the program prints; run `make docs`")


if __name__ == "__main__":
    main()
