"""Zero-shot classification of class folders: names, templates, splits, and the accuracies."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.encoders.fake import FakeEncoder
from indexer.errors import ManifestError, ModelError, UsageError
from indexer.items import Modality
from retrieval.evaluation import zero_shot
from retrieval.evaluation.datasets import open_dataset
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.report.rows import more_notes
from retrieval.evaluation.runner import run_benchmark
from retrieval.evaluation.zero_shot import class_vectors

COLOURS = ("black", "blue", "green", "red", "white", "yellow")


def folders(root: Path, *names: str, each: int = 2) -> Path:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            colour = name.rpartition("_")[2]
            colour = colour if colour in COLOURS else "red"
            Image.new("RGB", (8, 8 + number), colour).save(root / name / f"{number}.png")
    return root


def opened(dataset: object, split: str | None = None, templates: tuple[str, ...] = ()) -> Benchmark:
    return open_dataset(f"classes:{dataset}", split, templates=templates, cache=Path("never written"))


def test_the_examples_in_the_docstrings_are_true() -> None:
    result = doctest.testmod(zero_shot)
    assert result.attempted >= 3
    assert result.failed == 0


def test_pictures_find_their_class_and_the_json_has_clip_benchmarks_names(tmp_path: Path) -> None:
    result = run_benchmark(opened(folders(tmp_path, *COLOURS)), FakeEncoder())
    (found,) = result.results
    assert (found.direction, found.n_queries, found.n_candidates) == ("image->class", 12, 6)
    document = found.to_json()
    assert (document["acc1"], document["acc5"], document["mean_per_class_recall"]) == (1.0, 1.0, 1.0)
    assert document["chance"]["hit_rate_at_1"] == pytest.approx(1 / 6)
    assert more_notes(result) == ["zero-shot: acc@1 100.0, acc@5 100.0, mean per-class recall 100.0 %"]


def test_mean_per_class_recall_does_not_follow_the_large_class(tmp_path: Path) -> None:
    folders(tmp_path, "red", each=9)
    folders(tmp_path, "blue", each=1)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "blue" / "0.png")  # the only one of its class, and wrong
    (found,) = run_benchmark(opened(tmp_path), FakeEncoder()).results
    assert found.zero_shot is not None
    assert (found.zero_shot.acc1, found.zero_shot.acc5, found.zero_shot.mean_per_class_recall) == (0.9, None, 0.5)


def test_names_come_from_folders_or_from_a_file(tmp_path: Path) -> None:
    folders(tmp_path, "n01_red", "n02_blue", "n03_green")
    assert opened(tmp_path).classes == ("n01 red", "n02 blue", "n03 green")
    mapping = tmp_path / "names.txt"
    mapping.write_text("n03_green a green thing\nn01_red\tred, rot\nn02_blue  blue\nn99 not here\n")
    assert opened(f"{tmp_path}@{mapping}").classes == ("red, rot", "blue", "a green thing")
    (tmp_path / "classnames.txt").write_text("big red\nbig blue\n\nbig green\n")
    assert opened(tmp_path).classes == ("big red", "big blue", "big green")
    (tmp_path / "classnames.txt").write_text("one\ntwo\n")
    with pytest.raises(ManifestError, match=r"classnames\.txt: names 2 classes for 3 folders"):
        opened(tmp_path)
    (tmp_path / "classnames.txt").write_text("one\ntwo\ntwo\n")
    with pytest.raises(ManifestError, match="two classes are called 'two'"):
        opened(tmp_path)


def test_a_class_is_the_normalised_mean_of_its_prompts() -> None:
    templates = ("a photo of a {}.", "{}, drawn")
    vectors = {
        "a photo of a cat.": np.array([1.0, 0.0], np.float32), "cat, drawn": np.array([0.0, 1.0], np.float32),
        "a photo of a dog.": np.array([0.6, 0.8], np.float32), "dog, drawn": np.array([0.6, 0.8], np.float32),
    }  # fmt: skip
    found = class_vectors(("cat", "dog"), templates, vectors)
    assert found == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]), abs=1e-6)
    vectors["cat, drawn"] = np.array([-1.0, 0.0], np.float32)
    with pytest.raises(ModelError, match="class 'cat': the vectors of its prompts cancel each other out"):
        class_vectors(("cat", "dog"), templates, vectors)


def test_the_template_is_clips_unless_others_are_given(tmp_path: Path) -> None:
    folders(tmp_path, "red", "blue")
    assert opened(tmp_path).templates == ("a photo of a {}.",)
    asked: list[str] = []

    class Listening(FakeEncoder):
        def encode_queries(self, texts):  # type: ignore[no-untyped-def]
            asked.extend(texts)
            return super().encode_queries(texts)

    run_benchmark(opened(tmp_path, templates=("a {}", "some {}s")), Listening())
    assert sorted(asked) == ["a blue", "a red", "some blues", "some reds"]
    for wrong in ("a photo", "{} and {}", "{0}", "a {name} {}"):
        with pytest.raises(UsageError, match="write {} once"):
            opened(tmp_path, templates=(wrong,))


def test_splits_are_folders_and_are_not_taken_for_classes(tmp_path: Path) -> None:
    folders(tmp_path / "train", "red", "blue")
    folders(tmp_path / "test", "red", "blue", each=3)
    with pytest.raises(UsageError, match=r"its folders are splits, not classes \(test, train\); give one: --split"):
        opened(tmp_path)
    benchmark = opened(tmp_path, "test")
    assert len(benchmark.rows) == 6
    assert benchmark.split == "test"
    assert {(row.items[Modality.IMAGE].path.parent.name, row.label) for row in benchmark.rows} == {
        ("blue", 0),
        ("red", 1),
    }
    with pytest.raises(UsageError, match="has no folder for the split 'val'"):
        opened(tmp_path, "val")


def test_a_missing_folder_and_a_single_class_are_stated(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is no folder of class folders; unpack the pictures"):
        opened(tmp_path / "none")
    folders(tmp_path, "red")
    with pytest.raises(ManifestError, match="has 1 folders; a class is a folder, and it takes two"):
        opened(tmp_path)


def test_another_picture_is_another_benchmark(tmp_path: Path) -> None:
    folders(tmp_path, "red", "blue")
    before = opened(tmp_path).sha256
    assert opened(tmp_path).sha256 == before
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red" / "more.png")
    assert opened(tmp_path).sha256 != before


def test_a_model_without_a_text_tower_says_so(tmp_path: Path) -> None:
    class Wordless(FakeEncoder):
        spec = "wordless"
        modalities = frozenset({Modality.IMAGE})

    with pytest.raises(ModelError, match="model wordless has no text tower"):
        run_benchmark(opened(folders(tmp_path, "red", "blue")), Wordless())
