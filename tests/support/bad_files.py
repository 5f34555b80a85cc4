"""Every bad file that the project promises to survive, made in a folder: ``python tests/support/bad_files.py FOLDER``.

Each comes with words that its message must hold. Beside them stand a few good files with awkward names
(``GOOD_FILES``), which must come through as if alone. Takes about a second, and a few MB on a disk that
keeps holes in files.
"""

from __future__ import annotations

import base64
import io
import os
import stat
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

#: As names on disk; good pictures, sounds and texts that lie among the bad ones.
GOOD_FILES = (
    "good picture.png",
    "good sound.wav",
    "good text.txt",
    "line\nbreak.txt",
    os.fsdecode(b"not utf-8 \xff\xfe.txt"),
    "l" * 251 + ".txt",
    "\x1b[31mred.txt",
    "utf-16.txt",
    "streamed-ffffffff.wav",
    "streamed-zero.wav",
)


@dataclass(frozen=True)
class BadFile:
    """A file in the folder, and what its one line must say of it."""

    name: str
    says: tuple[str, ...]


def make_bad_files(folder: Path) -> list[BadFile]:
    """Make them all in ``folder`` (made if need be); returns them with the words their messages must hold."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[BadFile] = []

    def bad(name: str, content: bytes, *says: str) -> None:
        (folder / name).write_bytes(content)
        made.append(BadFile(name, says))

    _pictures(bad)
    _drawings(bad)
    _sounds(bad)
    _texts(bad)
    made += _no_files(folder)
    _good(folder)
    return made


def make_bad_manifest(folder: Path) -> tuple[Path, dict[int, str]]:
    """``folder/manifest.jsonl`` with good rows between bad ones; the words for the bad lines by number."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(picture_bytes("PNG", seed=ord(name[0])))
    outside = folder.parent / f"{folder.name}-outside.png"
    outside.write_bytes(picture_bytes("PNG"))
    (folder / "leads-out.png").symlink_to(outside)
    (folder / "folder.png").mkdir()
    rows: list[tuple[bytes, str]] = [
        (b'{"image": "a.png", "captions": ["one", "two"], "id": "first"}', ""),
        (b'{"image": "missing.png", "captions": ["x"]}', "missing.png does not exist"),
        (b'{"image": "b.png"', "is not JSON"),
        (b'["b.png"]', "is a list, not an object"),
        (b'{"image": 7}', '"image" is a number'),
        (b'{"image": "b.png", "captions": [1]}', '"captions" holds a number'),
        (b'{"image": "b.png", "metadata": [1]}', '"metadata" is a list'),
        (b'{"captions": ["nothing to find"]}', 'none of "image", "audio" and "text"'),
        (b'{"image": "b.png", "id": "first"}', 'id "first" is that of line 1'),
        (b'{"image": "./a.png"}', "listed on line 1 already"),
        (b'{"image": "../%s"}' % outside.name.encode(), "outside the manifest's folder"),
        (b'{"image": "/etc/hostname"}', "outside the manifest's folder"),
        (b'{"image": "leads-out.png"}', "outside the manifest's folder"),
        (b'{"image": "https://example.org/a.png"}', "nothing is fetched"),
        (b'{"image": "folder.png"}', "is a folder"),
        (b'{"image": "a\\u0000b.png"}', "is not a path a file can have"),
        (b'{"text": "caf\xe9"}', "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"image": "sub\\\\c.png"}', "write / for \\"),
        (b'{"image": "c.png", "caption": "last", "extra": {"deep": [1, 2]}}', ""),
    ]
    path = folder / "manifest.jsonl"
    path.write_bytes(b"\n".join(row for row, _ in rows) + b"\n")
    return path, {line: says for line, (_, says) in enumerate(rows, 1) if says}


def picture_bytes(format: str, *, size: tuple[int, int] = (64, 48), seed: int = 0, **options: object) -> bytes:
    """A picture of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def sound_samples(seconds: float = 1.0, rate_hz: int = 16_000, *, seed: int = 0) -> np.ndarray:
    """A tone in noise, float32 in [-0.5, 0.5], different for each seed."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = 0.4 * np.sin(2 * np.pi * (300 + 40 * seed) * time_s)
    return (tone + generator.uniform(-0.1, 0.1, len(time_s))).astype(np.float32)


def sound_bytes(
    format: str = "WAV", subtype: str = "PCM_16", *, seconds: float = 1.0, rate_hz: int = 16_000, seed: int = 0
) -> bytes:
    """``sound_samples`` as a file."""
    file = io.BytesIO()
    soundfile.write(file, sound_samples(seconds, rate_hz, seed=seed), rate_hz, format=format, subtype=subtype)
    return file.getvalue()


def wav_bytes(
    samples: np.ndarray,
    *,
    rate_hz: int = 16_000,
    channels: int = 1,
    data_bytes: int | None = None,
    riff_bytes: int | None = None,
) -> bytes:
    """A WAV file whose header says what it is told to: int16 or float32 samples, any length, any rate."""
    data = samples.tobytes()
    width = samples.dtype.itemsize
    code = 3 if samples.dtype.kind == "f" else 1
    frame = (width * channels) & 0xFFFF
    heading = struct.pack("<HHIIHH", code, channels, rate_hz, (rate_hz * frame) & 0xFFFFFFFF, frame, 8 * width)
    promised = len(data) if data_bytes is None else data_bytes
    body = b"WAVEfmt " + struct.pack("<I", len(heading)) + heading + b"data" + struct.pack("<I", promised) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff_bytes is None else riff_bytes) + body


def png_bytes(width: int, height: int, rows: bytes) -> bytes:
    """A one-bit PNG with that size in its header, whatever ``rows`` hold (compressed already)."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def png_bomb(side: int = 30_000) -> bytes:
    """A real one: 109 kB that unfold to ``side`` x ``side`` white pixels."""
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    packer = zlib.compressobj(9)
    return png_bytes(side, side, b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


def tiff_bytes(width: int, height: int, *, tile: tuple[int, int] | None = None) -> bytes:
    """A grey TIFF that states these sizes and holds 16 bytes of pixels."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    if tile is None:
        entries += [(273, 4, 300), (278, 4, height), (279, 4, 16)]
    else:
        entries += [(322, 4, tile[0]), (323, 4, tile[1]), (324, 4, 300), (325, 4, 16)]
    table = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries)
    )
    return (b"II*\0" + struct.pack("<I", 8) + table + b"\0" * 4).ljust(300, b"\0") + bytes(16)


def ico_bytes(png: bytes) -> bytes:
    """An icon of 16 x 16 by its own account, with any PNG in it."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(png), 22) + png


def svg_bytes(body: str, *, head: str = "", size: str = 'width="40" height="30"') -> bytes:
    return (
        f'<?xml version="1.0"?>{head}<svg xmlns="http://www.w3.org/2000/svg"'
        f' xmlns:xlink="http://www.w3.org/1999/xlink" {size}>{body}</svg>'
    ).encode()


def _pictures(bad) -> None:  # type: ignore[no-untyped-def]
    jpeg = picture_bytes("JPEG")
    bad("truncated.jpg", jpeg[: len(jpeg) // 2], "is a JPEG picture that is cut short", "its end is missing")
    bad("header-only.jpg", jpeg[:200], "is a JPEG picture that is")
    png = picture_bytes("PNG")
    at = png.index(b"IDAT") - 4
    bad("chunk-too-long.png", png[:at] + struct.pack(">I", 0x7FFFFFFF) + png[at + 4 :], "is a PNG picture that is")
    bad("chunk-too-short.png", png[:at] + struct.pack(">I", 10) + png[at + 4 :], "is a PNG picture that is")
    webp = picture_bytes("WEBP")
    bad("truncated.webp", webp[: len(webp) // 2], "is a WebP picture that is")
    gif = picture_bytes("GIF")
    bad("truncated.gif", gif[: len(gif) // 2], "is a GIF picture that is cut short")
    bad("empty.jpg", b"", "is empty (0 bytes)")
    bad("words.jpg", b"I am not a picture.\n", "is text, not a picture; rename it to .txt")
    bad("page.jpg", b"<!DOCTYPE html><html>404</html>", "is an HTML page, not a picture; download")
    bad("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull")
    bad("sound.png", sound_bytes(seconds=0.1), "is a WAV sound, not a picture; rename it to .wav")
    bad("noise.png", bytes(range(128, 256)) * 8, "not a picture of any known kind")
    bad("bomb.png", png_bomb(), "900 MP (30,000 x 30,000) is over the 179 MP limit; raise --max-megapixels")
    bad("bomb.tif", tiff_bytes(60_000, 60_000), "3,600 MP", "raise --max-megapixels")
    bad("tile-bomb.tif", tiff_bytes(16, 16, tile=(60_000, 60_000)), "3,600 MP", "raise --max-megapixels")
    bad("bomb.gif", gif[:6] + b"\xff" * 4 + gif[10:], "4,295 MP", "raise --max-megapixels")
    bad("bomb.ico", ico_bytes(png_bytes(30_000, 30_000, zlib.compress(b""))), "900 MP", "raise --max-megapixels")


def _drawings(bad) -> None:  # type: ignore[no-untyped-def]
    bad("outside.svg", svg_bytes('<image href="/etc/logo.png" width="9" height="9"/>'), "takes in another file")
    bad("web.svg", svg_bytes('<image xlink:href="http://127.0.0.1:9/a.png"/>'), "takes in another file")
    bad(
        "entity-file.svg",
        svg_bytes("<text>&x;</text>", head='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "takes in another file through an entity",
    )
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bad(
        "laughs.svg",
        svg_bytes("<text>&l9;</text>", head=f'<!DOCTYPE svg [<!ENTITY l0 "ha">{laughs}]>'),
        "unfolds itself through its entities",
    )
    again = "".join(f'<g id="u{n}">{f"""<use xlink:href="#u{n - 1}"/>""" * 10}</g>' for n in range(1, 10))
    bad("uses.svg", svg_bytes(f'<defs><g id="u0"><rect/></g>{again}</defs><use xlink:href="#u9"/>'), "is an SVG that")
    hidden = base64.b64encode(png_bytes(30_000, 30_000, zlib.compress(b""))).decode()
    bad("png-bomb.svg", svg_bytes(f'<image href="data:image/png;base64,{hidden}"/>'), "900 MP")
    bad("unclosed.svg", svg_bytes("<g>"), "is an SVG that is damaged")
    bad("deep.svg", svg_bytes("<g>" * 50_000 + "</g>" * 50_000), "is an SVG that")


def _sounds(bad) -> None:  # type: ignore[no-untyped-def]
    whole = (sound_samples(1.0) * 32767).astype(np.int16)
    bad("promises-more.wav", wav_bytes(whole, data_bytes=10 * whole.nbytes), "is cut short", "are missing")
    for name, format, subtype in (
        ("truncated.wav", "WAV", "PCM_16"),
        ("truncated.flac", "FLAC", "PCM_16"),
        ("truncated.ogg", "OGG", "VORBIS"),
        ("truncated.mp3", "MP3", "MPEG_LAYER_III"),
        ("truncated.aiff", "AIFF", "PCM_16"),
    ):
        content = sound_bytes(format, subtype, seconds=3.0)
        says = ("is a sound that is damaged or cut short",) if format == "FLAC" else ("is cut short",)
        bad(name, content[: len(content) * 3 // 5], *says)
    bad("no-samples.wav", wav_bytes(whole[:0]), "holds no samples")
    for name, value in (("nan.wav", np.nan), ("infinite.wav", np.inf)):
        broken = sound_samples(1.0)
        broken[8000] = value
        bad(name, wav_bytes(broken), "NaN or infinite, at 0.50 s")
    bad("one-hertz.wav", wav_bytes(whole, rate_hz=1), "a sample rate of 1 Hz is outside 1,000 to 768,000 Hz")
    bad("ten-megahertz.wav", wav_bytes(whole, rate_hz=10_000_000), "a sample rate of 10,000,000 Hz is outside")
    bad("zero-hertz.wav", wav_bytes(whole, rate_hz=0), "is a sound that is damaged")
    bad("channels-1000.wav", wav_bytes(whole, channels=1000), "1,000 channels are over the limit of 64")
    bad("channels-65535.wav", wav_bytes(whole, channels=65535), "damaged")
    bad("channels-0.wav", wav_bytes(whole, channels=0), "damaged")
    bad("empty.wav", b"", "is empty (0 bytes)")
    bad("words.mp3", b"I am not a sound.\n", "is text, not a sound; rename it to .txt")
    bad("picture.ogg", picture_bytes("PNG"), "is a PNG picture, not a sound; rename it to .png")
    bad("film.flac", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64), "is an MPEG-4 film, not a sound")
    bad("playlist.m4a", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n", "is text, not a sound")
    bad("noise.wav", bytes(range(128, 256)) * 8, "is a sound that is damaged")
    bad("noise.m4a", b"\0\0\0\x18ftypM4A \0\0\2\0M4A mp42" + bytes(range(256)), "is a sound that is damaged")


def _texts(bad) -> None:  # type: ignore[no-untyped-def]
    bad("latin.txt", "caf\xe9 au lait".encode("latin-1"), "is not UTF-8 (byte 0xe9 at offset 3)", "iconv")
    bad("binary.txt", b"some words\0\1\2\3", "is binary, not text (NUL byte at offset 10)")
    bad("document.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF document, not text; export")
    bad("picture.md", picture_bytes("PNG"), "is a PNG picture, not text; rename it to .png")
    bad("half-utf-16.txt", "odd".encode("utf-16") + b"x", "is not UTF-16-LE")
    bad("empty.txt", b"", "is empty (0 bytes)")
    bad("blank.txt", b" \n\t\n", "holds only white space")


def _no_files(folder: Path) -> list[BadFile]:
    """Names that no bytes can be read from, and a file of a gigabyte that is mostly a hole."""
    with (folder / "gigabyte.txt").open("wb") as file:
        file.truncate(1_000_000_000)
    os.mkfifo(folder / "pipe.wav")
    os.mknod(folder / "socket.jpg", stat.S_IFSOCK | 0o600)
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "deeper").mkdir(exist_ok=True)
    (folder / "deeper" / "parent").symlink_to(folder, target_is_directory=True)
    return [
        BadFile("gigabyte.txt", ("1,000 MB is over the 50 MB limit; raise --max-text-mb",)),
        BadFile("pipe.wav", ("is a FIFO", "it was not opened")),
        BadFile("socket.jpg", ("is a socket", "it was not opened")),
        BadFile("device.wav", ("is a device", "it was not opened")),
        BadFile("dangling.jpg", ("is a link to nowhere.jpg, which does not exist",)),
        BadFile("circle.jpg", ("is a link that leads back to itself",)),
    ]


def _good(folder: Path) -> None:
    samples = (sound_samples(1.0) * 32767).astype(np.int16)
    contents = (
        picture_bytes("PNG", seed=1),
        wav_bytes(samples),
        b"A good text.",
        b"A name of two lines.",
        b"A name that is not UTF-8.",
        b"A long name.",
        b"A name with an escape code.",
        "Größe in zwei Bytes".encode("utf-16"),
        wav_bytes(samples, data_bytes=0xFFFFFFFF, riff_bytes=0xFFFFFFFF),
        wav_bytes(samples, data_bytes=0, riff_bytes=0),
    )
    for name, content in zip(GOOD_FILES, contents, strict=True):
        (folder / name).write_bytes(content)
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "Thumbs.db").write_bytes(b"\0")
    (folder / "__MACOSX").mkdir(exist_ok=True)
    (folder / "__MACOSX" / "._a.jpg").write_bytes(b"\0\5\x16\7")
    (folder / "__MACOSX" / "b.jpg").write_bytes(b"\0\5\x16\7")


if __name__ == "__main__":
    make_bad_files(Path(sys.argv[1]))
    make_bad_manifest(Path(sys.argv[1]) / "rows")
