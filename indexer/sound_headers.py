"""How much sound a header promises, against what the file holds. Decodes nothing.

Readers of sound files give what is there and say nothing of what is missing. So that half a recording is
not taken for a whole one: where the header promises more than one frame beyond the end of the file, the
file is refused as cut short. A recorder that writes into a pipe cannot know the length and puts 0 or the
largest number there; such a file is read to its end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

from indexer.errors import MediaError
from indexer.files import media_error

#: Lengths from here up are not lengths: 0xFFFFFFFF (ffmpeg), 0x7FFFF000 (sox), 0x80000000 (arecord), ...
_STREAMED_BYTES = 0x7FFF_0000
_MAX_CHUNKS = 10_000


def check_promise(path: Path, file: BinaryIO) -> bool:
    """Raises ``MediaError`` when the file ends before its header says. Other damage is left to the decoder.

    True for a WAV or AIFF file without a length, to be read to its end.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    start = file.read(64)
    missing: int | None = 0
    if start[:4] in (b"RIFF", b"RIFX", b"FORM"):
        missing = _chunks(path, file, size, "little" if start[:4] == b"RIFF" else "big")
    elif start[:4] == b"caff":
        missing = _caf(file, size)
    elif start[:4] == b".snd" and len(start) >= 24:
        data, length = (int.from_bytes(start[at : at + 4]) for at in (4, 8))
        missing = max(0, data + length - size) if length < _STREAMED_BYTES else 0
    elif start[:4] == b"riff":
        promised = int.from_bytes(start[16:24], "little")
        missing = max(0, promised - size) if promised < 1 << 62 else 0
    elif start[:4] == b"OggS":
        missing = _ogg(file, size)
    elif start[:3] == b"ID3" or start[:1] == b"\xff":
        missing = _mp3(file, size, start)
    if missing:
        raise cut_short(path, f"{missing:,} bytes of {size + missing:,} are missing")
    return missing is None


def cut_short(path: Path, what: str) -> MediaError:
    return media_error(path, f"is cut short: {what}; copy or record it again, or remove it")


def _chunks(path: Path, file: BinaryIO, size: int, order: Literal["little", "big"]) -> int | None:
    """WAV and AIFF: the bytes that the chunk with the samples lacks, when they are more than one frame.

    None when that chunk states no length.
    """
    file.seek(4)
    whole = int.from_bytes(file.read(4), order)
    at, frame_bytes = 12, 1
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        heading = file.read(8)
        if len(heading) < 8:
            return 0
        name, length = heading[:4], int.from_bytes(heading[4:], order)
        if name == b"fmt " and length >= 16:
            frame_bytes = max(1, int.from_bytes(file.read(16)[12:14], order))
        elif name == b"COMM" and length >= 18:
            comm = file.read(8)
            frame_bytes = max(1, int.from_bytes(comm[:2], order) * ((int.from_bytes(comm[6:8], order) + 7) // 8))
        elif name in (b"data", b"SSND"):
            there = size - at - 8
            # An honest 0 stands in a file that is as long as its first chunk says.
            is_stated = length > 0 or there <= 1 or whole == size - 8
            if not is_stated or (length >= _STREAMED_BYTES and there < length):
                return None
            return length - there if length - there > frame_bytes else 0
        at += 8 + length + length % 2
    raise media_error(path, f"has more than {_MAX_CHUNKS:,} chunks before its samples; it is damaged")


def _caf(file: BinaryIO, size: int) -> int:
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        heading = file.read(12)
        if len(heading) < 12:
            return 0
        length = int.from_bytes(heading[4:], signed=True)
        if length < 0:  # "to the end of the file", allowed for the samples only
            return 0
        if heading[:4] == b"data":
            return max(0, at + 12 + length - size)
        at += 12 + length
    return 0


def _ogg(file: BinaryIO, size: int) -> int:
    """What the last page lacks. A stream that was stopped between pages is taken as whole."""
    file.seek(max(0, size - 70_000))  # a page is at most 65,307 bytes
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))


def _mp3(file: BinaryIO, size: int, start: bytes) -> int:
    """From the Xing or Info header that most encoders write; without one nothing is promised."""
    at = 0
    if start[:3] == b"ID3" and len(start) >= 10:
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))
    file.seek(at)
    frame = file.read(64)
    for offset in (36, 21, 13):  # after the side information: MPEG-1 stereo, mono or MPEG-2 stereo, MPEG-2 mono
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            flags = int.from_bytes(frame[offset + 4 : offset + 8])
            if flags & 2 == 0:
                return 0
            place = offset + 8 + (4 if flags & 1 else 0)
            promised = int.from_bytes(frame[place : place + 4])
            missing = max(0, at + promised - size)
            # Editors of tags leave the header behind by a little, as mpg123 too allows.
            return missing if missing * 100 > promised and promised < _STREAMED_BYTES else 0
    return 0
