"""Maps learned from the queries that will come: what they keep, and what an index finds with them at equal cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from small_media import unit_rows

from indexer.ann import candidates
from indexer.ann.brute_force import ArrayRows, exact_top
from indexer.ann.file import IndexFacts, Tuning, write_index_file
from indexer.ann.index import VectorIndex, build_index, load_index
from indexer.ann.maps import learned_maps
from indexer.ann.plan import IndexOptions, IndexPlan
from indexer.ann.tuning import TuningQueries, broadened, own_vectors
from indexer.errors import IndexDamaged

Rows = NDArray[np.float32]
DIM = 64


def unit(rows: Any) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def elsewhere() -> tuple[Rows, Rows, Rows]:
    """Vectors, and queries to measure with and to learn from that vary most where the vectors vary least."""
    draw = np.random.default_rng(0)
    rows = unit(draw.standard_normal((12_000, DIM)) * np.linspace(1.0, 0.5, DIM))
    queries = unit(draw.standard_normal((1_100, DIM)) * np.linspace(0.05, 1.0, DIM) ** 4)
    return rows, queries[:100], queries[100:]


def built(rows: Rows, learn: Rows | None, storage: Any = "disk") -> VectorIndex:
    plan = IndexPlan("IVF", storage, 64, len(rows))
    index = build_index(DIM, len(rows), "cpu", plan=plan, rows=ArrayRows(rows), queries=learn)
    index.add(rows)
    return index


def recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), true.tolist(), strict=True)]))


def test_full_maps_keep_every_product(elsewhere: tuple[Rows, Rows, Rows]) -> None:
    rows, queries, learn = elsewhere

    maps = learned_maps(rows, learn, width=DIM)

    mapped = (queries @ maps.queries.T) @ (rows @ maps.vectors.T).T
    assert np.allclose(mapped, queries @ rows.T, atol=1e-4)
    assert ((rows @ maps.vectors.T) ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)


def test_fewer_dimensions_that_know_the_queries_keep_more_of_their_true_ten(elsewhere: tuple[Rows, Rows, Rows]) -> None:
    rows, queries, learn = elsewhere
    true = exact_top(queries, ArrayRows(rows), 10)[1]

    def kept(learn: Rows | None) -> float:
        maps = learned_maps(rows, learn, width=32)
        return recall(exact_top(queries @ maps.queries.T, ArrayRows(rows @ maps.vectors.T), 30)[1], true)

    assert kept(learn) > kept(None) + 0.1


def test_few_queries_count_for_less_and_none_make_one_rotation(elsewhere: tuple[Rows, Rows, Rows]) -> None:
    rows, _, learn = elsewhere
    none = learned_maps(rows, width=DIM)
    ratio = none.queries @ none.vectors.T  # of a rotation, by a number and its inverse

    assert np.allclose(ratio, np.eye(DIM), atol=1e-4)
    assert np.array_equal(learned_maps(rows, learn[:0], width=DIM).queries, none.queries)


def test_the_width_holds_nearly_all_of_the_scores_and_is_even() -> None:
    flat = learned_maps(unit_rows(2_000, 33))
    narrow = unit_rows(2_000, 96)
    narrow[:, 20:] *= 0.01

    assert flat.width == 34  # and the last holds nothing
    assert np.allclose((flat.queries.T @ flat.vectors), np.eye(33), atol=1e-4)
    assert learned_maps(narrow).width == 32
    assert learned_maps(np.zeros((0, 8), np.float32)).width == 8


@pytest.mark.parametrize("storage", ["int8", "disk"])
def test_an_index_that_knows_its_queries_finds_more_at_equal_cost(
    elsewhere: tuple[Rows, Rows, Rows], monkeypatch: pytest.MonkeyPatch, storage: Any
) -> None:
    monkeypatch.setattr(candidates, "EXACT_ROWS", 100)
    rows, queries, learn = elsewhere
    true = exact_top(queries, ArrayRows(rows), 10)[1]
    found = {}
    for name, known in (("plain", None), ("aware", learn)):
        index = built(rows, known, storage)
        assert index.plan.width == DIM
        index.tuning = Tuning(64, 1.0, margin=10)  # all lists: what differs is the codes
        found[name] = recall(index.search(queries, 10)[1], true)

    assert found["aware"] > found["plain"] + 0.05


def test_a_mapped_index_is_saved_with_its_maps_grows_and_knows_other_rows(
    elsewhere: tuple[Rows, Rows, Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "EXACT_ROWS", 100)
    rows, queries, learn = elsewhere
    index = built(rows[:11_000], learn, "int8")
    index.tuning = Tuning(16, 4.0)
    index.save(tmp_path / "i", generation=2)

    loaded, facts = load_index(tmp_path / "i", device="cpu", rows=ArrayRows(rows))

    assert facts.plan == index.plan and facts.to_json()["width"] == DIM
    assert "64 of 64 dimensions" in facts.lines()[0]
    assert np.array_equal(loaded.search(queries, 10)[1], index.search(queries, 10)[1])
    ids = np.arange(0, 11_000, 99)
    assert loaded.differing(ids, rows[ids]) == 0
    assert loaded.differing(ids, rows[ids + 1]) > 0.9 * len(ids)
    loaded.add(rows[11_000:])
    assert (loaded.search(rows[11_000:], 1)[1][:, 0] == np.arange(11_000, 12_000)).mean() > 0.98
    some = np.arange(0, 12_000, 2)
    assert np.isin(loaded.search(queries, 10, some)[1], some).all()


def test_a_file_without_its_map_for_queries_is_damaged(elsewhere: tuple[Rows, Rows, Rows], tmp_path: Path) -> None:
    index: Any = built(elsewhere[0], None)
    facts = IndexFacts("IVF", 12_000, DIM, 1, 0, storage="disk", lists=64, width=DIM)

    def put(take: Any) -> None:
        faiss.write_index(index.candidates.index, faiss.PyCallbackIOWriter(take))

    write_index_file(tmp_path / "i", put, facts)

    with pytest.raises(IndexDamaged, match="FAISS cannot read it"):
        load_index(tmp_path / "i", device="cpu", rows=ArrayRows(elsewhere[0]))


@pytest.mark.parametrize("storage", ["int8", "disk"])
def test_an_index_of_an_earlier_version_still_opens_grows_and_finds(
    elsewhere: tuple[Rows, Rows, Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: Any
) -> None:
    """Lists of the vectors as they are, centres compared by product, codes of the whole vector, no maps."""
    monkeypatch.setattr(candidates, "EXACT_ROWS", 100)
    monkeypatch.setattr(candidates, "_CENTRES_CODED", 32)
    rows = elsewhere[0]
    text = "IVF64,PQ32x4fs" + (",Refine(SQ8)" if storage == "int8" else "")
    old = faiss.index_factory(DIM, text, faiss.METRIC_INNER_PRODUCT)
    old.train(rows)
    old.add(rows[:11_000])
    facts = IndexFacts("IVF", 11_000, DIM, 1, 0, storage=storage, lists=64, tuning=Tuning(16, 16.0))
    write_index_file(tmp_path / "i", lambda take: faiss.write_index(old, faiss.PyCallbackIOWriter(take)), facts)

    index, _ = load_index(tmp_path / "i", device="cpu", rows=ArrayRows(rows))

    assert index.plan.width == 0
    assert index.differing(np.arange(500), rows[:500]) == 0
    for breadth in (2, 64):  # lists found by codes; by comparing
        index.tuning = Tuning(breadth, 16.0)
        assert (index.search(rows[:300], 10)[1][:, 0] == np.arange(300)).mean() > 0.97
    index.add(rows[11_000:])
    assert (index.search(rows[11_000:], 1)[1][:, 0] == np.arange(11_000, 12_000)).mean() > 0.97
    index.save(tmp_path / "again", generation=1)
    assert load_index(tmp_path / "again", device="cpu", rows=ArrayRows(rows))[0].ntotal == 12_000


def test_the_memory_planned_is_that_of_the_width() -> None:
    plan = IndexPlan("IVF", "int8", 2_048, 10**6)
    mapped = IndexPlan("IVF", "int8", 2_048, 10**6, width=256)

    assert mapped.memory_bytes(10**6, 512) < 0.55 * plan.memory_bytes(10**6, 512)
    assert IndexOptions().over(IndexOptions("IVF")).kind == "IVF"


def test_an_index_tuned_for_captions_is_broadened_until_pictures_find_their_neighbours_too(
    elsewhere: tuple[Rows, Rows, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "EXACT_ROWS", 100)
    rows, _, learn = elsewhere
    index, source = built(rows, learn, "int8"), ArrayRows(rows)
    index.tuning = Tuning(1, 8.0)
    own: TuningQueries = own_vectors(source, n=50)

    assert broadened(index, source, own, 0.9).breadth > 1

    true = exact_top(own.vectors, source, 11)[1]
    assert recall(index.search(own.vectors, 11)[1], true) >= 0.9
