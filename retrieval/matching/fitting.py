"""Candidate lists with labels -> a :class:`MatchModel`, with figures from concepts that a fit did not see.

Pairs of modalities share a prior: a fit over all of them, from which a pair with many queries moves away and one with
few does not. "Something matches" is fitted on few features or on all, whichever does better on concepts apart. Pairs
are fitted on queries of concepts that have an answer in some of their lists: of a kind that the rows hold little of, a
query without one would say what the rows lack. Knows nothing of files, encoders or how the lists were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Modality
from indexer.logistic import fit_logistic, sigmoid
from retrieval.matching.features import DEPTH, FEATURES, JUDGED_FEATURES, CandidateList, Floats, gaps, list_features
from retrieval.matching.model import MatchModel, PairFit
from retrieval.rerank.calibration import auroc, expected_calibration_error, false_shows_at_recall

#: The share of the queries with an answer for which a search does not say that nothing matches.
SHOWN = 0.9
#: Parts that the concepts are divided into: each is judged by a fit of the others.
FOLDS = 5
#: How strongly a pair's coefficients are held to those of all pairs, and those to 0, in rows of standardised features.
_TO_ALL, _TO_ZERO = 20.0, 1.0
#: Of "something matches": what it may be fitted on. More features fit one set of concepts better, not another.
_FEW = frozenset(("best", "log_count", "score_best"))
#: Lists with an answer, and lists without, that a pair needs to have a threshold of its own.
_LEAST = 20
#: Features are cut at what this share of the lists has, at either end.
_CUT = 0.005


@dataclass(frozen=True, eq=False)
class Example:
    """One query's candidate list in one collection, and what of it is right."""

    query: Modality
    target: Modality
    concept: str
    """What the query is of; examples of one concept are all fitted on, or none."""
    number: int
    """Of the collection and the query: lists of several modalities with one number were searched together."""
    found: CandidateList
    right: NDArray[np.bool_]
    """Of the best hits, by cosine or, where judged, by score, at least of :data:`DEPTH` or all there are, ``(n,)``."""
    answered: bool
    """Whether the collection holds something that matches, wherever it is in the list."""

    @property
    def key(self) -> tuple[str, str, bool]:
        """Query, candidates, whether judged: what a fit is of."""
        return self.query.value, self.target.value, self.found.judged


@dataclass(frozen=True, eq=False)
class _Table:
    """Examples of the pairs of one kind, judged or not, as arrays. Lists ``(l, ...)``, hits ``(h, ...)``."""

    names: tuple[str, ...]
    features: Floats
    answered: Floats
    of_list: NDArray[np.int64]
    """List of each hit, ``(h,)``."""
    gap: Floats
    right: Floats
    pair: NDArray[np.int64]
    """Of each list."""
    fold: NDArray[np.int64]
    """Of each list."""
    able: NDArray[np.bool_]
    """Of each list: whether another one of its pair and concept, or itself, has an answer."""

    @classmethod
    def of(cls, examples: Sequence[Example], pairs: Sequence[tuple[str, str, bool]]) -> _Table:
        judged = examples[0].found.judged
        concepts = {concept: number for number, concept in enumerate(sorted({one.concept for one in examples}))}
        # shuffled, so that names beginning alike do not come together
        fold_of = np.random.default_rng(0).permutation(len(concepts)) % FOLDS
        answered = {(one.key, one.concept) for one in examples if one.answered}
        lists, gap, right = [], [], []
        for number, one in enumerate(examples):
            values = one.found.cosines if one.found.scores is None else one.found.scores
            n = min(DEPTH, len(values), len(one.right))
            lists += [number] * n
            gap.append(gaps(one.found, values[:n]))
            right.append(one.right[:n])
        return cls(
            FEATURES + JUDGED_FEATURES if judged else FEATURES,
            np.stack([list_features(one.found) for one in examples]),
            np.array([one.answered for one in examples], dtype=np.float64),
            np.array(lists, dtype=np.int64),
            np.concatenate(gap),
            np.concatenate(right).astype(np.float64),
            np.array([pairs.index(one.key) for one in examples], dtype=np.int64),
            np.array([fold_of[concepts[one.concept]] for one in examples], dtype=np.int64),
            np.array([(one.key, one.concept) in answered for one in examples], dtype=np.bool_),
        )

    def mean_auroc(self, values: Floats, of: NDArray[np.bool_]) -> float | None:
        """The mean AUROC of "something matches" over the folds of the lists ``of``; ``None`` where none has one."""
        found = [auroc(values[some], self.answered[some]) for some in self._folds(of)]
        known = [one for one in found if one is not None]
        return float(np.mean(known)) if known else None

    def mean_false_shows(self, values: Floats, of: NDArray[np.bool_]) -> float | None:
        """The mean share of false shows at :data:`SHOWN` over the folds."""
        found = [
            false_shows_at_recall(values[some], self.answered[some], SHOWN)
            for some in self._folds(of)
            if 0 < self.answered[some].sum() < some.sum()
        ]
        return float(np.mean(found)) if found else None

    def _folds(self, of: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        # fold by fold: fits of different folds differ by a constant, which is no merit or fault of the order
        return [of & (self.fold == fold) for fold in range(FOLDS)]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Coefficients of standardised features: of all pairs, and of each pair, ``(p, f + 1)`` and ``(p, f + 2)``."""

    centre: Floats
    scale: Floats
    low: Floats
    high: Floats
    some: Floats
    hit: Floats

    def standard(self, features: Floats) -> Floats:
        return np.asarray((np.clip(features, self.low, self.high) - self.centre) / self.scale)

    def some_log_odds(self, table: _Table) -> Floats:
        rows = self.standard(table.features)
        own = self.some[table.pair]
        return np.asarray((rows * own[:, :-1]).sum(axis=1) + own[:, -1])


def fit_matches(
    examples: Sequence[Example], *, encoder: str, reranker: str | None = None
) -> tuple[MatchModel, list[dict[str, Any]]]:
    """The calibration of a model, and its figures, one a pair and kind of list.

    ``ValueError`` where no examples are given. ``encoder`` and ``reranker``: see :class:`MatchModel`.
    """
    if not examples:
        raise ValueError("no examples: there is nothing to fit")
    fits: dict[tuple[str, str, bool], PairFit] = {}
    chances: dict[int, float] = {}
    for judged in (False, True):
        some = [one for one in examples if one.found.judged is judged]
        if some:
            own, held_out = _fit_kind(some)
            fits |= own
            chances |= {id(one): chance for one, chance in zip(some, held_out.tolist(), strict=True)}
    model = MatchModel(encoder, reranker, fits)
    mixed = {
        query: _mixed_threshold(examples, chances, fits, query)
        for query in sorted({one.query.value for one in examples})
    }
    return MatchModel(encoder, reranker, fits, mixed), [
        {"query": one.query, "target": one.target, "judged": one.judged, **one.figures} for one in model.fits.values()
    ]


def _fit_kind(examples: Sequence[Example]) -> tuple[dict[tuple[str, str, bool], PairFit], Floats]:
    """The fits of the pairs of one kind of lists; and of each example the log-odds by a fit of other concepts."""
    pairs = sorted({one.key for one in examples})
    table = _Table.of(examples, pairs)
    candidates = [frozenset(table.names) & _FEW, frozenset(table.names)]
    apart = [_held_out(table, len(pairs), chosen) for chosen in candidates]
    best = max(range(len(candidates)), key=lambda place: _mean_over_pairs(table, apart[place], len(pairs)))
    held_out = apart[best]
    whole = _fit(table, np.ones(len(examples), dtype=bool), len(pairs), candidates[best])
    return {key: _pair_fit(key, number, whole, table, held_out) for number, key in enumerate(pairs)}, held_out


def _held_out(table: _Table, n_pairs: int, chosen: frozenset[str]) -> Floats:
    """Log-odds that something matches of each list, by a fit of the other folds' concepts."""
    found = np.zeros(len(table.features))
    for fold in range(FOLDS):
        apart = table.fold == fold
        if apart.any() and (table.able & ~apart).any():
            found[apart] = _fit(table, ~apart, n_pairs, chosen).some_log_odds(table)[apart]
    return found


def _mean_over_pairs(table: _Table, held_out: Floats, n_pairs: int) -> float:
    found = [table.mean_auroc(held_out, table.able & (table.pair == number)) for number in range(n_pairs)]
    known = [one for one in found if one is not None]
    return float(np.mean(known)) if known else 0.0


def _fit(table: _Table, used: NDArray[np.bool_], n_pairs: int, chosen: frozenset[str]) -> _Fitted:
    """A fit of the lists ``used``; "something matches" by the features ``chosen``, the others' coefficients are 0."""
    used = used & table.able if (used & table.able).any() else used
    features = table.features[used]
    low, high = np.quantile(features, [_CUT, 1.0 - _CUT], axis=0)
    high[table.names.index("log_count")] = 50.0  # a collection may be larger than those that it was fitted on
    cut = np.clip(features, low, high)
    fitted = _Fitted(cut.mean(axis=0), np.maximum(cut.std(axis=0), 1e-6), low, high, np.zeros((0, 0)), np.zeros((0, 0)))
    rows = fitted.standard(table.features)
    hits = np.concatenate([rows[table.of_list], -table.gap[:, None]], axis=1)
    of_hits = used[table.of_list]
    mask = np.array([name in chosen for name in table.names], dtype=np.float64)
    return _Fitted(
        fitted.centre,
        fitted.scale,
        low,
        high,
        _by_pair(rows[used] * mask, table.answered[used], table.pair[used], n_pairs),
        _by_pair(hits[of_hits], table.right[of_hits], table.pair[table.of_list][of_hits], n_pairs, gap=True),
    )


def _by_pair(rows: Floats, labels: Floats, pair: NDArray[np.int64], n_pairs: int, *, gap: bool = False) -> Floats:
    """Coefficients of each pair ``(p, f + 1)``; with ``gap`` the last feature's is at least 0."""
    counts = np.bincount(pair, minlength=n_pairs)
    # each pair counts alike in what they share
    weights = len(rows) / max(1, int(np.count_nonzero(counts))) / counts[pair]
    shared = fit_logistic(rows, labels, np.zeros(rows.shape[1] + 1), _TO_ZERO, weights)
    found = np.stack(
        [
            fit_logistic(rows[pair == number], labels[pair == number], shared, _TO_ALL) if counts[number] else shared
            for number in range(n_pairs)
        ]
    )
    if gap:
        found[:, -2] = np.maximum(found[:, -2], 0.0)
    return found


def _pair_fit(key: tuple[str, str, bool], number: int, fitted: _Fitted, table: _Table, held_out: Floats) -> PairFit:
    own = table.able & (table.pair == number)
    labels, log_odds = table.answered[own], held_out[own]
    with_answer = int(labels.sum())
    without = len(labels) - with_answer
    figures: dict[str, Any] = {"lists": len(labels), "answered": with_answer}
    threshold = 0.5
    if min(with_answer, without) >= _LEAST:
        threshold = float(sigmoid(np.array(_shown_at(log_odds[labels > 0]))))
        figures["ece"] = expected_calibration_error(sigmoid(log_odds), labels)
        compared = {"": held_out, "cosine_": table.features[:, table.names.index("best")]}
        if key[2]:  # what a reranker's own probability is by, which rises with its score
            compared["score_"] = table.features[:, table.names.index("score_best")]
        for name, values in compared.items():
            figures[f"{name}auroc"] = table.mean_auroc(values, own)
            figures[f"{name}false_shows"] = table.mean_false_shows(values, own)
    some, some_intercept = _raw(fitted, fitted.some[number])
    hit, hit_intercept = _raw(fitted, np.delete(fitted.hit[number], -2))
    return PairFit(
        *key,
        low=dict(zip(table.names, fitted.low.tolist(), strict=True)),
        high=dict(zip(table.names, fitted.high.tolist(), strict=True)),
        some=dict(zip(table.names, some.tolist(), strict=True)),
        some_intercept=some_intercept,
        hit=dict(zip(table.names, hit.tolist(), strict=True)),
        hit_intercept=hit_intercept,
        hit_gap=float(fitted.hit[number][-2]),
        threshold=threshold,
        figures=figures,
    )


def _raw(fitted: _Fitted, coefficients: Floats) -> tuple[Floats, float]:
    """Coefficients of standardised features -> those of the features as they are, and the intercept."""
    own = coefficients[:-1] / fitted.scale
    return own, float(coefficients[-1] - own @ fitted.centre)


def _shown_at(answered: Floats) -> float:
    """The highest cut that at least :data:`SHOWN` of the values reach."""
    falling = np.sort(answered)[::-1]
    return float(falling[int(np.ceil(SHOWN * len(falling) - 1e-9)) - 1])


def _mixed_threshold(
    examples: Sequence[Example],
    held_out: Mapping[int, float],
    fits: Mapping[tuple[str, str, bool], PairFit],
    query: str,
) -> float:
    """See :attr:`MatchModel.mixed`, from the lists that were searched together; 0 where there are none."""
    together: dict[int, list[Example]] = {}
    for one in examples:
        if one.query.value == query and not one.found.judged:
            together.setdefault(one.number, []).append(one)
    best = [
        max(held_out[id(one)] - _log_odds(fits[one.key].threshold) for one in some)
        for some in together.values()
        if len(some) > 1 and any(one.answered for one in some)
    ]
    return _shown_at(np.array(best)) if len(best) >= _LEAST else 0.0


def _log_odds(probability: float) -> float:
    return float(np.log(probability / (1.0 - probability)))
