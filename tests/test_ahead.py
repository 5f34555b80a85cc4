"""Reading ahead: in order, bounded, and stopped without waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from indexer.ahead import ReadAhead


def ahead(
    work: Callable[[int], int], *, workers: int = 3, items: int = 8, n_bytes: int = 10**9, cost: int = 1
) -> ReadAhead[int, int]:
    return ReadAhead(work, workers=workers, items_ahead=items, bytes_ahead=n_bytes, cost_bytes=lambda _: cost)


def test_results_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * 10

    assert list(ahead(work).run(range(50))) == [number * 10 for number in range(50)]


@pytest.mark.parametrize(("items", "n_bytes", "most"), [(5, 10**9, 5), (100, 300, 3), (100, 1, 1)])
def test_no_more_is_read_ahead_than_is_allowed_and_always_one(items: int, n_bytes: int, most: int) -> None:
    taken = 0
    used = 0
    furthest = 0

    def source() -> object:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    reader = ahead(lambda number: number, items=items, n_bytes=n_bytes, cost=100)
    for _ in reader.run(source()):  # type: ignore[arg-type]
        furthest = max(furthest, taken - used)
        used += 1

    assert used == 40
    assert furthest == most


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


def test_no_items_start_no_threads() -> None:
    reader = ahead(lambda number: number)

    assert list(reader.run([])) == []
    assert reader._threads == []
