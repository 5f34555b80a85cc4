"""The collection's index beside exact search: nothing is lost by an exact one, and what a bad one loses is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from indexer.ann.index import FLAT_LIMIT, index_of
from indexer.encoders.fake import FakeEncoder
from indexer.items import Embeddings
from retrieval.evaluation.ann import measure_ann, recall_of_neighbours
from retrieval.evaluation.datasets.benchmark import load_benchmark
from retrieval.evaluation.metrics.ranks import Relevance, ranks_of_embeddings
from retrieval.evaluation.runner import run_benchmark


def unit(rng: np.random.Generator, n: int, dim: int) -> Embeddings:
    rows = rng.normal(size=(n, dim)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


class Forgetful:
    """An exact index that never finds the best hit of any query."""

    def __init__(self, candidates: Embeddings) -> None:
        self._index = index_of(candidates)
        self.kind = "HNSW"

    def search(self, queries: Embeddings, k: int, allowed: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        scores, ids = self._index.search(queries, k + 1)
        return scores[:, 1:], ids[:, 1:]


def test_an_exact_index_loses_nothing_ties_and_small_pools_included() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 40, 500):
        candidates = unit(rng, n, 16)[rng.integers(0, n, size=n)]  # many equal rows
        queries = unit(rng, 60, 16)
        relevance = Relevance.from_lists([[int(rng.integers(0, n))] for _ in queries], n)
        exact = ranks_of_embeddings(queries, candidates, relevance)
        found = measure_ann("text->image", queries, candidates, relevance, exact)
        assert (found.index, found.n_candidates) == ("Flat", n)
        assert set(found.recall_at.values()) == {1.0}
        assert set(found.lost.values()) == {0.0}


def test_what_an_index_misses_is_told_in_recall_and_in_points_lost() -> None:
    rng = np.random.default_rng(1)
    candidates = unit(rng, 300, 24)
    queries, relevance = candidates[:50], Relevance.from_lists([[i] for i in range(50)], 300)
    exact = ranks_of_embeddings(queries, candidates, relevance)
    index: Any = Forgetful(candidates)
    found = measure_ann("text->image", queries, candidates, relevance, exact, index=index)
    assert found.recall_at == {1: 0.0, 5: pytest.approx(4 / 5), 10: pytest.approx(9 / 10)}
    assert found.hit_rate_at == {1: 0.0, 5: 0.0, 10: 0.0}
    assert found.lost == {1: 1.0, 5: 1.0, 10: 1.0}
    assert "lost by it: R@1 100.00" in found.note()


def test_neighbours_agree_with_sorting_and_missing_ones_count_as_missed() -> None:
    rng = np.random.default_rng(2)
    queries, candidates = unit(rng, 20, 8), unit(rng, 70, 8)
    order = np.argsort(-(queries.astype(np.float64) @ candidates.T.astype(np.float64)), axis=1)[:, :10]
    assert recall_of_neighbours(queries, candidates, order) == {1: 1.0, 5: 1.0, 10: 1.0}
    half = np.where(np.arange(10) % 2 == 0, order, -1)
    assert recall_of_neighbours(queries, candidates, half) == {1: 1.0, 5: pytest.approx(3 / 5), 10: pytest.approx(0.5)}


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "kind"), [(32, "HNSW"), (64, "IVF")])
def test_a_pool_over_the_limit_gets_an_approximate_index_whose_loss_is_small(dim: int, kind: str) -> None:
    rng = np.random.default_rng(3)
    n = FLAT_LIMIT + 1
    candidates = unit(rng, n, dim)
    queries = candidates[:400] + 0.1 * unit(rng, 400, dim)
    queries = np.asarray(queries / np.linalg.norm(queries, axis=1, keepdims=True), dtype=np.float32)
    relevance = Relevance.from_lists([[i] for i in range(400)], n)
    exact = ranks_of_embeddings(queries, candidates, relevance)
    found = measure_ann("text->image", queries, candidates, relevance, exact)
    assert found.index == kind
    assert found.recall_at[10] > 0.88  # even rows without any structure
    assert abs(found.lost[1]) < 0.01


def test_bench_gives_it_beside_each_direction_when_asked(tmp_path: Path) -> None:
    rows = []
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "captions": [colour]})
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = run_benchmark(load_benchmark(path), FakeEncoder(), ann=True).to_json()
    assert [one["direction"] for one in document["ann"]] == ["text->image", "image->text"]
    assert document["ann"][0]["lost"] == {"hit_rate_at_1": 0.0, "hit_rate_at_5": 0.0, "hit_rate_at_10": 0.0}
    assert document["ann"][0]["recall_at_10"] == 1.0
    assert run_benchmark(load_benchmark(path), FakeEncoder()).to_json()["ann"] == []
