"""What the terminal shows of a benchmark's result, as plain text."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from retrieval.evaluation.report.text import render
from retrieval.evaluation.results import BenchmarkResult


def as_text(result: BenchmarkResult, width: int = 110) -> str:
    """What :func:`render` prints, without colours."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(render(result))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
