"""What a file is: by its suffix (before it is opened) and by its first bytes (after). Decodes nothing."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from indexer.items import Modality


def _listed(suffixes: str) -> frozenset[str]:
    return frozenset(suffixes.split())


IMAGE_SUFFIXES = _listed(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ico .ppm .pgm .pbm .pnm"
    " .svg .heic .heif .hif .avif"
)
AUDIO_SUFFIXES = _listed(
    ".wav .wave .flac .ogg .oga .opus .mp3 .m4a .m4b .aac .wma .aif .aiff .aifc .caf .au .snd .w64 .rf64"
    " .amr .ac3 .eac3 .mka .weba"
)
TEXT_SUFFIXES = _listed(".txt .md .markdown .rst")
#: Given as an argument, these are manifests; found in a folder, they are left alone.
MANIFEST_SUFFIXES = _listed(".jsonl .csv .parquet")

#: What a modality is called in a sentence.
NOUN = {Modality.IMAGE: "a picture", Modality.AUDIO: "a sound", Modality.TEXT: "text"}

_SUFFIXES = {
    **dict.fromkeys(IMAGE_SUFFIXES, Modality.IMAGE),
    **dict.fromkeys(AUDIO_SUFFIXES, Modality.AUDIO),
    **dict.fromkeys(TEXT_SUFFIXES, Modality.TEXT),
}

#: Bytes that ``sniff`` wants to see.
HEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Kind:
    """What the first bytes say: ``modality`` None for something this project does not read."""

    name: str
    """As in "is a PNG picture"."""
    modality: Modality | None
    suffix: str = ""
    """The usual suffix, for the advice to rename; empty where renaming would not help."""
    remedy: str = ""
    """For what is not read: what to do instead."""


JPEG = Kind("a JPEG picture", Modality.IMAGE, ".jpg")
PNG = Kind("a PNG picture", Modality.IMAGE, ".png")
ICO = Kind("an ICO picture", Modality.IMAGE, ".ico")
SVG = Kind("an SVG picture", Modality.IMAGE, ".svg")
HEIF = Kind("a HEIC picture", Modality.IMAGE, ".heic")
AVIF = Kind("an AVIF picture", Modality.IMAGE, ".avif")
WAV = Kind("a WAV sound", Modality.AUDIO, ".wav")
AIFF = Kind("an AIFF sound", Modality.AUDIO, ".aiff")
MP4_SOUND = Kind("an MPEG-4 sound", Modality.AUDIO, ".m4a")
MP4 = Kind("an MPEG-4 film", None, "", "take its sound out: ffmpeg -i FILE -vn sound.flac")
MATROSKA = Kind("a Matroska or WebM film", None, "", "take its sound out: ffmpeg -i FILE -vn sound.flac")
TEXT = Kind("text", Modality.TEXT, ".txt")
HTML = Kind("an HTML page", None, "", "download the file itself")
LFS = Kind("a Git LFS pointer, without the file's content", None, "", "run: git lfs pull")
UNKNOWN = Kind("of no kind that is known here", None)

_AT_START: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", Kind("a GIF picture", Modality.IMAGE, ".gif")),
    (b"GIF89a", Kind("a GIF picture", Modality.IMAGE, ".gif")),
    (b"II*\0", Kind("a TIFF picture", Modality.IMAGE, ".tif")),
    (b"MM\0*", Kind("a TIFF picture", Modality.IMAGE, ".tif")),
    (b"II+\0", Kind("a TIFF picture", Modality.IMAGE, ".tif")),
    (b"MM\0+", Kind("a TIFF picture", Modality.IMAGE, ".tif")),
    (b"\0\0\1\0", ICO),
    (b"fLaC", Kind("a FLAC sound", Modality.AUDIO, ".flac")),
    (b"OggS", Kind("an Ogg sound", Modality.AUDIO, ".ogg")),
    (b"ID3", Kind("an MP3 sound", Modality.AUDIO, ".mp3")),
    (b"caff", Kind("a CAF sound", Modality.AUDIO, ".caf")),
    (b".snd", Kind("an AU sound", Modality.AUDIO, ".au")),
    (b"RF64", Kind("an RF64 sound", Modality.AUDIO, ".wav")),
    (b"BW64", Kind("a BW64 sound", Modality.AUDIO, ".wav")),
    (b"riff.\x91\xcf\x11", Kind("a W64 sound", Modality.AUDIO, ".w64")),
    (b"#!AMR", Kind("an AMR sound", Modality.AUDIO, ".amr")),
    (b"\x0bw", Kind("an AC-3 sound", Modality.AUDIO, ".ac3")),
    (b"0&\xb2u\x8ef\xcf\x11", Kind("a WMA sound", Modality.AUDIO, ".wma")),
    (b"\x1aE\xdf\xa3", MATROSKA),
    (b"%PDF-", Kind("a PDF document", None, "", "export its text or its pages as pictures")),
    (b"%!PS", Kind("a PostScript document", None, "", "export it as PNG")),
    (b"8BPS", Kind("a Photoshop document", None, "", "export it as PNG")),
    (b"PK\x03\x04", Kind("a ZIP archive or office document", None, "", "unpack it")),
    (b"\x1f\x8b", Kind("a gzip archive", None, "", "unpack it")),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", None, "", "unpack it")),
    (b"Rar!", Kind("a RAR archive", None, "", "unpack it")),
    (b"\x7fELF", Kind("a program", None)),
    (b"SQLite format 3\0", Kind("an SQLite database", None)),
    (b"version https://git-lfs", LFS),
)
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_RIFF = {
    b"WAVE": WAV,
    b"WEBP": Kind("a WebP picture", Modality.IMAGE, ".webp"),
    b"AVI ": Kind("an AVI film", None, "", MP4.remedy),
}
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))


def modality_of(path: Path) -> Modality | None:
    """By the suffix table, upper and lower case alike; None for a suffix that is not in it."""
    return _SUFFIXES.get(path.suffix.lower())


def known_suffixes(modalities: frozenset[Modality] = frozenset(Modality)) -> str:
    """The suffixes of these modalities, as a line for messages."""
    return " ".join(sorted(suffix for suffix, modality in _SUFFIXES.items() if modality in modalities))


def sniff(head: bytes) -> Kind:
    """Name what starts with ``head`` (up to ``HEAD_BYTES`` of a file). ``UNKNOWN`` where nothing fits."""
    for magic, kind in _AT_START:
        if head.startswith(magic):
            return kind
    kind = _container(head)
    return kind if kind is not UNKNOWN else _words(head)


def _container(head: bytes) -> Kind:
    """Formats whose mark is not simply the first bytes."""
    inner = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX") and inner in _RIFF:
        return _RIFF[inner]
    if head[:4] == b"FORM" and inner in (b"AIFF", b"AIFC"):
        return AIFF
    return _iso_media(head) if head[4:8] == b"ftyp" else _unmarked(head)


def _iso_media(head: bytes) -> Kind:
    """The family of MPEG-4, by its brands: the main one is first."""
    main = head[8:12]
    brands = {head[at : at + 4] for at in range(8, min(len(head), int.from_bytes(head[:4])), 4)}
    if main in (b"avif", b"avis") or b"avif" in brands:
        return AVIF
    if main in _HEIF_BRANDS:
        return HEIF
    return MP4_SOUND if main in (b"M4A ", b"M4B ", b"M4P ", b"F4A ") else MP4


def _unmarked(head: bytes) -> Kind:
    """Formats of a short mark or none, by the values of their first fields."""
    if head[:2] == b"BM" and len(head) >= 18 and int.from_bytes(head[14:18], "little") in range(12, 200):
        return Kind("a BMP picture", Modality.IMAGE, ".bmp")
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return Kind("a PNM picture", Modality.IMAGE, ".ppm")
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Kind("an AAC sound", Modality.AUDIO, ".aac")
    if _is_mpeg_sound(head):
        return Kind("an MP3 sound", Modality.AUDIO, ".mp3")
    return UNKNOWN


def _is_mpeg_sound(head: bytes) -> bool:
    """Eleven bits of sync, then a layer that is II or III, a bit rate and a sample rate."""
    return (
        len(head) >= 4
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x06 in (0x02, 0x04)
        and head[2] >> 4 not in (0, 15)
        and head[2] & 0x0C != 0x0C
    )


def _words(head: bytes) -> Kind:
    """Text and what is written in it."""
    if head.startswith(_BOMS):
        bom = next(bom for bom in _BOMS if head.startswith(bom))
        codec = {codecs.BOM_UTF8: "utf-8-sig"}.get(bom, "utf-32" if len(bom) == 4 else "utf-16")
        text = head.decode(codec, "replace")
    elif b"\0" in head:
        return UNKNOWN
    else:
        try:
            # final=False: the head may end inside a character
            text = codecs.getincrementaldecoder("utf-8")().decode(head, False)
        except UnicodeDecodeError:
            return UNKNOWN
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return HTML
    if start.startswith(("<?xml", "<svg", "<!--", "<!doctype svg")) and "<svg" in start:
        return SVG
    return TEXT if start else UNKNOWN
