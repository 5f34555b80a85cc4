"""Directions over all modalities together: ranked as a search ranks them, the query itself left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders.fake import FakeEncoder
from indexer.items import Modality
from retrieval.evaluation.any_modality import Pool, any_directions
from retrieval.evaluation.datasets.benchmark import load_benchmark
from retrieval.evaluation.directions import NOUNS
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark
from retrieval.search import Searcher

COLOURS = ("red", "green", "blue", "white", "black", "orange")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows: list[dict[str, object]] = []
    for n, colour in enumerate(COLOURS):
        Image.new("RGB", (12, 9), colour).save(tmp_path / f"{colour}.png")
        tone = 0.3 * np.sin(2 * np.pi * 200 * (n + 1) * np.arange(8_000) / 16_000)
        soundfile.write(tmp_path / f"{colour}.wav", tone.astype(np.float32), 16_000)
        both = {"image": f"{colour}.png", "audio": f"{colour}.wav"} if n % 2 else {"image": f"{colour}.png"}
        rows.append({**both, "captions": [f"a {colour} square"]})
        rows.append(
            {"text": f"a long story of a {colour} house " * (1 + 60 * (n % 2)), "captions": [f"{colour} words"]}
        )
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def encoded(manifest: Path) -> EncodedBenchmark:
    return encode_benchmark(load_benchmark(manifest), FakeEncoder())


def test_the_order_is_that_of_a_search_of_everything(manifest: Path, encoded: EncodedBenchmark, tmp_path: Path) -> None:
    pool = Pool.of(encoded)
    assert pool is not None and len(pool.rows) == 6 + 3 + 6
    (texts, *_) = any_directions(encoded, pool, NOUNS)
    ranks, best = pool.ranked(texts.vectors, texts.relevance)
    done = CliRunner().invoke(app, ["index", str(manifest), "-c", str(tmp_path / "c"), "--model", "fake"])
    assert done.exit_code == 0, done.output
    with Searcher.open(tmp_path / "c") as searcher:
        for query, (item, own) in enumerate(zip(texts.query_items, best, strict=True)):
            assert item.text is not None
            hits = searcher.search(item.text, k=5).hits
            ours = [(pool.modalities[n], encoded.benchmark.rows[pool.rows[n]].row_id) for n in own]
            rows = {str(one.items[kind].key): one.row_id for one in encoded.benchmark.rows for kind in one.items}
            theirs = [(hit.modality, rows[hit.key]) for hit in hits]
            count = sum(hit.score > 1e-3 for hit in hits)  # the fake encoder gives many the same ordinary score
            assert count and ours[:count] == theirs[:count], query
            first = [n for n, one in enumerate(theirs, 1) if one[1] == item.row_id]
            assert not first or first[0] > count or ranks.first[query] == first[0]


def test_a_query_that_is_an_item_is_no_candidate(encoded: EncodedBenchmark) -> None:
    pool = Pool.of(encoded)
    assert pool is not None
    found = {one.direction: one for one in any_directions(encoded, pool, NOUNS)}
    assert list(found) == ["text->any", "image->any", "audio->any"]
    pictures = found["image->any"]
    assert pictures.relevance.n_queries == 3  # rows with a sound, too
    assert pictures.own is not None
    _, best = pool.ranked(pictures.vectors, pictures.relevance, pictures.own)
    assert all(own not in row for own, row in zip(pictures.own, best, strict=True))
    for own, relevant in zip(pictures.own, pictures.relevance.candidates, strict=True):
        assert pool.rows[own] == pool.rows[relevant] and pool.modalities[relevant] is Modality.AUDIO


def test_one_modality_alone_has_no_such_direction(tmp_path: Path) -> None:
    Image.new("RGB", (12, 9), "red").save(tmp_path / "red.png")
    (tmp_path / "m.jsonl").write_text('{"image": "red.png", "captions": ["red"]}\n')
    assert Pool.of(encode_benchmark(load_benchmark(tmp_path / "m.jsonl"), FakeEncoder())) is None
