"""What scenes are composed of: cut-outs of the pool's countable things, by name, with their side of the split.

A picture is used where its first caption is a noun of WordNet for a seen animal, plant, person, food or artifact, where
it has a transparent ground (or a white one, which is cut away), and where it is neither in the demo collection nor a
near-duplicate of an evaluation picture (`near_evaluation.txt`). Knows nothing of captions of scenes or of how things
are put together.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import emojis
import furniture
import numpy as np
import openclipart
import qabcs
import render
from captions import PLURAL_ONLY, UNCOUNTABLE, words
from numpy.typing import NDArray
from packages import fetch
from PIL import Image, ImageDraw
from samples import Sample
from scene_words import COLOURS
from splits import TRAIN, VAL, head, split_of
from tables import read_tables
from wordnet_files import ANIMAL, ARTIFACT, FOOD, PERSON, PLANT, WordNet
from wordnet_visible import Visible
from wordnet_words import singular

from indexer.unwanted_words import is_unwanted

SIDE = 256  # pixels, longest side of a cut-out
LEAST_SIDE = 90
LEAST_FILLED = 0.25  # of a cut-out's box: line drawings get lost on a photograph
MOST_OBLONG = 3.2
OPAQUE = 128  # alpha above it counts
NEAR_WHITE = 246
SATURATED, BRIGHT = 0.30, 0.20  # a pixel with less has no hue to speak of
LEAST_COLOURED, LEAST_OF_ONE_HUE = 0.40, 0.80
HUE_BREADTH = 28.0  # degrees to each side
FILES = frozenset({ANIMAL, ARTIFACT, FOOD, PERSON, PLANT})
EMOJI_GROUPS = frozenset({1, 3, 4, 5, 6, 7})  # people, nature, food, places, activities, objects
MOST_WORDS = 2

_TABLES = read_tables("composites.toml")
LEFT_OUT = words(_TABLES["left_out"])
DRAWN, EMOJI = (_TABLES["styles"][name].split() for name in ("drawn", "emoji"))
COLOUR_WORDS = words(_TABLES["words"]["colours"]) | set(COLOURS)
REDRAWN = words(_TABLES["words"]["redrawn"])
NEAR_EVALUATION = Path(__file__).with_name("near_evaluation.txt")


@dataclass(frozen=True)
class CutOut:
    """A thing on a transparent ground: ``file`` is an RGBA PNG below the data set's folder, cut to the thing.

    ``hue`` is in degrees where the thing has one, else None. ``person`` may not be recoloured.
    """

    id: str
    name: str
    concept: str
    split: str
    source: str
    license: str
    file: str
    person: bool
    hue: float | None


class Countable:
    """Whether a name is one of a thing that can stand in a scene, several times and in any colour."""

    def __init__(self, net: WordNet, visible: Visible) -> None:
        self.net = net
        self.visible = visible

    def senses(self, name: str) -> list[int]:
        """Lexicographer files of a name's seen senses, the most used first; empty where it is not to be used."""
        parts = name.split()
        lemma = self.net.find(name)
        if not lemma or name.replace(" ", "_") in LEFT_OUT or len(parts) > MOST_WORDS:
            return []
        last = parts[-1]
        if singular(name, self.net.irregular) != name or last in PLURAL_ONLY or last in UNCOUNTABLE:
            return []
        if COLOUR_WORDS & set(parts) or not name.isascii() or not name.replace(" ", "").isalpha():
            return []
        if not self.visible.noun(name) or is_unwanted(name):
            return []
        numbered = [self.net.synsets[offset] for offset in self.net.senses[lemma]]
        return [sense.file for sense in numbered if self.visible.sense(lemma, sense) and sense.file in FILES]

    def related(self, one: str, other: str) -> bool:
        """Whether one name is a kind of the other ("duck" and "bird"), or both mean the same."""
        a, b = self._senses(one), self._senses(other)
        return bool(a & b or a & self._above(b) or b & self._above(a))

    def _senses(self, name: str) -> set[str]:
        return set(self.net.senses[self.net.find(name)][:3])

    def _above(self, senses: set[str]) -> set[str]:
        return {kind.offset for sense in senses for kind in self.net.above(self.net.synsets[sense])}


def candidates(countable: Countable) -> Iterator[tuple[Sample, str, bool]]:
    """Pictures of countable things with their name and whether it is a person; none of the demo collection."""
    demo = {name for entries in read_tables("demo_pictures.toml").values() for name in entries}
    groups = emoji_groups()
    for sample in _samples():
        name = sample.captions[0].lower()
        group = groups.get(sample.metadata.get("code", ""))
        known = group in EMOJI_GROUPS if "code" in sample.metadata else True
        if known and f"{sample.source}/{sample.name}" not in demo and (files := countable.senses(name)):
            yield sample, name, files[0] == PERSON


def _samples() -> Iterator[Sample]:
    sources = {*DRAWN, *EMOJI}
    for reader in (openclipart, furniture, qabcs, emojis):
        yield from (sample for sample in reader.samples() if sample.source in sources and sample.image is not None)


def emoji_groups() -> dict[str, int]:
    """Code points of an emoji -> number of its group."""
    path = fetch("emojibase-data") / "package" / "en" / "data.json"
    return {emojis.bare(entry["hexcode"]): entry["group"] for entry in emojis.load_entries(path)}


def near_evaluation() -> frozenset[str]:
    """Ids of the pool's pictures that are near-duplicates of evaluation pictures or of the demo collection's."""
    lines = NEAR_EVALUATION.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def write_cut_out(job: tuple[Sample, str, bool, Path]) -> CutOut | None:
    """Cut a sample's thing out and write it below the folder; None where it can't be used. An old file is kept."""
    sample, name, person, out = job
    assert sample.image is not None
    row_id = f"{sample.source}/{sample.name}"
    file = f"cutouts/{hashlib.blake2s(row_id.encode(), digest_size=10).hexdigest()}.png"
    path = out / file
    if path.is_file():
        image = Image.open(path).convert("RGBA")
    else:
        try:
            found = cut_out(sample.image.read())
        except (ValueError, OSError, KeyError):
            return None
        if found is None:
            return None
        image = found
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path.with_suffix(".partial"), format="PNG")
        path.with_suffix(".partial").replace(path)
    split = sample.split or split_of(sample.concept)
    side = VAL if split == VAL else TRAIN  # other pictures of what the demo collection shows may be trained on
    hue = None if person else main_hue(image)
    concept = head(sample.concept)
    return CutOut(row_id, name, concept, side, sample.source, sample.license, file, person, hue)


def cut_out(data: bytes) -> Image.Image | None:
    """A thing on a transparent ground (RGBA), cut to its edges; None for what fills its box or hardly anything of it.

    A picture without transparency is cut out of its white ground, from the corners inwards. Raises `ValueError` for
    bytes that are no picture.
    """
    image = open_rgba(data)
    alpha = np.asarray(image.getchannel("A"))
    if alpha.min() > OPAQUE:
        if not _white_corners(image):
            return None
        image = without_white(image)
    box = image.getchannel("A").point(lambda value: 255 if value > OPAQUE else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    if max(image.size) < LEAST_SIDE or max(image.size) > MOST_OBLONG * min(image.size):
        return None
    pixels = np.asarray(image)
    opaque = pixels[..., 3] > OPAQUE
    filled, rgb = opaque.mean(), pixels[..., :3][opaque]
    if filled < LEAST_FILLED or filled > 0.995 or (rgb.min(axis=1) >= NEAR_WHITE).mean() > 0.6:
        return None
    return image


def open_rgba(data: bytes) -> Image.Image:
    """Decode a picture to RGBA, its longest side at most `SIDE` pixels (a drawing's exactly)."""
    start = data[:1000].lstrip()
    if start.startswith((b"<svg", b"<?xml", b"<!DOCTYPE", b"<!--")) or b"<svg" in start:
        return render.render_svg(data.decode("utf-8", "replace"), side=SIDE)
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:
        raise ValueError(f"not a readable picture: {error}") from error
    rgba = image.convert("RGBA")
    scale = SIDE / max(rgba.size)
    if scale < 1:
        size = (max(1, round(rgba.width * scale)), max(1, round(rgba.height * scale)))
        rgba = rgba.convert("RGBa").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGBA")
    return rgba


def _white_corners(image: Image.Image) -> bool:
    width, height = image.size
    corners = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]
    return all(min(image.getpixel(corner)[:3]) >= NEAR_WHITE for corner in corners)  # type: ignore[index]


def without_white(image: Image.Image) -> Image.Image:
    """The picture with what is white and touches a corner made transparent."""
    marked = image.convert("RGB")
    mark = (1, 254, 3)
    width, height = image.size
    for corner in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        if marked.getpixel(corner) != mark:
            ImageDraw.floodfill(marked, corner, mark, thresh=24)
    outside = (np.asarray(marked) == mark).all(axis=2)
    pixels = np.asarray(image).copy()
    pixels[..., 3] = np.where(outside, 0, 255)
    return Image.fromarray(pixels, "RGBA")


def hsv_of(image: Image.Image) -> NDArray[np.float32]:
    """Hue in degrees, saturation and value in [0, 1], float32 ``(height, width, 3)``."""
    scaled = np.asarray(image.convert("RGB").convert("HSV"), dtype=np.float32) / 255
    return np.asarray(scaled * np.array([360, 1, 1], dtype=np.float32), dtype=np.float32)


def main_hue(image: Image.Image) -> float | None:
    """The one hue, in degrees, of a thing that is of one colour; None for one without colour or of several."""
    opaque = np.asarray(image.getchannel("A")) > OPAQUE
    hsv = hsv_of(image)[opaque]
    coloured = (hsv[:, 1] > SATURATED) & (hsv[:, 2] > BRIGHT)
    if coloured.mean() < LEAST_COLOURED:
        return None
    hues = hsv[coloured, 0]
    counts, _ = np.histogram(hues, bins=72, range=(0, 360))
    smooth = sum(np.roll(counts, shift) for shift in range(-3, 4))
    peak = (int(np.argmax(smooth)) + 0.5) * 5.0
    away = np.abs((hues - peak + 180) % 360 - 180)
    if (away < HUE_BREADTH).mean() < LEAST_OF_ONE_HUE:
        return None
    return round(peak, 1)


def recoloured(image: Image.Image, hue: float, colour: str) -> Image.Image:
    """A thing of one hue in another colour: its coloured pixels get that colour's hue, saturation and value.

    Shading stays: within the thing hue, saturation and value differ as they did, around the new middle.
    """
    target_hue, saturation, value = COLOURS[colour]
    hsv = hsv_of(image)
    alpha = np.asarray(image.getchannel("A"))
    coloured = (hsv[..., 1] > 0.12) & (hsv[..., 2] > 0.12)
    solid = coloured & (alpha > OPAQUE) & (hsv[..., 1] > SATURATED)
    away = (hsv[..., 0] - hue + 180) % 360 - 180
    middle = np.median(hsv[solid], axis=0)
    new = hsv.copy()
    new[..., 0] = (target_hue + np.clip(away, -60, 60) * 0.2) % 360
    new[..., 1] = np.clip(hsv[..., 1] * (saturation / middle[1]), 0, 1)
    new[..., 2] = np.clip(hsv[..., 2] * (value / middle[2]), 0, 1)
    new = np.where(coloured[..., None], new, hsv)
    scaled = np.clip(new / np.array([360, 1, 1], dtype=np.float32) * 255, 0, 255).astype(np.uint8)
    rgb = Image.fromarray(scaled, "HSV").convert("RGB")
    rgb.putalpha(image.getchannel("A"))
    return rgb


def without_metadata(sample: Sample) -> Sample:
    """A sample without its metadata, to be sent to another process."""
    return replace(sample, metadata={})
