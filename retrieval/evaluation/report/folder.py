"""A report's folder: a page in HTML, the same in Markdown, and JSON and CSV beside them.

Knows nothing of how the numbers were made; raises ``StorageError`` where a report cannot be written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from indexer.errors import StorageError
from indexer.files import display_path, one_line
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.report.html.page import page
from retrieval.evaluation.report.markdown import as_markdown
from retrieval.evaluation.results import BenchmarkResult
from retrieval.evaluation.runs import Run
from retrieval.output import CsvFile, harmless
from retrieval.output import json_text as document_text

_CSV_COLUMNS = [
    "dataset",
    "model",
    "direction",
    "stage",
    "queries",
    "candidates",
    "metric",
    "value",
    "ci95_low",
    "ci95_high",
    "chance",
]
_NUMBERS = re.compile(r"\[\n\s+([-+.\deE]+(?:,\n\s+[-+.\deE]+)*)\n\s*\]")


def as_document(
    result: BenchmarkResult, provenance: Mapping[str, Any] | None = None, data_folder: Path | None = None
) -> dict[str, Any]:
    """``report.json``: what ``bench --json`` prints, the details of each direction, and where it was measured.

    A report is shown to others: of files below ``data_folder`` it says only where they are there.
    """
    document = result.to_json(details=True)
    above = "" if data_folder is None else f"{display_path(data_folder)}/"
    if above:
        document["skipped"] = [
            {name: text.replace(above, "") for name, text in skipped.items()} for skipped in document["skipped"]
        ]
        document["warnings"] = [warning.replace(above, "") for warning in document["warnings"]]
    return {**document, "provenance": None if provenance is None else dict(provenance)}


def as_csv(result: BenchmarkResult) -> str:
    """A line a direction, stage and metric, shares as numbers of 1."""
    out = StringIO()
    rows = CsvFile(out, _CSV_COLUMNS)
    for one in result.results:
        values = {
            **{f"hit_rate_at_{k}": value for k, value in one.hit_rate_at.items()},
            **{f"recall_at_{k}": value for k, value in one.recall_at.items()},
            "mrr": one.mrr,
        }
        for metric, value in values.items():
            rows.row(
                [
                    display_path(result.dataset),
                    one_line(result.encoder),
                    one.direction,
                    one.stage,
                    one.n_queries,
                    one.n_candidates,
                    metric,
                    value,
                    *one.ci95[metric],
                    one.chance.get(metric, ""),
                ]
            )
    return out.getvalue()


def as_html(document: Mapping[str, Any], benchmark: Benchmark | None = None) -> str:
    """``report.json`` as a page that needs nothing beside itself; pictures and sounds from ``benchmark``."""
    return page([Run(document["encoder"], "report.json", document)], benchmark=benchmark)


def write_report(
    result: BenchmarkResult,
    folder: Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    benchmark: Benchmark | None = None,
) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``report.json`` and ``report.csv`` into ``folder``; gives their paths.

    ``benchmark``: what was measured, for pictures and sounds.
    """
    document = as_document(result, provenance, None if benchmark is None else benchmark.path.parent)
    return write_files(
        folder,
        {
            "report.html": as_html(document, benchmark),
            "report.md": as_markdown(result),
            "report.json": json_text(document),
            "report.csv": as_csv(result),
        },
    )


def write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write ``texts`` by their names into ``folder``, made if need be; ``StorageError`` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(harmless(text), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{display_path(folder)}: the report cannot be written ({one_line(error.strerror or error)}); "
            f"give another --report folder"
        ) from error
    return [folder / name for name in texts]


def json_text(document: Mapping[str, Any]) -> str:
    """JSON with lists of numbers on one line: a rank a line would be thousands of lines."""
    text = document_text(document, indent=2)
    # Strings hold no bare newline in JSON, so what is matched is a list.
    return _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"
