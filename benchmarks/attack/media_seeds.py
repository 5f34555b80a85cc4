"""Pictures, sounds and texts in every format that is accepted, each some hundred bytes to some kilobytes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from benchmarks.attack.seeds import Seed

_RATE_HZ = 16_000


def make(work: Path) -> list[Seed]:
    """All of them. ``work`` is not needed."""
    formats = {
        "jpe": "jpeg",
        "jpg": "jpeg",
        "tif": "tiff",
        "m4a": "bmff",
        "m4b": "bmff",
        "heic": "bmff",
        "avif": "bmff",
        "wav": "riff",
        "webp": "riff",
        "aiff": "form",
        "aifc": "form",
        "opus": "ogg",
        "svg": "xml",
        "md": "text",
        "txt": "text",
        "rst": "text",
    }
    found = []
    for name, content in {**pictures(), **sounds(), **texts()}.items():
        suffix = name.partition("-")[0]
        file = f"a.{suffix}"
        # a drawing costs a process
        weight = 0.15 if suffix == "svg" else 1.0
        found.append(Seed(name, "media", file, {file: content}, formats.get(suffix, suffix), weight))
    return [*found, *_runs(found)]


def _runs(media: list[Seed]) -> list[Seed]:
    """A folder to be indexed, of which one file is damaged: its neighbours must come out as if alone."""
    by_name = {seed.name: seed for seed in media}
    good = {
        f"good/{name}{Path(by_name[name].target).suffix}": by_name[name].content
        for name in ("png", "jpg", "wav", "txt")
    }
    found = []
    for seed in media:
        if seed.weight == 1.0:
            file = f"good/m{Path(seed.target).suffix}"
            found.append(Seed(f"run-{seed.name}", "run", file, {**good, file: seed.content}, seed.format, 0.06))
    return found


# -- pictures --------------------------------------------------------------------------------------------------------


def pixels(size: tuple[int, int] = (24, 16), channels: int = 3, *, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise, uint8 ``(height, width, channels)``."""
    small = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, channels), dtype=np.uint8)
    return np.kron(small, np.ones((4, 4, 1), np.uint8))


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """By name; the part before the first ``-`` is the suffix."""
    rgb, rgba = Image.fromarray(pixels()), Image.fromarray(pixels(channels=4))
    grey16 = Image.fromarray(np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 170)
    floats = Image.fromarray(np.linspace(0, 1, 24 * 16, dtype=np.float32).reshape(16, 24))
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x0132: "2020:01:02 03:04:05", 0x9003: "2020:01:02 03:04:05"})
    words = PngImagePlugin.PngInfo()
    words.add_text("Title", "words " * 20)
    words.add_text("Comment", "words " * 200, zip=True)
    words.add_itxt("Description", "größer " * 20, "de", "Beschreibung", zip=True)
    frames = [Image.fromarray(pixels(seed=n)) for n in range(4)]
    icc = _icc()
    found = {
        "jpg": saved(rgb, "JPEG"),
        "jpg-progressive": saved(rgb, "JPEG", progressive=True, quality=60),
        "jpg-exif": saved(rgb, "JPEG", exif=exif.tobytes(), icc_profile=icc, comment=b"a comment", dpi=(72, 72)),
        "jpg-grey": saved(rgb.convert("L"), "JPEG", optimize=True),
        "jpg-cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "jpg-restart": saved(rgb, "JPEG", restart_marker_blocks=1, subsampling=2),
        "png": saved(rgb, "PNG"),
        "png-16": saved(grey16, "PNG"),
        "png-palette": saved(rgb.quantize(8), "PNG", transparency=1),
        "png-alpha": saved(rgba, "PNG"),
        "png-one": saved(rgb.convert("1"), "PNG"),
        "png-words": saved(rgb, "PNG", pnginfo=words, icc_profile=icc, exif=exif.tobytes(), dpi=(300, 300)),
        "png-animated": saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=40),
        "png-interlaced": _interlaced_png(),
        "gif": saved(rgb.quantize(16), "GIF"),
        "gif-frames": saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40, loop=0),
        "bmp": saved(rgb, "BMP"),
        "bmp-palette": saved(rgb.quantize(4), "BMP"),
        "bmp-one": saved(rgb.convert("1"), "BMP"),
        "tif": saved(rgb, "TIFF"),
        "tif-lzw": saved(rgb, "TIFF", compression="tiff_lzw"),
        "tif-deflate": saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "tif-jpeg": saved(rgb, "TIFF", compression="jpeg"),
        "tif-packbits": saved(rgb, "TIFF", compression="packbits"),
        "tif-fax": saved(rgb.convert("1"), "TIFF", compression="group4"),
        "tif-float": saved(floats, "TIFF", compression="tiff_adobe_deflate"),
        "tif-16": saved(grey16, "TIFF"),
        "tif-tiled": _tiled_tiff(rgb),
        "tif-pages": saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "tif-big": saved(rgb, "TIFF", big_tiff=True),
        "webp": saved(rgb, "WEBP"),
        "webp-lossless": saved(rgba, "WEBP", lossless=True, exif=exif.tobytes(), icc_profile=icc),
        "webp-frames": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=40),
        "avif": saved(rgb, "AVIF", exif=exif.tobytes()),
        "avif-frames": saved(frames[0], "AVIF", save_all=True, append_images=frames[1:], duration=40),
        "ico": saved(rgb, "ICO", sizes=[(16, 16)]),
        "ico-bmp": saved(rgb, "ICO", sizes=[(16, 16)], bitmap_format="bmp"),
        "ppm": saved(rgb, "PPM"),
        "pgm": saved(rgb.convert("L"), "PPM"),
        "pbm": b"P1\n# words\n4 3\n" + b"1 0 1 0\n" * 3,
        "ppm-words": b"P3\n2 2 255\n" + b"10 20 30  40 50 60\n" * 2,
        "ppm-16": b"P6\n4 3\n65535\n" + bytes(range(72)),
        "svg": _svg('<rect id="a" x="2" y="2" width="9" height="8" fill="#f00"/><circle cx="20" cy="15" r="6"/>'),
        "svg-rich": _svg(
            '<defs><linearGradient id="g"><stop offset="0" stop-color="red"/><stop offset="1"/></linearGradient>'
            '<filter id="f"><feGaussianBlur stdDeviation="2"/></filter><g id="u"><path d="M1 1L9 9Z"/></g></defs>'
            '<style>.a{fill:url(#g)}</style><g class="a" filter="url(#f)" transform="rotate(9)"><use href="#u"/></g>'
        ),
    }
    heic = _heic(rgb)
    return found if heic is None else {**found, "heic": heic}


def _icc() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _heic(picture: Image.Image) -> bytes | None:
    try:
        import pillow_heif
    except ImportError:
        return None
    file = io.BytesIO()
    pillow_heif.from_pillow(picture.resize((64, 64))).save(file, quality=50)
    return file.getvalue()


def _interlaced_png() -> bytes:
    """Adam7, 8 x 8 grey; Pillow writes none."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    raw = b"".join((b"\0" + bytes(range(10, 10 + width))) * height for width, height in passes)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _tiled_tiff(picture: Image.Image) -> bytes:
    """Two tiles of 16 x 16, not compressed."""
    tiles = b"".join(picture.crop((x, 0, x + 16, 16)).tobytes() for x in (0, 16))
    size = len(tiles) // 2
    entries = [
        (256, 4, 1, 32),
        (257, 4, 1, 16),
        (258, 3, 3, 200),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (322, 4, 1, 16),
        (323, 4, 1, 16),
        (324, 4, 2, 208),
        (325, 4, 2, 216),
    ]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *one) for one in entries)
    head = (b"II*\0" + struct.pack("<I", 8) + table + bytes(4)).ljust(200, b"\0")
    values = struct.pack("<HHHxxIIII", 8, 8, 8, 300, 300 + size, size, size)
    return (head + values).ljust(300, b"\0") + tiles


def _svg(body: str) -> bytes:
    return (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="40" height="30" viewBox="0 0 40 30">{body}</svg>'
    ).encode()


# -- sounds ----------------------------------------------------------------------------------------------------------


def samples(seconds: float = 0.2, channels: int = 1, *, rate_hz: int = _RATE_HZ) -> NDArray[np.float32]:
    """Tones, float32 ``(n, channels)``."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = [0.4 * np.sin(2 * np.pi * (300 + 170 * n) * time_s) for n in range(channels)]
    return np.stack(tones, axis=1).astype(np.float32)


def sound(format: str, subtype: str, *, channels: int = 1, seconds: float = 0.2, rate_hz: int = _RATE_HZ) -> bytes:
    """As soundfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, samples(seconds, channels, rate_hz=rate_hz), rate_hz, format=format, subtype=subtype)
    return file.getvalue()


def sounds() -> dict[str, bytes]:
    """By name; the part before the first ``-`` is the suffix."""
    wav = sound("WAV", "PCM_16")
    found = {
        "wav": wav,
        "wav-8": sound("WAV", "PCM_U8"),
        "wav-24": sound("WAV", "PCM_24", channels=2),
        "wav-32": sound("WAV", "PCM_32"),
        "wav-float": sound("WAV", "FLOAT"),
        "wav-double": sound("WAV", "DOUBLE"),
        "wav-ima": sound("WAV", "IMA_ADPCM"),
        "wav-ms": sound("WAV", "MS_ADPCM"),
        "wav-ulaw": sound("WAV", "ULAW"),
        "wav-gsm": sound("WAV", "GSM610"),
        "wav-x": sound("WAVEX", "PCM_16", channels=6),
        "wav-words": wav + b"LIST" + struct.pack("<I", 30) + b"INFOICMT" + struct.pack("<I", 18) + b"a comment" * 2,
        "rf64": sound("RF64", "PCM_16"),
        "w64": sound("W64", "PCM_16"),
        "flac": sound("FLAC", "PCM_16"),
        "flac-24": sound("FLAC", "PCM_24", channels=2),
        "ogg": sound("OGG", "VORBIS"),
        "opus": sound("OGG", "OPUS", rate_hz=48_000),
        "mp3": sound("MP3", "MPEG_LAYER_III"),
        "mp3-id3": _id3(b"TIT2", b"\0a title") + sound("MP3", "MPEG_LAYER_III"),
        "aiff": sound("AIFF", "PCM_16"),
        "aifc": sound("AIFF", "ULAW"),
        "caf": sound("CAF", "ALAC_16"),
        "caf-pcm": sound("CAF", "PCM_16"),
        "au": sound("AU", "PCM_16"),
        "snd": sound("AU", "ULAW"),
    }
    for name, container, codec, rate_hz in (
        ("m4a", "ipod", "aac", 16_000),
        ("m4a-alac", "ipod", "alac", 16_000),
        ("aac", "adts", "aac", 16_000),
        ("mka", "matroska", "libopus", 48_000),
        ("weba", "webm", "libopus", 48_000),
        ("mka-aac", "matroska", "aac", 16_000),
        ("wma", "asf", "wmav2", 16_000),
        ("ac3", "ac3", "ac3", 48_000),
        ("eac3", "eac3", "eac3", 48_000),
        ("mp3-2", "mp2", "mp2", 16_000),
    ):
        found[name] = with_ffmpeg(container, codec, rate_hz=rate_hz)
    return found


def with_ffmpeg(container: str, codec: str, *, rate_hz: int = _RATE_HZ, seconds: float = 0.3) -> bytes:
    """A sound as FFmpeg writes it."""
    import av
    from av.audio.resampler import AudioResampler

    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 32_000
        resampler = AudioResampler(stream.format, "mono", rate_hz, frame_size=stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples(seconds, rate_hz=rate_hz).T.copy(), format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        for one in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(one))
        out.mux(stream.encode(None))
    return file.getvalue()


def _id3(name: bytes, value: bytes) -> bytes:
    frame = name + struct.pack(">IH", len(value), 0) + value
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frame


# -- texts -----------------------------------------------------------------------------------------------------------


def texts() -> dict[str, bytes]:
    """In the encodings that are read."""
    words = "A text of größe. It has two parts!\n\nThe second “one” is here… 文字。もっと。\n" * 4
    return {
        "txt": words.encode(),
        "txt-mark": b"\xef\xbb\xbf" + words.encode(),
        "txt-16": words.encode("utf-16"),
        "txt-16be": b"\xfe\xff" + words.encode("utf-16-be"),
        "txt-32": words.encode("utf-32"),
        "md": b"# Heading\n\nSome *words*, a [link](a.png).\n\n- one\n- two\n",
        "rst": b"Heading\n=======\n\nSome words::\n\n    code\n",
    }
