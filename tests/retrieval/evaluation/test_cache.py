"""The cache of the benchmark: what is not computed twice, and what a damaged one does (nothing)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from counting_encoder import Counting
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.tokens.format import TokenRows
from indexer.items import Embeddings, Modality
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.datasets.benchmark import load_benchmark
from retrieval.evaluation.report.rows import more_notes
from retrieval.evaluation.results import BenchmarkResult
from retrieval.evaluation.runner import run_benchmark
from retrieval.evaluation.store import Store
from retrieval.rerank.fake import FakeReranker

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


class CountingReranker(FakeReranker):
    """Counts the pairs that it judged."""

    def __init__(self) -> None:
        super().__init__()
        self.n_pairs = 0

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        self.n_pairs += len(tokens)
        return super().score_media(text, tokens, modality)

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        self.n_pairs += len(texts)
        return super().score_texts(tokens, texts, modality)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (12, 9), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "captions": [f"{colour} {i}" for i in range(3)]})
        rows.append({"text": f"a {colour} story", "captions": [f"{colour} words"], "id": f"t{number}"})
    wave = 0.4 * np.sin(2 * np.pi * 300 * np.arange(16_000 * 15) / 16_000)  # of two windows
    soundfile.write(folder / "a.wav", wave.astype(np.float32), 16_000)
    rows.append({"audio": "a.wav", "captions": ["low"]})
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(manifest: Path, place: Path | None, encoder: Counting | None = None, **more: Any) -> BenchmarkResult:
    encoder = encoder or Counting()
    if place is None:
        return run_benchmark(load_benchmark(manifest), encoder, **more)
    with BenchCache.open(place, encoder, encoder.fingerprint) as cache:
        return run_benchmark(load_benchmark(manifest), encoder, cache=cache, **more)


def numbers(result: BenchmarkResult) -> list[dict[str, Any]]:
    return [found.to_json() for found in result.results]


def ranked(result: BenchmarkResult) -> list[dict[str, Any]]:
    """What follows from the ranks alone."""
    return [{name: value for name, value in one.items() if name != "calibration"} for one in numbers(result)]


def test_a_second_run_encodes_nothing_and_gives_the_same_numbers(manifest: Path, tmp_path: Path) -> None:
    plain, first, second = Counting(), Counting(), Counting()
    without = run(manifest, None, plain)
    cold = run(manifest, tmp_path / "cache", first)
    warm = run(manifest, tmp_path / "cache", second)
    assert plain.work == first.work
    assert second.work == (0, 0, 0)
    assert numbers(without) == numbers(cold) == numbers(warm)
    assert without.to_json()["cache"] is None
    assert cold.to_json()["cache"]["image"] == {"found": 0, "computed": 8}
    assert warm.to_json()["cache"] == {
        "image": {"found": 8, "computed": 0}, "audio": {"found": 1, "computed": 0},
        "text": {"found": 8, "computed": 0}, "captions": {"found": 33, "computed": 0},
    }  # fmt: skip
    assert "8 of 8 image" in more_notes(warm)[0]


def test_only_what_is_new_is_encoded(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "cache")
    Image.new("RGB", (30, 30), "pink").save(manifest.parent / "red.png")  # another file under the name
    (manifest.parent / "blue.png").rename(manifest.parent / "moved.png")
    manifest.write_text(manifest.read_text().replace("blue.png", "moved.png").replace('"green 0"', '"quite new"'))
    encoder = Counting()
    result = run(manifest, tmp_path / "cache", encoder)
    assert encoder.work == (1, 0, 1)
    assert numbers(result) == numbers(run(manifest, None))


def test_another_encoder_device_or_number_format_finds_nothing(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Counting):
        fingerprint = "fake-2"

    class Elsewhere(Counting):
        device = "cuda"

    run(manifest, tmp_path / "cache")
    for encoder in (Other(), Elsewhere()):
        run(manifest, tmp_path / "cache", encoder)
        assert encoder.pictures == 8
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    encoder = Counting()
    run(manifest, tmp_path / "cache", encoder)
    assert encoder.pictures == 8


def test_pairs_are_judged_once_and_another_depth_judges_only_the_rest(manifest: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    judges = [CountingReranker() for _ in range(4)]
    shallow = run(manifest, place, reranker=judges[0], rerank_depth=3)
    deep = run(manifest, place, reranker=judges[1], rerank_depth=6)
    again = run(manifest, place, reranker=judges[2], rerank_depth=6)
    back = run(manifest, place, reranker=judges[3], rerank_depth=3)
    at_once = CountingReranker()
    run(manifest, tmp_path / "fresh", reranker=at_once, rerank_depth=6)
    assert judges[0].n_pairs > 0 and judges[1].n_pairs > 0
    assert judges[0].n_pairs + judges[1].n_pairs == at_once.n_pairs  # every pair once, whichever way it was asked
    assert judges[2].n_pairs == judges[3].n_pairs == 0
    assert numbers(deep) == numbers(again)
    plain = run(manifest, None, reranker=CountingReranker(), rerank_depth=6)
    assert ranked(deep) == ranked(plain)
    for one, other in zip(deep.results, plain.results, strict=True):
        if one.calibration is not None and other.calibration is not None:
            # other batches of pairs: the same logits but for the last bits
            assert one.calibration["after"]["ece"] == pytest.approx(other.calibration["after"]["ece"], abs=1e-6)
    assert numbers(shallow) == numbers(back)
    assert again.reranker is not None
    assert again.reranker.pairs_per_s == 0.0  # nothing was judged: no rate is claimed


def test_vectors_are_found_without_the_tokens_but_tokens_are_made_when_asked(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "cache", reranker=CountingReranker())
    encoder = Counting()
    run(manifest, tmp_path / "cache", encoder)
    assert encoder.work == (0, 0, 0)
    run(manifest, tmp_path / "other", Counting())
    encoder = Counting()
    run(manifest, tmp_path / "other", encoder, reranker=CountingReranker())
    assert (encoder.pictures, encoder.texts) == (8, 0)


@pytest.mark.parametrize("damage", ["junk", "cut", "empty", "folder"])
def test_a_damaged_store_is_recomputed_and_never_fatal(manifest: Path, tmp_path: Path, damage: str) -> None:
    place = tmp_path / "cache"
    expected = numbers(run(manifest, place, reranker=CountingReranker()))
    for store in place.rglob("*.sqlite"):
        data = store.read_bytes()
        store.unlink()
        if damage == "junk":
            store.write_bytes(b"no database at all" * 500)
        elif damage == "cut":
            store.write_bytes(data[: len(data) // 2])
        elif damage == "empty":
            store.write_bytes(b"")
        else:
            store.mkdir()
    encoder = Counting()
    assert numbers(run(manifest, place, encoder, reranker=CountingReranker())) == expected
    assert encoder.pictures == 8
    encoder = Counting()
    assert numbers(run(manifest, place, encoder, reranker=CountingReranker())) == expected
    if damage != "folder":
        assert encoder.work == (0, 0, 0)  # begun anew, and used


def test_entries_whose_bytes_have_changed_are_recomputed(manifest: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    expected = numbers(run(manifest, place, reranker=CountingReranker()))
    changed = 0
    for store in place.rglob("*.sqlite"):
        with sqlite3.connect(store) as database:
            for key, value in database.execute("SELECT key, value FROM entries").fetchall():
                bad = [value[:-1] + bytes([value[-1] ^ 1]), value[:3], b"", "text"][changed % 4]
                database.execute("UPDATE entries SET value = ? WHERE key = ?", (bad, key))
                changed += 1
        database.close()
    assert changed > 50
    encoder, judge = Counting(), CountingReranker()
    assert numbers(run(manifest, place, encoder, reranker=judge)) == expected
    assert encoder.pictures == 8
    assert judge.n_pairs > 0


def test_a_place_that_cannot_be_written_keeps_nothing_and_harms_nothing(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert numbers(run(manifest, tmp_path / "cache")) == numbers(run(manifest, None))


def test_an_interrupted_run_keeps_what_it_had(manifest: Path, tmp_path: Path) -> None:
    class Interrupted(Counting):
        def encode_queries(self, texts: Sequence[str]) -> Embeddings:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(manifest, tmp_path / "cache", Interrupted())
    encoder = Counting()
    run(manifest, tmp_path / "cache", encoder)
    assert encoder.pictures == 0
    assert encoder.texts > 0


def test_two_stores_on_one_file_see_each_others_entries(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "s" / "a.sqlite"), Store(tmp_path / "s" / "a.sqlite")
    here.put(b"x", b"one")
    assert here.get([b"x", b"y"]) == {b"x": b"one"}  # before it is written, too
    assert there.get([b"x"]) == {}
    here.flush()
    assert there.get([b"x"]) == {b"x": b"one"}
    there.put(b"x", b"two")
    there.close()
    assert here.get([b"x"]) == {b"x": b"two"}
    many = {str(n).encode(): bytes([n % 256]) * 9 for n in range(1_500)}
    for key, value in many.items():
        here.put(key, value)
    here.close()
    assert Store(tmp_path / "s" / "a.sqlite").get(many) == many


def test_a_bad_file_is_skipped_with_its_reason_on_every_run(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "red.png").write_bytes(b"no picture")
    reasons = [run(manifest, tmp_path / "cache").skipped for _ in range(2)]
    assert reasons[0] == reasons[1]
    assert len(reasons[0]) == 1
