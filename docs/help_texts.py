"""What every command of the program prints for ``--help``, as Markdown; cog writes it into cli.md (``make docs``)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import typer
from trimodal.cli import app

TERMINAL = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def help_texts() -> str:
    """A heading and a block for the program itself, "index", ..., "models", "models list", ..."""
    program = typer.main.get_command(app)
    return "\n".join(
        f"## trimodal {name}".rstrip() + f"\n\n```\n{help_of(name)}\n```\n" for name in _names(program, "")
    )


def help_of(command: str) -> str:
    """What ``trimodal COMMAND --help`` prints at 80 columns."""
    os.environ.update(TERMINAL)
    printed = io.StringIO()
    with redirect_stdout(printed):
        typer.main.get_command(app).main([*command.split(), "--help"], prog_name="trimodal", standalone_mode=False)
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def _names(command: Any, name: str) -> Iterator[str]:
    """``name`` and the names of the commands inside ``command``, which is click's or Typer's own copy of it."""
    yield name
    for part, inner in getattr(command, "commands", {}).items():
        yield from _names(inner, f"{name} {part}".strip())
