"""Sound files that FFmpeg reads, through PyAV. Knows formats by FFmpeg's names; nothing of windows or limits.

FFmpeg gets the format that was seen and an open file, so that a list of other files (a playlist,
HLS) is never tried and nothing is opened by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from indexer.files import media_error
from indexer.items import Samples
from indexer.media.audio.file_bytes import FileBytes
from indexer.media.audio.resample import Collector
from indexer.media.audio.truncation import believable_frames, cut_short
from indexer.media.stopwatch import Stopwatch

#: Containers that state their duration; of the others FFmpeg's is a guess from the bit rate.
_STATE_DURATION = frozenset(("mov", "asf", "matroska", "caf"))
#: MP3 is cut and joined without care, and every player skips the damaged frames at the joints.
_MAX_DAMAGED_SHARE = 1 / 20
#: Of all channels together. Codecs use some thousands; one that states millions takes gigabytes to convert.
_MAX_FRAME_SAMPLES = 16_000_000


def read_with_ffmpeg(path: Path, file: FileBytes, name: str, collected: Collector) -> Iterator[Samples]:
    """Decode the first sound track of ``file``, of the format ``name``; what ``collected`` gives for each block.

    It starts at the first byte, whatever another decoder has read of it before.

    Raises ``MediaError`` where the track ends before its container says, and FFmpeg's own errors for
    damage; an MP3 may have a damaged frame in twenty.
    """
    heard = 0
    for block in _decoded(path, file, name, collected, {}):
        heard += 1
        yield block
    if heard == 0 and name == "mov":  # a list of edits that leaves nothing
        yield from _decoded(path, file, name, collected, {"ignore_editlist": "1"})


def _decoded(
    path: Path, file: FileBytes, name: str, collected: Collector, options: dict[str, str]
) -> Iterator[Samples]:
    import av

    quiet = _Quiet(file, collected.watch)
    with av.open(
        quiet, mode="r", format=name, options=options, io_open=_refuse_other_files, metadata_errors="replace"
    ) as sound:
        if not sound.streams.audio:
            raise media_error(path, "has no sound track; remove it")
        stream = sound.streams.audio[0]
        track = _Track(path, name, stream)
        for packet in sound.demux(stream):
            for frame in track.decode(packet):
                if track.rate_hz == 0:
                    track.rate_hz = rate_hz = int(frame.sample_rate)
                    stated = believable_frames(int(track.stated_s * rate_hz), rate_hz, file.size)
                    collected.start(rate_hz, len(frame.layout.channels), stated)
                track.check(frame)
                block = _block(frame)
                track.heard += len(block)
                yield collected.add(block)
    track.check_end()


class _Track:
    """A sound track, compared with what its container states and with itself while it is decoded."""

    def __init__(self, path: Path, name: str, stream: Any) -> None:
        self.path = path
        self.name = name
        self.stated_s = 0.0
        if name in _STATE_DURATION and stream.duration and stream.time_base:
            self.stated_s = float(stream.duration * stream.time_base)
        self.rate_hz = 0
        """Of the first frame; 0 before it."""
        self.heard = 0
        """Samples of a channel."""
        self.packets = self.damaged = 0

    def decode(self, packet: Any) -> list[Any]:
        """The frames of a packet; none of a damaged one of an MP3."""
        import av

        self.packets += 1
        try:
            frames: list[Any] = packet.decode()
        except av.error.InvalidDataError:
            if self.name != "mp3":
                raise
            self.damaged += 1
            return []
        return frames

    def check(self, frame: Any) -> None:
        """Raise ``MediaError`` for a frame of another rate than the first, or of too many samples."""
        if frame.sample_rate != self.rate_hz:
            raise media_error(self.path, "changes its sample rate midway; convert it (ffmpeg -i FILE new.flac)")
        if frame.samples * len(frame.layout.channels) > _MAX_FRAME_SAMPLES:
            raise media_error(
                self.path,
                f"has a frame of {frame.samples:,} samples, over the {_MAX_FRAME_SAMPLES:,} limit;"
                " convert it (ffmpeg -i FILE new.flac)",
            )

    def check_end(self) -> None:
        """Raise ``MediaError`` where too much was damaged, or less is there than the container states."""
        if self.damaged > self.packets * _MAX_DAMAGED_SHARE:
            raise media_error(
                self.path,
                f"is damaged: {self.damaged:,} of {self.packets:,} frames cannot be decoded;"
                " copy it again or remove it",
            )
        # Packets at the ends may be padding; a second, or a fiftieth of the whole, is more than padding.
        if self.rate_hz and self.heard / self.rate_hz < self.stated_s - max(1.0, self.stated_s / 50):
            raise cut_short(self.path, f"{self.heard / self.rate_hz:,.1f} s of {self.stated_s:,.1f} s are there")


def _block(frame: Any) -> Samples:
    """An FFmpeg frame as float32 ``(frames, channels)`` in [-1, 1]."""
    values = frame.to_ndarray()  # (channels, frames) if planar, else (1, frames * channels)
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    kind, width = values.dtype.kind, values.dtype.itemsize
    block: Samples = values.T.astype(np.float32)
    if kind == "u":
        block = (block - np.float32(128)) / np.float32(128)
    elif kind == "i":
        block = block / np.float32(1 << (8 * width - 1))
    return block


class _Quiet:
    """A file that answers a seek to nowhere with -1: PyAV prints the exception a file would raise.

    Stops a search for the next frame that goes through gigabytes of something else.
    """

    def __init__(self, file: FileBytes, watch: Stopwatch) -> None:
        self._file = file.part()  # at its first byte, wherever another decoder has left the file
        self._watch = watch

    def read(self, size: int) -> bytes:
        self._watch.check()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("the sound refers to another file")
