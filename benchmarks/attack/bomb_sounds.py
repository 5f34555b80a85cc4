"""Sounds that unfold, that lie about their length, or that are mostly tags."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.attack.bombs import FILE_S, SOUND_S, Bomb
from benchmarks.attack.media_seeds import sound, with_ffmpeg
from benchmarks.attack.shapes import ogg_page_with_crc, ogg_pages


def bombs() -> list[Bomb]:
    """All of them."""
    files: dict[str, tuple[str, Callable[[], bytes]]] = {
        "FLAC, twelve hours of silence": ("flac", partial(_silence, "FLAC", 8_000, 11.9)),
        "FLAC, 8 channels of 655 kHz": ("flac", partial(_silence, "FLAC", 192_000, 0.7, channels=8)),
        "Opus, an hour": ("opus", partial(_silence, "OGG", 48_000, 1, subtype="OPUS")),
        "MP3, an hour": ("mp3", partial(_silence, "MP3", 16_000, 1, subtype="MPEG_LAYER_III")),
        "FLAC, pictures of 100 x 16 MB": ("flac", _flac_pictures),
        "FLAC, 200,000 blocks": ("flac", _flac_blocks),
        "ID3, a tag of 200 MB": ("mp3", _id3),
        "ID3, 100,000 tags": ("mp3", lambda: b"ID3\3\0\0\0\0\0\0" * 100_000 + sound("MP3", "MPEG_LAYER_III")),
        "MP3, 5 MB of damaged frames": ("mp3", lambda: b"\xff\xfb\x90\x64" * 1_250_000),
        "Ogg, 300,000 empty pages": ("ogg", _ogg_pages),
        "Ogg, 20,000 chained streams": ("ogg", lambda: sound("OGG", "VORBIS", seconds=0.02) * 2_000),
        "Ogg, a position of 2**62": ("ogg", _ogg_position),
        "AIFF, 2**32 frames by its header": ("aiff", partial(_lying, "AIFF", b"COMM", 10)),
        "WAV, 2 GB by its header": ("wav", _wav_lying),
        "WAV, 200,000 chunks": ("wav", _wav_chunks),
        "CAF, 2**62 bytes by its header": ("caf", _caf),
        "AU, no length": ("au", lambda: sound("AU", "PCM_16")[:8] + b"\xff" * 4 + sound("AU", "PCM_16")[12:]),
        "M4A, 2**32 samples in a table": ("m4a", _m4a),
        "Matroska, an element of 2**56": ("mka", _matroska),
        "AC-3, 3 MB of frames": ("ac3", lambda: with_ffmpeg("ac3", "ac3", rate_hz=48_000) * 2_000),
    }
    made = [
        Bomb(name, partial(_write, suffix, make), seconds=SOUND_S if "hour" in name or "655" in name else FILE_S)
        for name, (suffix, make) in files.items()
    ]
    return [
        Bomb("FLAC, 24 hours of silence in 24 files", _flacs, seconds=SOUND_S),
        Bomb("WAV, 24 of an hour, holes", _wavs, seconds=SOUND_S),
        Bomb("WAV, 64 channels of floats, 1.9 GB, a hole", _wav_wide, seconds=SOUND_S),
        Bomb("WAV, 1 kHz, 11.9 hours, a hole", partial(_wav_hole, 1_000, 1, 1, 11.9), seconds=SOUND_S),
        *made,
    ]


def _write(suffix: str, make: Callable[[], bytes], folder: Path) -> None:
    (folder / f"bomb.{suffix}").write_bytes(make())


def _silence(format: str, rate_hz: int, hours: float, *, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    minute = np.zeros((60 * rate_hz, channels), np.int16)
    with soundfile.SoundFile(file, "w", rate_hz, channels, format=format, subtype=subtype) as out:
        for _ in range(round(hours * 60)):
            out.write(minute)
    return file.getvalue()


def _flacs(folder: Path) -> None:
    """Each with another block of four bytes, so that no two have the same content."""
    flac = _silence("FLAC", 16_000, 1)
    for number in range(24):
        block = b"\x02\0\0\x08ABCD" + struct.pack(">I", number)
        (folder / f"silence{number:02}.flac").write_bytes(flac[:42] + block + flac[42:])


def _hole(path: Path, head: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)


def _wav_head(rate_hz: int, channels: int, width: int, size: int, *, code: int = 1) -> bytes:
    frame = channels * width
    form = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame, 8 * width)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + (struct.pack("<I", size))
    )


def _wav_hole(rate_hz: int, channels: int, width: int, hours: float, folder: Path, name: str = "bomb") -> None:
    size = round(hours * 3600 * rate_hz) * channels * width
    _hole(folder / f"{name}.wav", _wav_head(rate_hz, channels, width, size), size)


def _wavs(folder: Path) -> None:
    for number in range(24):
        _wav_hole(16_000, 1, 2, 1 + number / 100_000, folder, f"hole{number:02}")


def _wav_wide(folder: Path) -> None:
    size = 1_900_000_000 // 256 * 256
    _hole(folder / "bomb.wav", _wav_head(48_000, 64, 4, size, code=3), size)


def _flac_pictures() -> bytes:
    flac = sound("FLAC", "PCM_16")
    block = b"\x06" + (2**24 - 1).to_bytes(3) + bytes(2**24 - 1)
    return flac[:42] + block * 6 + flac[42:]


def _flac_blocks() -> bytes:
    flac = sound("FLAC", "PCM_16")
    return flac[:42] + b"\x02\0\0\4ABCD" * 200_000 + flac[42:]


def _id3() -> bytes:
    size = 200_000_000
    return (
        b"ID3\3\0\0"
        + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        + bytes(size)
        + (sound("MP3", "MPEG_LAYER_III"))
    )


def _ogg_pages() -> bytes:
    pages = ogg_pages(sound("OGG", "VORBIS"))
    empty = ogg_page_with_crc(pages[-1][:5] + b"\0" + bytes(8) + pages[-1][14:26] + b"\0")
    return b"".join(pages[:-1]) + empty * 300_000 + pages[-1]


def _ogg_position() -> bytes:
    pages = ogg_pages(sound("OGG", "VORBIS"))
    pages[-1] = ogg_page_with_crc(pages[-1][:6] + (2**62).to_bytes(8, "little") + pages[-1][14:])
    return b"".join(pages)


def _lying(format: str, name: bytes, offset: int) -> bytes:
    content = sound(format, "PCM_16")
    at = content.index(name) + offset
    return content[:at] + b"\xff" * 4 + content[at + 4 :]


def _wav_lying() -> bytes:
    size = 2**31 - 100
    return _wav_head(16_000, 1, 2, size) + bytes(32_000)


def _wav_chunks() -> bytes:
    wav = sound("WAV", "PCM_16")
    return wav[:36] + b"junk\0\0\0\0" * 200_000 + wav[36:]


def _caf() -> bytes:
    content = sound("CAF", "PCM_16")
    at = content.index(b"data") + 4
    return content[:at] + (2**62).to_bytes(8) + content[at + 8 :]


def _matroska() -> bytes:
    return with_ffmpeg("matroska", "aac")[:40] + b"\xec\x01" + b"\xff" * 7


def _m4a() -> bytes:
    content = with_ffmpeg("ipod", "aac")
    at = content.index(b"stts") + 8
    return content[:at] + b"\0\0\0\1" + b"\xff" * 4 + content[at + 8 :]
