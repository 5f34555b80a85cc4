"""Put cut-outs together into a picture: where they lie, what they lie on, and what a camera would add.

Knows nothing of captions. Everything is drawn from a `random.Random`, so that a scene is the same each time.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

SIZES = ((320, 240), (320, 256), (320, 320), (256, 320), (320, 214))
GAP = 4  # pixels between two things, at least
PLAIN, GRADIENT, PHOTO = 0.30, 0.50, 0.72  # below PLAIN a plain colour, then a gradient, a photograph, else white
LEAST_CONTRAST = 40.0  # of 255, of a thing's mean colour and a plain ground
SHADOW_SHARE = 0.4
AUGMENTED_SHARE = 0.75
TRIES = 12


@dataclass(frozen=True)
class Box:
    """Where a thing may lie: pixels from the left and the top, width and height."""

    left: float
    top: float
    width: float
    height: float


def boxes(relation: str, count: int, size: tuple[int, int], random_: random.Random) -> list[Box]:
    """A box for each of ``count`` things, none overlapping another.

    ``left``: the first thing's box is left of the second's; ``right``, ``above``, ``below`` alike; ``beside`` either of
    the first two; ``between``: from left to right. ``""``: cells of a grid in any order.
    """
    width, height = size
    if relation in {"above", "below"}:
        found = _row(count, height, width, random_, upright=True)
        return found if relation == "above" else found[::-1]
    if relation:
        found = _row(count, width, height, random_, upright=False)
        turned = relation == "right" or (relation in {"beside", "between"} and random_.random() < 0.5)
        return found[::-1] if turned else found
    if count == 1:
        share = random_.uniform(0.5, 0.85)
        own = min(width, height) * share
        left, top = random_.uniform(0, width - own), random_.uniform(0, height - own)
        return [Box(left, top, own, own)]
    columns = max(1, round(math.sqrt(count * width / height)))
    rows = math.ceil(count / columns)
    if random_.random() < 0.5 and columns * rows - count < columns:
        columns += 1
    cell = width / columns, height / rows
    cells = random_.sample([(x, y) for x in range(columns) for y in range(rows)], count)
    return [_inside(Box(x * cell[0], y * cell[1], *cell), random_) for x, y in cells]


def _row(count: int, long: int, short: int, random_: random.Random, *, upright: bool) -> list[Box]:
    """Boxes one after another along the longer way, near the middle of the other one."""
    shares = [random_.uniform(0.8, 1.25) for _ in range(count)]
    lengths = [share / sum(shares) * long for share in shares]
    middle = short / 2 + random_.uniform(-0.06, 0.06) * short
    found, start = [], 0.0
    for length in lengths:
        breadth = min(random_.uniform(0.6, 0.95) * short, 1.4 * length)
        own = length * random_.uniform(0.78, 0.96)
        place = start + random_.uniform(0, length - own)
        across = min(max(0.0, middle - breadth / 2), short - breadth)
        found.append(Box(across, place, breadth, own) if upright else Box(place, across, own, breadth))
        start += length
    return found


def _inside(cell: Box, random_: random.Random) -> Box:
    share = random_.uniform(0.72, 0.94)
    width, height = cell.width * share, cell.height * share
    left = cell.left + random_.uniform(0, cell.width - width)
    return Box(left, cell.top + random_.uniform(0, cell.height - height), width, height)


def fitted(thing: Image.Image, box: Box) -> tuple[Image.Image, tuple[int, int]]:
    """A thing as large as its box allows, and its left upper corner: in the middle of the box."""
    room = max(8.0, box.width - GAP), max(8.0, box.height - GAP)
    scale = min(room[0] / thing.width, room[1] / thing.height)
    size = (max(1, int(thing.width * scale)), max(1, int(thing.height * scale)))
    shrunk = thing.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    corner = box.left + (box.width - size[0]) / 2, box.top + (box.height - size[1]) / 2
    return shrunk, (int(corner[0]), int(corner[1]))


def turned(thing: Image.Image, degrees: float) -> Image.Image:
    """A thing turned, cut to its edges again."""
    found = thing.convert("RGBa").rotate(degrees, Image.Resampling.BICUBIC, expand=True).convert("RGBA")
    box = found.getchannel("A").point(lambda value: 255 if value > 24 else 0).getbbox()
    return found.crop(box) if box else found


def mean_colour(thing: Image.Image) -> np.ndarray:
    """Mean colour of the opaque pixels, float64 ``(3,)`` of 255."""
    pixels = np.asarray(thing, dtype=np.float64)
    weights = pixels[..., 3:] / 255
    return np.asarray((pixels[..., :3] * weights).sum(axis=(0, 1)) / max(1e-6, float(weights.sum())))


def ground(
    size: tuple[int, int], things: Sequence[Image.Image], photos: Sequence[Image.Image], random_: random.Random
) -> Image.Image:
    """White, a plain colour, a gradient or a part of a photograph (RGB) that the things stand out from."""
    means = [mean_colour(thing) for thing in things]
    lot = random_.random()
    if lot >= PHOTO:
        return Image.new("RGB", size, "white")
    if lot >= GRADIENT and photos:
        for _ in range(TRIES):
            found = _part(random_.choice(photos), size, random_)
            middle = np.asarray(found, dtype=np.float64).mean(axis=(0, 1))
            if _stands_out(means, middle):
                return found
    for _ in range(TRIES):
        first = _pale(random_)
        second = _pale(random_) if lot >= PLAIN else first
        if _stands_out(means, np.array(first)) and _stands_out(means, np.array(second)):
            return _gradient(size, first, second, random_)
    return Image.new("RGB", size, "white")


def _stands_out(means: Sequence[np.ndarray], colour: np.ndarray) -> bool:
    return all(float(np.abs(mean - colour).max()) > LEAST_CONTRAST for mean in means)


def _pale(random_: random.Random) -> tuple[int, int, int]:
    """A colour of little saturation, so that it is not taken for the things'."""
    value, spread = random_.uniform(70, 250), random_.uniform(0, 45)
    red, green, blue = (int(min(255, max(0, value + random_.uniform(-spread, spread)))) for _ in range(3))
    return red, green, blue


def _gradient(
    size: tuple[int, int], first: tuple[int, int, int], second: tuple[int, int, int], random_: random.Random
) -> Image.Image:
    width, height = size
    angle = random_.uniform(0, 2 * math.pi)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    share = np.clip((x * math.cos(angle) + y * math.sin(angle)) / 1.4 + 0.5, 0, 1)[..., None]  # (h, w, 1)
    mixed = np.array(first) * (1 - share) + np.array(second) * share
    return Image.fromarray(mixed.astype(np.uint8), "RGB")


def _part(photo: Image.Image, size: tuple[int, int], random_: random.Random) -> Image.Image:
    """A part of a photograph, cut and shrunk to the size."""
    largest = min(photo.width / size[0], photo.height / size[1])
    scale = random_.uniform(min(1.0, largest), largest)
    width, height = size[0] * scale, size[1] * scale
    left, top = random_.uniform(0, photo.width - width), random_.uniform(0, photo.height - height)
    part = photo.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random_.random() < 0.5 else part


def put(canvas: Image.Image, thing: Image.Image, corner: tuple[int, int], *, shadow: bool) -> None:
    """Paste a thing onto an RGB canvas, with a soft shadow below it where one is wanted."""
    if shadow:
        alpha = thing.getchannel("A").filter(ImageFilter.GaussianBlur(3)).point(lambda value: value * 2 // 5)
        canvas.paste((20, 20, 20), (corner[0] + 3, corner[1] + 4), alpha)
    canvas.paste(thing, corner, thing)


def scene(
    things: Sequence[Image.Image],
    relation: str,
    photos: Sequence[Image.Image],
    random_: random.Random,
    *,
    camera: bool,
    order: Sequence[int] = (),
) -> Image.Image:
    """A picture (RGB) of the things; ``order`` says which of the boxes from left or top each one gets (all in turn).

    ``camera``: photo-like changes; things are turned a little.
    """
    size = random_.choice(SIZES)
    if relation in {"above", "below"}:
        size = (min(size), max(size)) if random_.random() < 0.7 else size
    places = boxes(relation, len(things), size, random_)
    tilt = 14.0 if not relation else 7.0
    shown = [turned(thing, random_.uniform(-tilt, tilt)) if camera else thing for thing in things]
    canvas = ground(size, things, photos, random_)
    shadow = random_.random() < SHADOW_SHARE
    for thing, place in zip(shown, [places[n] for n in order] if order else places, strict=True):
        put(canvas, *fitted(thing, place), shadow=shadow)
    return photographed(canvas, random_) if camera and random_.random() < AUGMENTED_SHARE else canvas


def photographed(image: Image.Image, random_: random.Random) -> Image.Image:
    """What a camera adds: light, contrast, a little blur, noise, JPEG. Hues stay."""
    image = ImageEnhance.Brightness(image).enhance(random_.uniform(0.75, 1.2))
    image = ImageEnhance.Contrast(image).enhance(random_.uniform(0.8, 1.15))
    if random_.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(random_.uniform(0.3, 1.2)))
    if random_.random() < 0.5:
        noise = np.random.default_rng(random_.getrandbits(32)).normal(
            0, random_.uniform(2, 8), (image.height, image.width, 3)
        )
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8), "RGB")
    if random_.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=random_.randint(35, 85))
        image = Image.open(buffer).convert("RGB")
    return image
