"""Pictures that unfold: sides, compression, frames, scans, ancillary data and drawings."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.attack.bombs import Bomb
from benchmarks.attack.media_seeds import pixels, saved

#: A square that is just under the limit of 179 megapixels.
_SIDE = 13_300


def bombs() -> list[Bomb]:
    """All of them."""
    files: dict[str, tuple[str, Callable[[], bytes]]] = {
        "TIFF, float, deflate": ("tif", partial(_tiff, 32, 3, 1)),
        "TIFF, 16 bits x 4, deflate": ("tif", partial(_tiff, 16, 1, 4)),
        "TIFF, 8 bits x 4, deflate": ("tif", partial(_tiff, 8, 1, 4)),
        "TIFF, double, deflate": ("tif", partial(_tiff, 64, 3, 1)),
        "TIFF, 1 bit, deflate": ("tif", partial(_tiff, 1, 1, 1)),
        "TIFF, 2,000 pages": ("tif", _tiff_pages),
        "PNG, RGBA, 16 bits": ("png", partial(_png, 16, 6)),
        "PNG, RGB": ("png", partial(_png, 8, 2)),
        "PNG, palette with transparency": ("png", partial(_png, 8, 3)),
        "PNG, 1 bit": ("png", partial(_png, 1, 0)),
        "PNG, interlaced": ("png", partial(_png, 8, 2, interlaced=True)),
        "PNG, 30,000 x 30,000": ("png", partial(_png, 1, 0, side=30_000)),
        "PNG, zTXt of 1 GB": ("png", partial(_png_words, b"zTXt")),
        "PNG, iTXt of 1 GB": ("png", partial(_png_words, b"iTXt")),
        "PNG, ICC profile of 1 GB": ("png", partial(_png_words, b"iCCP")),
        "PNG, 300,000 texts": ("png", _png_many),
        "APNG, 20,000 frames": ("png", _apng),
        "JPEG, 5,000 scans": ("jpg", partial(_jpeg_scans, 5_000)),
        "JPEG, 60,000 scans": ("jpg", partial(_jpeg_scans, 60_000)),
        "JPEG, progressive, large, cut": ("jpg", _jpeg_large),
        "JPEG, large scans": ("jpg", _jpeg_large_scans),
        "JPEG, 65,500 segments": ("jpg", _jpeg_segments),
        "GIF, 100,000 frames": ("gif", _gif_frames),
        "GIF, large, LZW": ("gif", partial(_gif_large, 13_000)),
        "BMP, run lengths, large": ("bmp", _bmp),
        "BMP, header alone": ("bmp", _bmp_header),
        "PPM in words, large": ("ppm", lambda: b"P3\n13300 13300\n255\n" + b"0 " * 500_000),
        "PPM of 20 MB of comment": ("ppm", lambda: b"P6\n#" + b"x" * 20_000_000 + b"\n4 4\n255\n" + bytes(48)),
        "WebP, lossless, large": ("webp", _webp),
        "AVIF, large by its header": ("avif", partial(_boxes, "AVIF")),
        "HEIC, large by its header": ("heic", partial(_boxes, "HEIC")),
        "ICO, a large PNG in it": ("ico", _ico),
        "ICO, 65,535 entries": ("ico", lambda: struct.pack("<HHH", 0, 1, 65_535) + bytes(16) * 65_535),
        "EXIF of nested tables": ("jpg", _exif),
        "SVG, uses of uses": ("svg", _svg_uses),
        "SVG, 199,000 elements": ("svg", lambda: svg("<rect width='9' height='9' opacity='.5'/>" * 199_000)),
        "SVG, nested groups with opacity": ("svg", lambda: svg("<g opacity='.9'>" * 400 + "<rect/>" + "</g>" * 400)),
        "SVG, blur": ("svg", _svg_blur),
        "SVG, patterns of patterns": ("svg", _svg_patterns),
        "SVG, a path of 10 MB": ("svg", lambda: svg(f'<path stroke="red" d="M0 0{"L9 9L1 2" * 1_200_000}"/>')),
        "SVG, dashes": ("svg", _svg_dashes),
        "SVG, a picture of 170 megapixels in it": ("svg", _svg_picture),
        "SVG, words of 5 MB": ("svg", lambda: svg(f"<text>{'word ' * 1_000_000}</text>")),
        "SVG, called a drawing, compressed": ("svg", lambda: zlib.compress(svg("<rect/>" * 9_000))),
    }
    return [Bomb(name, partial(_write, suffix, make)) for name, (suffix, make) in files.items()]


def _write(suffix: str, make: Callable[[], bytes], folder: Path) -> None:
    (folder / f"bomb.{suffix}").write_bytes(make())


_BLOCK = 1 << 20


def zeros(size: int, *, byte: bytes = b"\0") -> bytes:
    """So many equal bytes, deflated; a block that is flushed whole can be repeated, so this takes no time."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(byte * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(size // _BLOCK):
        check = zlib.adler32(byte * _BLOCK, check)
    rest = byte * (size % _BLOCK)
    packer = zlib.compressobj(9, wbits=-15)
    end = packer.compress(rest) + packer.flush()
    return b"\x78\xda" + block * (size // _BLOCK) + end + zlib.adler32(rest, check).to_bytes(4)


# -- TIFF ------------------------------------------------------------------------------------------------------------


def _tiff(bits: int, sample_format: int, samples: int) -> bytes:
    """One strip of zeros."""
    row = (_SIDE * samples * bits + 7) // 8
    data = zeros(row * _SIDE)
    photometric = 2 if samples > 2 else 1
    entries = [
        (256, 4, 1, _SIDE),
        (257, 4, 1, _SIDE),
        (259, 3, 1, 8),
        (262, 3, 1, photometric),
        (273, 4, 1, 300),
        (277, 3, 1, samples),
        (278, 4, 1, _SIDE),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]
    entries.append((258, 3, samples, bits) if samples == 1 else (258, 3, samples, 220))
    entries.append((339, 3, 1, sample_format) if samples == 1 else (339, 3, samples, 240))
    if samples == 4:
        entries.append((338, 3, 1, 2))
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *one) for one in sorted(entries))
    head = (b"II*\0" + struct.pack("<I", 8) + table + bytes(4)).ljust(220, b"\0")
    head += struct.pack("<4H", *[bits] * 4).ljust(20, b"\0") + struct.pack("<4H", *[sample_format] * 4)
    return head.ljust(300, b"\0") + data


def _tiff_pages() -> bytes:
    first = Image.fromarray(pixels((64, 64)))
    return saved(first, "TIFF", save_all=True, append_images=[first] * 2_000)


# -- PNG -------------------------------------------------------------------------------------------------------------


def png_of(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _png(bits: int, kind: int, *, side: int = _SIDE, interlaced: bool = False) -> bytes:
    row = 1 + (side * bits * {0: 1, 2: 3, 3: 1, 6: 4}[kind] + 7) // 8
    header = struct.pack(">IIBBBBB", side, side, bits, kind, 0, 0, interlaced)
    more = [(b"PLTE", bytes(range(256)) * 3), (b"tRNS", bytes(256))] if kind == 3 else []
    return png_of(
        [(b"IHDR", header), *more, (b"IDAT", zeros(row * side + (side * 4 if interlaced else 0))), (b"IEND", b"")]
    )


_SMALL = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
_ROWS = zlib.compress((b"\0" + bytes(4)) * 4)


def _png_words(name: bytes) -> bytes:
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name]
    return png_of([(b"IHDR", _SMALL), (name, head + zeros(10**9, byte=b"a")), (b"IDAT", _ROWS), (b"IEND", b"")])


def _png_many() -> bytes:
    words = [(b"tEXt", f"key{n}\0value".encode()) for n in range(300_000)]
    return png_of([(b"IHDR", _SMALL), *words, (b"IDAT", _ROWS), (b"IEND", b"")])


def _apng() -> bytes:
    chunks = [(b"IHDR", _SMALL), (b"acTL", struct.pack(">II", 20_000, 0))]
    for n in range(20_000):
        chunks.append((b"fcTL", struct.pack(">IIIIIHHBB", 2 * n, 4, 4, 0, 0, 1, 10, 0, 0)))
        chunks.append((b"IDAT", _ROWS) if n == 0 else (b"fdAT", struct.pack(">I", 2 * n - 1) + _ROWS))
    return png_of([*chunks, (b"IEND", b"")])


# -- JPEG ------------------------------------------------------------------------------------------------------------


def _scans(jpeg: bytes) -> tuple[bytes, list[bytes]]:
    """What comes before the first scan, and the scans with their own tables."""
    at, places = 2, []
    while at + 4 <= len(jpeg):
        if jpeg[at] != 0xFF or jpeg[at + 1] in (0, 0xFF) or 0xD0 <= jpeg[at + 1] <= 0xD7:
            at += 1
            continue
        if jpeg[at + 1] == 0xD9:
            break
        if jpeg[at + 1] in (0xDA, 0xC4):
            places.append((at, jpeg[at + 1]))
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    starts = [place for n, (place, kind) in enumerate(places) if kind == 0xC4 or places[n - 1][1] == 0xDA or n == 0]
    starts = [
        place
        for n, place in enumerate(starts)
        if n == 0 or any(starts[n - 1] < scan < place for scan, kind in places if kind == 0xDA)
    ]
    ends = [*starts[1:], len(jpeg) - 2]
    return jpeg[: starts[0]], [jpeg[start:end] for start, end in zip(starts, ends, strict=True)]


def _jpeg_scans(count: int) -> bytes:
    """The last refinement of a picture of 1,000 x 1,000, again and again."""
    jpeg = saved(Image.new("L", (1_000, 1_000)), "JPEG", progressive=True)
    head, scans = _scans(jpeg)
    return head + b"".join(scans) + scans[-1] * count + b"\xff\xd9"


def _sized(jpeg: bytes, width: int, height: int) -> bytes:
    at = next(at for at in range(2, len(jpeg)) if jpeg[at] == 0xFF and jpeg[at + 1] in (0xC0, 0xC2))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def _jpeg_large() -> bytes:
    return _sized(saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True), _SIDE, _SIDE)


def _jpeg_large_scans() -> bytes:
    """Large by its header and with 500 scans, each of which is short: libjpeg fills up the rest."""
    jpeg = _sized(saved(Image.new("L", (64, 64)), "JPEG", progressive=True), _SIDE, _SIDE)
    head, scans = _scans(jpeg)
    return head + b"".join(scans) + scans[-1] * 500 + b"\xff\xd9"


def _jpeg_segments() -> bytes:
    jpeg = saved(Image.new("RGB", (16, 16)), "JPEG")
    return jpeg[:2] + b"\xff\xe1\x00\x04ab" * 65_500 + b"\xff\xed\x00\x04cd" * 65_500 + jpeg[2:]


def _exif() -> bytes:
    """A table of 65,535 entries that all name tables, which name the first again."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005, 0x927C) * 1_300)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5_200) + entries + struct.pack("<I", 8)
    jpeg = saved(Image.new("RGB", (16, 16)), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


# -- others ----------------------------------------------------------------------------------------------------------


def _gif_frames() -> bytes:
    gif = saved(Image.new("P", (8, 8)), "GIF")
    at = gif.rindex(b"\x2c", 0, len(gif) - 4)
    return gif[:at] + (b"\x21\xf9\x04\0\1\0\0\0" + gif[at:-1]) * 100_000 + b"\x3b"


def _gif_large(side: int) -> bytes:
    """LZW's longest strings of one colour, for 169 megapixels."""
    return saved(Image.new("P", (side, side)), "GIF")


def _bmp() -> bytes:
    """Run lengths of 255 equal pixels."""
    line = b"\xff\0" * (_SIDE // 255) + bytes([_SIDE % 255, 0]) + b"\0\0"
    data = line * _SIDE
    head = struct.pack("<IiiHHIIiiII", 40, _SIDE, _SIDE, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024) + head + bytes(1024) + data


def _bmp_header() -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, _SIDE, _SIDE, 1, 32, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + head + bytes(6)


def _webp() -> bytes:
    return saved(Image.new("RGB", (13_000, 13_000)), "WEBP", lossless=True, quality=0, method=0)


def _boxes(format: str) -> bytes:
    """The sides in the ``ispe`` box."""
    if format == "HEIC":
        import pillow_heif

        file = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(pixels((64, 64)))).save(file)
        content = file.getvalue()
    else:
        content = saved(Image.fromarray(pixels((64, 64))), "AVIF")
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", _SIDE, _SIDE) + content[at + 8 :]


def _ico() -> bytes:
    png = _png(8, 6, side=13_000)
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(png), 22) + png


# -- SVG -------------------------------------------------------------------------------------------------------------


def svg(body: str) -> bytes:
    """A drawing of 40 x 30."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="40" height="30">'
        f"{body}</svg>"
    ).encode()


def _svg_uses() -> bytes:
    again = "".join(f'<g id="u{n}">{f"""<use href="#u{n - 1}"/>""" * 10}</g>' for n in range(1, 12))
    return svg(f'<defs><g id="u0"><rect width="9" height="9"/></g>{again}</defs><use href="#u11"/>')


def _svg_blur() -> bytes:
    steps = "".join(
        '<feGaussianBlur stdDeviation="500"/><feMorphology operator="dilate" radius="400"/>' for _ in range(200)
    )
    return svg(
        f'<filter id="f" x="-9" y="-9" width="20" height="20">{steps}</filter>'
        '<rect filter="url(#f)" width="40" height="30"/>'
    )


def _svg_patterns() -> bytes:
    made = "".join(
        f'<pattern id="p{n}" width="0.01" height="0.01" patternContentUnits="objectBoundingBox">'
        f'<rect width="1" height="1" fill="url(#p{n - 1})"/></pattern>'
        for n in range(1, 12)
    )
    return svg(
        f'<pattern id="p0" width="1" height="1"><rect/></pattern>{made}<rect width="40" height="30" fill="url(#p11)"/>'
    )


def _svg_dashes() -> bytes:
    return svg('<path d="M0 0H1e9" stroke="red" stroke-dasharray="1e-7 1e-7" transform="scale(1e-8)"/>' * 50)


def _svg_picture() -> bytes:
    picture = base64.b64encode(_png(8, 6, side=13_000)).decode()
    return svg(f'<image width="40" height="30" href="data:image/png;base64,{picture}"/>')


def noise(size: int) -> bytes:
    """Bytes that do not compress, always the same."""
    return random.Random(0).randbytes(size)
