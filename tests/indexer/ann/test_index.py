"""The FAISS index against brute force in NumPy: scores, ties, allowed rows, saving, devices."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_media import unit_rows

from indexer.ann import candidates, gpu
from indexer.ann.brute_force import ArrayRows
from indexer.ann.candidates import Candidates
from indexer.ann.file import Tuning
from indexer.ann.index import FLAT_LIMIT, FaissIndex, VectorIndex, build_index, index_of, load_index, read_facts
from indexer.ann.plan import IndexOptions, IndexPlan, plan_index
from indexer.ann.tuning import own_vectors, tuned
from indexer.errors import IndexDamaged, UsageError

Rows = NDArray[np.float32]


def brute_force(
    rows: Rows, queries: Rows, k: int, allowed: NDArray[np.int64] | None = None
) -> tuple[Rows, NDArray[np.int64]]:
    """The slow obvious way: every score in float64, sorted by score and then by id."""
    ids = np.arange(len(rows)) if allowed is None else np.unique(allowed)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    found = np.full((len(queries), k), -1, dtype=np.int64)
    for position, query in enumerate(queries):
        exact = (rows[ids].astype(np.float64) * query.astype(np.float64)).sum(axis=1).astype(np.float32)
        order = sorted(range(len(ids)), key=lambda i: (-exact[i], ids[i]))[:k]
        scores[position, : len(order)] = exact[order]
        found[position, : len(order)] = ids[order]
    return scores, found


def flat(rows: Rows) -> VectorIndex:
    index = build_index(rows.shape[1], len(rows), "cpu")
    index.add(rows)
    assert index.kind == "Flat"
    return index


def test_a_flat_search_is_brute_force() -> None:
    rows, queries = unit_rows(3_000, 32), unit_rows(40, 32, seed=1)

    scores, ids = flat(rows).search(queries, 10)

    expected_scores, expected_ids = brute_force(rows, queries, 10)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected_scores)
    assert (scores.dtype, ids.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("n_allowed", [0, 1, 2, 30, 1_000, 2_999, 3_000])
def test_only_allowed_rows_are_found_and_all_of_them_are(n_allowed: int) -> None:
    rows, queries = unit_rows(3_000, 16), unit_rows(5, 16, seed=1)
    allowed = np.random.default_rng(2).choice(3_000, n_allowed, replace=False).astype(np.int64)

    scores, ids = flat(rows).search(queries, 40, allowed)

    expected_scores, expected_ids = brute_force(rows, queries, 40, allowed)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(scores, expected_scores)
    assert int((ids[0] >= 0).sum()) == min(40, n_allowed)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_large_allowed_sets_go_through_a_bitmap_with_the_same_result(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "EXACT_ROWS", 100)
    rows, queries = unit_rows(3_003, 16), unit_rows(5, 16, seed=1)
    allowed = np.flatnonzero(np.random.default_rng(2).random(3_003) < share)

    _, ids = flat(rows).search(queries, 12, allowed)

    assert np.array_equal(ids, brute_force(rows, queries, 12, allowed)[1])


def test_allowed_rows_may_be_unsorted_repeated_and_out_of_range() -> None:
    rows = unit_rows(50, 8)
    messy = np.array([7, 3, 3, -1, 49, 50, 10**12])

    _, ids = flat(rows).search(rows[:1], 5, messy)

    assert sorted(ids[0][:3]) == [3, 7, 49]
    assert ids[0][3:].tolist() == [-1, -1]


def test_k_beyond_the_rows_pads_with_minus_one_and_minus_infinity() -> None:
    rows = unit_rows(3, 8)

    scores, ids = flat(rows).search(rows, 10)

    assert (ids[:, 3:] == -1).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert ids[:, 0].tolist() == [0, 1, 2]


def test_an_empty_index_no_queries_and_k_zero_give_empty_results() -> None:
    empty = build_index(8, 0, "cpu")
    scores, ids = empty.search(unit_rows(2, 8), 3)

    assert ids.tolist() == [[-1] * 3] * 2
    assert np.isneginf(scores).all()
    assert flat(unit_rows(5, 8)).search(np.empty((0, 8), np.float32), 3)[0].shape == (0, 3)
    assert flat(unit_rows(5, 8)).search(unit_rows(2, 8), 0)[1].shape == (2, 0)


def test_queries_of_another_width_or_not_finite_are_refused() -> None:
    index = flat(unit_rows(5, 8))

    with pytest.raises(ValueError, match=r"shape \(q, 8\)"):
        index.search(unit_rows(1, 9), 1)
    with pytest.raises(ValueError, match="not finite"):
        index.search(np.full((1, 8), np.nan, np.float32), 1)


@pytest.mark.parametrize("dim", [3, 64, 513])
def test_equal_vectors_have_equal_scores_and_the_lower_id_comes_first(dim: int) -> None:
    """Fifty groups of twenty equal rows, mixed: k cuts through a group, wherever its rows stand."""
    groups, queries = unit_rows(50, dim), unit_rows(7, dim, seed=1)
    member = np.random.default_rng(3).permutation(np.repeat(np.arange(50), 20))
    rows = groups[member]

    for k in (1, 5, 19, 20, 21, 33, 250):
        scores, ids = flat(rows).search(queries, k)
        assert np.array_equal(ids, brute_force(rows, queries, k)[1])
        for row in range(len(queries)):
            assert len(set(scores[row][member[ids[row]] == member[ids[row][0]]])) == 1


def test_when_all_rows_are_equal_the_first_k_are_given() -> None:
    rows = np.repeat(unit_rows(1, 16), 5_000, axis=0)

    _, ids = flat(rows).search(rows[:2], 7, np.arange(11, 5_000))

    assert ids.tolist() == [list(range(11, 18))] * 2


def test_the_same_search_alone_and_in_a_batch_gives_the_same_bits() -> None:
    rows, queries = unit_rows(2_000, 100), unit_rows(100, 100, seed=1)
    index = flat(rows)

    together = index.search(queries, 10)
    alone = [index.search(query[None], 10) for query in queries]

    assert np.array_equal(together[0], np.concatenate([scores for scores, _ in alone]))
    assert np.array_equal(together[1], np.concatenate([ids for _, ids in alone]))


# -- HNSW -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph() -> tuple[VectorIndex, Rows]:
    rows = unit_rows(FLAT_LIMIT + 1, 12)
    rows[100:130] = rows[50]  # equal rows
    index = build_index(12, len(rows), "cpu", kind="HNSW", rows=ArrayRows(rows))
    index.add(rows)
    return index, rows


def recall(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)]))


def test_the_kind_changes_above_the_limit() -> None:
    assert [plan_index(FLAT_LIMIT + more, 64).kind for more in (0, 1)] == ["Flat", "IVF"]
    assert [plan_index(FLAT_LIMIT + more, 12).kind for more in (0, 1)] == ["Flat", "HNSW"]


def test_a_graph_finds_nearly_all_of_the_true_neighbours(graph: tuple[VectorIndex, Rows]) -> None:
    index, rows = graph
    queries = unit_rows(100, 12, seed=1)
    assert index.kind == "HNSW"

    scores, ids = index.search(queries, 10)

    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    assert recall(ids, expected) > 0.99
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("share", [0.55, 0.9])
def test_a_graph_walks_through_rows_that_are_not_allowed(graph: tuple[VectorIndex, Rows], share: float) -> None:
    index, rows = graph
    queries = unit_rows(50, 12, seed=1)
    allowed = np.flatnonzero(np.random.default_rng(2).random(len(rows)) < share)
    assert len(allowed) > candidates.EXACT_ROWS

    _, ids = index.search(queries, 10, allowed)

    expected = allowed[np.argsort(-(queries @ rows[allowed].T), axis=1)[:, :10]]
    assert recall(ids, expected) > 0.99
    assert np.isin(ids, allowed).all()


@pytest.mark.parametrize("n_allowed", [0, 1, 9, 500, 9_999])
def test_few_allowed_rows_are_searched_exactly(graph: tuple[VectorIndex, Rows], n_allowed: int) -> None:
    index, rows = graph
    queries = unit_rows(4, 12, seed=1)
    allowed = np.sort(np.random.default_rng(2).choice(len(rows), n_allowed, replace=False))

    _, ids = index.search(queries, 10, allowed)

    assert np.array_equal(ids, brute_force(rows, queries, 10, allowed)[1])


def test_a_run_of_equal_scores_at_the_edge_is_answered_exactly(graph: tuple[VectorIndex, Rows]) -> None:
    index, rows = graph

    _, ids = index.search(rows[50:51], 5)

    assert ids[0].tolist() == [50, 100, 101, 102, 103]


def test_more_than_a_graph_finds_is_answered_exactly(graph: tuple[VectorIndex, Rows]) -> None:
    index, rows = graph

    _, ids = index.search(rows[:1], len(rows) + 5)

    assert sorted(ids[0][:-5]) == list(range(len(rows)))
    assert ids[0][-5:].tolist() == [-1] * 5


# -- IVF ------------------------------------------------------------------------------------------------------

DIM = 96
OTHERS = 12_000
"""Rows of another kind, far from what asks: as texts lie elsewhere than pictures do."""


def around(centres: Rows, n: int, seed: int) -> Rows:
    """Unit rows about centres, as embeddings are."""
    draw = np.random.default_rng(seed)
    rows = centres[draw.integers(len(centres), size=n)] + 1.1 * unit_rows(n, centres.shape[1], seed=seed + 1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def mixed() -> Rows:
    centres = unit_rows(200, DIM, seed=5)
    centres[:, 0], other = np.abs(centres[:, 0]) + 1, centres.copy()
    other[:, 0] *= -1
    centres, other = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (centres, other))
    return np.concatenate([around(centres, 24_000, 6), around(other, OTHERS, 8)])


@pytest.fixture(scope="module")
def clusters(mixed: Rows) -> tuple[VectorIndex, Rows]:
    index = index_of(mixed)
    tuned(index, ArrayRows(mixed), own_vectors(ArrayRows(mixed)), 0.95)
    return index, mixed


def test_lists_are_tuned_until_they_find_what_is_wished(clusters: tuple[VectorIndex, Rows]) -> None:
    index, rows = clusters
    assert (index.kind, index.plan.storage) == ("IVF", "int8")
    asked = np.setdiff1d(np.arange(0, len(rows), 301), own_vectors(ArrayRows(rows)).own)

    _, ids = index.search(rows[asked], 11)

    assert np.array_equal(ids[:, 0], asked)
    assert recall(ids, np.argsort(-(rows[asked] @ rows.T), axis=1)[:, :11]) > 0.93
    assert index.tuning is not None
    used = [one for one in index.tuning.curve if one["breadth"] == index.tuning.breadth]
    assert index.tuning.recall is not None and index.tuning.recall >= 0.95
    assert index.tuning.recall in [one["recall_at_10"] for one in used]
    assert min(one["recall_at_10"] for one in index.tuning.curve) < 0.95
    assert index.tuning.breadth < index.plan.lists / 2


@pytest.mark.parametrize("wanted", [0.7, 0.9, 0.99])
def test_a_higher_recall_is_looked_for_more_broadly(mixed: Rows, wanted: float) -> None:
    index, source = index_of(mixed), ArrayRows(mixed)

    found = tuned(index, source, own_vectors(source), wanted)

    assert found.recall is not None and found.recall >= wanted


def test_the_scores_are_exact_and_alike_alone_and_in_a_batch(clusters: tuple[VectorIndex, Rows]) -> None:
    index, rows = clusters
    queries = unit_rows(20, DIM, seed=3)

    scores, ids = index.search(queries, 10)

    exact = (rows[ids].astype(np.float64) * queries[:, None].astype(np.float64)).sum(axis=-1).astype(np.float32)
    assert np.array_equal(scores, exact)
    alone = [index.search(query[None], 10) for query in queries]
    assert np.array_equal(ids, np.concatenate([found for _, found in alone]))
    assert np.array_equal(scores, np.concatenate([found for found, _ in alone]))


@pytest.mark.parametrize("far", [False, True])
def test_rows_that_lie_elsewhere_than_the_query_are_found_too(clusters: tuple[VectorIndex, Rows], far: bool) -> None:
    index, rows = clusters
    queries = rows[24_000:24_060] if far else rows[:60]
    allowed = np.arange(24_000) if far else np.arange(24_000, len(rows))
    assert len(allowed) >= candidates.EXACT_ROWS

    _, ids = index.search(queries, 10, allowed)

    assert np.isin(ids, allowed).all()
    expected = allowed[np.argsort(-(queries @ rows[allowed].T), axis=1)[:, :10]]
    assert recall(ids, expected) > 0.85


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.99])
def test_filters_of_every_selectivity_find_the_best_that_pass(clusters: tuple[VectorIndex, Rows], share: float) -> None:
    index, rows = clusters
    allowed = np.flatnonzero(np.random.default_rng(4).random(len(rows)) < share)
    queries = rows[::500]

    _, ids = index.search(queries, 5, allowed)

    expected = brute_force(rows, queries, 5, allowed)[1]
    if len(allowed) < candidates.EXACT_ROWS:
        assert np.array_equal(ids, expected)
    else:
        assert recall(ids, expected) > 0.9


@pytest.mark.parametrize("more", [-5, 0, 5])
def test_as_many_as_there_are_can_be_asked_for(clusters: tuple[VectorIndex, Rows], more: int) -> None:
    index, rows = clusters
    allowed = np.arange(0, len(rows), 3)

    _, ids = index.search(rows[:2], len(allowed) + more, allowed)

    for row in ids:
        assert len(set(row[row >= 0].tolist())) == len(allowed) + min(more, 0)


def test_equal_rows_are_all_found_though_the_first_fetch_is_cut_by_them(mixed: Rows) -> None:
    rows = mixed.copy()
    rows[1_000:1_200] = rows[77]
    index = index_of(rows)

    _, ids = index.search(rows[77][None], 5)

    assert set(ids[0]) <= {77, *range(1_000, 1_200)}
    assert (np.diff(ids[0]) > 0).all()


def test_lists_without_storage_look_at_the_vectors_themselves(mixed: Rows, tmp_path: Path) -> None:
    wish = IndexOptions(memory_bytes=int(mixed.nbytes / 5))
    index, source = index_of(mixed, options=wish), ArrayRows(mixed)
    assert (index.plan.kind, index.plan.storage) == ("IVF", "disk")

    assert (tuned(index, source, own_vectors(source), 0.95).recall or 0) >= 0.95

    index.save(tmp_path / "i", generation=1)
    assert (tmp_path / "i").stat().st_size < wish.memory_bytes
    assert index.differing(np.arange(40), mixed[:40]) == 0
    assert index.differing(np.arange(40), -mixed[:40]) > 30


@pytest.mark.parametrize("kind", ["HNSW", "IVF", "auto"])
def test_nothing_at_all_is_searched_exactly_whatever_is_wished(kind: Any) -> None:
    index = index_of(np.zeros((0, DIM), np.float32), options=IndexOptions(kind))

    assert index.kind == "Flat"
    assert index.search(unit_rows(1, DIM), 3)[1].tolist() == [[-1, -1, -1]]


def test_an_index_of_lists_is_saved_grows_and_knows_other_rows(
    clusters: tuple[VectorIndex, Rows], tmp_path: Path
) -> None:
    index, rows = clusters
    index.save(tmp_path / "index.faiss", generation=3)
    more = np.concatenate([rows, unit_rows(50, DIM, seed=9)])

    loaded, facts = load_index(tmp_path / "index.faiss", device="cpu", rows=ArrayRows(more))

    assert facts.tuning == index.tuning and facts.plan == index.plan
    assert np.array_equal(loaded.search(rows[:20], 10)[1], index.search(rows[:20], 10)[1])
    ids = np.arange(0, len(rows), 999)
    assert loaded.differing(ids, rows[ids]) == 0
    assert loaded.differing(ids, rows[ids + 1]) > 0.9 * len(ids)
    loaded.add(more[len(rows) :])
    assert loaded.search(more[-50:], 1)[1][:, 0].tolist() == list(range(len(rows), len(more)))


# -- files ----------------------------------------------------------------------------------------------------


def test_a_saved_index_is_loaded_with_its_facts_and_can_grow(tmp_path: Path) -> None:
    rows = unit_rows(300, 16)
    path = tmp_path / "index.faiss"
    flat(rows).save(path, generation=7)

    loaded, facts = load_index(path, device="cpu")

    assert (facts.kind, facts.ntotal, facts.dim, facts.generation) == ("Flat", 300, 16, 7)
    assert (loaded.kind, loaded.ntotal, loaded.dim, loaded.device) == ("Flat", 300, 16, "cpu")
    more = unit_rows(100, 16, seed=1)
    loaded.add(more)
    both = np.concatenate([rows, more])
    assert loaded.differing(np.arange(400), both) == 0
    assert loaded.differing(np.arange(400), both[::-1]) == 400
    assert np.array_equal(loaded.search(more, 3)[1], brute_force(both, more, 3)[1])
    assert [file.name for file in tmp_path.iterdir()] == ["index.faiss"]


def test_a_graph_is_saved_and_loaded(graph: tuple[VectorIndex, Rows], tmp_path: Path) -> None:
    index, rows = graph
    index.save(tmp_path / "index.faiss", generation=1)

    loaded, facts = load_index(tmp_path / "index.faiss", device="cpu", rows=ArrayRows(rows))

    assert (loaded.kind, facts.kind, facts.ntotal) == ("HNSW", "HNSW", len(rows))
    assert np.array_equal(loaded.search(rows[:20], 10)[1], index.search(rows[:20], 10)[1])


def test_faiss_itself_reads_the_file(tmp_path: Path) -> None:
    import faiss

    flat(unit_rows(30, 16)).save(tmp_path / "index.faiss")

    assert faiss.read_index(os.fspath(tmp_path / "index.faiss")).ntotal == 30


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("a flipped bit", lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], "crc32"),
        ("cut in the middle", lambda data: data[: len(data) // 2], "cut short"),
        ("cut by a byte", lambda data: data[:-1], "cut short"),
        ("empty", lambda data: b"", "cut short"),
        ("another file", lambda data: b"hello\n" * 100, "cut short"),
        ("a byte more", lambda data: b"x" + data, "crc32"),
    ],
)
def test_a_damaged_file_is_told_with_the_remedy(tmp_path: Path, name: str, damage: Any, said: str) -> None:
    path = tmp_path / "index.faiss"
    flat(unit_rows(300, 16)).save(path)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(IndexDamaged, match=f"index.faiss: .*{said}.*trimodal verify --repair"):
        load_index(path, device="cpu")


def test_a_file_that_is_not_what_its_last_line_says_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    flat(unit_rows(300, 16)).save(path)
    path.write_bytes(path.read_bytes().replace(b'"ntotal": 300', b'"ntotal": 299'))

    with pytest.raises(IndexDamaged, match="cut short or no index of ours"):  # the line has a crc32 of its own
        load_index(path, device="cpu")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(IndexDamaged, match="is missing"):
        read_facts(tmp_path / "index.faiss")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.faiss"
    flat(unit_rows(30, 16)).save(path, generation=1)
    before = path.read_bytes()

    def dies(file: object, n: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        flat(unit_rows(60, 16)).save(path, generation=2)

    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["index.faiss"]


# -- devices --------------------------------------------------------------------------------------------------


def test_auto_and_cpu_give_a_cpu_index_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.faiss, "get_num_gpus", lambda: 0)

    assert build_index(8, 1, "auto").device == "cpu"
    assert build_index(8, 1, "cpu").device == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_asking_for_a_gpu_that_is_not_there_is_an_error_with_the_remedy(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.faiss, "get_num_gpus", lambda: 0)

    with pytest.raises(UsageError, match=rf"--device {device}: .*use --device cpu, or pip install 'trimodal\[gpu\]'"):
        build_index(8, 1, device)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "cuda0", ""])
def test_a_word_that_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="use auto, cpu, cuda or cuda:N"):
        build_index(8, 1, device)


class FakeGpus:
    """A faiss with two GPUs, for what cannot be tested without one: which index answers which search."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.copied: list[tuple[int, int, bool]] = []
        self.searched = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_num_gpus(self) -> int:
        return 2

    def StandardGpuResources(self) -> object:
        return object()

    def index_cpu_to_gpu(self) -> None:
        """Only builds with GPUs have it."""

    def GpuIndexFlatConfig(self) -> Any:
        return SimpleNamespace(device=None, useFloat16=None)

    def GpuIndexFlatIP(self, resources: object, dim: int, settings: Any) -> Any:
        index = self.real.IndexFlatIP(dim)
        add, search = index.add, index.search

        def counted(queries: Rows, k: int) -> Any:
            self.searched += 1
            return search(queries, k)

        def noted(rows: Rows) -> None:
            self.copied.append((settings.device, len(rows), settings.useFloat16))
            add(rows)

        index.search, index.add = counted, noted
        return index


def test_a_gpu_answers_searches_over_all_rows_and_the_cpu_those_over_some(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(gpu.faiss)
    monkeypatch.setattr(gpu, "faiss", gpus)
    rows = unit_rows(500, 16)
    index = build_index(16, 500, "cuda:1")
    index.add(rows[:400])
    index.add(rows[400:])
    assert index.device == "cuda:1"

    for allowed in (None, np.arange(500)):
        assert np.array_equal(index.search(rows[:3], 5, allowed)[1], brute_force(rows, rows[:3], 5)[1])
    assert (gpus.copied, gpus.searched) == ([(1, 500, False)], 2)

    some = np.arange(0, 500, 3)
    assert np.array_equal(index.search(rows[:3], 5, some)[1], brute_force(rows, rows[:3], 5, some)[1])
    assert gpus.searched == 2

    index.add(rows[:1])
    index.search(rows[:3], 1)
    assert gpus.copied == [(1, 500, False), (1, 501, False)]
    assert build_index(16, 1, "auto").device == "cuda:0,cuda:1"
    with pytest.raises(UsageError, match="FAISS sees 2 of them"):
        build_index(16, 1, "cuda:2")


def test_a_gpu_without_room_leaves_the_search_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(gpu.faiss)

    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpus, "GpuIndexFlatIP", full)
    monkeypatch.setattr(gpu, "faiss", gpus)
    rows = unit_rows(100, 16)
    index = build_index(16, 100, "cuda")
    index.add(rows)

    assert np.array_equal(index.search(rows[:3], 5)[1], brute_force(rows, rows[:3], 5)[1])
    assert index.device == "cpu"


def test_several_gpus_hold_a_part_each_and_answer_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(gpu.faiss)
    monkeypatch.setattr(gpu, "faiss", gpus)
    rows = unit_rows(501, 16)
    index = build_index(16, 501, "cuda")
    index.add(rows)

    assert np.array_equal(index.search(rows[:3], 7)[1], brute_force(rows, rows[:3], 7)[1])
    assert gpus.copied == [(0, 250, False), (1, 251, False)]


def test_a_large_collection_is_on_the_gpu_in_float16_and_filters_run_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, clusters: tuple[VectorIndex, Rows]
) -> None:
    of_cpu, rows = clusters
    gpus = FakeGpus(gpu.faiss)
    monkeypatch.setattr(gpu, "faiss", gpus)
    index = build_index(rows.shape[1], len(rows), "cuda:0", plan=of_cpu.plan, rows=ArrayRows(rows))
    index.add(rows)

    assert np.array_equal(index.search(rows[:3], 5)[1], brute_force(rows, rows[:3], 5)[1])
    assert {(device, half) for device, _, half in gpus.copied} == {(0, True)}
    searched = gpus.searched
    index.search(rows[:3], 5, np.arange(0, len(rows), 2))
    assert gpus.searched == searched


@pytest.mark.gpu
def test_a_real_gpu_gives_what_the_cpu_gives() -> None:
    if not hasattr(gpu.faiss, "index_cpu_to_gpu") or gpu.faiss.get_num_gpus() == 0:
        pytest.skip("this FAISS has no GPU")
    rows, queries = unit_rows(30_000, 64), unit_rows(20, 64, seed=1)
    index = build_index(64, 100, "cuda")
    index.add(rows)

    assert index.device.startswith("cuda:0")
    assert np.array_equal(index.search(queries, 10)[1], brute_force(rows, queries, 10)[1])


def test_the_cpu_index_is_a_vector_index() -> None:
    index: VectorIndex = FaissIndex(Candidates(gpu.faiss.IndexFlatIP(4), plan_index(0, 4)))

    assert index.ntotal == 0


@pytest.mark.parametrize("storage", ["int8", "disk"])
def test_lists_found_by_codes_of_their_centres_are_those_that_comparing_finds(
    monkeypatch: pytest.MonkeyPatch, storage: Any
) -> None:
    monkeypatch.setattr(candidates, "EXACT_ROWS", 100)
    draw = np.random.default_rng(0)
    rows = unit_rows(200, 64)[draw.integers(200, size=6_000)] + 0.6 * unit_rows(6_000, 64, seed=1)
    rows = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
    queries, plan = unit_rows(60, 64, seed=2), IndexPlan("IVF", storage, 128, 6_000)
    index = build_index(64, 6_000, "cpu", plan=plan, rows=ArrayRows(rows))
    index.add(rows[:5_900])
    assert isinstance(index, FaissIndex)
    finder = index.candidates
    index.tuning = Tuning(8, 8.0)
    compared = index.search(queries, 10)
    assert "_coded" not in finder.__dict__  # 128 lists: too few

    monkeypatch.setattr(candidates, "_CENTRES_CODED", 64)
    finder._parameters.clear()
    walked = index.search(queries, 10)
    assert finder.__dict__["_coded"] is not None
    same = np.mean([len({*a} & {*b}) / 10 for a, b in zip(compared[1].tolist(), walked[1].tolist(), strict=True)])
    assert same > 0.98
    shared = compared[1] == walked[1]
    assert np.array_equal(compared[0][shared], walked[0][shared])  # the scores are exact either way

    index.add(rows[5_900:])  # what is added afterwards is found so, too
    assert (index.search(rows[5_900:], 1)[1][:, 0] == np.arange(5_900, 6_000)).mean() > 0.98
    assert finder.__dict__["_coded"] is not None
    index.tuning = Tuning(128, 8.0)  # all lists: nothing to choose
    assert finder._unfiltered(128, 8.0)[0] is finder._compared.index
