"""Scenes of several things: their captions are true, what contradicts them is not, words alone tell nothing."""

from __future__ import annotations

import io
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("resvg_py", reason="the recipes render SVG: pip install 'trimodal[svg]'")

import composites
import scene_material
import scene_pictures
import scene_words
from scene_material import CutOut

NAMES = ("dog", "apple", "bus")


def drawn(kind: str, count: int = 400) -> list[scene_words.Wording]:
    return [scene_words.wording(kind, NAMES, {"mouse": "mice"}, random.Random(seed)) for seed in range(count)]


@pytest.mark.parametrize("kind", scene_words.KINDS)
def test_a_contradiction_is_never_a_caption_and_differs_in_a_word_or_swaps_two(kind: str) -> None:
    for found in drawn(kind):
        assert not set(found.captions) & set(found.contradictions)
        first = found.captions[0].replace("an ", "a ").split()
        for false in found.contradictions:
            words = false.replace("an ", "a ").split()
            differing = sum((Counter(first) - Counter(words)).values())
            most = 2 if kind == scene_words.COUNT else 1  # "two dogs and a cup", "two cups and a dog"
            assert differing <= (most if len(words) == len(first) else 4), (first, words)  # "to the left of", "above"


@pytest.mark.parametrize("kind", [scene_words.RELATION, scene_words.COLOUR])
def test_a_word_is_as_often_true_as_false(kind: str) -> None:
    """So that preferring a word gives nothing: each pair of a true and a false word as often as its mirror image."""
    pairs = scene_words.RELATIONS if kind == scene_words.RELATION else scene_words.COLOUR_PAIRS
    assert Counter(pairs) == Counter((b, a) for a, b in pairs)


def test_plurals_and_articles() -> None:
    irregular = {"mouse": "mice", "goose": "geese"}
    shown = {
        "apple": "three apples", "bus": "three buses", "mouse": "three mice", "sheep": "three sheep",
        "knife": "three knives", "police officer": "three police officers", "puppy": "three puppies",
        "monkey": "three monkeys", "fireman": "three firemen", "brush": "three brushes",
    }  # fmt: skip
    assert {noun: scene_words.counted(noun, 3, irregular) for noun in shown} == shown
    assert scene_words.counted("apple", 1) == "an apple"


@pytest.mark.parametrize("relation", ["left", "right", "above", "below", "between", ""])
def test_boxes_lie_as_the_relation_says_and_do_not_overlap(relation: str) -> None:
    for seed in range(50):
        count = 3 if relation == "between" else 5 if not relation else 2
        found = scene_pictures.boxes(relation, count, (320, 240), random.Random(seed))
        for n, a in enumerate(found):
            assert a.left >= -0.01 and a.top >= -0.01
            assert a.left + a.width <= 320.01 and a.top + a.height <= 240.01
            for b in found[n + 1 :]:
                apart = a.left + a.width <= b.left or b.left + b.width <= a.left
                assert apart or a.top + a.height <= b.top or b.top + b.height <= a.top
        a, b = found[0], found[1]
        if relation in {"left", "right"}:
            assert (a.left + a.width <= b.left) == (relation == "left")
        if relation in {"above", "below"}:
            assert (a.top + a.height <= b.top) == (relation == "above")
        if relation == "between":
            assert sorted(one.left for one in found)[1] == found[1].left


def thing(colour: str, *, second: str = "") -> Image.Image:
    image = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse((10, 10, 150, 150), fill=colour)
    if second:
        pen.rectangle((40, 80, 120, 150), fill=second)
    return image


def test_a_thing_of_one_hue_gets_another_and_one_of_two_has_none() -> None:
    red = thing("#d02020")
    hue = scene_material.main_hue(red)
    assert hue is not None and min(hue, 360 - hue) < 6
    assert scene_material.main_hue(thing("#d02020", second="#2040d0")) is None
    assert scene_material.main_hue(thing("#808080")) is None
    for colour, (wanted, _, value) in scene_words.COLOURS.items():
        changed = scene_material.recoloured(red, hue, colour)
        middle = np.median(scene_material.hsv_of(changed)[np.asarray(changed)[..., 3] > 128], axis=0)
        assert abs((middle[0] - wanted + 180) % 360 - 180) < 8 and abs(middle[2] - value) < 0.05
        assert changed.getchannel("A").tobytes() == red.getchannel("A").tobytes()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_things_are_cut_out_of_white_and_pictures_that_fill_their_box_are_not() -> None:
    white = Image.new("RGB", (200, 200), "white")
    white.paste(thing("#208040"), (20, 20), thing("#208040"))
    found = scene_material.cut_out(png(white))
    assert found is not None and abs(found.width - 141) <= 4
    assert np.asarray(found)[0, 0, 3] == 0 and np.asarray(found)[70, 70, 3] == 255
    assert scene_material.cut_out(png(Image.new("RGB", (200, 200), "#208040"))) is None
    assert scene_material.cut_out(png(thing("#208040").resize((40, 40)))) is None  # too small


def cut(number: int, name: str, folder: Path, source: str = "qabcs", split: str = "train") -> CutOut:
    file = f"{number}.png"
    thing("#d02020").save(folder / file)
    return CutOut(f"{source}/{number}", name, name, split, source, "CC0-1.0", file, person=False, hue=0.0)


class Unrelated:
    """In place of WordNet."""

    def related(self, one: str, other: str) -> bool:
        return {one, other} == {"bird", "duck"}


def test_things_of_a_scene_are_of_one_side_and_style_and_none_is_a_kind_of_another(tmp_path: Path) -> None:
    names = ("dog", "bus", "bird", "duck", "apple")
    cuts = [cut(n, name, tmp_path) for n, name in enumerate(names)]
    excluded = frozenset({"qabcs/0"})
    chooser = composites.Chooser(cuts, Unrelated(), excluded)  # type: ignore[arg-type]
    for seed in range(30):
        shown = {one.name for one in chooser.draw(scene_words.COUNT, random.Random(seed))}
        assert len(shown) == 3 and not {"bird", "duck"} <= shown and "dog" not in shown


def test_a_scene_is_the_same_each_time_and_its_file_is_named_by_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composites, "photos", lambda split: ())
    things = tuple(cut(n, name, tmp_path) for n, name in enumerate(NAMES))
    wording = scene_words.wording(scene_words.COUNT, NAMES, {}, random.Random(1))
    scene = composites.Scene(3, "train", wording, things, "18/train/count/3")
    composites.draw((scene, tmp_path))
    first = (tmp_path / scene.image).read_bytes()
    (tmp_path / scene.image).unlink()
    composites.draw((scene, tmp_path))
    assert (tmp_path / scene.image).read_bytes() == first
    row = scene.row()
    assert row["metadata"]["kind"] == "count" and row["metadata"]["contradictions"] == list(wording.contradictions)
    other = composites.Scene(3, "train", wording, (*things[1:], things[0]), "18/train/count/3")
    assert other.image != scene.image
