"""A benchmark that takes vectors from a collection: the same figures, nothing encoded twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from counting_encoder import Counting
from PIL import Image
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.collection.collection import Collection
from indexer.errors import EncoderMismatch
from retrieval.evaluation.datasets.benchmark import load_benchmark
from retrieval.evaluation.known_items import CollectionItems
from retrieval.evaluation.results import BenchmarkResult
from retrieval.evaluation.runner import run_benchmark
from retrieval.rerank.fake import FakeReranker

#: Of the manifest; a collection holds none of them.
CAPTIONS = 17


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows: list[dict[str, object]] = []
    for colour in ("red", "green", "blue", "white"):
        Image.new("RGB", (12, 9), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "captions": [f"{colour} {i}" for i in range(3)]})
        rows.append({"text": f"a {colour} story " * 300, "captions": [f"{colour} words"]})  # of several passages
    wave = 0.4 * np.sin(2 * np.pi * 300 * np.arange(16_000 * 25) / 16_000)  # of several windows
    soundfile.write(folder / "a.wav", wave.astype(np.float32), 16_000)
    rows.append({"audio": "a.wav", "captions": ["low"]})
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def collection(manifest: Path, tmp_path: Path) -> Path:
    made = CliRunner().invoke(app, ["index", str(manifest), "-c", str(tmp_path / "c"), "--model", "fake"])
    assert made.exit_code == 0, made.output
    return tmp_path / "c"


def run(manifest: Path, collection: Path | None, encoder: Counting, reranker: FakeReranker | None) -> BenchmarkResult:
    if collection is None:
        return run_benchmark(load_benchmark(manifest), encoder, reranker=reranker)
    with Collection.open(collection) as opened:
        known = CollectionItems(opened, encoder)
        return run_benchmark(load_benchmark(manifest), encoder, reranker=reranker, collection=known)


@pytest.mark.parametrize("reranker", [None, FakeReranker()])
def test_the_figures_are_the_same_and_no_item_is_encoded(
    manifest: Path, collection: Path, reranker: FakeReranker | None
) -> None:
    plain, taking = Counting(), Counting()
    without, found = run(manifest, None, plain, reranker), run(manifest, collection, taking, reranker)
    assert plain.work[0] == 4 and plain.work[1] > 1 and plain.work[2] > CAPTIONS + 4
    assert taking.work == (0, 0, CAPTIONS)
    assert [one.to_json() for one in found.results] == [one.to_json() for one in without.results]
    assert found.to_json()["from_collection"] == {"image": 4, "audio": 1, "text": 4}


def test_a_file_that_changed_since_is_encoded(manifest: Path, collection: Path) -> None:
    Image.new("RGB", (30, 30), "pink").save(manifest.parent / "red.png")
    taking = Counting()
    found = run(manifest, collection, taking, None)
    assert taking.work == (1, 0, CAPTIONS)
    assert found.from_collection["image"] == 3


def test_a_collection_of_another_model_is_refused(manifest: Path, collection: Path) -> None:
    class Other(Counting):
        fingerprint = "fake-2"

    with Collection.open(collection) as opened, pytest.raises(EncoderMismatch):
        CollectionItems(opened, Other())


def test_the_command_says_what_it_took(manifest: Path, collection: Path) -> None:
    done = CliRunner().invoke(app, ["bench", str(manifest), "-c", str(collection), "--model", "fake", "--no-cache"])
    assert done.exit_code == 0, done.output
    assert "from the collection: 4 image, 1 audio, 4 text" in " ".join(done.output.split())
