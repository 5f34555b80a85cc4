"""Two or more runs of one benchmark, compared query by query, from the ``report.json`` of each.

Every later run is compared with the first: the difference of a metric, its bootstrap interval and the p-value of a
sign-flip randomisation test, both paired over the queries. Runs of other data, or with other queries or another pool,
are refused: their numbers differ for reasons that are no model's. Knows nothing of models, pages or the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.errors import UsageError
from indexer.files import display_path, one_line
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.details import FOUND_AT
from retrieval.evaluation.metrics.ranks import Floats
from retrieval.evaluation.metrics.statistics import bootstrap_ci95, sign_flip_p_value
from retrieval.evaluation.runs import Run


@dataclass(frozen=True, slots=True)
class Difference:
    """What a run has over the baseline in one metric of one direction."""

    direction: str
    baseline_stage: str
    stage: str
    metric: str
    baseline: float
    value: float
    difference: float
    ci95: tuple[float, float]
    p_value: float
    n_queries: int
    better: int
    """Queries that do better in the run than in the baseline."""
    worse: int

    def to_json(self) -> dict[str, Any]:
        """One of ``"differences"``."""
        return {
            "direction": self.direction,
            "baseline_stage": self.baseline_stage,
            "stage": self.stage,
            "metric": self.metric,
            "baseline": self.baseline,
            "value": self.value,
            "difference": self.difference,
            "ci95": list(self.ci95),
            "p_value": self.p_value,
            "n_queries": self.n_queries,
            "better": self.better,
            "worse": self.worse,
        }


@dataclass(frozen=True, eq=False)
class RunComparison:
    """A run against the baseline."""

    baseline: Run
    run: Run
    differences: tuple[Difference, ...]
    left_out: tuple[str, ...]
    """Directions that only one of the two has, in words."""

    def to_json(self) -> dict[str, Any]:
        """One of ``"comparisons"`` of ``compare --json``."""
        return {
            "baseline": self.baseline.label,
            "run": self.run.label,
            "differences": [difference.to_json() for difference in self.differences],
            "left_out": list(self.left_out),
        }


def compare_runs(runs: Sequence[Run], *, seed: int = 0) -> list[RunComparison]:
    """Every run after the first, against the first. ``UsageError`` where they did not measure the same queries."""
    compared = []
    for run in runs[1:]:
        try:
            _require_same_data(runs[0], run)
            compared.append(_compare(runs[0], run, seed))
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # JSON that somebody has edited
            raise UsageError(
                f"{run.source} or {runs[0].source}: is damaged ({one_line(error)}); measure that run again"
            ) from error
    return compared


def require_same(benchmark: Benchmark, run: Run) -> Benchmark:
    """The benchmark, where the run was measured on it; ``UsageError`` for another one."""
    measured = run.document["manifest"]
    if benchmark.sha256 != measured["sha256"]:
        raise UsageError(
            f"{display_path(benchmark.path)}: is not what {run.source} was measured on "
            f"(sha256 {benchmark.sha256[:12]}, there {measured['sha256'][:12]}); give that one, or leave --dataset out"
        )
    return benchmark


def to_json(comparisons: Sequence[RunComparison]) -> dict[str, Any]:
    """The document of ``compare --json``."""
    runs = [comparisons[0].baseline, *(comparison.run for comparison in comparisons)]
    first = runs[0].document
    return {
        "dataset": first["dataset"],
        "manifest": first["manifest"],
        "split": first["split"],
        "runs": [
            {"label": run.label, "encoder": run.document["encoder"], "fingerprint": run.document["encoder_fingerprint"]}
            for run in runs
        ],
        "comparisons": [comparison.to_json() for comparison in comparisons],
    }


# ---------------------------------------------------------------------------------------------- words


def metric_name(name: str) -> str:
    """ "hit_rate_at_5" -> "R@5"."""
    return name.replace("hit_rate_at_", "R@").replace("recall_at_", "recall@").replace("mrr", "MRR")


def change_cells(one: Difference) -> list[str]:
    """Before, after, and the difference with its interval: shares in points of a hundred, MRR as it is."""
    scale, digits = (1, 3) if one.metric == "mrr" else (100, 1)
    low, high = (f"{scale * end:+.{digits}f}" for end in one.ci95)
    before, after = (f"{scale * value:.{digits}f}" for value in (one.baseline, one.value))
    return [before, after, f"{scale * one.difference:+.{digits}f} [{low}, {high}]"]


def shown_p(p_value: float) -> str:
    """To three digits, as many as the number of resamples supports."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


# ------------------------------------------------------------------------------------------- helpers


def _compare(baseline: Run, run: Run, seed: int) -> RunComparison:
    differences: list[Difference] = []
    left_out: list[str] = []
    for direction in dict.fromkeys(direction for direction, _ in (*baseline.keys, *run.keys)):
        theirs, ours = _stages(baseline, direction), _stages(run, direction)
        if not theirs or not ours:
            left_out.append(f"{direction}: only {(run if ours else baseline).label} measured it")
            continue
        # Stage by stage; where one alone was reranked, the last stage of each as well: what a user gets of either.
        pairs = [(stage, stage) for stage in theirs if stage in ours]
        if (theirs[-1], ours[-1]) not in pairs:
            pairs.append((theirs[-1], ours[-1]))
        for their_stage, our_stage in pairs:
            differences += _differences(baseline, run, direction, their_stage, our_stage, seed)
    if not differences:
        raise UsageError(f"{run.source}: has no direction that {baseline.source} has; there is nothing to compare")
    return RunComparison(baseline, run, tuple(differences), tuple(left_out))


def _differences(
    baseline: Run, run: Run, direction: str, their_stage: str, our_stage: str, seed: int
) -> Iterator[Difference]:
    theirs, ours = baseline.result(direction, their_stage), run.result(direction, our_stage)
    assert theirs is not None and ours is not None
    for name, what in (("queries_sha256", "queries"), ("candidates_sha256", "candidates")):
        if _details(theirs, baseline)[name] != _details(ours, run)[name]:
            raise UsageError(
                f"{run.source}: the {what} of {direction} are not those of {baseline.source} (were other files "
                f"skipped?); measure both on the same items"
            )
    before, after = _per_query(theirs, baseline), _per_query(ours, run)
    for metric in (name for name in before if name in after):
        change = after[metric] - before[metric]
        yield Difference(
            direction=direction,
            baseline_stage=their_stage,
            stage=our_stage,
            metric=metric,
            baseline=float(before[metric].mean()),
            value=float(after[metric].mean()),
            difference=float(change.mean()),
            ci95=bootstrap_ci95(change, seed=seed),
            p_value=sign_flip_p_value(change, seed=seed),
            n_queries=len(change),
            better=int((change > 0).sum()),
            worse=int((change < 0).sum()),
        )


def _per_query(result: Mapping[str, Any], run: Run) -> dict[str, Floats]:
    """Each metric's value of every query, from the ranks in the report."""
    kept = _details(result, run)["per_query"]
    first = np.asarray(kept["first_rank"], dtype=np.float64)
    if first.shape != (result["n_queries"],) or not (first >= 1).all():
        raise UsageError(f"{run.source}: its ranks of {result['direction']} are damaged; measure that run again")
    found = {f"hit_rate_at_{k}": np.asarray(first <= k, dtype=np.float64) for k in FOUND_AT}
    if "relevant" in kept:
        relevant = np.asarray(kept["relevant"], dtype=np.float64)
        for k in FOUND_AT:
            found[f"recall_at_{k}"] = np.asarray(kept[f"found_at_{k}"], dtype=np.float64) / relevant
    found["mrr"] = 1.0 / first
    return found


def _stages(run: Run, direction: str) -> list[str]:
    return [stage for there, stage in run.keys if there == direction]


def _details(result: Mapping[str, Any], run: Run) -> Mapping[str, Any]:
    details: Mapping[str, Any] | None = result.get("details")
    if details is None:
        raise UsageError(
            f"{run.source}: holds no ranks of single queries; give the report.json that `bench --report DIR` writes"
        )
    return details


def _require_same_data(baseline: Run, run: Run) -> None:
    theirs, ours = baseline.document, run.document
    if theirs["manifest"]["sha256"] != ours["manifest"]["sha256"]:
        raise UsageError(
            f"{run.source}: measured on {display_path(ours['dataset'])} (sha256 {ours['manifest']['sha256'][:12]}), "
            f"{baseline.source} on {display_path(theirs['dataset'])} ({theirs['manifest']['sha256'][:12]}); compare "
            f"runs of one dataset"
        )
    if theirs["split"] != ours["split"]:
        raise UsageError(
            f"{run.source}: measured on split {ours['split'] or 'none'}, {baseline.source} on split "
            f"{theirs['split'] or 'none'}; compare runs of one split"
        )
