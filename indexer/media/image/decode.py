"""One picture file -> one RGB picture. Knows nothing of sound, text or models.

Pillow's readers are called by the kind the content has, not by the suffix and not through ``Image.open``:
its ceiling on pixels is one global for the whole program, ours is an argument. Whatever a file says its
size is, it is compared with the limit before anything of that size is allocated.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO, cast

from PIL import IcoImagePlugin, Image, ImageFile, TiffImagePlugin, WebPImagePlugin

from indexer.errors import MediaError
from indexer.files import media_error, one_line, open_file, trouble
from indexer.items import Modality
from indexer.limits import MediaLimits, check_memory, check_size
from indexer.media.formats import AVIF, HEAD_BYTES, HEIF, ICO, JPEG, PNG, SVG, UNKNOWN, Kind, sniff
from indexer.media.image.cost import (
    BLOCK_BYTES,
    ICO_BYTES_PER_PIXEL,
    JPEG_BLOCK_BYTES,
    check_before_opening,
    check_strips,
    decoding_bytes,
    header_bytes,
)
from indexer.media.image.exif_dates import taken_at
from indexer.media.image.ground import is_blank, on_ground
from indexer.media.image.jpeg_end import NO_END, continued, has_all_scans
from indexer.media.image.jpeg_scans import check_scans
from indexer.media.image.pieces import Pieces
from indexer.media.image.png_chunks import check_png
from indexer.media.image.quiet_tiff import silence_libtiff
from indexer.media.image.shrink import eight_bits, side_needed
from indexer.media.image.svg import MAX_SVG_BYTES, draw_svg
from indexer.media.reserve import Reserve, no_reserve
from indexer.media.stopwatch import Stopwatch, TimedFile
from indexer.media.wrong_kind import wrong_kind

#: A picture is given back with its long side at most this: no tower looks closer, and memory stays small.
MAX_SIDE_PX = 2048

#: A JPEG is decoded at least so many times finer than the tower sees.
_FINENESS = 2

_CUT_SHORT = "is {} that is cut short: its end is missing; copy it again or remove it"
#: Looked at after a first frame of one colour.
_MORE_FRAMES = 20
_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ANIMATED = frozenset((".gif", ".png", ".webp"))
_PILLOW_NAMES = {
    ".jpg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".tif": TiffImagePlugin.TiffImageFile.format,
    ".webp": WebPImagePlugin.WebPImageFile.format,
    ".ico": IcoImagePlugin.IcoImageFile.format,
}

# Memory that Pillow keeps for the next picture, four times 16 MB at most: the system's pages cost as much as decoding.
Image.core.set_blocks_max(4)  # type: ignore[attr-defined]
# A damaged EXIF block is no news to the user while the picture itself reads; Pillow would print it.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and what its file says of it."""

    image: Image.Image
    """RGB, upright, long side at most ``MAX_SIDE_PX``; as fine as ``MediaLimits.picture_px`` needs."""
    width_px: int
    """Of the file, upright; of a drawing (SVG), as it was drawn."""
    height_px: int
    taken_at: str | None
    """ISO 8601, local time of the camera, with its offset from UTC where the file has one."""
    remarks: tuple[str, ...] = ()
    """What was wrong beside the pixels, a sentence each."""


def read_picture(path: Path, limits: MediaLimits) -> Image.Image:
    """The picture of a file as RGB. See ``open_picture``."""
    return open_picture(path, limits).image


def open_picture(path: Path, limits: MediaLimits, reserve: Reserve = no_reserve) -> Picture:
    """Read a picture: first frame that shows something, turned upright by EXIF, 16 bits as 8.

    Transparency is shown on white, or on grey where white would hide what is drawn (:mod:`indexer.media.image.ground`).

    Raises ``MediaError`` for what is no picture, is damaged, is cut short (never half a picture with grey
    below) or is over a limit: of pixels, of memory while it is decoded, of time. ``reserve`` is called with the
    memory before it is taken. Thread-safe; the same file always gives the same pixels.
    """
    with open_file(path) as file:
        watch = Stopwatch(path, limits)
        kind = UNKNOWN
        try:
            check_size(path, os.fstat(file.fileno()).st_size, Modality.IMAGE, limits)
            kind = sniff(file.read(HEAD_BYTES))
            if kind.modality is not Modality.IMAGE:
                raise wrong_kind(path, kind, Modality.IMAGE)
            if kind is SVG:
                return _drawing(path, file, limits, watch, reserve)
            return _raster(path, file, kind, limits, watch, reserve)
        except MediaError:
            raise
        except MemoryError as error:
            raise media_error(path, "needs more memory than there is; make the picture smaller") from error
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
            raise media_error(path, _damage(error, kind, path)) from error


def check_pixels(path: str | os.PathLike[str], width_px: int, height_px: int, limits: MediaLimits) -> None:
    """Raises ``MediaError`` when a picture of this size is over the limit, or has no size."""
    if width_px < 1 or height_px < 1:
        raise media_error(path, f"is {width_px} x {height_px} pixels; there is nothing to see in it")
    megapixels = width_px * height_px / 1e6
    if megapixels > limits.max_megapixels:
        raise media_error(
            path,
            f"{megapixels:,.0f} MP ({width_px:,} x {height_px:,}) is over the"
            f" {limits.max_megapixels:,g} MP limit; raise --max-megapixels",
        )


def _drawing(path: Path, file: BinaryIO, limits: MediaLimits, watch: Stopwatch, reserve: Reserve) -> Picture:
    """An SVG, drawn."""
    file.seek(0)
    source = file.read(MAX_SVG_BYTES + 1)
    reserve(int(limits.max_decoded_mb * 1e6))
    image = draw_svg(path, source, lambda raw: _check_embedded(path, raw, limits), limits)
    watch.check()
    return Picture(image, *image.size, None)


def _raster(path: Path, file: BinaryIO, kind: Kind, limits: MediaLimits, watch: Stopwatch, reserve: Reserve) -> Picture:
    """A picture of pixels, after the checks of its kind; with a remark where a lesser damage was mended."""
    mended: Pieces | None = None
    remarks: tuple[str, ...] = ()
    if kind is PNG:
        mended, remarks = check_png(path, file, limits, watch)
    elif kind is ICO:
        _check_icon(path, file, limits)
    elif kind is JPEG:
        check_scans(path, file, limits, watch)
    file.seek(0)
    try:
        picture = _read(path, file, kind, limits, watch, reserve, mended)
    except OSError as error:
        if kind is not JPEG or "truncated" not in str(error):
            raise
        picture, remarks = _without_end(path, file, limits, watch, reserve, error), (NO_END,)
    return replace(picture, remarks=remarks)


def _check_embedded(path: Path, raw: bytes, limits: MediaLimits) -> None:
    """Of a picture in a drawing: its size by its header. What resvg does not decode is let be."""
    kind = sniff(raw[:HEAD_BYTES])
    if kind.suffix in (".png", ".jpg", ".gif", ".webp"):
        check_pixels(path, *_open(path, io.BytesIO(raw), kind).size, limits)


def _without_end(
    path: Path, file: BinaryIO, limits: MediaLimits, watch: Stopwatch, reserve: Reserve, error: OSError
) -> Picture:
    """A JPEG of which only the mark of its end is missing; raises ``error`` where more is."""
    if not has_all_scans(file):
        raise error
    one, other = (_read(path, file, JPEG, limits, watch, reserve, pieces) for pieces in continued(file))
    if one.image.tobytes() != other.image.tobytes():
        raise error
    return one


def _read(
    path: Path,
    file: BinaryIO,
    kind: Kind,
    limits: MediaLimits,
    watch: Stopwatch,
    reserve: Reserve,
    mended: Pieces | None = None,
) -> Picture:
    """``mended``: what is read instead of the file."""
    check_before_opening(path, file, kind, limits)
    timed = TimedFile(file if mended is None else cast("BinaryIO", mended), watch)
    timed.seek(0)
    if kind.suffix not in (".webp", AVIF.suffix, HEIF.suffix):  # they are read as a whole
        timed.allowed_bytes = header_bytes(limits)
    with _open(path, cast("IO[bytes]", timed), kind) as source:
        check_pixels(path, *source.size, limits)
        _check_inside(path, source, limits)
        timed.allowed_bytes = None
        stated = source.size
        wanted = MAX_SIDE_PX if limits.picture_px is None else min(MAX_SIDE_PX, _FINENESS * limits.picture_px)
        source.draft("RGB", (wanted, wanted))  # JPEG decodes at 1/2, 1/4, 1/8, no smaller than that; others ignore it
        side = MAX_SIDE_PX
        if max(source.size) > MAX_SIDE_PX:
            side = side_needed(*source.size, limits.picture_px, MAX_SIDE_PX)
        is_draft = source.size != stated
        taken = decoding_bytes(source, kind, stated, side, timed.bytes_read)
        check_memory(path, taken, limits)
        reserve(taken)
        if isinstance(source, TiffImagePlugin.TiffImageFile):
            check_strips(path, file, source)
            silence_libtiff()
        timed.block_bytes = BLOCK_BYTES
        if kind is JPEG:
            timed.block_bytes = source.decodermaxblock = JPEG_BLOCK_BYTES
        source.load()
        watch.check()
        exif = _exif(source)
        turn = exif.get(_ORIENTATION, 1)
        width_px, height_px = stated if is_draft else source.size
        if turn in (5, 6, 7, 8):
            width_px, height_px = height_px, width_px
        image = eight_bits(source, side)
        if kind.suffix in _ANIMATED and is_blank(image):
            image = _later_frame(source, side, watch) or image
    if image.mode == "RGBA":
        image = on_ground(image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn in _TURNS:
        image = image.transpose(_TURNS[turn])
    return Picture(image, width_px, height_px, _taken_at(exif))


def _later_frame(source: ImageFile.ImageFile, side: int, watch: Stopwatch) -> Image.Image | None:
    """The first of the next frames that shows something: many animations begin with an empty one."""
    try:
        for number in range(1, _MORE_FRAMES + 1):
            watch.check()
            source.seek(number)
            image = eight_bits(source, side)
            if not is_blank(image):
                return image
    except MediaError:
        raise
    except Exception:  # no more frames (EOFError), or a damaged one behind a first that is whole
        return None
    return None


def _open(path: Path, file: IO[bytes], kind: Kind) -> ImageFile.ImageFile:
    """Pillow's reader for the kind, its header read."""
    if kind is HEIF:
        try:
            from pillow_heif.as_plugin import HeifImageFile
        except ImportError as error:
            raise media_error(path, "HEIC needs an extra package: pip install 'trimodal[heic]'") from error
        read_heif: Callable[[IO[bytes], str], ImageFile.ImageFile] = HeifImageFile
        return read_heif(file, "")
    Image.preinit()
    if kind is AVIF:
        try:
            from PIL import AvifImagePlugin
        except ImportError:
            supported = False
        else:
            supported = AvifImagePlugin.SUPPORTED
        if not supported:
            raise media_error(path, "AVIF needs a newer Pillow: pip install --upgrade pillow")
        name = "AVIF"
    else:
        name = _PILLOW_NAMES[kind.suffix]
    factory: Callable[[IO[bytes], str], ImageFile.ImageFile] = Image.OPEN[name][0]
    return factory(file, "")


def _check_inside(path: Path, source: ImageFile.ImageFile, limits: MediaLimits) -> None:
    """Sizes that a file states elsewhere than in its header, and that reading would allocate."""
    if isinstance(source, TiffImagePlugin.TiffImageFile):
        tags = source.tag_v2
        if TiffImagePlugin.TILEWIDTH in tags and TiffImagePlugin.TILELENGTH in tags:
            check_pixels(path, int(tags[TiffImagePlugin.TILEWIDTH]), int(tags[TiffImagePlugin.TILELENGTH]), limits)


def _check_icon(path: Path, file: BinaryIO, limits: MediaLimits) -> None:
    """Compare the sizes of all pictures in an ICO with the limit; Pillow decodes one while opening it."""
    file.seek(4)
    table = file.read(16 * int.from_bytes(file.read(2), "little"))
    for at in range(0, len(table) - 15, 16):
        file.seek(int.from_bytes(table[at + 12 : at + 16], "little"))
        start = file.read(24)
        if start.startswith(b"\x89PNG"):
            width, height = int.from_bytes(start[16:20]), int.from_bytes(start[20:24])
        else:  # a bitmap, with a mask of the same height below it
            width, height = (abs(int.from_bytes(start[i : i + 4], "little", signed=True)) for i in (4, 8))
            height //= 2
        check_pixels(path, width, height, limits)
        check_memory(path, ICO_BYTES_PER_PIXEL * width * height, limits)  # one is decoded while it is opened


def _exif(source: Image.Image) -> Image.Exif:
    try:
        return source.getexif()
    except Exception:  # a damaged EXIF block, beside a picture that is whole
        return Image.Exif()


def _taken_at(exif: Image.Exif) -> str | None:
    try:
        return taken_at(exif, exif.get_ifd(_EXIF_IFD))
    except Exception:  # the damage of _exif
        return None


def _damage(error: Exception, kind: Kind, path: Path) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return trouble(error, path)
    message = one_line(error)
    if "truncated" in message.lower() or "unexpected end" in message.lower():
        return _CUT_SHORT.format(kind.name)
    return f"is {kind.name} that is damaged or cut short ({message}); copy it again or remove it"
