"""How deep lists and objects stand in each other, without recursion: they may come from a stranger's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects stand more than ``limit`` deep in each other; an empty one counts.

    >>> is_deeper([[1]], 2), is_deeper([[[]]], 2)
    (False, True)
    """
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for one in level
            if isinstance(one, list | tuple | Mapping)
            for inner in (one.values() if isinstance(one, Mapping) else one)
        ]
        if not level:
            return False
    return any(isinstance(one, list | tuple | Mapping) for one in level)
