"""A benchmark's result for people: a table for the terminal, pages in Markdown and HTML, and JSON and CSV beside them.

Knows nothing of how the numbers were made; raises ``StorageError`` where a report cannot be written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from indexer.errors import StorageError
from indexer.files import display_path, one_line, printable
from retrieval.evaluation.caption_metrics import TOKENS
from retrieval.evaluation.captioning import CaptionResult
from retrieval.evaluation.compare import Run
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.fitted import FittedTable, Version
from retrieval.evaluation.report.html.page import page
from retrieval.evaluation.results import BenchmarkResult, DirectionResult
from retrieval.output import CsvFile, harmless
from retrieval.output import json_text as document_text

_HIT_NOTE = "R@k: share of the queries with a relevant one in the top k (hit rate), % [95% interval]"
_RECALL_NOTE = "recall@k: mean share of a query's relevant ones in the top k, %"
_SHOWN_SKIPS = 10
_CAPTION_COLUMNS = ["BLEU-4", "METEOR", "CIDEr", "pictures", "references", "beams"]
_SAID_NOTHING = "(nothing)"
_CSV_COLUMNS = [
    "dataset", "model", "direction", "stage", "queries", "candidates", "metric", "value", "ci95_low", "ci95_high",
    "chance",
]  # fmt: skip
#: What Markdown, with GitHub's tables, formulas and addresses, makes more of than text.
_MARKDOWN = re.compile(r"[\\`*_|~$]|\](?=[(\[:])|(?<!\w)@(?=\w)|(?<=\w)@(?=\w+\.\w)|^(?:>|[#+-](?=\s))")
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*:(?=\S)|\bwww\.", re.IGNORECASE)
_NUMBERS = re.compile(r"\[\n\s+([-+.\deE]+(?:,\n\s+[-+.\deE]+)*)\n\s*\]")


def render(result: BenchmarkResult) -> Group:
    """The result as something that rich prints."""
    columns = _columns(result)
    words = frozenset(("direction",))
    rows = [_cells(direction, columns) for direction in result.results]
    table = FittedTable(Version(columns, rows, words), Version(*_shorter(result, columns, rows), words))
    parts: list[RenderableType] = [Text(_title(result), style="italic"), table]
    parts += [Text(line) for line in _notes(result, columns)]
    if result.captions is not None:
        table = FittedTable(Version(_CAPTION_COLUMNS, [_caption_cells(result.captions)]))
        parts += [Text(""), Text("captions", style="italic"), table]
        parts += [Text(line) for line in _caption_notes(result.captions)]
        for example in result.captions.examples:
            parts.append(Text(f"{example.path}: {display_path(example.caption) or _SAID_NOTHING}"))
            parts += [Text(f"    {display_path(reference)}") for reference in example.references]
    return Group(*parts)


def as_text(result: BenchmarkResult, width: int = 110) -> str:
    """What :func:`render` prints, without colours."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(render(result))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def as_markdown(result: BenchmarkResult) -> str:
    """The result as a page."""
    columns = _columns(result)
    lines = [f"# {_escaped(_title(result))}", "", _markdown_row(columns), _markdown_row(["---"] * len(columns))]
    lines += [_markdown_row(_cells(direction, columns)) for direction in result.results]
    lines += ["", *(f"- {_escaped(note)}" for note in _notes(result, columns))]
    if result.captions is not None:
        lines += [
            "",
            "## Captions",
            "",
            _markdown_row(_CAPTION_COLUMNS),
            _markdown_row(["---"] * len(_CAPTION_COLUMNS)),
        ]
        lines += [_markdown_row(_caption_cells(result.captions)), ""]
        lines += [f"- {_escaped(note)}" for note in _caption_notes(result.captions)]
        lines += ["", _markdown_row(["picture", "caption", "references"]), _markdown_row(["---"] * 3)]
        for example in result.captions.examples:
            references = " / ".join(map(display_path, example.references))
            lines.append(_markdown_row([example.path, display_path(example.caption) or _SAID_NOTHING, references]))
    return "\n".join(lines) + "\n"


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
                    display_path(result.dataset), one_line(result.encoder), one.direction, one.stage, one.n_queries,
                    one.n_candidates, metric, value, *one.ci95[metric], one.chance.get(metric, ""),
                ]
            )  # fmt: skip
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


def _title(result: BenchmarkResult) -> str:
    return f"{result.dataset}, model {one_line(result.encoder)}"


def _columns(result: BenchmarkResult) -> list[str]:
    """recall@k only where it differs from R@k: with one relevant candidate a query, they are one number."""
    columns = ["direction", "queries", "pool", "R@1", "R@5", "R@10", "MRR", "chance R@1"]
    if any(dict(direction.hit_rate_at) != dict(direction.recall_at) for direction in result.results):
        columns += ["recall@1", "recall@5", "recall@10"]
    return columns


def _cells(direction: DirectionResult, columns: list[str]) -> list[str]:
    interval = direction.ci95["hit_rate_at_1"]
    cells = {
        "direction": direction.direction + ("" if direction.stage == "dual" else f" ({direction.stage})"),
        "queries": f"{direction.n_queries:,} {direction.queries}",
        "pool": f"{direction.n_candidates:,} {direction.candidates}",
        "R@1": f"{_percent(direction.hit_rate_at[1])} [{_percent(interval[0])}, {_percent(interval[1])}]",
        "R@5": _percent(direction.hit_rate_at[5]),
        "R@10": _percent(direction.hit_rate_at[10]),
        "MRR": f"{direction.mrr:.3f}",
        "chance R@1": f"{100 * direction.chance['hit_rate_at_1']:.2f}",
        "recall@1": _percent(direction.recall_at[1]),
        "recall@5": _percent(direction.recall_at[5]),
        "recall@10": _percent(direction.recall_at[10]),
    }
    return [cells[column] for column in columns]


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


def _notes(result: BenchmarkResult, columns: list[str]) -> Iterator[str]:
    yield _HIT_NOTE
    if "recall@1" in columns:
        yield _RECALL_NOTE
    counted = [f"{count:,} {name}" for name, count in result.items.items() if count]
    yield f"items: {', '.join(counted)}; {result.captions_per_item:.2g} captions an item, {result.seconds:.1f} s"
    yield from _rerank_notes(result)
    yield from result.more_notes()
    yield f"manifest {display_path(result.manifest_name)} sha256 {result.manifest_sha256[:12]}"
    yield from (f"warning: {warning}" for warning in result.warnings)
    if result.skipped:
        yield f"skipped: {len(result.skipped):,}"
    yield from (f"  {skipped.path}: {skipped.reason}" for skipped in result.skipped[:_SHOWN_SKIPS])
    if len(result.skipped) > _SHOWN_SKIPS:
        yield f"  and {len(result.skipped) - _SHOWN_SKIPS:,} more; --json lists them all"


def _rerank_notes(result: BenchmarkResult) -> Iterator[str]:
    """What the second stage gave, whether its probabilities can be believed, and what it cost."""
    for one in result.results:
        if one.gain is not None:
            told = []
            for name, gain in one.gain.items():
                low, high = (f"{100 * end:+.1f}" for end in gain.ci95)
                chance = "p < 0.001" if gain.p_value < 0.001 else f"p = {gain.p_value:.3f}"
                told.append(f"R@{name.rpartition('_')[2]} {100 * gain.gain:+.1f} [{low}, {high}], {chance}")
            yield f"{one.direction}, gain by reranking: {'; '.join(told)}"
        if one.calibration is not None:
            parted = one.calibration["auroc"]
            yield (
                f"{one.direction}, match probability: ECE {one.calibration['after']['ece']:.3f} (sigmoid of the logit: "
                f"{one.calibration['before']['ece']:.3f}), AUROC {'-' if parted is None else f'{parted:.3f}'}, "
                f"{one.calibration['pairs']:,} pairs"
            )
    if result.reranker is not None:
        facts = result.reranker
        yield (
            f"reranker {facts.fingerprint[:12]}: the {facts.rerank_depth:,} best of each query, "
            f"{facts.pairs_per_s:,.0f} pairs/s, {facts.seconds:.1f} s"
        )


def _caption_cells(captions: CaptionResult) -> list[str]:
    scores = captions.scores
    counts = [f"{number:,}" for number in (captions.pictures, captions.references, captions.beams)]
    return [f"{scores.bleu4:.1f}", f"{scores.meteor:.3f}", f"{scores.cider:.3f}", *counts]


def _caption_notes(captions: CaptionResult) -> Iterator[str]:
    yield "BLEU-4 of 100 (sacrebleu, corpus), METEOR of 1 (nltk), CIDEr of 10 (pycocoevalcap, CIDEr-D)"
    yield f"words: {TOKENS}; METEOR matches: {captions.scores.meteor_matches}"
    if captions.unsure:
        yield f"unsure of {captions.unsure:,} pictures, which get no caption; the metrics are those of the others"
    yield f"{captions.pictures:,} pictures captioned in {captions.seconds:.1f} s; some of them, with their references:"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """``text`` as it stands, in one line: no markup, HTML, link, picture or mention comes of it."""
    shown = _MARKDOWN.sub(r"\\\g<0>", printable(text)).replace("&", "&amp;").replace("<", "&lt;")
    return _ADDRESS.sub(lambda found: found[0].replace(":", "\\:").replace(".", "\\."), shown)
