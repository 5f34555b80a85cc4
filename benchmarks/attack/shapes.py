"""Damage that keeps a binary format's outer shape: chunks, segments, boxes and pages stay whole, checksums are right.

A way takes the whole file and gives a whole file. Knows nothing of readers.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from benchmarks.attack import words

Way = Callable[[bytes, random.Random], bytes]
ByteOrder = Literal["little", "big"]

_SIZES = (0, 1, 2, 3, 4, 7, 8, 16, 255, 256, 4096, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def _inner(data: bytes, chance: random.Random) -> bytes:
    """A little damage, and the same length more often than not."""
    raw = bytearray(data or b"\0")
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(raw))
        raw[at] = chance.choice((0, 1, 255, 128, raw[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
    if chance.random() < 0.25:
        at = chance.randrange(len(raw))
        raw[at:at] = raw[:at] if chance.random() < 0.5 else chance.randbytes(chance.randrange(1, 300))
    elif chance.random() < 0.2:
        del raw[chance.randrange(len(raw)) :]
    return bytes(raw)


def _rearranged(parts: Sequence[bytes], chance: random.Random, *, first: int = 0) -> list[bytes]:
    """One part left out, doubled, multiplied or exchanged with another; the first ``first`` stay."""
    found = list(parts)
    if len(found) <= first:
        return found
    at = chance.randrange(first, len(found))
    way = chance.randrange(5)
    if way == 0:
        del found[at]
    elif way == 1:
        found.insert(at, found[at])
    elif way == 2:
        found[at:at] = [found[at]] * chance.choice((2, 8, 64, 400))
    elif way == 3:
        other = chance.randrange(first, len(found))
        found[at], found[other] = found[other], found[at]
    else:
        found.append(found[at])
    return found


# -- PNG -------------------------------------------------------------------------------------------------------------


def _png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _png_inside(content: bytes, chance: random.Random) -> bytes:
    chunks = _png_chunks(content)
    at = chance.randrange(len(chunks))
    chunks[at] = (chunks[at][0], _inner(chunks[at][1], chance))
    return _png(chunks)


def _png_order(content: bytes, chance: random.Random) -> bytes:
    return _png([(one[:4], one[4:]) for one in _rearranged([a + b for a, b in _png_chunks(content)], chance)])


def _png_header(content: bytes, chance: random.Random) -> bytes:
    chunks = _png_chunks(content)
    header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
    at = chance.randrange(7)
    header[at] = chance.choice(_SIZES if at < 2 else (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 255))
    return _png([(b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks[1:]])


def _png_rows(content: bytes, chance: random.Random) -> bytes:
    """Damage below the compression: filters of rows, too few and too many rows."""
    chunks = _png_chunks(content)
    at = next(n for n, (name, _) in enumerate(chunks) if name in (b"IDAT", b"zTXt", b"iCCP", b"fdAT"))
    name, data = chunks[at]
    head = {b"fdAT": 4, b"IDAT": 0}.get(name, data.find(b"\0") + 2)
    try:
        raw = zlib.decompress(data[head:])
    except zlib.error as error:
        raise ValueError(str(error)) from error
    chunks[at] = (name, data[:head] + zlib.compress(_inner(raw, chance)))
    return _png(chunks)


def _png_new_chunk(content: bytes, chance: random.Random) -> bytes:
    chunks = _png_chunks(content)
    name = chance.choice(
        (
            b"tRNS",
            b"PLTE",
            b"gAMA",
            b"cHRM",
            b"sRGB",
            b"iCCP",
            b"pHYs",
            b"tEXt",
            b"iTXt",
            b"zTXt",
            b"eXIf",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"tIME",
            b"bKGD",
            b"sBIT",
            b"CgBI",
        )
    )
    data = chance.randbytes(chance.choice((0, 1, 4, 9, 26, 768, 1024)))
    chunks.insert(chance.randrange(len(chunks) + 1), (name, data))
    return _png(chunks)


# -- JPEG ------------------------------------------------------------------------------------------------------------


def _jpeg_segments(content: bytes) -> list[bytes]:
    """Start of image, segments, and the coded rest as the last."""
    found, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        size = int.from_bytes(content[at + 2 : at + 4]) + 2
        found.append(content[at : at + size])
        at += size
        if found[-1][1] == 0xDA:
            break
    return [*found, content[at:]]


def _jpeg_inside(content: bytes, chance: random.Random) -> bytes:
    segments = _jpeg_segments(content)
    at = chance.randrange(1, len(segments))
    if at == len(segments) - 1:
        segments[at] = _inner(segments[at], chance)
    else:
        data = _inner(segments[at][4:], chance)[:65_000]
        segments[at] = segments[at][:2] + (len(data) + 2).to_bytes(2) + data
    return b"".join(segments)


def _jpeg_length(content: bytes, chance: random.Random) -> bytes:
    segments = _jpeg_segments(content)
    at = chance.randrange(1, max(2, len(segments) - 1))
    segments[at] = segments[at][:2] + (chance.choice(_SIZES) % 65_536).to_bytes(2) + segments[at][4:]
    return b"".join(segments)


def _jpeg_order(content: bytes, chance: random.Random) -> bytes:
    return b"".join(_rearranged(_jpeg_segments(content), chance, first=1))


def _jpeg_size(content: bytes, chance: random.Random) -> bytes:
    """Height, width, components or sampling in the frame header."""
    raw = bytearray(content)
    at = next(at for at in range(2, len(raw) - 9) if raw[at] == 0xFF and raw[at + 1] in (0xC0, 0xC1, 0xC2))
    if chance.random() < 0.6:
        side = at + chance.choice((5, 7))
        raw[side : side + 2] = (chance.choice(_SIZES) % 65_536).to_bytes(2)
    else:
        raw[at + chance.choice((1, 4, 9, 11))] = chance.choice(
            (0, 1, 0x11, 0x22, 0x44, 0x81, 0xC3, 0xC9, 0xCA, 12, 255)
        )
    return bytes(raw)


# -- chunks with sizes: RIFF, FORM, boxes, blocks --------------------------------------------------------------------


def _chunks(content: bytes, order: ByteOrder) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    found, at = [], 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        found.append((content[at : at + 4], content[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return content[:12], found


def _of_chunks(head: bytes, chunks: Sequence[tuple[bytes, bytes]], order: ByteOrder) -> bytes:
    body = head[8:12] + b"".join(
        name + len(data).to_bytes(4, order) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return head[:4] + len(body).to_bytes(4, order) + body


def _chunked(order: ByteOrder) -> list[Way]:
    def inside(content: bytes, chance: random.Random) -> bytes:
        head, chunks = _chunks(content, order)
        at = chance.randrange(len(chunks))
        chunks[at] = (chunks[at][0], _inner(chunks[at][1], chance))
        return _of_chunks(head, chunks, order)

    def around(content: bytes, chance: random.Random) -> bytes:
        head, chunks = _chunks(content, order)
        parts = _rearranged([name + data for name, data in chunks], chance)
        return _of_chunks(head, [(one[:4], one[4:]) for one in parts], order)

    def sizes(content: bytes, chance: random.Random) -> bytes:
        raw, at, places = bytearray(content), 12, [4]
        while at + 8 <= len(raw):
            places.append(at + 4)
            size = int.from_bytes(raw[at + 4 : at + 8], order)
            at += 8 + size + size % 2
        at = chance.choice(places)
        raw[at : at + 4] = chance.choice(_SIZES).to_bytes(4, order)
        return bytes(raw)

    def form(content: bytes, chance: random.Random) -> bytes:
        """Channels, rates, widths in the first chunk."""
        raw = bytearray(content)
        at, width = 20 + chance.randrange(0, 18, 2), chance.choice((2, 4))
        value = chance.choice((*_SIZES, 1, 2, 6, 64, 65, 8000, 192_000)) % (1 << 8 * width)
        raw[at : at + width] = value.to_bytes(width, order)
        return bytes(raw)

    return [inside, around, sizes, form]


def _boxes(content: bytes, start: int, end: int, depth: int = 0) -> list[tuple[int, int]]:
    """(place, size) of every box of an ISO file, outer ones first."""
    found, at = [], start
    while at + 8 <= end and depth < 8:
        size = int.from_bytes(content[at : at + 4])
        if size < 8 or at + size > end:
            break
        found.append((at, size))
        name = content[at + 4 : at + 8]
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco", b"meta", b"stsd", b"udta"):
            skip = {b"meta": 12, b"stsd": 16}.get(name, 8)
            found += _boxes(content, at + skip, at + size, depth + 1)
        at += size
    return found


def _bmff_size(content: bytes, chance: random.Random) -> bytes:
    at, _ = chance.choice(_boxes(content, 0, len(content)))
    return content[:at] + chance.choice(_SIZES).to_bytes(4) + content[at + 4 :]


def _bmff_inside(content: bytes, chance: random.Random) -> bytes:
    at, size = chance.choice(_boxes(content, 0, len(content)))
    data = bytearray(content[at + 8 : at + size])
    if data:
        place = chance.randrange(len(data))
        width = chance.choice((1, 2, 4))
        data[place : place + width] = (chance.choice(_SIZES) % (1 << 8 * width)).to_bytes(width)
    return content[: at + 8] + bytes(data)[: size - 8].ljust(size - 8, b"\0") + content[at + size :]


def _bmff_order(content: bytes, chance: random.Random) -> bytes:
    at, size = chance.choice(_boxes(content, 0, len(content)))
    box = content[at : at + size]
    way = chance.randrange(4)
    if way == 0:
        return content[:at] + b"free".join((box[:4], box[8:])) + content[at + size :]
    if way == 1:
        return content[:at] + box * chance.choice((2, 3, 100)) + content[at + size :]
    if way == 2:
        return content[:at] + content[at + size :]
    return (
        content[: at + 4]
        + chance.choice((b"moov", b"trak", b"stts", b"iloc", b"iref", b"mdat", b"uuid"))
        + (content[at + 8 :])
    )


def _flac_block(content: bytes, chance: random.Random) -> bytes:
    """The length or the kind of a metadata block, or a field of the stream's facts."""
    raw, at, places = bytearray(content), 4, []
    while at + 4 <= len(raw):
        places.append(at)
        last, size = raw[at] & 0x80, int.from_bytes(raw[at + 1 : at + 4])
        at += 4 + size
        if last:
            break
    at = chance.choice(places)
    way = chance.randrange(3)
    if way == 0:
        raw[at + 1 : at + 4] = (chance.choice(_SIZES) % 2**24).to_bytes(3)
    elif way == 1:
        raw[at] = chance.choice((0, 1, 2, 3, 4, 5, 6, 126, 127, 128, 132, 134))
    else:
        raw[8 + chance.randrange(34)] = chance.randrange(256)
    return bytes(raw)


# -- Ogg -------------------------------------------------------------------------------------------------------------


def _ogg_crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value = value << 8 & 0xFFFFFFFF ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def _ogg_entry(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


_OGG_TABLE = [_ogg_entry(byte) for byte in range(256)]


def ogg_pages(content: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    found, at = [], 0
    while content[at : at + 4] == b"OggS":
        segments = content[at + 26]
        size = 27 + segments + sum(content[at + 27 : at + 27 + segments])
        found.append(content[at : at + size])
        at += size
    return found


def ogg_page_with_crc(page: bytes) -> bytes:
    """The page with its checksum made right."""
    page = page[:22] + bytes(4) + page[26:]
    return page[:22] + _ogg_crc(page).to_bytes(4, "little") + page[26:]


def _ogg_inside(content: bytes, chance: random.Random) -> bytes:
    pages = ogg_pages(content)
    at = chance.randrange(len(pages))
    raw = bytearray(pages[at])
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(4, len(raw))
        raw[place] = chance.choice((0, 255, raw[place] ^ 1 << chance.randrange(8), chance.randrange(256)))
    pages[at] = ogg_page_with_crc(bytes(raw))
    return b"".join(pages)


def _ogg_order(content: bytes, chance: random.Random) -> bytes:
    return b"".join(_rearranged(ogg_pages(content), chance))


def _ogg_position(content: bytes, chance: random.Random) -> bytes:
    """The granule position: how long the sound says it is."""
    pages = ogg_pages(content)
    at = chance.randrange(len(pages))
    value = chance.choice((0, 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**64 - 1))
    pages[at] = ogg_page_with_crc(pages[at][:6] + value.to_bytes(8, "little") + pages[at][14:])
    return b"".join(pages)


# -- TIFF ------------------------------------------------------------------------------------------------------------


#: Tags that a reader knows: sizes, strips, tiles, compression, colours.
_TIFF_TAGS = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    270,
    273,
    277,
    278,
    279,
    284,
    292,
    317,
    318,
    320,
    322,
    323,
    324,
    325,
    338,
    339,
    347,
    529,
    530,
    34_665,
    34_675,
)


def _tiff_entry(content: bytes, chance: random.Random) -> bytes:
    """Tag, kind, count or value of an entry of the first table."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:3] == b"+" or content[3:4] == b"+"
    if big:
        (table,) = struct.unpack(order + "Q", content[8:16])
        (count,) = struct.unpack(order + "Q", content[table : table + 8])
        at, width = table + 8 + 20 * chance.randrange(min(count, 100)), 8
    else:
        (table,) = struct.unpack(order + "I", content[4:8])
        (count,) = struct.unpack(order + "H", content[table : table + 2])
        at, width = table + 2 + 12 * chance.randrange(count), 4
    field = chance.randrange(4)
    raw = bytearray(content)
    name: ByteOrder = "little" if order == "<" else "big"
    if field == 0:
        tag = chance.choice(_TIFF_TAGS)
        raw[at : at + 2] = tag.to_bytes(2, name)
    elif field == 1:
        raw[at + 2 : at + 4] = chance.randrange(20).to_bytes(2, name)
    else:
        place = at + 4 + width * (field - 2)
        raw[place : place + width] = chance.choice(_SIZES).to_bytes(width, name)
    return bytes(raw)


# -- GIF, BMP, safetensors -------------------------------------------------------------------------------------------


def _gif_fields(content: bytes, chance: random.Random) -> bytes:
    """Sides, flags, and the blocks' sizes."""
    raw = bytearray(content)
    places = [6, 8, 10, 11, *(at for at in range(13, len(raw) - 10) if raw[at] in (0x2C, 0x21))]
    at = chance.choice(places) + chance.choice((0, 1, 3, 5, 7, 9))
    raw[at : at + 2] = (chance.choice(_SIZES) % 65_536).to_bytes(2, "little")
    return bytes(raw)


def _bmp_fields(content: bytes, chance: random.Random) -> bytes:
    raw = bytearray(content)
    at, width = chance.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)))
    raw[at : at + width] = (chance.choice(_SIZES) % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(raw)


def _safetensors_header(content: bytes, chance: random.Random) -> bytes:
    """Names, kinds, shapes and places of tensors, the header's length being right."""
    size = int.from_bytes(content[:8], "little")
    document = json.loads(content[8 : 8 + size])
    header = json.dumps(words.json_changed(document, chance)).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


WAYS: Mapping[str, Sequence[Way]] = {
    "png": (_png_inside, _png_order, _png_header, _png_rows, _png_new_chunk),
    "jpeg": (_jpeg_inside, _jpeg_length, _jpeg_order, _jpeg_size),
    "riff": _chunked("little"),
    "form": _chunked("big"),
    "bmff": (_bmff_size, _bmff_inside, _bmff_order),
    "flac": (_flac_block,),
    "ogg": (_ogg_inside, _ogg_order, _ogg_position),
    "tiff": (_tiff_entry,),
    "gif": (_gif_fields,),
    "bmp": (_bmp_fields,),
    "safetensors": (_safetensors_header,),
}
