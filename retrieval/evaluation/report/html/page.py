"""Reports of one or several runs -> one HTML page: tables, curves, similarities, reliability, examples, provenance.

The page holds everything it shows and loads nothing from a network (its policy forbids it); every word that comes from
a manifest, a file name or a model is escaped by the template. It is made from ``report.json`` documents, so one run
and a comparison of several are made alike. Knows nothing of models and vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from indexer.files import display_path, one_line
from retrieval.evaluation.compare import RunComparison
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.report.html import figures, tables
from retrieval.evaluation.report.html.cases import all_cases
from retrieval.evaluation.report.html.changes import changes
from retrieval.evaluation.report.html.examples import BUDGET_BYTES, Media, files_of
from retrieval.evaluation.report.html.words import cached
from retrieval.evaluation.runs import Run

_MAX_SKIPPED = 50


def page(
    runs: Sequence[Run],
    comparisons: Sequence[RunComparison] = (),
    benchmark: Benchmark | None = None,
    *,
    media_bytes: int = BUDGET_BYTES,
) -> str:
    """The page of ``runs``, the first of them the baseline of ``comparisons``.

    Pictures and sounds come from ``benchmark``, where it is given, ``media_bytes`` of them at most.
    """
    media = Media({} if benchmark is None else files_of(benchmark), budget_bytes=media_bytes)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8"))
    first = runs[0].document
    return template.render(
        title=_title(runs),
        runs=[run.label for run in runs],
        facts=list(_facts(first)),
        results=tables.results(runs),
        more_results=[table(runs) for table in (tables.gains, tables.zero_shot, tables.index)],
        differences=[table for comparison in comparisons for table in tables.differences(comparison)],
        difference_figures=[figure for one in comparisons for figure in figures.differences(one)],
        changes=[] if benchmark is None else [case for one in comparisons for case in changes(one, benchmark, media)],
        left_out=[f"{one.run.label}: {line}" for one in comparisons for line in one.left_out],
        curves=list(figures.curves(runs)),
        similarities=list(figures.similarities(runs)),
        reliabilities=list(figures.reliabilities(runs)),
        captions=tables.captions(runs),
        cases=list(all_cases(runs, media)),
        warnings=[(run.label, one_line(line, 400)) for run in runs for line in run.document.get("warnings", ())],
        skipped=list(_skipped(runs)),
        provenance=[_provenance(run) for run in runs],
        style=Markup(files(__package__).joinpath("style.css").read_text(encoding="utf-8")),
    )


def _title(runs: Sequence[Run]) -> str:
    names = " and ".join(run.label for run in runs) if len(runs) < 3 else f"{len(runs)} runs"
    return f"{names} on {display_path(runs[0].document['dataset'])}"


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    nouns = {"image": "pictures", "audio": "sounds", "text": "texts", "captions": "captions"}
    for name, count in document.get("items", {}).items():
        if count:
            yield f"{count:,}", nouns.get(name, name)
    yield f"{document.get('captions_per_item', 0):.2g}", "captions an item"


def _provenance(run: Run) -> tuple[str, list[tuple[str, str]]]:
    document, made = run.document, run.document.get("provenance") or {}
    rows = [
        ("command", made.get("command")),
        ("model", run.label),
        ("model fingerprint", document["encoder_fingerprint"]),
    ]
    reranker = document.get("reranker")
    if reranker:
        rows.append(("reranker", f"{reranker['fingerprint']}, the {reranker['rerank_depth']} best of each query"))
    manifest = document["manifest"]
    split = f", split {document['split']}" if document["split"] else ""
    rows += [
        ("data", f"{manifest['name']}{split}"),
        ("data sha256", manifest["sha256"]),
        ("commit", made.get("commit") and f"{made['commit']}{' with changes' if made.get('changed') else ''}"),
        ("hardware", made.get("hardware")),
        ("device", made.get("device") and f"{made['device']}, {made.get('dtype')}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in made.get("versions", {}).items())),
        ("measured", made.get("at")),
        ("took", f"{document['seconds']:.1f} s" if "seconds" in document else None),
        ("from the cache", cached(document.get("cache"))),
    ]
    return run.label, [(name, one_line(value, 2_000)) for name, value in rows if value]


def _skipped(runs: Sequence[Run]) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    for run in runs:
        found = run.document.get("skipped", ())
        if found:
            shown = [(display_path(one["path"]), one_line(one["reason"], 300)) for one in found[:_MAX_SKIPPED]]
            yield run.label, len(found), shown
