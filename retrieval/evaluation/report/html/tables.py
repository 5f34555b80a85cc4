"""The tables of a page, from ``report.json`` documents and from comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.evaluation.compare import RunComparison, change_cells, metric_name, shown_p
from retrieval.evaluation.report.html.words import compared, directions, named, points, row_name, stage_name
from retrieval.evaluation.runs import Run


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first cell of a row names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def results(runs: Sequence[Run]) -> list[Table]:
    """The rates: of one run in one table, of several a table a direction, so that they stand below each other."""
    return [_single(runs)] if len(runs) == 1 else [_side_by_side(runs, one) for one in directions(runs)]


def _single(runs: Sequence[Run]) -> Table:
    """The rates of a single run, a row a direction and stage."""
    results = runs[0].document["results"]
    header, cells = _rates(results)
    reranked = any(result["stage"] != "dual" for result in results)
    rows = []
    for result, rates in zip(results, cells, strict=True):
        name = named(result["direction"]) + (f", {stage_name(result['stage'])}" if reranked else "")
        queries = f"{result['n_queries']:,} {result['queries']}"
        pool = f"{result['n_candidates']:,} {result['candidates']}"
        rows.append([name, *rates, f"{100 * result['chance']['hit_rate_at_1']:.2g}", queries, pool])
    caption = "Every direction; chance is what a random order of the pool gives"
    return Table(caption, ["direction", *header, "chance R@1", "queries", "pool"], rows)


def _side_by_side(runs: Sequence[Run], direction: str) -> Table:
    """The rates of one direction, a row a run and stage."""
    found = [(run, result) for run in runs for result in run.document["results"] if result["direction"] == direction]
    header, cells = _rates([result for _, result in found])
    rows = [[row_name(runs, run, result["stage"]), *rates] for (run, result), rates in zip(found, cells, strict=True)]
    one = found[0][1]
    chance = 100 * one["chance"]["hit_rate_at_1"]
    caption = (
        f"{named(direction)}: {one['n_queries']:,} {one['queries']} ask, {one['n_candidates']:,} {one['candidates']} "
        f"are the pool; a random order has {chance:.2g}% R@1"
    )
    return Table(caption, ["run", *header], rows)


def gains(runs: Sequence[Run]) -> Table | None:
    """What reranking changed."""
    rows = []
    for run in runs:
        for result in run.document["results"]:
            for name, gain in (result.get("gain") or {}).items():
                who = named(result["direction"]) if len(runs) == 1 else f"{run.label}, {named(result['direction'])}"
                rows.append([who, metric_name(name), points(gain["gain"], gain["ci95"]), shown_p(gain["p_value"])])
    header = ["direction", "metric", "gain, points [95% interval]", "p-value"]
    return Table("What the second stage (reranking) gives over the first", header, rows) if rows else None


def differences(comparison: RunComparison) -> list[Table]:
    """Every difference of a comparison, a table a direction and stage."""
    baseline, run = comparison.baseline.label, comparison.run.label
    header = ["metric", baseline, run, "difference", "p-value", "better", "worse", "queries"]
    found: dict[str, list[Sequence[str]]] = {}
    for one in comparison.differences:
        counts = [f"{count:,}" for count in (one.better, one.worse, one.n_queries)]
        row = [metric_name(one.metric), *change_cells(one), shown_p(one.p_value), *counts]
        found.setdefault(compared(one.direction, one.baseline_stage, one.stage), []).append(row)
    return [Table(f"{direction}: {run} against {baseline}", header, rows) for direction, rows in found.items()]


def captions(runs: Sequence[Run]) -> Table | None:
    """Metrics of the captions that the models wrote."""
    rows = []
    for run in runs:
        found = run.document.get("captions")
        if found:
            scores = [f"{found['bleu4']:.1f}", f"{found['meteor']:.3f}", f"{found['cider']:.3f}"]
            counts = [f"{count:,}" for count in (found["pictures"], found.get("unsure", 0), found["references"])]
            rows.append([run.label, *scores, *counts, str(found["beams"])])
    header = ["model", "BLEU-4", "METEOR", "CIDEr", "pictures", "unsure", "references", "beams"]
    return Table("Captions told by the model, against those of the manifest", header, rows) if rows else None


def _rates(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the metrics; recall@k only where it is another number than R@k."""
    names = [f"hit_rate_at_{k}" for k in (1, 5, 10)] + ["mrr"]
    if any(result[f"hit_rate_at_{k}"] != result[f"recall_at_{k}"] for result in results for k in (1, 5, 10)):
        names += [f"recall_at_{k}" for k in (1, 5, 10)]
    cells = [
        [f"{result[name]:.3f}" if name == "mrr" else _interval(result, name) for name in names] for result in results
    ]
    return [metric_name(name) for name in names], cells


def _interval(result: Mapping[str, Any], name: str) -> str:
    low, high = result["ci95"][name]
    return f"{100 * result[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def zero_shot(runs: Sequence[Run]) -> Table | None:
    """Accuracies of naming a picture's class."""
    rows = []
    for run in runs:
        for result in run.document["results"]:
            if "acc1" in result:
                fifth = "-" if result["acc5"] is None else f"{100 * result['acc5']:.1f}"
                rows.append(
                    [run.label, f"{100 * result['acc1']:.1f}", fifth, f"{100 * result['mean_per_class_recall']:.1f}"]
                )
    header = ["model", "acc@1", "acc@5", "mean per-class recall"]
    return Table("Zero-shot classification, %", header, rows) if rows else None


def index(runs: Sequence[Run]) -> Table | None:
    """The index of a collection of that size beside exact search."""
    rows = []
    for run in runs:
        for one in run.document.get("ann", ()):
            found = [f"{100 * one[f'recall_at_{k}']:.2f}" for k in (1, 5, 10)]
            lost = [f"{100 * one['lost'][f'hit_rate_at_{k}']:.2f}" for k in (1, 5, 10)]
            who = named(one["direction"]) if len(runs) == 1 else f"{run.label}, {named(one['direction'])}"
            rows.append([who, one["index"], *found, *lost, f"{one['search_ms']:.2f}"])
    header = ["direction", "index", "found@1", "found@5", "found@10", "lost R@1", "lost R@5", "lost R@10", "ms a query"]
    caption = (
        "The vector index beside exact search: the share of exact search's first k that it finds, %, and points lost"
    )
    return Table(caption, header, rows) if rows else None
