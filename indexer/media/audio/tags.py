"""Tags and padding around a sound: what stands behind them is what the file is. Decodes nothing.

Programs put an ID3v2 tag before any sound, not only before MP3, and ID3v1, APE or Lyrics3 tags behind it. Sizes that a
tag states are compared with the file; where one is wrong, the sound's own mark is looked for.
"""

from __future__ import annotations

import re

from indexer.items import Modality
from indexer.media.audio.file_bytes import FileBytes
from indexer.media.formats import HEAD_BYTES, UNKNOWN, Kind, sniff

#: In a row; a file has one or two.
MAX_TAGS = 64
#: Zeros before a sound, and the stretch in which a mark is looked for.
MAX_PADDING_BYTES = 1 << 20

_MP3 = ".mp3"
#: Sounds that have no end of their own, so that a decoder takes a tag behind them for sound.
_OPEN_ENDED = frozenset((".flac", ".aac", ".ac3", ".amr", ".w64"))
_MARK = re.compile(
    rb"fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02|(?:RIFF|RIFX|RF64|BW64)....WAVE|FORM....AIF[FC]"
    rb"|caff\x00\x01|\.snd\x00\x00\x00|riff\.\x91\xcf\x11",
    re.DOTALL,
)
_HAS_FOOTER = 0x10
_APE_HAS_HEADER = 0x8000_0000


def behind_tags(content: FileBytes) -> tuple[Kind, FileBytes]:
    """What a file is behind its tags, and that stretch of it.

    An MP3 keeps its tags, which its decoder reads. Where nothing known is found, all of the file and what its first
    bytes say.
    """
    kind = _kind_at(content, 0)
    if kind is not UNKNOWN and kind.suffix != _MP3:
        return kind, _without_end(kind, content, 0)
    at = _behind(content)
    is_tag = content.part(at).read(3) == b"ID3"  # whose size leads out of the file
    found = UNKNOWN if is_tag else _kind_at(content, at)
    if found.modality is not Modality.AUDIO and not is_tag:
        at = _behind_zeros(content, at)
        found = _kind_at(content, at)
    if found.modality is not Modality.AUDIO and kind.suffix == _MP3:
        mark = _MARK.search(content.part().read(MAX_PADDING_BYTES))
        at = mark.start() if mark else 0
        found = _kind_at(content, at)
    if at == 0 or found.modality is not Modality.AUDIO or found.suffix == _MP3 == kind.suffix:
        return kind, content
    return found, _without_end(found, content, at)


def _kind_at(content: FileBytes, at: int) -> Kind:
    return sniff(content.part(at).read(HEAD_BYTES))


def _behind(content: FileBytes) -> int:
    """The first byte behind all leading tags; behind the last whose size can be right."""
    at = 0
    for _ in range(MAX_TAGS):
        head = content.part(at).read(32)
        size = _id3v2_bytes(head) or _ape_bytes(head)
        if size == 0 or at + size > content.size:
            break
        at += size
    return at


def _behind_zeros(content: FileBytes, at: int) -> int:
    block = content.part(at).read(MAX_PADDING_BYTES)
    rest = block.lstrip(b"\0")
    return at + len(block) - len(rest) if rest else at


def _id3v2_bytes(head: bytes) -> int:
    """All of an ID3v2 tag that starts (``ID3``) or ends (``3DI``) here; 0 where there is none."""
    if len(head) < 10 or head[:3] not in (b"ID3", b"3DI") or 0xFF in head[3:5]:
        return 0
    size = head[6:10]
    if max(size) < 0x80:  # seven bits a byte
        length = sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
    else:  # written by a program that did not know that
        length = int.from_bytes(size)
    return 10 + length + (10 if head[5] & _HAS_FOOTER else 0)


def _ape_bytes(head: bytes) -> int:
    """All of an APEv2 tag whose header stands here; 0 where there is none."""
    return 32 + int.from_bytes(head[12:16], "little") if head[:8] == b"APETAGEX" and len(head) >= 32 else 0


def _without_end(kind: Kind, content: FileBytes, start: int) -> FileBytes:
    """The stretch from ``start`` on, without the tags behind it where they would be taken for sound."""
    end = content.size
    if kind.suffix in _OPEN_ENDED:
        for _ in range(MAX_TAGS):
            size = _last_tag_bytes(content, end)
            if size == 0 or size >= end - start:
                break
            end -= size
    return content if start == 0 and end == content.size else content.part(start, end - start)


def _last_tag_bytes(content: FileBytes, end: int) -> int:
    tail = content.part(max(0, end - 128), 128 if end >= 128 else end).read()
    if len(tail) == 128 and tail[:3] == b"TAG":
        return 128
    footer = tail[-32:]
    if footer[:8] == b"APETAGEX":
        has_header = int.from_bytes(footer[20:24], "little") & _APE_HAS_HEADER
        return int.from_bytes(footer[12:16], "little") + (32 if has_header else 0)
    if tail[-10:-7] == b"3DI":
        return _id3v2_bytes(tail[-10:])
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return 15 + int(tail[-15:-9])
    return 0
