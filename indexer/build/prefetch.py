"""Prefetch: items to parts in worker threads, parts in the order of the items, memory bounded.

An item gives its parts one by one, so that a long sound flows through without ever being whole in memory. Memory
is counted by what the parts really take, and by what the work says that it takes besides (``reserve``). Knows
nothing of media, models or collections.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from indexer.media.reserve import Reserve

In = TypeVar("In")
Out = TypeVar("Out")


class _Stopped(Exception):
    """Nobody waits for the item any more."""


@dataclass(eq=False, slots=True)
class _Line(Generic[In, Out]):
    """One item and its parts that wait."""

    item: In
    parts: deque[tuple[Out, int]] = field(default_factory=deque)
    """With their bytes."""
    held_bytes: int = 0
    """Reserved by the work, and not in ``parts``."""
    error: BaseException | None = None
    is_done: bool = False


class Prefetcher(Generic[In, Out]):
    """Runs ``work`` in ``workers`` threads, at most ``limit_items`` items before their use.

    ``work(item, reserve)`` gives the parts of an item; ``size_bytes`` is what a part takes. All parts that wait and
    all that is reserved take at most ``limit_bytes``; only the item whose turn it is gets what it wants while none
    of its parts wait, so that nothing stands still. The threads are daemons: a long decode does not keep the
    program alive after Ctrl-C.
    """

    def __init__(
        self,
        work: Callable[[In, Reserve], Iterable[Out]],
        *,
        workers: int,
        limit_items: int,
        limit_bytes: int,
        size_bytes: Callable[[Out], int],
    ) -> None:
        self._work = work
        self._workers = max(1, workers)
        self._limit_items = max(1, limit_items)
        self._limit_bytes = limit_bytes
        self._size_bytes = size_bytes
        self._tasks: queue.SimpleQueue[_Line[In, Out] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._first: _Line[In, Out] | None = None
        self.used_bytes = 0
        self.most_bytes = 0
        """The most that was used at once."""
        self.stopped = threading.Event()

    def run(self, items: Iterable[In]) -> Iterator[Out]:
        """All parts of every item, in order; an exception of ``work`` comes out at its place."""
        waiting: deque[_Line[In, Out]] = deque()
        source = iter(items)
        exhausted = False
        try:
            while True:
                while not exhausted and (
                    not waiting or (len(waiting) < self._limit_items and self.used_bytes < self._limit_bytes)
                ):
                    try:
                        line: _Line[In, Out] = _Line(next(source))
                    except StopIteration:
                        exhausted = True
                        break
                    self._start_threads()
                    self._tasks.put(line)
                    waiting.append(line)
                if not waiting:
                    return
                part = self._next_part(waiting[0])
                if part is None:
                    waiting.popleft()
                    continue
                yield part[0]
                size = part[1]
                del part  # before its bytes are given to another
                self._use(-size)
        finally:
            self.stop()

    def stop(self, *, wait_s: float = 0.5) -> None:
        """Let the threads end after the part they are at; waits a moment for that."""
        self.stopped.set()
        with self._changed:
            self._changed.notify_all()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(wait_s / len(self._threads))

    def _next_part(self, line: _Line[In, Out]) -> tuple[Out, int] | None:
        """Of the item whose turn it is; None after its last."""
        with self._changed:
            if self._first is not line:
                self._first = line
                self._changed.notify_all()
            while not line.parts and not line.is_done:
                self._changed.wait()
            if line.parts:
                part = line.parts.popleft()
                self._changed.notify_all()  # the first in line gets through when none of its parts wait
                return part
            if line.error is not None:
                raise line.error
            return None

    def _use(self, n_bytes: int) -> None:
        with self._changed:
            self.used_bytes += n_bytes
            self.most_bytes = max(self.most_bytes, self.used_bytes)
            if n_bytes < 0:
                self._changed.notify_all()

    def _admit(self, line: _Line[In, Out], more_bytes: int) -> None:
        """Wait until ``line`` may take so much more, and count it. Under the lock."""
        while (
            more_bytes > 0
            and self.used_bytes + more_bytes > self._limit_bytes
            and not (line is self._first and not line.parts)
        ):
            if self.stopped.is_set():
                raise _Stopped
            self._changed.wait()
        if self.stopped.is_set():
            raise _Stopped
        self._use(more_bytes)

    def _start_threads(self) -> None:
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._serve, name="trimodal-reader", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self) -> None:
        while (line := self._tasks.get()) is not None and not self.stopped.is_set():
            error: BaseException | None = None
            try:
                self._read(line)
            except _Stopped:
                pass
            except BaseException as raised:
                error = raised
            with self._changed:
                self._use(-line.held_bytes)
                line.held_bytes = 0
                line.error = error
                line.is_done = True
                self._changed.notify_all()
            del line, error

    def _read(self, line: _Line[In, Out]) -> None:
        def reserve(n_bytes: int) -> None:
            with self._changed:
                self._admit(line, n_bytes - line.held_bytes)
                line.held_bytes = n_bytes

        for part in self._work(line.item, reserve):
            size = self._size_bytes(part)
            with self._changed:
                self._admit(line, size)
                line.parts.append((part, size))
                self._changed.notify_all()
            del part
