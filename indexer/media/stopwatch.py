"""Stops the reading of a file that takes too long. Knows nothing of formats.

Processor time of the reading thread is counted, not the clock: a busy machine must not make a file bad. A decoder
written in C can't be interrupted, but every decoder that reads its file bit by bit comes back for more, and
:class:`TimedFile` is where it is stopped.
"""

from __future__ import annotations

import os
import time
from typing import BinaryIO

from indexer.files import media_error
from indexer.limits import SOUND_SHARE_S, TEXT_SHARE_CHARS, MediaLimits

HEADER_TOO_LARGE = "holds over {:,.0f} MB beside its pixels; save it again without its remarks"


class Stopwatch:
    """Counts the processor time of the thread that made it, from then on."""

    def __init__(self, path: str | os.PathLike[str], limits: MediaLimits) -> None:
        self.path = path
        self._limit_s = limits.max_seconds
        self._started = time.thread_time()
        self.heard_s = 0.0
        """Of a sound, the seconds decoded so far: the limit grows with them."""
        self.cut_chars = 0
        """Of a text that is cut by tokens, the characters so far: the limit grows with them, too."""

    def check(self) -> None:
        """Raises ``MediaError`` when the time is up."""
        shares = 1.0 + self.heard_s / SOUND_SHARE_S + self.cut_chars / TEXT_SHARE_CHARS
        if time.thread_time() - self._started > self._limit_s * shares:
            per = " for every ten minutes" if self.heard_s else ""
            per = " for every million characters" if self.cut_chars else per
            raise media_error(
                self.path,
                f"takes too long to read, over the {self._limit_s:g} s limit{per};"
                " save it again in a simpler form or raise --max-seconds",
            )

    def pause(self) -> float:
        """Stop counting; give what this returns to :meth:`resume`."""
        return time.thread_time()

    def resume(self, paused: float) -> None:
        """Count again: what the thread did since ``paused`` was something else."""
        self._started += time.thread_time() - paused


class TimedFile:
    """An open file whose every ``read`` first looks at the stopwatch.

    ``block_bytes`` is the most that one ``read`` gives (None: all that is wanted), as decoders read as much as a
    file says they should; ``allowed_bytes`` the most that all give together.
    """

    def __init__(self, file: BinaryIO, watch: Stopwatch) -> None:
        self._file = file
        self._watch = watch
        self.block_bytes: int | None = None
        self.allowed_bytes: int | None = None
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        """As of any file, but at most ``block_bytes``. Raises ``MediaError`` when the time is up."""
        self._watch.check()
        if self.block_bytes is not None and (size < 0 or size > self.block_bytes):
            size = self.block_bytes
        if self.allowed_bytes is not None and (size < 0 or size > self.allowed_bytes - self.bytes_read):
            size = max(1, self.allowed_bytes - self.bytes_read + 1)
        found = self._file.read(size)
        self.bytes_read += len(found)
        if self.allowed_bytes is not None and self.bytes_read > self.allowed_bytes:
            raise media_error(self._watch.path, HEADER_TOO_LARGE.format(self.allowed_bytes / 1e6))
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()

    def fileno(self) -> int:
        """As of any file: libtiff reads from the descriptor itself."""
        return self._file.fileno()

    def flush(self) -> None:
        """Nothing: it is only read."""

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""
