"""A benchmark's result for the terminal: its table, in shorter words where it is narrow, and the lines below.

Knows nothing of how the numbers were made.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from indexer.files import display_path
from retrieval.evaluation.report.rows import (
    CAPTION_COLUMNS,
    NO_CAPTION,
    caption_cells,
    caption_notes,
    notes,
    report_title,
    table_cells,
    table_columns,
)
from retrieval.evaluation.results import BenchmarkResult
from retrieval.fitted import FittedTable, Version


def render(result: BenchmarkResult) -> Group:
    """The result as something that rich prints."""
    columns = table_columns(result)
    words = frozenset(("direction",))
    rows = [table_cells(direction, columns) for direction in result.results]
    table = FittedTable(Version(columns, rows, words), Version(*_shorter(result, columns, rows), words))
    parts: list[RenderableType] = [Text(report_title(result), style="italic"), table]
    parts += [Text(line) for line in notes(result, columns)]
    if result.captions is not None:
        table = FittedTable(Version(CAPTION_COLUMNS, [caption_cells(result.captions)]))
        parts += [Text(""), Text("captions", style="italic"), table]
        parts += [Text(line) for line in caption_notes(result.captions)]
        for example in result.captions.examples:
            parts.append(Text(f"{example.path}: {display_path(example.caption) or NO_CAPTION}"))
            parts += [Text(f"    {display_path(reference)}") for reference in example.references]
    return Group(*parts)


def _shorter(result: BenchmarkResult, columns: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for 80 cells: counts without their nouns, and a second stage below its direction."""
    short = []
    before = None
    for direction, row in zip(result.results, rows, strict=True):
        cells = dict(zip(columns, row, strict=True))
        cells["queries"], cells["pool"] = f"{direction.n_queries:,}", f"{direction.n_candidates:,}"
        if direction.direction == before:
            cells["direction"] = f"  {direction.stage}"
        before = direction.direction
        short.append(list(cells.values()))
    return [name.replace("chance R@1", "chance") for name in columns], short
