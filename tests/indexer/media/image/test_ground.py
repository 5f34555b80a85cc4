"""What is drawn stays to be seen: grounds, flat pictures, first frames; and channels that cancel each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageDraw

from indexer.limits import MediaLimits
from indexer.media.audio.decode import open_sound, read_sound
from indexer.media.image.decode import read_picture

LIMITS = MediaLimits()


def drawing(colour: tuple[int, int, int], shape: str = "ellipse") -> Image.Image:
    """A shape of one colour on transparent ground."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(image), shape)((8, 8, 50, 50), fill=(*colour, 255))
    return image


def pixels(path: Path) -> np.ndarray:
    return np.asarray(read_picture(path, LIMITS))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.gif", "a.ico"])
def test_a_white_drawing_on_transparent_ground_is_shown_on_grey(tmp_path: Path, name: str) -> None:
    drawing((255, 255, 255)).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    found = pixels(tmp_path / name)
    assert found[0, 0].tolist() == [128, 128, 128]
    assert found[30, 30].tolist() == [255, 255, 255]


def test_a_white_drawing_in_grey_with_opacity_and_in_a_palette_is_shown_too(tmp_path: Path) -> None:
    drawing((255, 255, 255)).convert("LA").save(tmp_path / "la.png")
    palette = Image.new("P", (64, 64), 0)
    palette.putpalette([255, 255, 255, 255, 255, 255])
    ImageDraw.Draw(palette).rectangle((9, 9, 40, 40), fill=1)
    palette.save(tmp_path / "p.png", transparency=0)
    for name in ("la.png", "p.png"):
        assert {tuple(pixel) for pixel in pixels(tmp_path / name).reshape(-1, 3)} == {(128,) * 3, (255,) * 3}


@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 30, 30), (255, 255, 0), (229, 229, 229)])
def test_a_dark_or_coloured_drawing_stays_on_white(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    drawing(colour).save(tmp_path / "a.png")
    found = pixels(tmp_path / "a.png")
    assert (found[0, 0].tolist(), found[30, 30].tolist()) == ([255, 255, 255], list(colour))


def test_an_opaque_picture_keeps_its_pixels_whatever_its_mode(tmp_path: Path) -> None:
    light = np.random.default_rng(0).integers(240, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(light).save(tmp_path / "rgb.png")
    Image.fromarray(light).convert("RGBA").save(tmp_path / "rgba.png")
    assert np.array_equal(pixels(tmp_path / "rgb.png"), light)
    assert np.array_equal(pixels(tmp_path / "rgba.png"), light)


def test_a_white_svg_is_drawn_on_grey_and_a_dark_one_on_white(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    for name, colour, ground in (("white", "#fff", 128), ("black", "#000", 255)):
        path = tmp_path / f"{name}.svg"
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
            f'<circle cx="32" cy="32" r="20" fill="{colour}"/></svg>'
        )
        found = pixels(path)
        assert found[0, 0].tolist() == [ground] * 3
        assert found[512, 512].tolist() == [255 - 255 * (name == "black")] * 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_that_would_become_one_black_are_stretched(tmp_path: Path, name: str) -> None:
    values = np.zeros((64, 64), np.uint16)
    values[16:48, 16:48] = 200
    Image.fromarray(values).save(tmp_path / name)
    found = pixels(tmp_path / name)
    assert (found[0, 0, 0], found[30, 30, 0]) == (0, 255)


def test_floats_in_a_narrow_band_are_stretched(tmp_path: Path) -> None:
    values = np.full((64, 64), 1000.0, np.float32)
    values[16:48, 16:48] = 1001
    Image.fromarray(values).save(tmp_path / "a.tif")
    found = pixels(tmp_path / "a.tif")
    assert (found[0, 0, 0], found[30, 30, 0]) == (0, 255)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_an_animation_with_an_empty_first_frame_is_its_first_frame_that_shows_something(
    tmp_path: Path, name: str
) -> None:
    empty, full = Image.new("RGB", (32, 32), "white"), Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(full).rectangle((4, 4, 20, 20), fill="black")
    empty.save(tmp_path / name, save_all=True, append_images=[empty.copy(), full], lossless=True)
    assert pixels(tmp_path / name).min() < 10
    Image.new("RGB", (32, 32), "white").save(tmp_path / "one.gif")
    assert pixels(tmp_path / "one.gif").min() == 255


def test_channels_that_cancel_each_other_give_the_loudest_in_both_passes(tmp_path: Path) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(30 * 16_000) / 16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([0.99 * wave, -wave], axis=1), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", -wave, 16_000, subtype="FLOAT")
    expected, _ = read_sound(tmp_path / "b.wav", LIMITS)
    assert np.array_equal(read_sound(tmp_path / "a.wav", LIMITS)[0], expected)
    again = [one[2] for one in open_sound(tmp_path / "a.wav", LIMITS, keep_s=1.0).windows]
    assert np.array_equal(again[0], expected[: len(again[0])])


def test_channels_that_differ_are_averaged_as_ever(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(16_000, 2)).astype(np.float32) / 10
    noise[:, 1] *= -0.9
    noise[:, 1] += noise[:, 0] / 2
    soundfile.write(tmp_path / "a.wav", noise, 16_000, subtype="FLOAT")
    assert np.allclose(read_sound(tmp_path / "a.wav", LIMITS)[0], noise.mean(axis=1), atol=1e-7)
