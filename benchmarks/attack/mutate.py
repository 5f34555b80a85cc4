"""Damage to bytes: the same input, format and generator give the same mutant, always.

Some ways know nothing of the format (bits, pieces, ends, two inputs joined); others keep the outer shape whole, so that
the damage reaches what lies inside: ``shapes.py`` for binary formats, ``words.py`` for written ones. Knows nothing of
readers.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.attack import catalogs, shapes, words

Way = Callable[[bytes, random.Random], bytes]

#: What lengths, counts and offsets are set to.
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    127,
    128,
    255,
    256,
    32_767,
    32_768,
    65_535,
    65_536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 2,
    2**32 - 1,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def mutate(content: bytes, format: str, chance: random.Random, other: bytes = b"") -> bytes:
    """``content`` damaged in one to three ways. ``other``: another valid input, to be joined with this one."""
    ways = _ways(format)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if other and chance.random() < 0.06:
            content = _joined(content, other, chance)
            continue
        try:
            content = chance.choice(ways)(content, chance)
        except Exception:  # the way needs a shape that is damaged already
            content = _bits(content, chance)
    return content


def _ways(format: str) -> list[Way]:
    """Half of the choices know the format, where something knows it."""
    if format == "sqlite":
        return [catalogs.changed]  # damage to its bytes is another seed's
    knowing = [*shapes.WAYS.get(format, ()), *words.WAYS.get(format, ())]
    return [*GENERIC, *(knowing * max(1, len(GENERIC) // len(knowing)) if knowing else ())]


def _place(content: bytes | bytearray, chance: random.Random) -> int:
    """Somewhere; more often near the start, where headers are."""
    return chance.randrange(max(1, min(len(content), chance.choice((16, 64, 400, len(content))))))


def _bits(content: bytes, chance: random.Random) -> bytes:
    raw = bytearray(content or b"\0")
    for _ in range(chance.randrange(1, 8)):
        raw[_place(raw, chance)] ^= 1 << chance.randrange(8)
    return bytes(raw)


def _bytes(content: bytes, chance: random.Random) -> bytes:
    raw = bytearray(content or b"\0")
    for _ in range(chance.randrange(1, 8)):
        raw[_place(raw, chance)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(raw)


def _number(content: bytes, chance: random.Random) -> bytes:
    """An integer of 1, 2, 4 or 8 bytes somewhere, of either byte order."""
    width = chance.choice((1, 2, 2, 4, 4, 4, 8))
    at = _place(content, chance)
    order: shapes.ByteOrder = chance.choice(("little", "big"))
    value = chance.choice(NUMBERS) % (1 << 8 * width)
    if chance.random() < 0.3:  # near what is there
        there = int.from_bytes(content[at : at + width], order)
        value = (there + chance.choice((-1, 1, -there + len(content), 2**16, there))) % (1 << 8 * width)
    return content[:at] + value.to_bytes(width, order) + content[at + width :]


def _piece(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = _place(content, chance)
    return start, min(len(content), start + chance.choice((1, 2, 4, 8, chance.randrange(1, 64), len(content) // 4 + 1)))


def _without(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:start] + content[end:]


def _twice(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:end] + content[start:end] * chance.choice((1, 1, 2, 16)) + content[end:]


def _exchanged(content: bytes, chance: random.Random) -> bytes:
    (a, b), (c, d) = sorted((_piece(content, chance), _piece(content, chance)))
    return content if b > c else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _filled(content: bytes, chance: random.Random) -> bytes:
    start, end = _piece(content, chance)
    return content[:start] + bytes([chance.choice((0, 255, 127, 128, 32))]) * (end - start) + content[end:]


def _truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: _place(content, chance)]


def _extended(content: bytes, chance: random.Random) -> bytes:
    more = chance.choice((bytes(chance.randrange(1, 4096)), content, chance.randbytes(chance.randrange(1, 512))))
    return content + more


def _joined(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """The start of one with the rest of another, or a piece of another put in."""
    at = _place(content, chance)
    if chance.random() < 0.5:
        return content[:at] + other[min(at, len(other)) if chance.random() < 0.5 else _place(other, chance) :]
    start, end = _piece(other, chance)
    return content[:at] + other[start:end] + content[at:]


GENERIC: list[Way] = [
    _bits,
    _bits,
    _bytes,
    _bytes,
    _number,
    _number,
    _without,
    _twice,
    _exchanged,
    _filled,
    _truncated,
    _extended,
]
