"""Manifests as benchmarks: rows, captions, splits, and what cannot be measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import ManifestError, UsageError
from indexer.items import Modality
from retrieval.evaluation.datasets.benchmark import load_benchmark

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT


def manifest(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A manifest with an (empty) file for every one that its rows name: nothing here opens media."""
    for row in rows:
        for kind in ("image", "audio"):
            if kind in row and not row.get("missing"):
                (folder / row[kind]).touch()
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_become_items_of_each_modality_with_stripped_captions(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        [
            {"image": "a.jpg", "captions": [" a cat ", "", "a cat"]},
            {"id": "b", "image": "b.jpg", "audio": "b.ogg", "text": "a long story", "caption": "two"},
            {"text": "alone"},
        ],
    )
    benchmark = load_benchmark(path)
    assert [row.row_id for row in benchmark.rows] == ["1", "b", "3"]
    assert [set(row.items) for row in benchmark.rows] == [{IMAGE}, {IMAGE, AUDIO, TEXT}, {TEXT}]
    assert [row.captions for row in benchmark.rows] == [("a cat", "a cat"), ("two",), ()]
    assert benchmark.rows[1].items[AUDIO].path == tmp_path / "b.ogg"
    assert benchmark.rows[1].items[TEXT].text == "a long story"
    assert benchmark.rows[1].items[TEXT].key == f"{path}#b"


def test_the_benchmark_says_which_bytes_it_was_read_from(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"image": "a.jpg", "caption": "a cat", "split": "test"}])
    benchmark = load_benchmark(path, "test")
    assert benchmark.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert benchmark.name == f"{tmp_path.name}/captions.jsonl@test"
    assert load_benchmark(path).name == f"{tmp_path.name}/captions.jsonl"


def test_a_split_keeps_its_own_rows_and_an_unknown_one_names_those_there_are(tmp_path: Path) -> None:
    rows = [{"image": f"{i}.jpg", "caption": str(i), "split": ("train", "test")[i % 2]} for i in range(5)]
    path = manifest(tmp_path, [*rows, {"image": "x.jpg", "caption": "without"}])
    assert [row.row_id for row in load_benchmark(path, "test").rows] == ["2", "4"]
    with pytest.raises(UsageError, match="has no split 'val'; it has test, train"):
        load_benchmark(path, "val")


def test_several_splits_measured_as_one_pool_are_warned_of(tmp_path: Path) -> None:
    rows = [{"image": f"{i}.jpg", "caption": str(i), "split": ("train", "test")[i % 2]} for i in range(2)]
    path = manifest(tmp_path, rows)
    assert "test, train are measured as one pool" in load_benchmark(path).warnings[0]
    assert load_benchmark(path, "test").warnings == ()


def test_a_split_of_a_manifest_without_splits_is_a_usage_error(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"image": "a.jpg", "caption": "a"}])
    with pytest.raises(UsageError, match="leave --split out"):
        load_benchmark(path, "test")


def test_a_row_that_cannot_be_used_is_reported_and_the_others_stay(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        [{"image": "gone.jpg", "caption": "gone", "missing": True}, {"image": "b.jpg", "caption": "here"}],
    )
    benchmark = load_benchmark(path)
    assert [row.row_id for row in benchmark.rows] == ["2"]
    assert "captions.jsonl:1" in benchmark.skipped[0].path


def test_rows_with_nothing_to_compare_are_a_usage_error(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"image": "a.jpg"}, {"text": "alone"}])
    with pytest.raises(UsageError, match='nothing to compare; give rows "captions"'):
        load_benchmark(path)


def test_pictures_with_sounds_and_no_captions_can_be_compared(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"image": "a.jpg", "audio": "a.ogg"}])
    assert set(load_benchmark(path).rows[0].items) == {IMAGE, AUDIO}


def test_a_folder_is_refused_with_the_manifest_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder; give the manifest to measure on, a \.jsonl"):
        load_benchmark(tmp_path)
    manifest(tmp_path, [{"text": "x", "caption": "y"}])
    with pytest.raises(UsageError, match=r"captions\.jsonl"):
        load_benchmark(tmp_path)


def test_a_file_that_is_no_manifest_is_a_manifest_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        load_benchmark(tmp_path / "none.jsonl")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ManifestError, match="not a manifest"):
        load_benchmark(tmp_path / "a.txt")
