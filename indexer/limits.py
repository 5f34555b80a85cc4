"""The limits that keep one file from harming a build, and the cuts that make segments. Knows no format."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from indexer.files import media_error
from indexer.items import Modality

#: Every tower hears mono sound at this rate.
SAMPLE_RATE_HZ = 16_000
#: Of everything that was read and waits for its encoding. The file that is next in line is always let through,
#: so a run holds this and one file of ``max_decoded_mb`` at the most, beside the model and its batch.
RUN_BYTES = 512 * 2**20
#: Of one table (manifest or queries), unfolded by another process, and of its rows together: this, or so many times its
#: file where that is more. There is no flag; a table can be split.
TABLE_BYTES, TABLE_FACTOR = 1_000_000_000, 8
#: Of processor time to unfold one parquet table.
TABLE_S = 120
#: Of how media are read; raised where other files become readable, or the same ones give other pixels or samples.
#: 2: ground by lightness, flat pictures stretched, empty first frames passed over, damaged remarks let be; tags and
#: joined sounds read, the loudest of channels that cancel each other.
#: 3: a large picture is decoded no finer than the model looks.
READING_RULES = 3
#: A sound may take ``max_seconds`` for every ten minutes of it.
SOUND_SHARE_S = 600.0
#: A text that is cut by a model's tokens may take ``max_seconds`` for every so many characters of it.
TEXT_SHARE_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What one file may cost, and how sound and text are cut. A file over a limit is a ``MediaError``.

    The first six are ceilings, each lifted by the flag of its name (``--max-megapixels`` ...). The
    last three decide the segments: the same file and the same values give the same segments, always.
    """

    max_megapixels: float = 179
    """Of a picture, before anything of it is allocated. Pillow's own ceiling against bombs."""
    max_file_mb: float = 2000
    """Of a sound or picture file, in 1,000,000 bytes."""
    max_text_mb: float = 50
    max_audio_hours: float = 12
    """A long sound is cut and prepared while it is decoded, so that its length takes time and no memory."""
    max_decoded_mb: float = 1000
    """Of memory that one file takes while it is read: by what comes out of it, not by its size on the disk."""
    max_seconds: float = 20
    """Of processor time to read a picture, ten minutes of a sound, or a million characters of a text."""
    window_s: float = 10.0
    hop_s: float = 8.0
    """From the start of one window to the start of the next; below ``window_s``, so that they overlap."""
    passage_chars: int = 600
    """Where the collection has no rule for passages, or the model can't say what it reads."""
    picture_px: int | None = None
    """The side of what the model sees: a large picture is decoded so that its shorter side keeps twice that or more.

    ``None``: every picture is decoded whole."""


def limits_for(window_s: float, limits: MediaLimits | None = None, *, picture_px: int | None = None) -> MediaLimits:
    """``limits`` with windows no longer than ``window_s``, what a sound tower hears; the overlap in proportion.

    ``picture_px``: the side of what a picture tower sees.
    """
    limits = replace(limits or MediaLimits(), picture_px=picture_px)
    if limits.window_s <= window_s:
        return limits
    return replace(limits, window_s=window_s, hop_s=limits.hop_s * window_s / limits.window_s)


def check_memory(path: str | os.PathLike[str], decoded_bytes: float, limits: MediaLimits) -> None:
    """Raises ``MediaError`` for a file that takes more memory while it is read than one file may."""
    if decoded_bytes > limits.max_decoded_mb * 1e6:
        raise media_error(
            path,
            f"takes {decoded_bytes / 1e6:,.0f} MB of memory to read, over the {limits.max_decoded_mb:,g} MB limit;"
            " make it smaller or raise --max-decoded-mb",
        )


def check_size(path: str | os.PathLike[str], size_bytes: int, modality: Modality, limits: MediaLimits) -> None:
    """Raises ``MediaError`` for an empty file and for one that is larger than its modality may be."""
    if size_bytes == 0:
        raise media_error(path, "is empty (0 bytes); copy it again or remove it")
    is_text = modality is Modality.TEXT
    limit_mb, flag = (limits.max_text_mb, "--max-text-mb") if is_text else (limits.max_file_mb, "--max-file-mb")
    if size_bytes > limit_mb * 1e6:
        raise media_error(path, f"{size_bytes / 1e6:,.0f} MB is over the {limit_mb:,g} MB limit; raise {flag}")
