"""A comparison of runs for people: tables for the terminal, and a folder with a page, JSON and CSV.

Knows nothing of how the differences were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from indexer.errors import UsageError
from indexer.files import display_path, one_line
from retrieval.evaluation.compare import RunComparison, change_cells, metric_name, shown_p, to_json
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.report.folder import json_text, write_files
from retrieval.evaluation.report.html.page import page
from retrieval.fitted import FittedTable, Version
from retrieval.output import CsvFile

_NOTES = (
    "difference: in points (R@k, hit rate) or as it is (MRR), with its 95% bootstrap interval over the queries, paired",
    "p: two-sided sign-flip randomisation test over the queries; not corrected for the number of rows",
    "recall@k is in --json and --report",
)
_CSV_COLUMNS = [
    "baseline",
    "run",
    "direction",
    "baseline_stage",
    "stage",
    "metric",
    "baseline_value",
    "run_value",
    "difference",
    "ci95_low",
    "ci95_high",
    "p_value",
    "queries",
    "better",
    "worse",
]


def render(comparisons: Sequence[RunComparison]) -> Group:
    """The comparisons as something that rich prints."""
    parts: list[RenderableType] = []
    for one in comparisons:
        parts += [
            Text(_title(one), style="italic"),
            _table(one),
            *(Text(f"left out, {line}") for line in one.left_out),
            Text(""),
        ]
    return Group(*parts, *(Text(note) for note in _NOTES))


def as_csv(comparisons: Sequence[RunComparison]) -> str:
    """A line a difference, shares as numbers of 1."""
    out = StringIO()
    rows = CsvFile(out, _CSV_COLUMNS)
    for comparison in comparisons:
        for one in comparison.differences:
            rows.row(
                [
                    comparison.baseline.label,
                    comparison.run.label,
                    one.direction,
                    one.baseline_stage,
                    one.stage,
                    one.metric,
                    one.baseline,
                    one.value,
                    one.difference,
                    *one.ci95,
                    one.p_value,
                    one.n_queries,
                    one.better,
                    one.worse,
                ]
            )
    return out.getvalue()


def write_comparison(
    comparisons: Sequence[RunComparison], folder: Path, *, benchmark: Benchmark | None = None
) -> list[Path]:
    """Write ``comparison.html``, ``comparison.json`` and ``comparison.csv`` into ``folder``; gives their paths.

    ``benchmark``: what was measured, for pictures, sounds and the queries that changed.
    """
    runs = [comparisons[0].baseline, *(comparison.run for comparison in comparisons)]
    try:
        made = page(runs, comparisons, benchmark)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:  # JSON that somebody has edited
        sources = ", ".join(run.source for run in runs)
        raise UsageError(f"{sources}: one of them is damaged ({one_line(error)}); measure that run again") from error
    return write_files(
        folder,
        {
            "comparison.html": made,
            "comparison.json": json_text(to_json(comparisons)),
            "comparison.csv": as_csv(comparisons),
        },
    )


def _title(comparison: RunComparison) -> str:
    return f"{comparison.run.label} against {comparison.baseline.label}, {display_path(_dataset(comparison))}"


def _table(comparison: RunComparison) -> FittedTable:
    rows: list[list[str]] = []
    short: list[list[str] | str] = []
    heading = None
    # first what a user gets of either run, then stage against stage
    by_stage = sorted(comparison.differences, key=lambda one: (one.stage == one.baseline_stage, one.stage == "dual"))
    for one in by_stage:
        if one.metric.startswith("recall"):
            continue
        stages = one.stage if one.stage == one.baseline_stage else f"{one.baseline_stage} -> {one.stage}"
        direction = one.direction + ("" if stages == "dual" else f" ({stages})")
        cells = [*change_cells(one), shown_p(one.p_value), f"{one.better:,}", f"{one.worse:,}"]
        rows.append([direction, metric_name(one.metric), *cells, f"{one.n_queries:,}"])
        of = f"{direction}, {one.n_queries:,} queries"
        if of != heading:
            short.append(of)
        heading = of
        short.append([f"  {metric_name(one.metric)}", *cells])
    columns = ["metric", "before", "after", "difference", "p", "better", "worse"]
    return FittedTable(
        Version(["direction", *columns, "queries"], rows, frozenset(("direction", "metric"))),
        Version(columns, short, frozenset(("metric",))),
    )


def _dataset(comparison: RunComparison) -> str:
    return str(comparison.baseline.document["dataset"])
