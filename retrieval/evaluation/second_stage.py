"""The second stage of a benchmark: each direction that a reranker supports, judged anew, and what that gave.

Knows nothing of files, encoders or the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from indexer.items import Modality
from indexer.logistic import sigmoid
from indexer.progress import Progress
from retrieval.evaluation.directions import Comparison
from retrieval.evaluation.forecast import forecast
from retrieval.evaluation.measure import AT, detail, summarise
from retrieval.evaluation.metrics.metrics import hits_at_k
from retrieval.evaluation.metrics.ranks import RelevantRanks
from retrieval.evaluation.metrics.statistics import bootstrap_ci95, sign_flip_p_value
from retrieval.evaluation.reranking import Judgement, judge_direction
from retrieval.evaluation.results import DirectionResult, Gain, RerankerFacts
from retrieval.rerank import calibration
from retrieval.rerank.base import Reranker


class SecondStage:
    """A reranker over all directions, with one bar of progress and one count of pairs."""

    def __init__(self, reranker: Reranker, depth: int, progress: Progress, found: Sequence[Comparison]) -> None:
        """``depth``: how many candidates of each query are reranked; ``found``: every direction that will come."""
        self._reranker = reranker
        self._depth = depth
        self._progress = progress
        self._supported = [one for one in found if self.supports(one)]
        self._total = sum(one.relevance.n_queries for one in self._supported)
        self._queries = 0
        self._n_scored = 0
        self.seconds = 0.0
        """That the reranker took so far."""

    def supports(self, comparison: Comparison) -> bool:
        """Whether the reranker can score the pairs of this direction, and their media tokens were made."""
        pairs = comparison.rerank_input
        return pairs is not None and self._reranker.supports(pairs.query, pairs.candidate)

    def forecast(self) -> str | None:
        """How long it will take, as a line for people; ``None`` where that is not worth one."""
        return forecast(self._reranker, self._supported, self._depth)

    def measure(
        self, comparison: Comparison, before: RelevantRanks, seed: int, *, details: bool = False
    ) -> DirectionResult:
        """Rerank a direction that is supported; ``before`` are the ranks of the first stage."""
        assert comparison.rerank_input is not None
        earlier = self._queries
        self._progress("rerank", earlier, self._total)

        def over_all(stage: str, done: int, total: int, skipped: int = 0, /) -> None:
            self._progress(stage, earlier + done, self._total)

        judgement = judge_direction(
            comparison.query_vectors,
            comparison.candidate_vectors,
            comparison.relevance,
            comparison.rerank_input,
            self._reranker,
            depth=self._depth,
            progress=over_all,
        )
        self._queries += comparison.relevance.n_queries
        self._n_scored += judgement.n_scored
        self.seconds += judgement.seconds
        return replace(
            summarise(comparison, judgement.ranks, stage="rerank", seed=seed),
            gain=gains(before, judgement.ranks, AT, seed),
            calibration=calibration_of(judgement, self._reranker, comparison.rerank_input.media),
            details=detail(comparison, judgement.ranks, best=judgement.best) if details else None,
        )

    def facts(self, n_cached: int = 0) -> RerankerFacts | None:
        """Which reranker ran and how fast, ``None`` where no direction was measured.

        ``n_cached``: scored pairs whose logits came from a cache; they do not count as scored by the reranker.
        """
        if not self._queries:
            return None
        rate = (self._n_scored - n_cached) / self.seconds if self.seconds > 0 else 0.0
        return RerankerFacts(self._reranker.token_spec.fingerprint, self._depth, self.seconds, rate)


def gains(before: RelevantRanks, after: RelevantRanks, at: Sequence[int], seed: int = 0) -> dict[str, Gain]:
    """The gain of ``hit_rate_at_k`` for each k, paired over the queries: bootstrap interval and sign-flip p-value."""
    found = {}
    for k in at:
        change = hits_at_k(after, k) - hits_at_k(before, k)
        interval = bootstrap_ci95(change, seed=seed)
        found[f"hit_rate_at_{k}"] = Gain(float(change.mean()), interval, sign_flip_p_value(change, seed=seed))
    return found


def calibration_of(judgement: Judgement, reranker: Reranker, media: Modality) -> Mapping[str, Any]:
    """How far the match probabilities of all scored pairs are from the shares that are relevant, fit for JSON.

    ``before`` is the sigmoid of the raw logit, ``after`` the reranker's own probability. A pair that fits and that
    the benchmark does not call relevant counts as false.
    """
    labels = judgement.labels
    raw = sigmoid(judgement.logits)
    chances = np.asarray(reranker.probability(judgement.scores, media), dtype=np.float64)
    document: dict[str, Any] = {
        "pairs": len(labels),
        "relevant": int(labels.sum()),
        "auroc": calibration.auroc(judgement.scores, labels),
    }
    for name, values in (("before", raw), ("after", chances)):
        bins = calibration.reliability_bins(values, labels)
        document[name] = {"ece": calibration.error_of_bins(bins), "bins": [one.to_json() for one in bins]}
    return document
