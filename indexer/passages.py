"""Text files -> one string, and a string -> passages. Knows nothing of pictures, sound or models."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from indexer.errors import MediaError
from indexer.files import display_path, media_error, open_file, trouble
from indexer.items import Modality
from indexer.kinds import HEAD_BYTES, LFS, UNKNOWN, sniff
from indexer.limits import MediaLimits, check_size
from indexer.wrong_kind import wrong_kind

# The longer mark first: UTF-32 LE starts with the mark of UTF-16 LE.
_BY_BOM = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
# An end mark, closing quotes, white space; or an end mark of a script that puts no space after it.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s|[。！？｡]+[”’」』）]*")


def read_text(path: Path, limits: MediaLimits) -> str:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark; line ends as ``\\n``.

    Raises ``MediaError`` for other encodings (naming the first byte that does not fit), for binary files,
    empty ones, and ones over ``max_text_mb``.
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
    try:
        text = raw[len(bom) :].decode(codec)
    except UnicodeDecodeError as error:
        if not bom and (binary := _binary(path, raw)) is not None:
            raise binary from error
        at = error.start + len(bom)
        name = display_path(path.name)
        advice = f"convert it (iconv -f WINDOWS-1252 -t UTF-8 {name} > new.txt)" if not bom else "save it as UTF-8"
        raise media_error(path, f"is not {codec.upper()} (byte 0x{raw[at]:02x} at offset {at:,}); {advice}") from error
    if "\0" in text:
        raise media_error(path, "is binary, not text (it holds NUL characters); remove it or rename it")
    if not text.strip():
        raise media_error(path, "holds only white space; remove it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def passages(text: str, limits: MediaLimits) -> list[str]:
    """Cut a text into passages of at most ``passage_chars`` characters, in order; [] for white space.

    Paragraphs (separated by empty lines) are packed together while they fit, with a line end between;
    a longer one is cut at sentence ends, a longer sentence at spaces, a longer word anywhere. White space
    within a paragraph becomes single spaces. No character but white space is lost or repeated.
    """
    limit = max(1, limits.passage_chars)
    packed: list[str] = []
    room = 0  # characters that the last passage still takes
    for paragraph in _PARAGRAPH_END.split(text):
        words = " ".join(paragraph.split())
        if not words:
            continue
        if len(words) + 1 <= room:
            packed[-1] += "\n" + words
        else:
            packed.extend(_cut(words, limit))
        room = limit - len(packed[-1])
    return packed


def _cut(words: str, limit: int) -> list[str]:
    """One paragraph in pieces of at most ``limit``, each as long as its sentences allow."""
    pieces: list[str] = []
    start = 0
    while len(words) - start > limit:
        end = start
        for match in _SENTENCE_END.finditer(words, start, start + limit + 1):
            end = match.end() if len(words[start : match.end()].rstrip()) <= limit else end
        if end == start:
            end = words.rfind(" ", start, start + limit + 1)
        if end <= start:
            end = start + limit
        pieces.append(words[start:end].strip())
        start = end
        while start < len(words) and words[start] == " ":
            start += 1
    if start < len(words):
        pieces.append(words[start:].strip())
    return pieces


def _binary(path: Path, raw: bytes) -> MediaError | None:
    """The error for what is clearly something else than text."""
    kind = sniff(raw[:HEAD_BYTES])
    if kind is not UNKNOWN and kind.modality is not Modality.TEXT:
        return wrong_kind(path, kind, Modality.TEXT)
    nul = raw.find(b"\0")
    if nul >= 0:
        return media_error(path, f"is binary, not text (NUL byte at offset {nul:,}); remove it or rename it")
    return None
