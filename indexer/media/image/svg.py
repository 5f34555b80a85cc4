"""SVG drawings -> RGB pictures: checked here, drawn by resvg in a process of its own.

An SVG is a program of a kind: it can name other files, unfold itself without end, or keep a filter busy
for hours, and a renderer that recurses too deep takes its whole process with it. So what can be seen in
the source is refused first, and the drawing is done by ``svg_worker.py`` under limits of memory and time.
"""

from __future__ import annotations

import base64
import codecs
import importlib.util
import io
import math
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from PIL import Image, PngImagePlugin

from indexer.errors import MediaError
from indexer.files import media_error, one_line
from indexer.limits import MediaLimits
from indexer.media.formats import HEAD_BYTES, SVG, sniff
from indexer.media.image.ground import LEAST_SEEN, dark_share, on_ground, shows_on_white

#: The long side a drawing is drawn with, whatever size it states: it has no pixels of its own.
DRAWN_SIDE_PX = 1024
MAX_SVG_BYTES = 20_000_000
MAX_ELEMENTS = 200_000
MAX_DEPTH = 500
#: Seconds of processor time for one drawing where the limits allow as much, and twice that by the clock.
DRAW_LIMIT_S = 15

_MAX_ENTITY_CHARS = 1000
_MAX_UNFOLDED_CHARS = 2_000_000
_WORKER = Path(__file__).with_name("svg_worker.py")
_LENGTH = re.compile(r"\s*((?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)(?:\s*(px|pt|pc|mm|cm|in|em|ex))?\s*")
_ENTITY_USE = re.compile(r"&([^&;\s]+);")
_UNIT_PX = {
    "": 1.0,
    "px": 1.0,
    "pt": 4 / 3,
    "pc": 16.0,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "in": 96.0,
    "em": 16.0,
    "ex": 8.0,
}


def draw_svg(path: Path, source: bytes, check_raster: Callable[[bytes], None], limits: MediaLimits) -> Image.Image:
    """Draw on white, or on grey what white would hide; long side ``DRAWN_SIDE_PX``.

    Raises ``MediaError`` for what is damaged or dangerous.

    Drawings that take in other files (``<image href="photo.png">``) are refused: they would be drawn
    without. ``check_raster`` raises for an embedded picture that must not be decoded. Words are set in
    this machine's fonts, so a drawing with words can differ between machines.
    """
    if importlib.util.find_spec("resvg_py") is None:
        raise media_error(path, "SVG needs an extra package: pip install 'trimodal[svg]'")
    if len(source) > MAX_SVG_BYTES:
        raise media_error(path, f"is over the {MAX_SVG_BYTES / 1e6:g} MB limit of an SVG; export it as PNG")
    drawing = _check(path, source, check_raster)
    side = "width" if drawing.width >= drawing.height else "height"
    seconds = min(DRAW_LIMIT_S, max(1, math.ceil(limits.max_seconds)))
    memory_bytes = int(limits.max_decoded_mb * 1e6)
    limit = f"{seconds} s and {memory_bytes / 1e9:g} GB"
    too_much = f"is an SVG that cannot be drawn within {limit}; export it as PNG"
    drawn = _drawn(path, drawing, side, seconds, memory_bytes, too_much, "#ffffff").convert("RGB")
    if dark_share(drawn) >= LEAST_SEEN:
        return drawn
    clear = _drawn(path, drawing, side, seconds, memory_bytes, too_much, "none").convert("RGBA")
    return drawn if shows_on_white(clear) else on_ground(clear)


def _drawn(
    path: Path, drawing: _Drawing, side: str, seconds: int, memory_bytes: int, too_much: str, ground: str
) -> Image.Image:
    """Drawn by the worker on a ground: a colour, or "none"."""
    command = [
        sys.executable,
        str(_WORKER),
        side,
        str(DRAWN_SIDE_PX),
        "fonts" if drawing.has_words else "-",
        str(seconds),
        str(memory_bytes),
        ground,
    ]
    try:
        done = subprocess.run(
            command, input=drawing.text.encode(), capture_output=True, timeout=2 * seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise media_error(path, too_much) from error
    except OSError as error:
        raise media_error(path, f"could not be drawn ({one_line(error)}); export it as PNG") from error
    if done.returncode == 1 and done.stderr:
        message = one_line(done.stderr.decode("utf-8", "replace"))
        raise media_error(path, f"is an SVG that cannot be drawn ({message}); export it as PNG")
    if done.returncode != 0:
        raise media_error(path, too_much)
    with PngImagePlugin.PngImageFile(io.BytesIO(done.stdout), "") as png:
        if max(png.size) > 4 * DRAWN_SIDE_PX:
            raise media_error(path, "is an SVG of no clear size; give it a width, a height or a viewBox")
        png.load()
        return png.copy()


@dataclass(slots=True)
class _Drawing:
    """What the check has seen of a source."""

    text: str = ""
    width: float = 1.0
    height: float = 1.0
    has_words: bool = False
    elements: int = 0
    depth: int = 0
    encoding: str = "utf-8"
    entities: dict[str, int] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    """Addresses of embedded pictures."""


class _Refused(ValueError):
    """The rest of the sentence that begins with "is an SVG"."""


def _check(path: Path, source: bytes, check_raster: Callable[[bytes], None], depth: int = 0) -> _Drawing:
    """Read the XML without drawing it; refuse what reaches out or unfolds."""
    drawing = _Drawing()
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: _element(drawing, name, attributes)
    parser.EndElementHandler = lambda _name: setattr(drawing, "depth", drawing.depth - 1)
    parser.EntityDeclHandler = lambda name, _parameter, value, _base, *outside: _entity(drawing, name, value, outside)
    parser.XmlDeclHandler = lambda _version, encoding, _standalone: setattr(drawing, "encoding", encoding or "utf-8")
    try:
        parser.Parse(source, True)
        drawing.text = _decode(source, drawing.encoding)
        unfolded = sum(drawing.entities.get(used[1], 0) for used in _ENTITY_USE.finditer(drawing.text))
        if unfolded > _MAX_UNFOLDED_CHARS:
            raise _Refused("unfolds itself through its entities")
        for address in drawing.pictures:
            _check_embedded(path, address, check_raster, depth)
    except _Refused as refused:
        raise media_error(path, f"is an SVG that {refused}; export it as PNG") from refused
    except (expat.ExpatError, UnicodeError, LookupError, ValueError) as error:
        raise media_error(path, f"is an SVG that is damaged ({one_line(error)}); export it again") from error
    return drawing


def _element(drawing: _Drawing, name: str, attributes: dict[str, str]) -> None:
    local = name.rpartition(":")[2]
    drawing.elements += 1
    drawing.depth += 1
    if drawing.elements == 1:
        if local != "svg":
            raise _Refused(f"is XML with the root <{name[:40]}>, no drawing")
        drawing.width, drawing.height = _size(attributes)
    if drawing.elements > MAX_ELEMENTS:
        raise _Refused(f"has more than {MAX_ELEMENTS:,} elements")
    if drawing.depth > MAX_DEPTH:
        raise _Refused(f"nests its elements deeper than {MAX_DEPTH}")
    if local in ("text", "tspan"):
        drawing.has_words = True
    if local not in ("image", "feImage"):
        return
    for key, value in attributes.items():
        address = value.strip()
        if key.rpartition(":")[2] != "href" or not address or address.startswith("#"):
            continue
        if not address.lower().startswith("data:"):
            raise _Refused(f"takes in another file ({_end_of(address)}), which is not opened")
        drawing.pictures.append(address)


def _entity(drawing: _Drawing, name: str, value: str | None, outside: tuple[str | None, ...]) -> None:
    if value is None or any(outside[:2]):
        raise _Refused("takes in another file through an entity, which is not opened")
    # Drawing programs shorten addresses with entities; one made of others is made to unfold.
    if len(value) > _MAX_ENTITY_CHARS or "&" in value:
        raise _Refused("unfolds itself through its entities")
    drawing.entities[name] = len(value)


def _check_embedded(path: Path, address: str, check_raster: Callable[[bytes], None], depth: int) -> None:
    """A picture within the drawing, of pixels or a drawing itself, is checked as if it stood alone."""
    heading, _, body = address.partition(",")
    try:
        raw = urllib.parse.unquote_to_bytes(body)
        if heading.lower().replace(" ", "").endswith(";base64"):
            raw = base64.b64decode(b"".join(raw.split()))
        if raw.startswith(b"\x1f\x8b"):
            raise _Refused("holds a compressed drawing")
        if sniff(raw[:HEAD_BYTES]) is not SVG:
            check_raster(raw)
        elif depth > 0:
            raise _Refused("holds drawings within drawings")
        else:
            _check(path, raw, check_raster, depth + 1)
    except (MediaError, _Refused):
        raise
    except Exception as error:  # base64's own, and whatever Pillow raises for a damaged header
        raise _Refused(f"holds a damaged picture ({one_line(error)})") from error


def _decode(source: bytes, encoding: str) -> str:
    for bom, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if source.startswith(bom):
            return source[len(bom) :].decode(codec)
    return source.decode(encoding)


def _size(attributes: dict[str, str]) -> tuple[float, float]:
    """Width and height in any unit: only which is longer matters."""
    sides = [_LENGTH.fullmatch(attributes.get(name, "")) for name in ("width", "height")]
    box = re.split(r"[\s,]+", attributes.get("viewBox", "").strip(), maxsplit=4)
    sizes: list[float] = []
    for index, match in enumerate(sides):
        if match:
            sizes.append(float(match[1]) * _UNIT_PX[match[2] or ""])
        else:
            try:
                sizes.append(float(box[2 + index]))
            except (IndexError, ValueError):
                sizes.append(1.0)
    return sizes[0], sizes[1]


def _end_of(address: str) -> str:
    """The end of an address, which says more than its beginning: the file's name is there."""
    return one_line(address if len(address) <= 80 else f"...{address[-77:]}", 80)
