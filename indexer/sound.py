"""One sound file -> mono samples at 16,000 Hz -> windows. Knows nothing of pictures, text or models.

libsndfile reads what it knows (WAV, FLAC, Ogg, AIFF ...), FFmpeg the rest (MP3, M4A, AAC, WMA ...). A file
is read block by block, and only the 16,000 Hz mono samples are kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import soundfile

from indexer.errors import MediaError
from indexer.ffmpeg import read_with_ffmpeg
from indexer.files import media_error, one_line, open_file, trouble
from indexer.items import Modality, Samples
from indexer.kinds import HEAD_BYTES, MATROSKA, MP4, UNKNOWN, sniff
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits, check_size
from indexer.mono import Collector
from indexer.sound_headers import check_promise, cut_short
from indexer.wrong_kind import wrong_kind

#: What is new in a last window must be this long; less is added to the window before it.
MIN_TAIL_S = 1.0

_BLOCK_FRAMES = 1 << 16
_FFMPEG_NAMES = {
    ".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".mp3": "mp3", ".caf": "caf", ".au": "au", ".w64": "w64",
    ".aiff": "aiff", ".amr": "amr", ".ac3": "ac3", ".wma": "asf", ".m4a": "mov", ".aac": "aac",
    ".mka": "matroska",
}  # fmt: skip
#: What libsndfile does not know; and MP3, of whose damage it writes to the terminal.
_ONLY_FFMPEG = frozenset((".m4a", ".aac", ".wma", ".amr", ".ac3", ".mka", ".mp3"))
#: For content without a mark of its own, the format its suffix stands for.
_BY_SUFFIX = {
    ".wave": ".wav", ".oga": ".ogg", ".opus": ".ogg", ".aif": ".aiff", ".aifc": ".aiff", ".snd": ".au",
    ".m4b": ".m4a", ".eac3": ".ac3", ".weba": ".mka", ".rf64": ".wav",
}  # fmt: skip


def read_sound(path: Path, limits: MediaLimits) -> tuple[Samples, float]:
    """Mono float32 samples at 16,000 Hz in [-1, 1], and the duration in seconds. Deterministic, thread-safe.

    Channels are averaged. A sound that goes beyond full scale (float files, overshooting decoders) is
    scaled down as a whole, never clipped. Raises ``MediaError`` for what is no sound, is damaged, is cut
    short, holds no samples or NaN, or is over a limit.
    """
    with open_file(path) as file:
        try:
            return _read(path, file, limits)
        except MediaError:
            raise
        except MemoryError as error:
            raise media_error(path, "needs more memory than there is; cut it into shorter files") from error
        except Exception as error:  # libsndfile's and FFmpeg's errors have many bases
            if isinstance(error, OSError) and error.errno is not None and not _is_av(error):
                raise media_error(path, trouble(error, path)) from error
            raise media_error(path, _damaged(error)) from error


def sound_windows(samples: Samples, limits: MediaLimits) -> list[tuple[float, float, Samples]]:
    """Cut into overlapping windows: (start_s, end_s, samples of it), in order; views, nothing is copied.

    Windows of ``window_s`` start every ``hop_s`` until the end is reached. A sound that fits one window is
    that window, unpadded. A last window that would add less than 1 s is a whole window up to the end instead, so
    that no window is longer than ``window_s`` and none is a scrap.
    """
    window = max(1, round(limits.window_s * SAMPLE_RATE_HZ))
    hop = min(window, max(1, round(limits.hop_s * SAMPLE_RATE_HZ)))
    spans = [(0, min(window, len(samples)))]
    while spans[-1][1] < len(samples):
        start, end = spans[-1]
        if len(samples) - end < min(MIN_TAIL_S * SAMPLE_RATE_HZ, window):
            spans.append((len(samples) - window, len(samples)))
        else:
            spans.append((start + hop, min(start + hop + window, len(samples))))
    return [(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, samples[start:end]) for start, end in spans]


def _read(path: Path, file: BinaryIO, limits: MediaLimits) -> tuple[Samples, float]:
    check_size(path, os.fstat(file.fileno()).st_size, Modality.AUDIO, limits)
    kind = sniff(file.read(HEAD_BYTES))
    suffix = _BY_SUFFIX.get(path.suffix.lower(), path.suffix.lower())
    # A film is no sound; but a sound may stand in a film's container, and then its suffix says so.
    in_container = (kind is MP4 and suffix == ".m4a") or (kind is MATROSKA and suffix == ".mka")
    if kind.modality is not Modality.AUDIO and not in_container and kind is not UNKNOWN:
        raise wrong_kind(path, kind, Modality.AUDIO)
    streamed = check_promise(path, file)
    collected = Collector(path, limits)
    source = kind.suffix or suffix
    # Of a file that states no length, libsndfile sometimes finds no samples.
    by_ffmpeg = streamed or source in _ONLY_FFMPEG
    if by_ffmpeg or not _with_libsndfile(path, file, collected):
        if source not in _FFMPEG_NAMES:
            raise wrong_kind(path, UNKNOWN, Modality.AUDIO)
        read_with_ffmpeg(path, file, _FFMPEG_NAMES[source], collected)
    samples = collected.finish()
    return samples, len(samples) / SAMPLE_RATE_HZ


def _with_libsndfile(path: Path, file: BinaryIO, collected: Collector) -> bool:
    """False when libsndfile does not know the format or the codec in it."""
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # the descriptor's own place, not the buffer's
    try:
        sound = soundfile.SoundFile(file.fileno(), closefd=False)
    except soundfile.LibsndfileError:
        return False
    with sound:
        collected.start(sound.samplerate, sound.channels, sound.frames)
        read = 0
        while len(block := sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            read += len(block)
            collected.add(block)  # (frames, channels)
        # Ogg promises by its last page, which sound_headers.py has looked at.
        if read + 1 < sound.frames and sound.format != "OGG":
            raise cut_short(path, f"{read:,} of {sound.frames:,} frames are there")
    return True


def _is_av(error: Exception) -> bool:
    return type(error).__module__.startswith("av.")


def _damaged(error: Exception) -> str:
    said = one_line(getattr(error, "strerror", None) or error)
    return f"is a sound that is damaged or cut short ({said}); copy it again or remove it"
