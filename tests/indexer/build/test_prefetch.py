"""Reading ahead: in order, bounded by what is really read, and stopped without waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from indexer.build.prefetch import Prefetcher
from indexer.media.reserve import Reserve


def ahead(
    work: Callable[[int], int], *, workers: int = 3, items: int = 8, n_bytes: int = 10**9, size: int = 1
) -> Prefetcher[int, int]:
    return Prefetcher(
        lambda item, _reserve: [work(item)],
        workers=workers,
        limit_items=items,
        limit_bytes=n_bytes,
        size_bytes=lambda _: size,
    )


def test_results_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * 10

    assert list(ahead(work).run(range(50))) == [number * 10 for number in range(50)]


def test_the_parts_of_an_item_come_together_and_in_order() -> None:
    def work(number: int, _reserve: Reserve) -> Iterator[tuple[int, int]]:
        for part in range(number % 4):
            yield number, part

    reader: Prefetcher[int, tuple[int, int]] = Prefetcher(
        work, workers=3, limit_items=8, limit_bytes=3, size_bytes=lambda _: 1
    )
    assert list(reader.run(range(40))) == [(number, part) for number in range(40) for part in range(number % 4)]
    assert reader.used_bytes == 0


def test_no_more_items_are_taken_than_are_allowed() -> None:
    taken = used = furthest = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    for _ in ahead(lambda number: number, items=5).run(source()):
        furthest = max(furthest, taken - used)
        used += 1

    assert (used, furthest) == (40, 5)


@pytest.mark.parametrize("n_bytes", [1, 100, 250, 1000])
def test_parts_that_wait_and_what_is_reserved_stay_within_the_bytes_and_one_item_more(n_bytes: int) -> None:
    def work(number: int, reserve: Reserve) -> Iterator[int]:
        reserve(60)
        for part in range(5):
            yield number * 10 + part
        reserve(10)
        yield number * 10 + 5

    reader: Prefetcher[int, int] = Prefetcher(
        work, workers=4, limit_items=20, limit_bytes=n_bytes, size_bytes=lambda _: 100
    )
    found = []
    for part in reader.run(range(20)):
        time.sleep(0.0005)
        found.append(part)

    assert found == [number * 10 + part for number in range(20) for part in range(6)]
    # Of the item whose turn it is: what it reserved, the part in use and the one that waits.
    assert reader.most_bytes <= n_bytes + 60 + 2 * 100
    assert reader.used_bytes == 0


def test_an_item_that_is_larger_than_all_that_may_wait_is_read_when_its_turn_comes() -> None:
    def work(number: int, reserve: Reserve) -> Iterator[int]:
        reserve(10_000)
        yield number

    reader: Prefetcher[int, int] = Prefetcher(
        work, workers=4, limit_items=20, limit_bytes=100, size_bytes=lambda _: 5_000
    )
    assert list(reader.run(range(20))) == list(range(20))
    assert reader.most_bytes <= 2 * 10_000 + 5_000


def test_an_exception_of_the_work_comes_out_at_its_place_and_ends_the_threads() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise KeyError(number)
        return number

    seen = []
    with pytest.raises(KeyError):
        for result in ahead(work).run(range(20)):
            seen.append(result)

    assert seen == [0, 1, 2, 3, 4]
    assert not [thread for thread in threading.enumerate() if thread.name == "trimodal-reader"]


def test_stopping_does_not_wait_for_an_item_that_takes_long() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number:
            release.wait(20)
        return number

    results = ahead(work).run(range(10))
    assert next(results) == 0
    started = time.monotonic()
    results.close()  # type: ignore[attr-defined]

    assert time.monotonic() - started < 2
    release.set()


def test_stopping_ends_threads_that_wait_for_room() -> None:
    results = ahead(lambda number: number, n_bytes=10, size=10).run(range(10))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]

    assert not [thread for thread in threading.enumerate() if thread.name == "trimodal-reader"]


def test_no_items_start_no_threads() -> None:
    reader = ahead(lambda number: number)

    assert list(reader.run([])) == []
    assert reader._threads == []
