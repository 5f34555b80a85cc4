"""Which index a collection gets, keeps and makes anew: what was wished, what was measured, with what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_media import entry, unit_rows
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.ann import plan as index_plan
from indexer.ann.file import Tuning
from indexer.ann.plan import IndexOptions, outgrown, parse_index_options, plan_index, smallest_plan
from indexer.ann.tuning import TuningQueries
from indexer.build.tuning_queries import caption_queries
from indexer.collection import index_file_manager as index_keeper
from indexer.collection.collection import Collection
from indexer.encoders.identity import EncoderIdentity
from indexer.errors import ModelError, UsageError
from indexer.items import Modality

DIM = 64
Rows = NDArray[np.float32]


def test_the_plan_follows_size_memory_and_recall() -> None:
    assert plan_index(20_000, 512).kind == "Flat"
    million = plan_index(10**6, 512)
    assert (million.kind, million.storage) == ("IVF", "int8")
    assert 0.5e9 < million.memory_bytes(10**6, 512) < 0.7e9
    small = plan_index(10**6, 512, IndexOptions(memory_bytes=200 * 2**20))
    assert (small.kind, small.storage) == ("IVF", "disk")
    assert plan_index(10**6, 512, IndexOptions(target_recall=1.0)).kind == "Flat"
    assert plan_index(100, 512, IndexOptions("HNSW")).storage == "float16"
    assert plan_index(10**6, 512, IndexOptions("HNSW", memory_bytes=2**30)).storage == "int8"
    with pytest.raises(UsageError, match=r"--memory 50 MB: the smallest index of 1,000,000 vectors takes \d+ MB"):
        plan_index(10**6, 512, IndexOptions(memory_bytes=50 * 2**20))
    with pytest.raises(UsageError, match="or use --index-kind IVF"):
        plan_index(10**6, 512, IndexOptions("HNSW", memory_bytes=50 * 2**20))
    assert smallest_plan(10**6, 512).storage == "disk"


def test_an_index_is_outgrown_by_another_kind_or_three_times_the_vectors() -> None:
    wish = IndexOptions()
    assert not outgrown(plan_index(20_000, 512), 20_000, 512, wish)
    assert outgrown(plan_index(20_000, 512), 20_001, 512, wish)
    plan = plan_index(30_000, 512)
    assert not outgrown(plan, 89_000, 512, wish)
    assert outgrown(plan, 91_000, 512, wish)
    assert outgrown(plan, 30_000, 512, IndexOptions("HNSW"))


@pytest.mark.parametrize(
    ("said", "n_bytes"), [("500MB", 500 * 2**20), ("2GB", 2**31), ("1.5 GiB", 3 * 2**29), ("1000", 1000), ("0", 0)]
)
def test_memory_is_read_as_people_write_it(said: str, n_bytes: int) -> None:
    assert parse_index_options("ivf", said, 0.9) == IndexOptions("IVF", n_bytes, 0.9)


@pytest.mark.parametrize("said", ["", "much", "-5MB", "5XB", "1e9"])
def test_what_is_no_memory_is_told(said: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        parse_index_options(None, said, None)


def test_a_kind_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match="--index-kind tree: is none of Flat, HNSW, IVF, auto"):
        parse_index_options("tree", None, None)


# -- of a collection --------------------------------------------------------------------------------------------


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of some hundreds gets what one of many thousands gets."""
    from indexer.ann import candidates

    monkeypatch.setattr(index_plan, "FLAT_LIMIT", 300)
    monkeypatch.setattr(index_keeper, "FLAT_LIMIT", 300)
    monkeypatch.setattr(index_keeper, "EXACT_ROWS", 200)
    monkeypatch.setattr(candidates, "EXACT_ROWS", 200)


def near(n: int, seed: int = 0) -> Rows:
    draw = np.random.default_rng(seed)
    rows = unit_rows(40, DIM, seed=99)[draw.integers(40, size=n)] + 0.8 * unit_rows(n, DIM, seed=seed + 1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def collection(path: Path, n: int, *, texts: int = 0) -> Collection:
    made = Collection.create(path, EncoderIdentity("fake", "fake-1", DIM))
    rows = near(n + texts)
    made.commit([entry(f"{i:04}.png", rows[i : i + 1]) for i in range(n)])
    made.commit([entry(f"{i:04}.txt", rows[n + i : n + i + 1], modality=Modality.TEXT) for i in range(texts)])
    return made


def facts(of: Collection) -> dict[str, Any]:
    found: dict[str, Any] = of.stats()["index_facts"]
    return found


def asking(vectors: Rows) -> Any:
    return lambda: TuningQueries(vectors, "captions")


@pytest.mark.usefixtures("small_limits")
def test_the_recall_that_is_wished_is_measured_kept_and_shown(tmp_path: Path) -> None:
    with collection(tmp_path / "c", 900) as made:
        made.save_index(options=IndexOptions(target_recall=0.9))
        told = facts(made)
        assert (told["kind"], told["wish"]["target_recall"]) == ("IVF", 0.9)
        assert told["tuning"]["recall"] >= 0.9 and told["tuning"]["queries"] == "vectors"
        before = (tmp_path / "c" / "index.faiss").stat()
        made.save_index()
        assert (tmp_path / "c" / "index.faiss").stat() == before  # nothing has changed
        made.save_index(options=IndexOptions(target_recall=0.99))
        assert facts(made)["tuning"]["recall"] >= 0.99
        made.save_index(tuning_queries=asking(near(150, seed=7)))
        assert (facts(made)["tuning"]["queries"], facts(made)["wish"]["target_recall"]) == ("captions", 0.99)
        assert any("measured with 150 captions" in line for line in made.index_lines())
        assert any(line.endswith("← used") for line in made.index_lines())


@pytest.mark.usefixtures("small_limits")
def test_what_captions_have_measured_is_kept_by_compacting(tmp_path: Path) -> None:
    with collection(tmp_path / "c", 900) as made:
        made.save_index(tuning_queries=asking(near(150, seed=7)))
        told = facts(made)["tuning"]
        made.remove([f"/media/{n:04}.png" for n in range(10)])
        made.compact()
        after = facts(made)["tuning"]
        assert (after["queries"], after["breadth"], after["count"]) == ("captions", told["breadth"], 890)
        assert made.verify() == []


@pytest.mark.usefixtures("small_limits")
def test_a_collection_that_has_grown_is_measured_again_and_at_last_made_anew(tmp_path: Path) -> None:
    with collection(tmp_path / "c", 400) as made:
        made.save_index()
        lists = facts(made)["lists"]
        rows = near(2_000, seed=3)
        made.commit([entry(f"a{n:04}.png", rows[n : n + 1]) for n in range(50)])
        made.save_index()
        assert (facts(made)["vectors"], facts(made)["tuning"]["count"]) == (450, 400)
        made.commit([entry(f"b{n:04}.png", rows[50 + n : 51 + n]) for n in range(150)])
        made.save_index()
        assert (facts(made)["lists"], facts(made)["tuning"]["count"]) == (lists, 600)
        made.commit([entry(f"c{n:04}.png", rows[200 + n : 201 + n]) for n in range(1_000)])
        made.save_index()
        assert facts(made)["lists"] > lists and facts(made)["tuning"]["count"] == 1_600


@pytest.mark.usefixtures("small_limits")
def test_too_few_of_the_largest_kind_to_be_searched_approximately_do_not_decide(tmp_path: Path) -> None:
    """Each setting would be searched exactly and find everything, until one more item comes."""
    with collection(tmp_path / "c", 190, texts=180) as made:
        made.save_index(options=IndexOptions("IVF"))
        told = facts(made)["tuning"]
        assert told is not None and min(one["recall_at_10"] for one in told["curve"]) < 1.0


@pytest.mark.usefixtures("small_limits")
def test_memory_that_has_become_too_little_makes_the_smallest_and_says_so(tmp_path: Path) -> None:
    with collection(tmp_path / "c", 400) as made:
        memory = plan_index(400, DIM, IndexOptions("IVF")).memory_bytes(400, DIM)
        made.save_index(options=IndexOptions(memory_bytes=memory))
        assert facts(made)["storage"] == "int8"
        rows = near(900, seed=3)
        made.commit([entry(f"a{n:04}.png", rows[n : n + 1]) for n in range(900)])
        made.save_index()
        assert (facts(made)["storage"], facts(made)["wish"]["memory_bytes"]) == ("disk", memory)
        assert "until then it is the smallest" in str(made.warnings[-1]) and "--memory" in str(made.warnings[-1])
        with pytest.raises(UsageError, match="--memory"):
            made.save_index(options=IndexOptions(memory_bytes=1_000))
        made.save_index(options=IndexOptions(memory_bytes=0))
        assert facts(made)["storage"] == "int8"


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("kind", ["HNSW", "IVF"])
def test_everything_may_be_removed_and_compacted(tmp_path: Path, kind: Any) -> None:
    with collection(tmp_path / "c", 400) as made:
        made.save_index(options=IndexOptions(kind))
        assert facts(made)["kind"] == kind
        made.remove([f"/media/{n:04}.png" for n in range(400)])
        made.save_index(options=IndexOptions(kind, target_recall=0.9))
        made.compact()
        assert (facts(made)["kind"], made.count, made.verify()) == ("Flat", 0, [])


@pytest.mark.parametrize("kind", ["HNSW", "IVF"])
def test_few_rows_are_searched_exactly_so_nothing_is_measured_and_nothing_written_again(
    tmp_path: Path, kind: Any
) -> None:
    with collection(tmp_path / "c", 400) as made:
        made.save_index(options=IndexOptions(kind))
        before = (tmp_path / "c" / "index.faiss").stat()
        made.save_index(tuning_queries=asking(unit_rows(3, DIM)))
        after = (tmp_path / "c" / "index.faiss").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        assert facts(made)["kind"] == kind


class Words:
    """An encoder of words alone, counted."""

    modalities = frozenset({Modality.TEXT, Modality.IMAGE})

    def __init__(self, *, missing: bool = False) -> None:
        self.asked: list[str] = []
        self.missing = missing

    def encode_queries(self, texts: Sequence[str]) -> Rows:
        if self.missing:
            raise ModelError("its weights are not here")
        self.asked += texts
        return unit_rows(len(texts), DIM)


def test_captions_ask_else_words_of_names_and_too_few_ask_nothing(tmp_path: Path) -> None:
    with Collection.create(tmp_path / "c", EncoderIdentity("fake", "fake-1", DIM)) as made:
        rows = unit_rows(400, DIM)
        made.commit([entry(f"red_door {n:03}.png", rows[n : n + 1]) for n in range(200)])
        words: Any = Words()
        assert caption_queries(made, words) is None  # one name is no sample
        made.commit([
            entry(f"{n:03}.png", rows[n : n + 1], captions=(f"a picture of thing {n}", "other"))
            for n in range(200, 400)
        ])  # fmt: skip
        found = caption_queries(made, words)
        assert found is not None and found.what == "captions" and len(found.vectors) == len(words.asked)
        assert "red door" in words.asked and sum(one.startswith("a picture of thing") for one in words.asked) == 200
        without: Any = Words(missing=True)
        assert caption_queries(made, without) is None


def test_the_command_takes_the_wish_and_info_shows_the_index(tmp_path: Path) -> None:
    from small_media import pictures

    pictures(tmp_path / "media", 60)
    place = ["--collection", str(tmp_path / "c")]
    run = CliRunner().invoke
    wished = ["--index-kind", "hnsw", "--memory", "1GB", "--target-recall", "0.9"]
    assert run(app, ["index", str(tmp_path / "media"), "--model", "fake", *wished, *place]).exit_code == 0
    with Collection.open(tmp_path / "c") as opened:
        assert facts(opened)["wish"] == {"kind": "HNSW", "memory_bytes": 2**30, "target_recall": 0.9}
    shown = run(app, ["info", *place]).stdout
    assert "HNSW of 60 vectors (float16 in memory" in shown
    bad = run(app, ["index", str(tmp_path / "media"), "--memory", "10", *place])
    assert bad.exit_code == 2 and "--memory 10 bytes" in bad.stderr
    assert Tuning(3).curve == ()
