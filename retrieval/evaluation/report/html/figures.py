"""The drawings of a page with their headings, legends and numbers, from ``report.json`` documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retrieval.evaluation.compare import RunComparison, metric_name
from retrieval.evaluation.report.html import plots
from retrieval.evaluation.report.html.tables import Table
from retrieval.evaluation.report.html.words import compared, directions, named, row_name
from retrieval.evaluation.runs import Run

_CURVE_ROWS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Legend:
    """What a colour stands for."""

    name: str
    shade: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its heading, its legend, a line under it and its numbers as a table."""

    title: str
    svg: Markup
    legend: Sequence[Legend]
    note: str = ""
    table: Table | None = None


def curves(runs: Sequence[Run]) -> Iterator[Figure]:
    """R@k over k, a drawing a direction, a line a run and stage."""
    for direction in directions(runs):
        lines: list[plots.Line] = []
        for run in runs:
            for result in run.document["results"]:
                if result["direction"] != direction or "details" not in result:
                    continue
                curve = result["details"]["curve"]
                rates = curve["hit_rate"][: result["n_candidates"]]
                name = row_name(runs, run, result["stage"])
                lines.append(plots.Line(name, [(float(k), rate) for k, rate in enumerate(rates, start=1)], len(lines)))
        if not lines:
            continue
        title = f"{named(direction)}, R@k"
        to = max(len(line.points) for line in lines)
        shown = [k for k in _CURVE_ROWS if k <= to]
        rows = [[line.name, *(f"{100 * line.points[k - 1][1]:.1f}" for k in shown)] for line in lines]
        yield Figure(
            title,
            Markup(plots.curve_plot(lines, title=title)),
            [Legend(line.name, line.shade) for line in lines] if len(lines) > 1 else (),
            "",
            Table(f"{title}, %", ["run" if len(runs) > 1 else "stage", *(f"k = {k}" for k in shown)], rows),
        )


def similarities(runs: Sequence[Run]) -> Iterator[Figure]:
    """Matching and other pairs, a drawing a run and pair of modalities."""
    for run in runs:
        for result in run.document["results"]:
            found = (result.get("details") or {}).get("similarities")
            if not found:
                continue
            title = named(result["direction"]) + (f": {run.label}" if len(runs) > 1 else "")
            others = "-" if found["mean_others"] is None else f"{found['mean_others']:.3f}"
            note = (
                f"Mean cosine {found['mean_matching']:.3f} of {sum(found['matching']):,} matching pairs, {others} of "
                f"{sum(found['others']):,} others. Distance between the two sides' centroids (the modality gap): "
                f"{found['centroid_distance']:.3f}, of at most 2."
            )
            drawn = plots.histogram_plot(
                found["low"],
                found["high"],
                [("other pairs", found["others"], 1), ("matching pairs", found["matching"], 0)],
                title=f"Similarities of {title}",
                description=note,
            )
            yield Figure(title, Markup(drawn), [Legend("matching pairs", 0), Legend("other pairs", 1)], note)


def reliabilities(runs: Sequence[Run]) -> Iterator[Figure]:
    """Match probabilities against what came true, where a reranker judged."""
    for run in runs:
        for result in run.document["results"]:
            found = result.get("calibration")
            if not found:
                continue
            title = named(result["direction"]) + (f": {run.label}" if len(runs) > 1 else "")
            filled = [one for one in found["after"]["bins"] if one["n"]]
            bins = [(one["mean_probability"], one["share_true"], one["n"]) for one in filled]
            parted = "" if found["auroc"] is None else f", AUROC {found['auroc']:.3f}"
            note = (
                f"{found['pairs']:,} pairs; expected calibration error {found['after']['ece']:.3f} (of the raw logit's "
                f"sigmoid {found['before']['ece']:.3f}){parted}. On the dashed line a probability means what it says; "
                f"a dot's size shows the number of its pairs."
            )
            rows = [
                [f"{one['low']:.2f} to {one['high']:.2f}", f"{one['n']:,}", f"{p:.3f}", f"{true:.3f}"]
                for one, (p, true, _) in zip(filled, bins, strict=True)
            ]
            header = ["probability", "pairs", "mean probability", "share that matched"]
            drawn = plots.reliability_plot(bins, title=f"Reliability, {title}", description=note)
            yield Figure(title, Markup(drawn), (), note, Table(f"Reliability, {title}", header, rows))


def differences(comparison: RunComparison) -> Iterator[Figure]:
    """A comparison's differences with their intervals, a drawing a direction."""
    by_direction: dict[str, list[tuple[str, float, float, float]]] = {}
    for one in comparison.differences:
        low, high = one.ci95
        stages = compared(one.direction, one.baseline_stage, one.stage)
        if one.metric == "mrr":  # no share, so no points
            continue
        row = (metric_name(one.metric), 100 * one.difference, 100 * low, 100 * high)
        by_direction.setdefault(stages, []).append(row)
    for direction, rows in by_direction.items():
        title = f"{direction}: {comparison.run.label} less {comparison.baseline.label}"
        description = "; ".join(f"{name} {value:+.1f} [{low:+.1f}, {high:+.1f}]" for name, value, low, high in rows)
        yield Figure(title, Markup(plots.difference_plot(rows, title=title, description=description)), ())
