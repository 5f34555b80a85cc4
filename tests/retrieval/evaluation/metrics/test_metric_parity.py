"""The metrics against independent code on a thousand random cases, with ties and several relevant candidates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.evaluation.metrics.metrics import hit_rate_at_k, mrr, recall_at_k
from retrieval.evaluation.metrics.ranks import Relevance, ranks, ranks_of_embeddings
from retrieval.evaluation.zero_shot import classification, mean_per_class_recall

CASES = 1_000
AT = (1, 5, 10)


def case(number: int) -> tuple[NDArray[np.float64], list[list[int]]]:
    """A similarity matrix and who is relevant; every fifth case is one that breaks careless code."""
    rng = np.random.default_rng(number)
    n_queries, n_candidates = int(rng.integers(1, 12)), int(rng.integers(1, 60))
    similarity = rng.normal(size=(n_queries, n_candidates))
    if number % 5 == 0:
        kind = number // 5 % 4
        if kind == 0:
            similarity[:] = 0.5  # one number everywhere
        elif kind == 1:
            similarity = np.tile(similarity[:1], (n_queries, 1))  # every query alike
        elif kind == 2:
            similarity[:, ::2] = similarity[:, :1]  # half of the pool tied
        else:
            similarity = rng.integers(-1, 2, size=similarity.shape).astype(float) * -0.0  # zeros of both signs
    else:
        similarity = np.round(similarity, number % 3)
    most = n_candidates if number % 7 == 0 else min(6, n_candidates)
    lists = [
        rng.choice(n_candidates, size=int(rng.integers(1, most + 1)), replace=False).tolist() for _ in range(n_queries)
    ]
    return similarity, lists


def brute_force(similarity: NDArray[np.float64], lists: list[list[int]]) -> list[float]:
    """Definitions spelled out over sorted lists of indices; shares nothing with the code under test."""
    answer = []
    orders = [sorted(range(len(row)), key=lambda j, row=row: (-row[j], j)) for row in similarity.tolist()]
    for k in AT:
        tops = [set(order[:k]) for order in orders]
        answer.append(sum(bool(top & set(own)) for top, own in zip(tops, lists, strict=True)) / len(lists))
        answer.append(sum(len(top & set(own)) / len(own) for top, own in zip(tops, lists, strict=True)) / len(lists))
    firsts = [
        next(at for at, one in enumerate(order, 1) if one in own) for order, own in zip(orders, lists, strict=True)
    ]
    return [*answer, sum(1 / first for first in firsts) / len(firsts)]


def ours(similarity: NDArray[np.float64], lists: list[list[int]]) -> list[float]:
    found = ranks(similarity, Relevance.from_lists(lists, similarity.shape[1]))
    answer = []
    for k in AT:
        answer += [hit_rate_at_k(found, k), recall_at_k(found, k)]
    return [*answer, mrr(found)]


def test_a_thousand_cases_with_ties_agree_with_brute_force(record_property: Callable[[str, object], None]) -> None:
    largest, tied, several = 0.0, 0, 0
    for number in range(CASES):
        similarity, lists = case(number)
        tied += any(len(np.unique(row)) < len(row) for row in similarity)
        several += any(len(own) > 1 for own in lists)
        differences = np.abs(np.array(ours(similarity, lists)) - np.array(brute_force(similarity, lists)))
        assert differences.max() < 1e-12, f"case {number}: {differences}"
        largest = max(largest, float(differences.max()))
    assert tied > 0.6 * CASES
    assert several > 0.8 * CASES
    record_property("largest_difference", largest)


def test_a_thousand_cases_agree_with_ranx(record_property: Callable[[str, object], None]) -> None:
    """ranx sorts equal scores in no order of ours, so it gets the places that the tie rule gives as scores."""
    ranx = pytest.importorskip("ranx", reason="ranx brings a dozen packages: pip install ranx")
    names = [f"{name}@{k}" for k in AT for name in ("hit_rate", "recall")] + ["mrr"]
    largest = 0.0
    for number in range(CASES):
        similarity, lists = case(number)
        width = similarity.shape[1]
        places = [np.argsort(np.lexsort((np.arange(width), -row))) for row in similarity]
        run = {f"q{i}": {f"d{j}": float(width - p) for j, p in enumerate(row)} for i, row in enumerate(places)}
        qrels = {f"q{i}": {f"d{j}": 1 for j in own} for i, own in enumerate(lists)}
        theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names)
        differences = np.abs(np.array(ours(similarity, lists)) - np.array([theirs[name] for name in names]))
        assert differences.max() < 1e-12, f"case {number}: {differences}"
        largest = max(largest, float(differences.max()))
    record_property("largest_difference", largest)


def test_embeddings_with_equal_rows_agree_with_brute_force_on_the_same_products() -> None:
    for number in range(100):
        rng = np.random.default_rng(number)
        # small integers: every product is exact, so ties are ties in any order of adding
        queries = rng.integers(-2, 3, size=(9, 8)).astype(np.float32)
        candidates = rng.integers(-2, 3, size=(40, 8)).astype(np.float32)[rng.integers(0, 12, size=40)]
        lists = [rng.choice(40, size=int(rng.integers(1, 7)), replace=False).tolist() for _ in queries]
        found = ranks_of_embeddings(queries, candidates, Relevance.from_lists(lists, 40), block_elements=97)
        answer = [metric(found, k) for k in AT for metric in (hit_rate_at_k, recall_at_k)] + [mrr(found)]
        expected = brute_force((queries @ candidates.T).astype(np.float64), lists)
        assert answer == pytest.approx(expected, abs=1e-12)


def test_mean_per_class_recall_agrees_with_a_confusion_matrix() -> None:
    for number in range(200):
        rng = np.random.default_rng(number)
        n_classes = int(rng.integers(2, 9))
        similarity = np.round(rng.normal(size=(30, n_classes)), 1)
        labels = rng.integers(0, n_classes, size=30).tolist()
        confusion = np.zeros((n_classes, n_classes))
        for row, label in zip(similarity, labels, strict=True):
            confusion[label, int(np.argmax(row))] += 1  # of equals the first, as our ties
        there = confusion.sum(axis=1) > 0
        balanced = float((confusion.diagonal()[there] / confusion.sum(axis=1)[there]).mean())
        found = ranks(similarity, Relevance.from_lists([[label] for label in labels], n_classes))
        result = classification(found, labels, n_classes)
        assert result.mean_per_class_recall == pytest.approx(balanced, abs=1e-12)
        assert result.acc1 == pytest.approx(confusion.trace() / 30, abs=1e-12)
        assert (result.acc5 is None) == (n_classes < 5)
    assert mean_per_class_recall(np.array([1.0, 1.0, 1.0, 0.0]), [0, 0, 0, 1]) == 0.5
