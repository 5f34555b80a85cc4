"""The sounds that one file holds one behind the other: joined files, streams that were begun anew. Decodes nothing.

Most readers stop where the first sound ends, or take the length of the last for that of all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from indexer.files import media_error
from indexer.media.audio.file_bytes import FileBytes
from indexer.media.stopwatch import Stopwatch

MAX_LINKS = 10_000

_BLOCK_BYTES = 1 << 20
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_FLAC_BYTES = 8
_BEGINS = 2
_MAX_CAF_CHUNKS = 10_000


def links(path: str | os.PathLike[str], content: FileBytes, watch: Stopwatch) -> list[FileBytes]:
    """The sounds of a file in order, each from its own first byte; all of the file where it holds one.

    Raises ``MediaError`` for more than ``MAX_LINKS``.
    """
    head = content.part().read(4)
    if head[:4] == b"OggS":
        found = _ogg(content, watch)
    elif head[:4] == b"fLaC":
        found = _flac(content, watch)
    elif head[:4] in (b"RIFF", b"RIFX", b"FORM", b"riff", b".snd", b"caff"):
        found = _stated(content)
    else:
        return [content]
    starts = [0]
    for start in found:
        starts.append(start)
        if len(starts) > MAX_LINKS:
            raise media_error(path, f"is more than {MAX_LINKS:,} sounds joined together; cut it into shorter files")
    if len(starts) == 1:
        return [content]
    ends = [*starts[1:], content.size]
    return [content.part(start, end - start) for start, end in zip(starts, ends, strict=True)]


def _ogg(content: FileBytes, watch: Stopwatch) -> Iterator[int]:
    """Where a first page stands that no other first page comes before: tracks of one sound begin together."""
    at, began, block, block_at = 0, True, b"", 0
    while True:
        page = block[at - block_at : at - block_at + 27 + 255]
        if len(page) < 27 + 255:
            watch.check()
            block, block_at = content.part(at).read(_BLOCK_BYTES), at
            page = block[: 27 + 255]
        if len(page) < 27 or page[:4] != b"OggS":
            return
        begins = bool(page[5] & _BEGINS)
        if begins and not began:
            yield at
        began = begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])


def _flac(content: FileBytes, watch: Stopwatch) -> Iterator[int]:
    at = _FLAC_BYTES
    file = content.part(at)
    last = b""
    while block := file.read(_BLOCK_BYTES):
        watch.check()
        searched = last + block
        begin = at - len(last)
        for found in _FLAC.finditer(searched):
            yield begin + found.start()
        last = searched[-(_FLAC_BYTES - 1) :]
        at += len(block)


def _stated(content: FileBytes) -> Iterator[int]:
    """Whatever a file states of its length, another one of its kind right behind it."""
    at = 0
    mark = content.part().read(4)
    while True:
        end = _stated_bytes(content.part(at))
        if end <= 0 or at + end >= content.size:
            return
        at += end
        begin = content.part(at - 1).read(5)
        if begin[1:] == mark:
            yield at
        elif begin[:4] == mark:  # written without a byte of padding
            at -= 1
            yield at
        else:
            return


def _stated_bytes(sound: FileBytes) -> int:
    """Of all of a WAV, AIFF, W64, AU or CAF that starts here, by its header; 0 where it does not say."""
    head = sound.read(24)
    if len(head) < 24:
        return 0
    if head[:4] in (b"RIFF", b"RIFX", b"FORM"):
        length = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
        return 8 + length + length % 2
    if head[:4] == b"riff":
        return -(-int.from_bytes(head[16:24], "little") // 8) * 8
    if head[:4] == b".snd":
        return int.from_bytes(head[4:8]) + int.from_bytes(head[8:12])
    at = 8
    for _ in range(_MAX_CAF_CHUNKS):
        sound.seek(at)
        heading = sound.read(12)
        length = int.from_bytes(heading[4:], signed=True)
        if len(heading) < 12 or length < 0:
            return 0
        if heading[:4] == b"caff":
            return at
        at += 12 + length
    return 0
