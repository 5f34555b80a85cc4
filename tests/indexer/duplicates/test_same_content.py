"""What duplicates never calls the same: blank pictures, silence, and contents that only the model finds equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageDraw
from small_media import entry, new_collection, unit_rows
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.collection.collection import Collection
from indexer.duplicates.groups import find_duplicates
from indexer.duplicates.same_content import LeftOut
from indexer.items import Modality, Segment


def collection_of(place: Path, paths: list[Path], modality: Modality = Modality.IMAGE) -> Collection:
    """Real files, of which a model finds all equal."""
    made = new_collection(place)
    row = unit_rows(1, 64)
    entries = []
    for path in paths:
        one = entry(path.name, row, modality=modality)
        entries.append(replace(one, item=replace(one.item, key=str(path), path=path)))
    made.commit(entries)
    made.save_index()
    return made


def shape(path: Path, name: str, colour: str = "black") -> Path:
    image = Image.new("RGB", (64, 64), "white")
    box = (4, 4, 30, 60) if name == "rectangle" else (20, 30, 60, 60)
    getattr(ImageDraw.Draw(image), name)(box, fill=colour)
    image.save(path)
    return path


def names(groups: list[tuple[object, ...]]) -> list[list[str]]:
    return [[Path(one.item.key).name for one in group] for group in groups]  # type: ignore[attr-defined]


def test_pictures_that_only_the_model_finds_equal_are_no_duplicates(tmp_path: Path) -> None:
    paths = [shape(tmp_path / "a.png", "rectangle"), shape(tmp_path / "b.png", "ellipse")]
    with Image.open(paths[0]) as first:
        first.resize((40, 40)).save(tmp_path / "c.jpg", quality=60)
    left_out = LeftOut()
    with collection_of(tmp_path / "c", [*paths, tmp_path / "c.jpg"]) as made:
        assert names(list(find_duplicates(made, left_out=left_out))) == [["a.png", "c.jpg"]]
    assert (left_out.unlike, left_out.blank) == (1, set())


def test_blank_pictures_are_left_out_and_the_line_says_so(tmp_path: Path) -> None:
    for name, size in (("a.png", 20), ("b.png", 30)):
        Image.new("RGB", (size, size), "white").save(tmp_path / name)
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "c.png")
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    collection_of(tmp_path / "c", paths).close()
    done = CliRunner().invoke(app, ["duplicates", "--json", "--collection", str(tmp_path / "c")])
    document = json.loads(done.stdout)
    assert document["groups"] == []
    assert document["left_out"] == {"blank": [str(path) for path in paths], "unlike_pairs": 0}
    done = CliRunner().invoke(app, ["duplicates", "--paths", "--collection", str(tmp_path / "c")])
    assert done.stdout == ""
    assert "3 not compared: a picture of one colour or a silent sound has no content of its own" in done.stderr


def test_a_blank_picture_of_the_same_bytes_is_still_the_same_file(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "white").save(tmp_path / "a.png")
    made = new_collection(tmp_path / "c")
    one = entry("a.png", unit_rows(1, 64))
    made.commit([one, replace(entry("b.png", unit_rows(1, 64)), content_hash=one.content_hash)])
    made.save_index()
    assert names(list(find_duplicates(made))) == [["a.png", "b.png"]]
    made.close()


def test_silence_and_sounds_that_differ_are_no_duplicates(tmp_path: Path) -> None:
    t = np.arange(3 * 16_000) / 16_000
    noise = np.random.default_rng(0).normal(size=len(t)) * np.exp(-3 * t)
    waves = {
        "silence.wav": np.zeros(len(t)),
        "offset.wav": np.full(len(t), 0.3),
        "low.wav": 0.4 * np.sin(440 * 2 * np.pi * t),
        "clap.wav": noise / 4,
        "low.flac": 0.2 * np.sin(440 * 2 * np.pi * t),
    }
    for name, wave in waves.items():
        soundfile.write(tmp_path / name, wave, 16_000)
    left_out = LeftOut()
    with collection_of(tmp_path / "c", [tmp_path / name for name in waves], Modality.AUDIO) as made:
        assert names(list(find_duplicates(made, left_out=left_out))) == [["low.wav", "low.flac"]]
    assert {Path(key).name for key in left_out.blank} == {"silence.wav", "offset.wav"}


@pytest.mark.parametrize(("end", "is_same"), [("one other word", True), ("another story " * 40, False)])
def test_texts_that_differ_only_where_the_model_does_not_read_are_compared_by_their_words(
    tmp_path: Path, end: str, is_same: bool
) -> None:
    start = " ".join(f"word{n}" for n in range(100))
    made = new_collection(tmp_path / "c")
    entries = []
    for name, text in (("a.txt", start), ("b.txt", f"{start} {end}")):
        one = entry(name, unit_rows(1, 64), modality=Modality.TEXT)
        entries.append(replace(one, segments=(Segment(0, text=text),)))
    made.commit(entries)
    made.save_index()
    assert bool(list(find_duplicates(made))) is is_same
    made.close()


RUSSIAN = "Потом начался дождь, и мы ждали под дубом, пока он не кончился."
CHINESE = "下午下起了大雨，我们躲在一棵老橡树下面等着。"


@pytest.mark.parametrize(
    ("ours", "theirs", "is_same"),
    [
        ([RUSSIAN, "Ключ лежит под ковром."], [RUSSIAN, "Собака любит сыр."], False),
        ([CHINESE, "大雨停了。钥匙在地毯下。"], [CHINESE, "大雨停了。狗喜欢奶酪。"], False),
        ([CHINESE * 3], [CHINESE.replace("大雨", "小雨") + CHINESE * 2], True),
        (["Gone for a walk - back at two."], ["gone for a walk, back at TWO"], True),
        (["one"], ["one", "two"], False),
        (["🎵"], ["🎉"], False),
    ],
)
def test_texts_that_are_near_are_compared_passage_by_passage_at_any_cosine(
    tmp_path: Path, ours: list[str], theirs: list[str], is_same: bool
) -> None:
    made = new_collection(tmp_path / "c")
    near = np.asarray([[0.98, np.sqrt(1 - 0.98**2)]], np.float32)
    entries, left_out = [], LeftOut()
    for name, texts in (("a.txt", ours), ("b.txt", theirs)):
        rows = np.zeros((len(texts), 64), np.float32)
        rows[:, 0] = 1
        if name == "b.txt":
            rows[-1, :2] = near
        one = entry(name, rows, modality=Modality.TEXT)
        entries.append(replace(one, segments=tuple(Segment(n, text=text) for n, text in enumerate(texts))))
    made.commit(entries)
    made.save_index()
    assert bool(list(find_duplicates(made, left_out=left_out))) is is_same
    assert left_out.unlike == (not is_same and len(ours) == len(theirs))
    made.close()


def test_a_file_that_is_away_is_compared_by_its_vector_alone(tmp_path: Path) -> None:
    with collection_of(tmp_path / "c", [tmp_path / "away.png", tmp_path / "gone.png"]) as made:
        assert names(list(find_duplicates(made))) == [["away.png", "gone.png"]]
