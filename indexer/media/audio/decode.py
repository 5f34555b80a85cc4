"""One sound file -> mono samples at 16,000 Hz -> windows. Knows nothing of pictures, text or models.

libsndfile reads what it knows (WAV, FLAC, Ogg, AIFF ...), FFmpeg the rest (MP3, M4A, AAC, WMA ...). A file
is read block by block, and only the 16,000 Hz mono samples are kept; of a long sound not even these. It is decoded
twice: once for its length and its peak, by which all of it is scaled, and once for its windows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from indexer.errors import ChangedWhileRead, MediaError
from indexer.files import display_path, media_error, one_line, open_file, trouble
from indexer.items import Modality, Samples
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits, check_size
from indexer.media.audio.chained import links
from indexer.media.audio.ffmpeg import read_with_ffmpeg
from indexer.media.audio.file_bytes import FileBytes
from indexer.media.audio.resample import KEPT_S, Collector, scaled
from indexer.media.audio.tags import behind_tags
from indexer.media.audio.truncation import believable_frames, check_promise, cut_short, is_mpeg_wav
from indexer.media.formats import MATROSKA, MP4, UNKNOWN
from indexer.media.stopwatch import Stopwatch
from indexer.media.wrong_kind import wrong_kind

#: What is new in a last window must be this long; less is added to the window before it.
MIN_TAIL_S = 1.0

_BLOCK_FRAMES = 1 << 16
_FFMPEG_NAMES = {
    ".wav": "wav",
    ".flac": "flac",
    ".ogg": "ogg",
    ".mp3": "mp3",
    ".caf": "caf",
    ".au": "au",
    ".w64": "w64",
    ".aiff": "aiff",
    ".amr": "amr",
    ".ac3": "ac3",
    ".wma": "asf",
    ".m4a": "mov",
    ".aac": "aac",
    ".mka": "matroska",
}
#: What libsndfile does not know; and MP3, of whose damage it writes to the terminal.
_ONLY_FFMPEG = frozenset((".m4a", ".aac", ".wma", ".amr", ".ac3", ".mka", ".mp3"))
#: For content without a mark of its own, the format its suffix stands for.
_BY_SUFFIX = {
    ".wave": ".wav",
    ".oga": ".ogg",
    ".opus": ".ogg",
    ".aif": ".aiff",
    ".aifc": ".aiff",
    ".snd": ".au",
    ".m4b": ".m4a",
    ".eac3": ".ac3",
    ".weba": ".mka",
    ".rf64": ".wav",
}


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound of which everything was decoded once."""

    duration_s: float
    windows: Iterator[tuple[float, float, Samples]]
    """(start_s, end_s, samples of it), in order, as :func:`sound_windows`. Raises ``MediaError`` as the file did."""


def open_sound(path: Path, limits: MediaLimits, *, keep_s: float = KEPT_S) -> Sound:
    """The windows of a sound, in memory that does not grow with its length.

    Mono float32 at 16,000 Hz in [-1, 1], as :func:`read_sound` gives them. A sound of up to ``keep_s`` is kept, a
    longer one is decoded again while its windows are taken. Raises what :func:`read_sound` raises, before the first
    window.
    """
    collected = _collected(path, limits, keep_s)
    duration_s = collected.count / SAMPLE_RATE_HZ
    kept = collected.samples()
    if kept is not None:
        return Sound(duration_s, iter(sound_windows(kept, limits)))
    return Sound(duration_s, _again(path, limits, collected))


def read_sound(path: Path, limits: MediaLimits) -> tuple[Samples, float]:
    """Mono float32 samples at 16,000 Hz in [-1, 1], and the duration in seconds. Deterministic, thread-safe.

    Channels are averaged; where they cancel each other, the loudest is taken.
    A sound that goes beyond full scale (float files, overshooting decoders) is
    scaled down as a whole, never clipped. Raises ``MediaError`` for what is no sound, is damaged, is cut
    short, holds no samples or NaN, or is over a limit. All of it is in memory; :func:`open_sound` is for long ones.
    """
    samples = _collected(path, limits, math.inf).samples()
    assert samples is not None  # everything was kept
    return samples, len(samples) / SAMPLE_RATE_HZ


def sound_windows(samples: Samples, limits: MediaLimits) -> list[tuple[float, float, Samples]]:
    """Cut into overlapping windows: (start_s, end_s, samples of it), in order; views, nothing is copied.

    Windows of ``window_s`` start every ``hop_s`` until the end is reached. A sound that fits one window is
    that window, unpadded. A last window that would add less than 1 s is a whole window up to the end instead, so
    that no window is longer than ``window_s`` and none is a scrap.
    """
    return [
        (start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, samples[start:end])
        for start, end in _spans(len(samples), limits)
    ]


def _spans(count: int, limits: MediaLimits) -> Iterator[tuple[int, int]]:
    """The windows of ``count`` samples: (start, end) in samples, in order."""
    window = max(1, round(limits.window_s * SAMPLE_RATE_HZ))
    hop = min(window, max(1, round(limits.hop_s * SAMPLE_RATE_HZ)))
    start, end = 0, min(window, count)
    yield start, end
    while end < count:
        if count - end < min(MIN_TAIL_S * SAMPLE_RATE_HZ, window):
            start, end = count - window, count
        else:
            start, end = start + hop, min(start + hop + window, count)
        yield start, end


def _collected(path: Path, limits: MediaLimits, keep_s: float) -> Collector:
    """All of a sound, read; once more where its channels cancel each other, so that the loudest is taken."""
    collected = Collector(path, limits, Stopwatch(path, limits), keep_s)
    for _ in _blocks(path, collected):
        pass
    channel = collected.louder_channel
    if channel is None:
        return collected
    alone = Collector(path, limits, Stopwatch(path, limits), keep_s, channel=channel)
    for _ in _blocks(path, alone):
        pass
    return alone


def _again(path: Path, limits: MediaLimits, known: Collector) -> Iterator[tuple[float, float, Samples]]:
    """Decode a sound of known length and peak once more, and cut its windows on the way."""
    watch = Stopwatch(path, limits)
    count, peak = known.count, known.peak
    collected = Collector(path, limits, watch, keep_s=0, channel=known.channel)
    blocks = _blocks(path, collected)
    held, first = np.empty(0, np.float32), 0  # samples, and the place of the first of them in the sound
    for start, end in _spans(count, limits):
        parts = [held[start - first :]]
        reached = first + len(held)
        while reached < end:
            block = next(blocks, None)
            if block is None:
                raise ChangedWhileRead(display_path(path))
            parts.append(block[max(0, start - reached) :])
            reached += len(block)
        held, first = np.concatenate(parts), start
        window = scaled(held[: end - start].copy(), peak)
        paused = watch.pause()
        yield start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, window
        watch.resume(paused)
    for _ in blocks:
        pass
    if collected.count != count or collected.peak != peak:
        raise ChangedWhileRead(display_path(path))


def _blocks(path: Path, collected: Collector) -> Iterator[Samples]:
    """Decode all of a file: its samples at 16,000 Hz as they come, not scaled. Raises ``MediaError`` only."""
    with open_file(path) as file:
        try:
            yield from _read(path, file, collected)
        except MediaError:
            raise
        except MemoryError as error:
            raise media_error(path, "needs more memory than there is; cut it into shorter files") from error
        except Exception as error:  # libsndfile's and FFmpeg's errors have many bases
            if isinstance(error, OSError) and error.errno is not None and not _is_av(error):
                raise media_error(path, trouble(error, path)) from error
            raise media_error(path, _damaged(error)) from error


def _read(path: Path, file: BinaryIO, collected: Collector) -> Iterator[Samples]:
    content = FileBytes(file.fileno())
    check_size(path, content.size, Modality.AUDIO, collected.limits)
    kind, content = behind_tags(content)
    suffix = _BY_SUFFIX.get(path.suffix.lower(), path.suffix.lower())
    # A film is no sound; but a sound may stand in a film's container, and then its suffix says so.
    in_container = (kind is MP4 and suffix == ".m4a") or (kind is MATROSKA and suffix == ".mka")
    if kind.modality is not Modality.AUDIO and not in_container and kind is not UNKNOWN:
        raise wrong_kind(path, kind, Modality.AUDIO)
    source = kind.suffix or suffix
    if source not in _FFMPEG_NAMES:
        raise wrong_kind(path, UNKNOWN, Modality.AUDIO)
    for number, sound in enumerate(links(path, content, collected.watch)):
        if number:
            yield collected.end_part()
        yield from _read_one(path, sound, source, collected, is_known=kind is not UNKNOWN)
    yield collected.finish()


def _read_one(
    path: Path, content: FileBytes, source: str, collected: Collector, *, is_known: bool
) -> Iterator[Samples]:
    """One sound of a file. Each decoder starts at its first byte, whatever another has read before."""
    streamed = check_promise(path, content)
    # Of a file that states no length, libsndfile sometimes finds no samples; what has no mark it takes for MP3.
    only_ffmpeg = streamed or not is_known or source in _ONLY_FFMPEG or is_mpeg_wav(content)
    sound = None if only_ffmpeg else _open_with_libsndfile(content)
    if sound is None:
        yield from read_with_ffmpeg(path, content, _FFMPEG_NAMES[source], collected)
        return
    with sound:
        yield from _with_libsndfile(path, sound, content.size, collected)


def _open_with_libsndfile(content: FileBytes) -> soundfile.SoundFile | None:
    """None when libsndfile does not know the format or the codec in it."""
    source: Any = content.part()
    if content.is_whole:
        source = content.handle  # faster than calls into Python
        os.lseek(source, 0, os.SEEK_SET)
    try:
        return soundfile.SoundFile(source, closefd=False)
    except soundfile.LibsndfileError:
        return None


def _with_libsndfile(path: Path, sound: soundfile.SoundFile, n_bytes: int, collected: Collector) -> Iterator[Samples]:
    promised = believable_frames(sound.frames, sound.samplerate, n_bytes)
    collected.start(sound.samplerate, sound.channels, promised)
    read = 0
    while len(block := sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        read += len(block)
        yield collected.add(block)  # (frames, channels)
    # Ogg promises by its last page, which sound_headers.py has looked at.
    if read + 1 < sound.frames and sound.format != "OGG":
        raise cut_short(path, f"{read:,} of {sound.frames:,} frames are there")


def _is_av(error: Exception) -> bool:
    return type(error).__module__.startswith("av.")


def _damaged(error: Exception) -> str:
    message = one_line(getattr(error, "strerror", None) or error)
    return f"is a sound that is damaged or cut short ({message}); copy it again or remove it"
