"""Text files -> one string, and a string -> passages. Knows nothing of pictures, sound or models."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from indexer.errors import MediaError
from indexer.files import display_path, media_error, open_file, trouble
from indexer.items import Modality
from indexer.limits import MediaLimits, check_memory, check_size
from indexer.media.formats import HEAD_BYTES, LFS, UNKNOWN, sniff
from indexer.media.stopwatch import Stopwatch
from indexer.media.wrong_kind import wrong_kind

# The longer mark first: UTF-32 LE starts with the mark of UTF-16 LE.
_BY_BOM = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
# An end mark, closing quotes, white space; or an end mark of a script that puts no space after it. A row of end marks
# is looked at once, from its first: from each of them, a text of dots would take a time that grows with its square.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+\s|[。！？｡]++[”’」』）]*+")
_SPACE = re.compile(r"\s")
#: Characters whose words are listed at once: a list of all words of a text takes twenty times the text.
BLOCK_CHARS = 1 << 16


#: Cuts a text into passages: :func:`passages`, or what :func:`indexer.media.text.token_passages.cut_by` gives.
Cut = Callable[[str, MediaLimits, Stopwatch | None], list[str]]


def read_text(path: Path, limits: MediaLimits) -> str:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark; line ends as ``\\n``.

    Raises ``MediaError`` for other encodings (naming the first byte that does not fit), for binary files,
    empty ones, and ones over ``max_text_mb`` or over ``max_decoded_mb`` as text.
    """
    with open_file(path) as file:
        try:
            check_size(path, os.fstat(file.fileno()).st_size, Modality.TEXT, limits)
            raw = file.read(int(limits.max_text_mb * 1e6) + 1)
        except OSError as error:
            raise media_error(path, trouble(error, path)) from error
    check_size(path, len(raw), Modality.TEXT, limits)  # it may have grown since
    bom, codec = next(((bom, codec) for bom, codec in _BY_BOM if raw.startswith(bom)), (b"", "utf-8"))
    # A page of HTML or an SVG is text as well; a pointer to a file elsewhere is not what was meant.
    binary = _binary(path, raw) if not bom and (b"\0" in raw or sniff(raw[:HEAD_BYTES]) is LFS) else None
    if binary is not None:
        raise binary
    check_memory(path, text_bytes(raw, codec), limits)
    try:
        text = str(memoryview(raw)[len(bom) :], codec)
    except UnicodeDecodeError as error:
        if not bom and (binary := _binary(path, raw)) is not None:
            raise binary from error
        at = error.start + len(bom)
        name = display_path(path.name)
        advice = f"convert it (iconv -f WINDOWS-1252 -t UTF-8 {name} > new.txt)" if not bom else "save it as UTF-8"
        raise media_error(path, f"is not {codec.upper()} (byte 0x{raw[at]:02x} at offset {at:,}); {advice}") from error
    del raw
    if "\0" in text:
        raise media_error(path, "is binary, not text (it holds NUL characters); remove it or rename it")
    if not text or text.isspace():
        raise media_error(path, "holds only white space; remove it")
    text = text.replace("\r\n", "\n")
    return text.replace("\r", "\n")


def text_bytes(raw: bytes, codec: str) -> int:
    """The most memory that these bytes take as text and cut into passages.

    A string of Python is as wide as its widest character, for each character.
    """
    if codec != "utf-8":
        width = 2 if codec.startswith("utf-16") else 1
    else:
        highest = int(np.frombuffer(raw, dtype=np.uint8).max(initial=0))
        width = 4 if highest >= 0xF0 else 2 if highest >= 0xC4 else 1
    return len(raw) * (1 + 3 * width)


def passages(text: str, limits: MediaLimits, watch: Stopwatch | None = None) -> list[str]:
    """Cut a text into passages of at most ``passage_chars`` characters, in order; [] for white space.

    Paragraphs (separated by empty lines) are packed together while they fit, with a line end between;
    a longer one is cut at sentence ends, a longer sentence at spaces, a longer word anywhere. White space
    within a paragraph becomes single spaces. No character but white space is lost or repeated. Takes time in
    proportion to the text.
    """
    limit = max(1, limits.passage_chars)
    packed: list[str] = []
    room = 0  # characters that the last passage still takes
    looked_at = 0  # the place in the text up to which the time was looked at
    for start, end in paragraphs(text):
        if watch is not None and end - looked_at > BLOCK_CHARS:
            watch.check()
            looked_at = end
        words = " ".join(words_of(text, start, end))
        if not words:
            continue
        if len(words) + 1 <= room:
            packed[-1] += "\n" + words
        else:
            packed.extend(_cut(words, limit, watch))
        room = limit - len(packed[-1])
    return packed


def paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Where each paragraph begins and ends."""
    start = 0
    for gap in _PARAGRAPH_END.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def words_of(text: str, start: int, end: int) -> Iterator[str]:
    """``text[start:end]`` with single spaces, in blocks that a space belongs between; none for white space."""
    while start < end:
        space = _SPACE.search(text, start + BLOCK_CHARS, end) if end - start > BLOCK_CHARS else None
        stop = space.start() if space else end
        if words := text[start:stop].split():
            yield " ".join(words)
        start = stop + 1 if space else end


def _cut(words: str, limit: int, watch: Stopwatch | None) -> Iterator[str]:
    """One paragraph in pieces of at most ``limit``, each as long as its sentences allow."""
    start = 0
    while len(words) - start > limit:
        if watch is not None:
            watch.check()
        window = words[start : start + limit + 1]
        end = 0
        for match in _SENTENCE_END.finditer(window):
            stop = match.end()
            if stop - window[stop - 1].isspace() > limit:
                break
            end = stop
        if end == 0:
            end = window.rfind(" ")
        if end <= 0:
            end = limit
        yield window[:end].strip()
        start += end
        while start < len(words) and words[start] == " ":
            start += 1
    if start < len(words):
        yield words[start:].strip()


def _binary(path: Path, raw: bytes) -> MediaError | None:
    """The error for what is clearly something else than text."""
    kind = sniff(raw[:HEAD_BYTES])
    if kind is not UNKNOWN and kind.modality is not Modality.TEXT:
        return wrong_kind(path, kind, Modality.TEXT)
    nul = raw.find(b"\0")
    if nul >= 0:
        return media_error(path, f"is binary, not text (NUL byte at offset {nul:,}); remove it or rename it")
    return None
