"""Metrics against hand-computed matrices and against slow obvious versions."""

from __future__ import annotations

import doctest
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from retrieval.evaluation.metrics import ranks as ranks_module
from retrieval.evaluation.metrics.metrics import (
    chance_hit_rate_at_k,
    chance_recall_at_k,
    hit_rate_at_k,
    hits_at_k,
    mrr,
    recall_at_k,
    recalls_at_k,
    reciprocal_ranks,
)
from retrieval.evaluation.metrics.ranks import (
    NOT_FOUND,
    Relevance,
    RelevantRanks,
    ranks,
    ranks_of_embeddings,
    ranks_of_ids,
)
from retrieval.evaluation.metrics.statistics import bootstrap_ci95


def by_query(found: RelevantRanks) -> list[list[int]]:
    return [found.ranks[a:b].tolist() for a, b in itertools.pairwise(found.offsets)]


def slow_ranks(similarity: np.ndarray, relevant: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sort every row with Python, by falling similarity and then rising index."""
    rows = []
    for row, wanted in zip(similarity.tolist(), relevant, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        rows.append(sorted(order.index(j) + 1 for j in set(wanted)))
    return rows


def slow_metrics(rows: list[list[int]], k: int) -> tuple[float, float, float]:
    hits = [any(rank <= k for rank in row) for row in rows]
    recalls = [sum(rank <= k for rank in row) / len(row) for row in rows]
    firsts = [1 / min(row) for row in rows]
    return sum(hits) / len(rows), sum(recalls) / len(rows), sum(firsts) / len(rows)


def test_the_examples_in_the_docstrings_are_true() -> None:
    result = doctest.testmod(ranks_module)
    assert result.attempted >= 4
    assert result.failed == 0
    found = RelevantRanks(np.array([1, 4, 2, 3]), np.array([0, 2, 4]))
    assert [hit_rate_at_k(found, k) for k in (1, 2)] == [0.5, 1.0]
    assert [recall_at_k(found, k) for k in (1, 3)] == [0.25, 0.75]
    assert mrr(found) == 0.75
    one_of_200 = Relevance.from_lists([[7]], 200)
    assert chance_hit_rate_at_k(one_of_200, 10) == pytest.approx(0.05)
    assert chance_recall_at_k(one_of_200, 10) == 0.05
    low, high = bootstrap_ci95(np.repeat([1.0, 0.0], 50))
    assert (low, high) == pytest.approx((0.40, 0.60), abs=0.021)


def test_a_hand_computed_matrix_gives_its_ranks_and_metrics() -> None:
    similarity = np.array([
        [0.9, 0.2, 0.4, 0.1],  # order 0 2 1 3
        [0.3, 0.8, 0.8, 0.7],  # order 1 2 3 0: the tie goes to 1
        [0.5, 0.6, 0.7, 0.8],  # order 3 2 1 0
    ])  # fmt: skip
    found = ranks(similarity, Relevance.from_lists([[0], [2, 3], [0, 1]], 4))
    assert by_query(found) == [[1], [2, 3], [3, 4]]
    assert hits_at_k(found, 2).tolist() == [1, 1, 0]
    assert recalls_at_k(found, 3).tolist() == [1, 1, 0.5]
    assert reciprocal_ranks(found).tolist() == [1, 1 / 2, 1 / 3]
    assert hit_rate_at_k(found, 1) == pytest.approx(1 / 3)
    assert recall_at_k(found, 1) == pytest.approx(1 / 3)
    assert mrr(found) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_five_captions_a_picture_make_hit_rate_and_recall_differ() -> None:
    similarity = np.zeros((1, 10))
    similarity[0, [0, 6, 7]] = [3.0, 2.0, 1.0]  # one caption first, then two of other pictures
    found = ranks(similarity, Relevance.from_lists([range(5)], 10))
    assert hit_rate_at_k(found, 1) == 1.0
    assert recall_at_k(found, 1) == pytest.approx(1 / 5)
    assert recall_at_k(found, 5) == pytest.approx(3 / 5)  # 0, then 6 and 7, then 1 and 2 by index


def test_equal_similarities_everywhere_rank_by_index() -> None:
    found = ranks(np.full((4, 4), 0.25), Relevance.from_lists([[0], [1], [2], [3]], 4))
    assert found.first.tolist() == [1, 2, 3, 4]
    assert hit_rate_at_k(found, 1) == 0.25


def test_equal_embeddings_everywhere_rank_by_index_whatever_the_block() -> None:
    row = np.random.default_rng(3).normal(size=37).astype(np.float32)
    row /= np.linalg.norm(row)
    same = np.tile(row, (101, 1))
    relevance = Relevance.from_lists([[i] for i in range(101)], 101)
    for elements in (1, 250, 5_000, 1_000_000):
        found = ranks_of_embeddings(same, same, relevance, block_elements=elements)
        assert found.first.tolist() == list(range(1, 102))


def test_repeated_candidates_tie_exactly_among_others() -> None:
    rng = np.random.default_rng(11)
    pool = rng.normal(size=(40, 65)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    candidates = pool[rng.integers(0, 40, size=203)]
    queries = pool[:17]
    lists = [[int(j) for j in np.flatnonzero((candidates == query).all(axis=1))] or [0] for query in queries]
    found = ranks_of_embeddings(queries, candidates, Relevance.from_lists(lists, 203), block_elements=999)
    for wanted, row in zip(lists, by_query(found), strict=True):
        if wanted != [0]:
            assert row == list(range(1, len(wanted) + 1))  # all copies on top, none split by rounding


def test_ranks_agree_with_sorting_in_python_on_many_random_cases() -> None:
    rng = np.random.default_rng(0)
    for case in range(400):
        n_queries, n_candidates = int(rng.integers(1, 9)), int(rng.integers(1, 40))
        similarity = rng.normal(size=(n_queries, n_candidates))
        similarity = np.round(similarity, int(rng.integers(0, 3)))  # heavy ties
        if case % 2:
            similarity = similarity.astype(np.float32)
        most = n_candidates if case % 3 == 0 else min(3, n_candidates)  # many relevant: the sorting path
        lists = [
            rng.choice(n_candidates, size=int(rng.integers(1, most + 1)), replace=False).tolist()
            for _ in range(n_queries)
        ]
        found = ranks(similarity, Relevance.from_lists(lists, n_candidates))
        expected = slow_ranks(similarity, lists)
        assert by_query(found) == expected, f"case {case}"
        k = int(rng.integers(1, 12))
        assert (hit_rate_at_k(found, k), recall_at_k(found, k), mrr(found)) == pytest.approx(slow_metrics(expected, k))


def test_both_ways_of_ranking_a_block_agree() -> None:
    rng = np.random.default_rng(5)
    similarity = np.round(rng.normal(size=(6, 300)), 1).astype(np.float32)
    rows = np.repeat(np.arange(6), 50)
    columns = np.concatenate([np.sort(rng.choice(300, 50, replace=False)) for _ in range(6)])
    counted = ranks_module._ranks_by_counting(similarity, rows, columns)
    assert counted.tolist() == ranks_module._ranks_by_sorting(similarity, rows, columns).tolist()


def test_blocks_of_any_size_give_what_the_whole_matrix_gives() -> None:
    rng = np.random.default_rng(2)
    queries = rng.normal(size=(53, 24)).astype(np.float32)
    candidates = rng.normal(size=(91, 24)).astype(np.float32)
    lists = [rng.choice(91, size=int(rng.integers(1, 4)), replace=False).tolist() for _ in range(53)]
    relevance = Relevance.from_lists(lists, 91)
    whole = ranks(queries @ candidates.T, relevance)
    for elements in (1, 91, 400, 91 * 53, 10**9):
        blocks = ranks_of_embeddings(queries, candidates, relevance, block_elements=elements)
        assert blocks.ranks.tolist() == whole.ranks.tolist()


def test_a_candidate_of_several_rows_counts_by_its_best_row() -> None:
    queries = np.eye(3, dtype=np.float32)
    rows = np.array([[0, 1, 0], [0.9, 0, 0.1], [1, 0, 0], [0, 0, 1], [0, 0.5, 0]], dtype=np.float32)
    starts = np.array([0, 2, 3])  # candidates: rows 0-1, row 2, rows 3-4
    found = ranks_of_embeddings(queries, rows, Relevance.from_lists([[0], [0], [2]], 3), candidate_starts=starts)
    # query 0: 0.9, 1.0, 0.0; query 1: 1.0, 0.0, 0.5; query 2: 0.1, 0.0, 1.0
    assert found.first.tolist() == [2, 1, 1]


def test_nan_is_refused_with_the_number_of_the_query() -> None:
    similarity = np.zeros((3, 2))
    similarity[2, 0] = np.nan
    relevance = Relevance.from_lists([[0], [0], [0]], 2)
    with pytest.raises(ValueError, match="query 2: a similarity is NaN"):
        ranks(similarity, relevance)
    broken = np.ones((3, 4), dtype=np.float32)
    broken[1, 1] = np.nan
    with pytest.raises(ValueError, match="query 1: its embedding is not finite"):
        ranks_of_embeddings(broken, np.ones((2, 4), dtype=np.float32), relevance)
    with pytest.raises(ValueError, match="candidate 1: its embedding is not finite"):
        ranks_of_embeddings(np.ones((3, 4), dtype=np.float32), broken[:2], relevance)
    with pytest.raises(ValueError, match="query 1: its value is NaN"):
        bootstrap_ci95(np.array([1.0, np.nan]))


def test_minus_infinity_ranks_below_everything() -> None:
    similarity = np.array([[-np.inf, 0.1, -np.inf]])
    assert ranks(similarity, Relevance.from_lists([[0, 2]], 3)).ranks.tolist() == [2, 3]


def test_a_query_without_relevant_candidates_is_named() -> None:
    with pytest.raises(ValueError, match="query 1 has no relevant candidate"):
        Relevance.from_lists([[0], []], 2)
    with pytest.raises(ValueError, match="query 0 has no relevant candidate"):
        ranks_of_ids([["a"]], [set()])


def test_a_candidate_outside_the_pool_and_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="outside a pool of 2"):
        Relevance.from_lists([[2]], 2)
    with pytest.raises(ValueError, match="outside a pool of 2"):
        Relevance.from_lists([[-1, 1]], 2)
    with pytest.raises(ValueError, match=r"similarity is \(2, 2\)"):
        ranks(np.zeros((2, 2)), Relevance.from_lists([[0]], 2))
    with pytest.raises(ValueError, match="1 queries and 2 candidates"):
        ranks_of_embeddings(
            np.ones((1, 3), dtype=np.float32),
            np.ones((2, 3), dtype=np.float32),
            Relevance.from_lists([[0]], 3),
        )


def test_no_queries_and_k_below_one_are_refused() -> None:
    nothing = ranks(np.zeros((0, 3)), Relevance.from_lists([], 3))
    for metric in (lambda: hit_rate_at_k(nothing, 1), lambda: recall_at_k(nothing, 1), lambda: mrr(nothing)):
        with pytest.raises(ValueError, match="no queries"):
            metric()
    with pytest.raises(ValueError, match="no queries"):
        bootstrap_ci95(np.array([]))
    some = ranks(np.zeros((1, 3)), Relevance.from_lists([[0]], 3))
    with pytest.raises(ValueError, match="k is 0"):
        hit_rate_at_k(some, 0)


def test_k_larger_than_the_pool_finds_everything() -> None:
    found = ranks(np.zeros((1, 3)), Relevance.from_lists([[0, 2]], 3))
    assert hit_rate_at_k(found, 99) == recall_at_k(found, 99) == 1.0


def test_ranked_ids_that_stop_early_count_the_missing_as_not_found() -> None:
    found = ranks_of_ids([["x", "a", "a", "y"], ["q"]], [["a", "y", "z"], ["r"]])
    assert by_query(found) == [[2, 4, NOT_FOUND], [NOT_FOUND]]
    assert recall_at_k(found, 10) == pytest.approx((2 / 3 + 0) / 2)
    assert mrr(found) == 0.25
    with pytest.raises(ValueError, match="2 ranked lists for 1 queries"):
        ranks_of_ids([[], []], [["a"]])


def test_ranked_ids_agree_with_the_matrix_they_came_from() -> None:
    rng = np.random.default_rng(9)
    similarity = np.round(rng.normal(size=(20, 15)), 1)
    lists = [rng.choice(15, size=2, replace=False).tolist() for _ in range(20)]
    ids = np.argsort(-similarity, axis=1, kind="stable").tolist()
    assert ranks_of_ids(ids, lists).ranks.tolist() == ranks(similarity, Relevance.from_lists(lists, 15)).ranks.tolist()


def test_the_bootstrap_repeats_with_its_seed_and_agrees_with_resampling_one_by_one() -> None:
    rng = np.random.default_rng(4)
    values = 1.0 / rng.integers(1, 30, size=80)
    assert bootstrap_ci95(values, seed=7) == bootstrap_ci95(values, seed=7)
    assert bootstrap_ci95(values, seed=7) != bootstrap_ci95(values, seed=8)
    slow = [values[rng.integers(0, 80, size=80)].mean() for _ in range(4_000)]
    expected = np.percentile(slow, [2.5, 97.5])
    assert bootstrap_ci95(values, n_resamples=4_000) == pytest.approx(expected, abs=0.012)


def test_the_bootstrap_of_equal_values_has_no_width() -> None:
    assert bootstrap_ci95(np.ones(9)) == (1.0, 1.0)


def test_the_interval_narrows_with_more_queries() -> None:
    few, many = (bootstrap_ci95(np.tile([0.0, 1.0], n)) for n in (10, 1_000))
    assert many[1] - many[0] < 0.2 * (few[1] - few[0])


def test_chance_agrees_with_ranking_at_random() -> None:
    rng = np.random.default_rng(1)
    lists = [[0], [1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11]]
    relevance = Relevance.from_lists(lists, 12)
    hits, recalls = [], []
    for _ in range(3_000):
        found = ranks(rng.normal(size=(3, 12)), relevance)
        hits.append(hit_rate_at_k(found, 3))
        recalls.append(recall_at_k(found, 3))
    assert chance_hit_rate_at_k(relevance, 3) == pytest.approx(np.mean(hits), abs=0.02)
    assert chance_recall_at_k(relevance, 3) == pytest.approx(np.mean(recalls), abs=0.02)
    assert chance_hit_rate_at_k(relevance, 12) == 1.0
    assert chance_hit_rate_at_k(relevance, 50) == 1.0
