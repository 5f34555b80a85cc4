"""The queries that another run answers best and worst, beside the baseline: what a difference is made of.

Only where the dataset is at hand and gives the very queries that were measured. Knows nothing of how they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrieval.evaluation.compare import RunComparison
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.metrics.ranks import Floats
from retrieval.evaluation.queries import queries_of
from retrieval.evaluation.report.html.cases import Case, Cases, place, shown
from retrieval.evaluation.report.html.examples import Media
from retrieval.evaluation.report.html.words import named
from retrieval.evaluation.shown_items import ShownItem, fingerprint

_EACH = 3


def changes(comparison: RunComparison, benchmark: Benchmark, media: Media) -> Iterator[Cases]:
    """Of each direction, by the last stage of either run: where the place changed most, by the ratio of places."""
    baseline, run = comparison.baseline, comparison.run
    for direction in dict.fromkeys(one.direction for one in comparison.differences):
        theirs, ours = (
            [one for one in side.document["results"] if one["direction"] == direction][-1]["details"]
            for side in (baseline, run)
        )
        queries = queries_of(benchmark, direction)
        if fingerprint([query for query, _ in queries]) != theirs["queries_sha256"]:
            continue
        before, after = (np.asarray(side["per_query"]["first_rank"], dtype=float) for side in (theirs, ours))
        gained = np.log(before / after)

        cases = [
            [_case(comparison, queries[query], int(before[query]), int(after[query]), media) for query in furthest]
            for furthest in (_furthest(gained), _furthest(-gained))
        ]
        groups = [(f"{word} in {run.label}", found) for word, found in zip(("Better", "Worse"), cases, strict=True)]
        if any(cases):
            yield Cases(f"{named(direction)}: {run.label} against {baseline.label}", groups)


def _case(comparison: RunComparison, query: tuple[ShownItem, ShownItem], before: int, after: int, media: Media) -> Case:
    query_shown, wanted = (shown(entry.to_json(), media) for entry in query)
    ranks = [f"{comparison.baseline.label}: {place(before)}", f"{comparison.run.label}: {place(after)}"]
    return Case(query_shown, wanted, (), ranks, is_hit=after < before)


def _furthest(gained: Floats) -> Sequence[int]:
    order = np.argsort(-gained, kind="stable")[:_EACH]
    return [int(query) for query in order if gained[query] > 0]
