"""Kinds of files that are known and not indexed: what they are called, and what to do instead. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Under which files without a suffix are counted.
NO_SUFFIX = "(none)"
#: Kinds named in the line of counts; the rest is counted as others.
_MOST_NAMED = 8
_MOST_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class UnreadKind:
    """As in "is a film": and the remedy after "; "."""

    name: str
    remedy: str


_FILM = UnreadKind(
    "a film", "take its sound out: ffmpeg -i FILE -vn sound.flac; or a picture: ffmpeg -i FILE -vframes 1 FILE.png"
)
_SOUND = UnreadKind("a sound of a kind that is not read", "convert it: ffmpeg -i FILE sound.flac")
_RAW = UnreadKind("a camera's raw picture", "convert it to JPEG, with darktable-cli or the camera maker's program")
_GRAPHIC = UnreadKind("a picture of a kind that is not read", "export it as PNG")
_DOCUMENT = UnreadKind("a document", "export its text (.txt), or its pages as PNG")
_MARKUP = UnreadKind("a page of markup or a book", "export its text (.txt)")
_MAIL = UnreadKind("mail", "save its text (.txt) and its attachments as files")
_ARCHIVE = UnreadKind("an archive", "unpack it")

_KINDS: dict[str, UnreadKind] = {
    suffix: kind
    for kind, suffixes in (
        (_FILM, "mov mp4 m4v mkv avi webm wmv mpg mpeg mpe m2v 3gp 3g2 mts m2ts flv f4v vob mxf ogv asf divx rm rmvb"),
        (_SOUND, "ape wv mpc ra tta shn dsf dff dts spx mp2 mp1 tak gsm voc adx aa aax opx"),
        (UnreadKind("notes for instruments, not sound", "render it: fluidsynth FILE -F sound.wav"), "mid midi kar"),
        (_RAW, "cr2 cr3 crw nef nrw arw srf sr2 dng raf orf rw2 rwl pef srw x3f 3fr fff iiq mrw erf kdc dcr mef mos"),
        (
            _GRAPHIC,
            "psd psb ai eps xcf kra cdr indd jxl jp2 j2k jpf jpx jxr wdp hdp exr hdr tga dds emf wmf djvu djv"
            " pcx sgi xpm xbm cur icns afphoto afdesign clip procreate sketch fig flif qoi bpg",
        ),
        (
            _DOCUMENT,
            "pdf ps doc docx docm dot dotx odt ott rtf pages wpd wps ppt pptx pptm odp key xls xlsx xlsm ods"
            " numbers xps oxps one pub vsd vsdx",
        ),
        (_MARKUP, "html htm xhtml mhtml epub mobi azw azw3 fb2 tex chm"),
        (_MAIL, "eml msg mbox pst ost"),
        (_ARCHIVE, "zip 7z rar tar gz tgz bz2 tbz xz txz zst cbz cbr iso dmg"),
        (UnreadKind("a table", "index it by name: trimodal index FILE, where it is a manifest"), "jsonl csv parquet"),
    )
    for suffix in (f".{one}" for one in suffixes.split())
}


def unread_kind(suffix: str) -> UnreadKind | None:
    """What a file of this suffix is, where it is known and not read; ``suffix`` as ``.pdf``, in either case."""
    return _KINDS.get(suffix.lower())


def counts_line(counts: Mapping[str, int]) -> str:
    """Counts by suffix in a line, known kinds by name and most first; empty for no counts.

    >>> counts_line({".pdf": 12, ".mov": 2, ".xmp": 30, ".db": 10})
    'not indexed: 12 PDF, 2 MOV, 40 others (.xmp, .db)'
    """
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    named = [(suffix, count) for suffix, count in ordered if suffix in _KINDS][:_MOST_NAMED]
    shown = {suffix for suffix, _ in named}
    others = [(suffix, count) for suffix, count in ordered if suffix not in shown]
    parts = [f"{count:,} {suffix[1:].upper()}" for suffix, count in named]
    if others:
        n = sum(count for _, count in others)
        examples = ", ".join("no suffix" if suffix == NO_SUFFIX else suffix for suffix, _ in others[:_MOST_EXAMPLES])
        more = ", …" if len(others) > _MOST_EXAMPLES else ""
        parts.append(f"{n:,} {'other' if n == 1 else 'others'} ({examples}{more})")
    return f"not indexed: {', '.join(parts)}" if parts else ""
