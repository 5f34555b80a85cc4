"""How much sound a header promises, against what the file holds. Decodes nothing.

Readers of sound files give what is there and say nothing of what is missing. So that half a recording is
not taken for a whole one: where the header promises more than one frame beyond the end of the file, the
file is refused as cut short. A recorder that writes into a pipe cannot know the length and puts 0 or the
largest number there; such a file is read to its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from indexer.errors import MediaError
from indexer.files import media_error
from indexer.media.audio.file_bytes import FileBytes

#: Lengths from here up are not lengths: 0xFFFFFFFF (ffmpeg), 0x7FFFF000 (sox), 0x80000000 (arecord), ...
_STREAMED_BYTES = 0x7FFF_0000
_MAX_CHUNKS = 10_000
_MAX_FRAME_BYTES = 8
#: Of any sound; silence takes some 50 to 100.
_LEAST_BYTES_PER_S = 8
#: Format tags of a WAV, of MPEG sound: II and III.
_MPEG_TAGS = (0x50, 0x55)


def check_promise(path: Path, file: FileBytes) -> bool:
    """Raises ``MediaError`` when the file ends before its header says. Other damage is left to the decoder.

    True for a file without a length, or with one that can't be right: it is to be read to its end.
    """
    file = file.part()
    size = file.size
    start = file.read(64)
    missing: int | None = 0
    if start[:4] in (b"RIFF", b"RIFX", b"FORM"):
        missing = _chunks(path, file, size, "little" if start[:4] == b"RIFF" else "big")
    elif start[:4] in (b"RF64", b"BW64"):
        missing = _rf64(file, size)
    elif start[:4] == b"caff":
        missing = _caf(file, size)
    elif start[:4] == b".snd" and len(start) >= 24:
        data, length = (int.from_bytes(start[at : at + 4]) for at in (4, 8))
        missing = max(0, data + length - size) if length < _STREAMED_BYTES else 0
    elif start[:4] == b"riff":
        promised = int.from_bytes(start[16:24], "little")
        missing = max(0, promised - size) if promised < 1 << 62 else 0
    elif start[:4] == b"fLaC":
        missing = None if int.from_bytes(start[18:26]) & (1 << 36) - 1 == 0 else 0
    elif start[:4] == b"OggS":
        missing = _ogg(file, size)
    elif start[:3] == b"ID3" or start[:1] == b"\xff":
        missing = _mp3(file, size, start)
    if missing:
        raise cut_short(path, f"{missing:,} bytes of {size + missing:,} are missing")
    return missing is None


def believable_frames(frames: int, rate_hz: int, n_bytes: int) -> int:
    """``frames`` that a header states for ``n_bytes``, or 0 where no codec packs a sound as tightly."""
    return frames if rate_hz > 0 and 0 < frames <= n_bytes * rate_hz / _LEAST_BYTES_PER_S else 0


def cut_short(path: Path, what: str) -> MediaError:
    return media_error(path, f"is cut short: {what}; copy or record it again, or remove it")


def is_mpeg_wav(file: FileBytes) -> bool:
    """Whether a WAV holds MPEG sound, of which libsndfile writes to the terminal and counts the padding as sound."""
    file = file.part()
    head, at = file.read(12), 12
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    if head[8:12] != b"WAVE":
        return False
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        heading = file.read(10)
        if len(heading) < 10 or heading[:4] == b"data":
            return False
        if heading[:4] == b"fmt ":
            return int.from_bytes(heading[8:10], order) in _MPEG_TAGS
        length = int.from_bytes(heading[4:8], order)
        at += 8 + length + length % 2
    return False


def _chunks(path: Path, file: FileBytes, size: int, order: Literal["little", "big"]) -> int | None:
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


def _rf64(file: FileBytes, size: int) -> int | None:
    """WAV of over 4 GB: the length of the samples stands in the first chunk."""
    file.seek(12)
    first = file.read(24)
    if first[:4] != b"ds64" or len(first) < 24:
        return 0
    at, stated = 12, int.from_bytes(first[16:24], "little")
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        heading = file.read(8)
        if len(heading) < 8:
            return 0
        length = int.from_bytes(heading[4:], "little")
        if heading[:4] == b"data":
            promised = stated if length == 0xFFFF_FFFF else length
            there = size - at - 8
            if (promised == 0 and there > 1) or promised >= 1 << 62:
                return None
            missing = promised - there
            return missing if missing > _MAX_FRAME_BYTES else 0
        at += 8 + length + length % 2
    return 0


def _caf(file: FileBytes, size: int) -> int:
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


def _ogg(file: FileBytes, size: int) -> int | None:
    """What the last page lacks. A stream that was stopped between pages is taken as whole.

    None where the last page states fewer samples than the one before it.
    """
    file.seek(max(0, size - 70_000))  # a page is at most 65,307 bytes
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    missing = max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))
    before = tail[: max(0, at)].rfind(b"OggS\0")
    if missing == 0 and before >= 0 and tail[before + 14 : before + 18] == page[14:18]:
        places = [int.from_bytes(tail[start + 6 : start + 14], "little", signed=True) for start in (before, at)]
        if -1 not in places and places[1] < places[0]:  # -1: no packet ends on the page
            return None
    return missing


def _mp3(file: FileBytes, size: int, start: bytes) -> int:
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
