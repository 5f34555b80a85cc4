"""Damage beside the pixels costs no picture; damage to the pixels does: PNG chunks, a JPEG's end, a TIFF's rows."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin
from small_media import index, new_collection
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.errors import MediaError
from indexer.limits import MediaLimits
from indexer.media.image.decode import open_picture

LIMITS = MediaLimits()


def smooth(side: int = 64) -> Image.Image:
    """A picture with detail, which JPEG keeps well."""
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC)


def saved(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or smooth()).save(out, format, **options)
    return out.getvalue()


def chunk(name: bytes, content: bytes, *, wrong: bool = False) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content) ^ wrong)


def with_chunk(png: bytes, added: bytes, *, behind_pixels: bool = False) -> bytes:
    at = len(png) - 12 if behind_pixels else 33
    return png[:at] + added + png[at:]


def read(tmp_path: Path, name: str, content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    (tmp_path / name).write_bytes(content)
    picture = open_picture(tmp_path / name, LIMITS)
    return np.asarray(picture.image), picture.remarks


LARGE = zlib.compress(b"x" * 1_300_000)
CASES = {
    "a compressed iTXt of 1.3 MB": (chunk(b"iTXt", b"k\0\1\0en\0\0" + LARGE), "over 1 MB"),
    "a zTXt of 1.3 MB": (chunk(b"zTXt", b"k\0\0" + LARGE), "over 1 MB"),
    "a large profile": (chunk(b"iCCP", b"p\0\0" + LARGE), "over 1 MB"),
    "a tEXt of 1.3 MB": (chunk(b"tEXt", b"k\0" + b"x" * 1_300_000), "over 1 MB"),
    "a wrong checksum": (chunk(b"tEXt", b"k\0x", wrong=True), "is damaged"),
    "a wrong checksum of the gamma": (chunk(b"gAMA", b"\0\0\1\0", wrong=True), "is damaged"),
    "a wrong checksum of the EXIF": (chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0", wrong=True), "is damaged"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("behind_pixels", [False, True])
def test_what_is_wrong_beside_a_pngs_pixels_is_passed_over(tmp_path: Path, case: str, behind_pixels: bool) -> None:
    added, remark = CASES[case]
    found, remarks = read(tmp_path, "a.png", with_chunk(saved("PNG"), added, behind_pixels=behind_pixels))
    assert np.array_equal(found, np.asarray(smooth()))
    assert len(remarks) == 1
    assert remark in remarks[0]


@pytest.mark.parametrize("lost", [1, 4, 5, 12])
def test_a_png_that_lacks_only_its_end_is_read(tmp_path: Path, lost: int) -> None:
    found, remarks = read(tmp_path, "a.png", saved("PNG")[:-lost])
    assert np.array_equal(found, np.asarray(smooth()))
    assert remarks == ("a PNG lacks the mark of its end; its pixels are whole",)


@pytest.mark.parametrize("lost", [13, 20, 200])
def test_a_png_that_lacks_pixels_is_refused(tmp_path: Path, lost: int) -> None:
    with pytest.raises(MediaError, match="cut short"):
        read(tmp_path, "a.png", saved("PNG")[:-lost])


def test_a_png_without_its_last_chunk_of_pixels_is_refused(tmp_path: Path) -> None:
    whole = saved("PNG", Image.effect_noise((400, 400), 90).convert("RGB"))
    assert whole.count(b"IDAT") > 1
    with pytest.raises(MediaError, match="cut short"):
        read(tmp_path, "a.png", whole[: whole.rindex(b"IDAT") - 4])


@pytest.mark.parametrize("name", [b"IDAT", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_what_the_pixels_need_is_refused(tmp_path: Path, name: bytes) -> None:
    palette = smooth().quantize(16)
    raw = bytearray(saved("PNG", palette, transparency=0))
    raw[raw.index(name) + 5] ^= 1
    with pytest.raises(MediaError, match=f"chunk {name.decode()} fails its checksum"):
        read(tmp_path, "a.png", bytes(raw))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 95}, {"subsampling": 0}, {"optimize": True}]
)
@pytest.mark.parametrize("side", [16, 203])
def test_a_jpeg_that_lacks_only_its_end_is_read(tmp_path: Path, options: dict[str, object], side: int) -> None:
    whole = saved("JPEG", smooth(side), **options)
    expected, none = read(tmp_path, "a.jpg", whole)
    assert none == ()
    for lost in (1, 2):
        found, remarks = read(tmp_path, "a.jpg", whole[:-lost])
        assert np.array_equal(found, expected)
        assert remarks in ((), ("a JPEG lacks the two bytes that end it; its pixels are whole",))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95}])
def test_a_jpeg_that_lacks_pixels_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    noisy = Image.fromarray(np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    whole = saved("JPEG", noisy, **options)
    for lost in (6, 10, 20, 100, len(whole) // 3):
        with pytest.raises(MediaError, match="cut short"):
            read(tmp_path, "a.jpg", whole[:-lost])


def test_a_progressive_jpeg_without_its_last_scan_is_refused_though_the_one_before_is_whole(tmp_path: Path) -> None:
    whole = saved("JPEG", progressive=True)
    preview = saved("JPEG", smooth(16))
    whole = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview + whole[2:]
    last = whole.rindex(b"\xff\xda")
    for end in (last, whole.rindex(b"\xff\xc4", 0, last)):
        with pytest.raises(MediaError, match="cut short"):
            read(tmp_path, "a.jpg", whole[:end])


@pytest.mark.parametrize("rows_per_strip", [64, 16, 2**31 - 1])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_that_states_more_rows_than_it_holds_is_refused(
    tmp_path: Path, rows_per_strip: int, compression: str | None
) -> None:
    options = {"compression": compression, "tiffinfo": {TiffImagePlugin.ROWSPERSTRIP: rows_per_strip}}
    raw = bytearray(saved("TIFF", **options))
    read(tmp_path, "a.tif", bytes(raw))
    at = int.from_bytes(raw[4:8], "little") + 2
    while int.from_bytes(raw[at : at + 2], "little") != TiffImagePlugin.IMAGELENGTH:
        at += 12
    kind = int.from_bytes(raw[at + 2 : at + 4], "little")
    raw[at + 8 : at + 12] = (256).to_bytes(2 if kind == 3 else 4, "little").ljust(4, b"\0")
    with pytest.raises(MediaError):
        read(tmp_path, "a.tif", bytes(raw))


def test_nothing_of_libtiff_reaches_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw = bytearray(saved("TIFF", compression="tiff_adobe_deflate"))
    raw[12:200:3] = bytes(len(raw[12:200:3]))
    with pytest.raises(MediaError):
        read(tmp_path, "a.tif", bytes(raw))
    assert capfd.readouterr() == ("", "")


def test_a_build_says_once_for_each_kind_what_was_wrong_and_indexes_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.png").write_bytes(saved("PNG")[:-12])
    (folder / "b.png").write_bytes(saved("PNG", smooth(48))[:-12])
    (folder / "c.png").write_bytes(with_chunk(saved("PNG", smooth(32)), chunk(b"tEXt", b"k\0x", wrong=True)))
    with new_collection(tmp_path / "c") as made:
        report = index(made, folder)
    assert (report.added, report.skipped) == (3, [])
    assert report.warnings == [
        f"{folder / 'a.png'}: a PNG lacks the mark of its end; its pixels are whole (and 1 more files)",
        f"{folder / 'c.png'}: a chunk beside the pixels of a PNG is damaged; it was passed over",
    ]
    done = CliRunner().invoke(
        app, ["index", str(folder), "--model", "fake", "--json", "--collection", str(tmp_path / "d")]
    )
    assert json.loads(done.stdout)["warnings"] == report.warnings


def test_png_text_that_is_small_is_still_read(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("k", "word " * 10_000, zip=True)
    assert read(tmp_path, "a.png", saved("PNG", pnginfo=info))[1] == ()
