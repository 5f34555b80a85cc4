"""`benchmarks/attributes.py`: which of two captions a model chooses, by kind, with what the words alone give away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import attributes
from indexer.encoders.fake import FakeEncoder
from indexer.errors import UsageError
from retrieval.rerank.fake import FakeReranker

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 153, 0)}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Nine plain pictures, three of a colour; of `count` rows the caption names a colour that is not there."""
    rows = []
    names = list(COLOURS)
    for number in range(9):
        colour = names[number % 3]
        Image.new("RGB", (40, 30), COLOURS[colour]).save(tmp_path / f"{number}.png")
        others = [name for name in names if name != colour]
        metadata = {"kind": "colour", "contradictions": [f"a {other} car" for other in others]}
        caption = f"a {colour} car"
        if number >= 6:
            caption, metadata = f"a {others[0]} car", {"kind": "count", "contradictions": [f"a {colour} car"]}
        row = {"id": str(number), "image": f"{number}.png", "captions": [caption], "split": "val", "metadata": metadata}
        rows.append(row)
    rows.append({"image": "0.png", "captions": ["a red car"], "split": "val", "metadata": {"kind": "colour"}})
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_that_sees_colours_chooses_them_and_words_alone_do_not(manifest: Path) -> None:
    found = attributes.measure(manifest, "val", FakeEncoder(), reranker=FakeReranker())
    colour, count = found["kinds"]["colour"], found["kinds"]["count"]
    assert found["rows"] == 9 and (colour["rows"], count["rows"]) == (6, 3)  # the row without contradictions is none
    assert colour["choice"]["value"] == colour["hardest"]["value"] == colour["reranked"]["value"] == 1.0
    assert count["choice"]["value"] == count["reranked"]["value"] == 0.0
    assert 0 < colour["words"]["value"] < 1
    assert list(found["kinds"]) == ["count", "colour"]
    assert colour["gain"]["value"] == 0.0 and colour["gain"]["p"] == 1.0


def test_nouns_that_change_places_are_told_from_one_other_word() -> None:
    def is_swapped(caption: str, false: str) -> bool:
        return attributes.Contradicted(0, "relation", caption, (false,)).swapped

    assert is_swapped("an apple above a cup", "a cup above an apple")
    assert not is_swapped("an apple above a cup", "an apple below a cup")


def test_figures_of_other_models_stay_in_the_page(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    for model in ("one", "two"):
        arguments = ["--model", model, "--manifest", str(manifest), "--out", str(out)]
        assert attributes.main(arguments, opener=lambda spec: FakeEncoder()) == 0
    found = json.loads((out / "attributes.json").read_text())
    assert list(found) == ["one", "two"]
    page = (out / "attributes.md").read_text()
    assert "## one" in page and "## two" in page and "| colour | 6 | 100.0 [100.0, 100.0] |" in page


def test_a_manifest_without_contradictions_is_named_with_the_remedy(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps({"image": "a.png", "captions": ["red"], "split": "val"}) + "\n")
    with pytest.raises(UsageError, match=r"metadata.contradictions; build one with `python benchmarks"):
        attributes.measure(path, "val", FakeEncoder())
