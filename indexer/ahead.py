"""Read-ahead: a function over items in worker threads, results in the order of the items, memory bounded.

Knows nothing of media, models or collections.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class ReadAhead(Generic[In, Out]):
    """Runs ``work`` in ``workers`` threads, at most ``items_ahead`` items and ``bytes_ahead`` before their use.

    ``cost_bytes`` guesses what the result of an item takes; one item is always let through. The threads are
    daemons: a long decode does not keep the program alive after Ctrl-C.
    """

    def __init__(
        self,
        work: Callable[[In], Out],
        *,
        workers: int,
        items_ahead: int,
        bytes_ahead: int,
        cost_bytes: Callable[[In], int],
    ) -> None:
        self._work = work
        self._workers = max(1, workers)
        self._items_ahead = max(1, items_ahead)
        self._bytes_ahead = bytes_ahead
        self._cost_bytes = cost_bytes
        self._tasks: queue.SimpleQueue[tuple[Future[Out], In] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.stopped = threading.Event()

    def run(self, items: Iterable[In]) -> Iterator[Out]:
        """``work(item)`` for every item, in order; an exception of ``work`` comes out at its place."""
        waiting: deque[tuple[Future[Out], int]] = deque()
        ahead_bytes = 0
        source = iter(items)
        exhausted = False
        try:
            while True:
                while not exhausted and (
                    not waiting or (len(waiting) < self._items_ahead and ahead_bytes < self._bytes_ahead)
                ):
                    try:
                        item = next(source)
                    except StopIteration:
                        exhausted = True
                        break
                    future: Future[Out] = Future()
                    cost = self._cost_bytes(item)
                    self._start_threads()
                    self._tasks.put((future, item))
                    waiting.append((future, cost))
                    ahead_bytes += cost
                if not waiting:
                    return
                future, cost = waiting[0]
                result = future.result()
                waiting.popleft()
                ahead_bytes -= cost
                yield result
        finally:
            self.stop()

    def stop(self, *, wait_s: float = 0.5) -> None:
        """Let the threads end after the item they are at; waits a moment for that."""
        self.stopped.set()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(wait_s / len(self._threads))

    def _start_threads(self) -> None:
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._serve, name="trimodal-reader", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None and not self.stopped.is_set():
            future, item = task
            try:
                future.set_result(self._work(item))
            except BaseException as error:
                future.set_exception(error)
