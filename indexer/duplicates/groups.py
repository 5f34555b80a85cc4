"""Duplicates: items of the same bytes, or so near to each other in the space that they show the same thing.

They are only reported, never removed. A group gathers about its oldest item: each of the others is the same file, or
at least ``threshold`` near to it; so a long chain of small changes is no group. Knows nothing of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.collection.catalog.records import ItemRow, Row
from indexer.collection.collection import Collection
from indexer.duplicates.same_content import Contents, LeftOut
from indexer.errors import UsageError
from indexer.files import display_path
from indexer.items import Modality
from indexer.progress import Progress, silent

#: Cosine from which two things are called near duplicates: of the starter's pictures nine in ten changed copies are as
#: near, and one in 150 others (docs/bench/duplicates.md).
DEFAULT_THRESHOLD = 0.96
#: Items looked up in one go; neighbours searched for at first, and at most.
_AT_ONCE, _NEIGHBOURS, _MOST = 256, 16, 1_024

#: Equal unit vectors have cosines a little below 1.
_ROUNDING = 1e-6

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One item of a group."""

    item: ItemRow
    cosine: float
    """With the first of the group; of a sound or text of several parts the least of their cosines."""
    same_bytes: bool
    """As the first of the group."""

    def to_json(self) -> dict[str, Any]:
        """One of a group of ``duplicates --json``."""
        return {
            "path": str(self.item.path),
            "key": self.item.key,
            "modality": str(self.item.modality),
            "size_bytes": self.item.size_bytes,
            "same_bytes": self.same_bytes,
            "cosine": round(self.cosine, 6),
        }

    def line(self) -> str:
        """The same for people."""
        how = "same bytes" if self.same_bytes else f"cosine {self.cosine:.3f}"
        return f"  {how:<13}  {self.item.size_bytes:>12,} bytes  {display_path(self.item.key)}"


def find_duplicates(
    collection: Collection,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    modalities: Iterable[Modality] = tuple(Modality),
    exact: bool = False,
    device: str = "auto",
    on_progress: Progress = silent,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[Duplicate, ...]]:
    """Groups of two and more, the oldest first in each; ``exact``: only of the same bytes.

    What is near by its vectors is compared once more by its content, see :mod:`indexer.duplicates.same_content`: blank
    pictures, silence and what only the model finds equal are no duplicates. ``left_out`` counts these.

    Raises ``UsageError`` for a threshold that is no cosine above 0.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold is {threshold:g}; it is a cosine above 0 and up to 1")
    threshold = min(threshold, 1.0) - _ROUNDING
    contents = Contents(partial(_texts, collection), left_out or LeftOut())
    for modality in modalities:
        parts = _Parts(*collection.catalog.parts(modality))
        if len(parts.items):
            yield from _groups(collection, parts, None if exact else threshold, device, on_progress, contents)


class _Parts:
    """Items ``(n,)`` by age with the vector_ids of their segments, and the first item of the same bytes."""

    def __init__(self, vector_ids: Ints, item_ids: Ints, hashes: list[str]) -> None:
        self.items, starts = np.unique(item_ids, return_index=True)
        self.vector_ids = np.split(vector_ids, starts[1:]) if len(starts) else []
        first: dict[str, int] = {}
        self.leader = np.array(
            [first.setdefault(hashes[start], place) for place, start in enumerate(starts.tolist())], dtype=np.int64
        )
        self.firsts = np.array([ids[0] for ids in self.vector_ids], dtype=np.int64)


def _groups(
    collection: Collection,
    parts: _Parts,
    threshold: float | None,
    device: str,
    on_progress: Progress,
    contents: Contents,
) -> Iterator[tuple[Duplicate, ...]]:
    count = len(parts.items)
    copies: dict[int, list[int]] = {}
    for place, leader in enumerate(parts.leader.tolist()):
        if place != leader:
            copies.setdefault(leader, []).append(place)
    leaders = np.flatnonzero(parts.leader == np.arange(count))
    near = _near(collection, parts, leaders, threshold, device, on_progress) if threshold is not None else {}
    rows = _rows(collection, parts, {*near, *(other for others in near.values() for other, _ in others)})
    taken: set[int] = set()
    for leader in leaders.tolist():
        if leader in taken:
            continue
        members = [(place, 1.0, True) for place in copies.get(leader, [])]
        for other, cosine in near.get(leader, []):
            if other not in taken and contents.may_be_same(rows[leader], rows[other], cosine):
                taken.add(other)
                members += [(other, cosine, False), *((place, cosine, False) for place in copies.get(other, []))]
        if members:
            yield _as_group(collection, parts, [(leader, 1.0, True), *members])


def _near(
    collection: Collection, parts: _Parts, leaders: Ints, threshold: float, device: str, on_progress: Progress
) -> dict[int, list[tuple[int, float]]]:
    """Of each leader the younger leaders that are near to it, nearest first."""
    place_of = {int(parts.firsts[leader]): leader for leader in leaders.tolist()}
    allowed = np.sort(parts.firsts[leaders])
    allowed.setflags(write=False)
    index = collection.index(device)
    found: dict[int, list[tuple[int, float]]] = {}
    for start in range(0, len(leaders), _AT_ONCE):
        some = leaders[start : start + _AT_ONCE]
        fetch = min(_NEIGHBOURS, len(allowed))
        vectors = collection.vectors.get(parts.firsts[some])
        scores, ids = index.search(vectors, fetch, allowed)
        for leader, vector, cosines, others in zip(some.tolist(), vectors, scores, ids, strict=True):
            k = fetch
            while k < min(_MOST, len(allowed)) and cosines[-1] >= threshold:  # a crowd: this one needs more
                k = min(_MOST, len(allowed), 4 * k)
                cosines, others = (found[0] for found in index.search(vector[None], k, allowed))
            for cosine, other in zip(cosines.tolist(), others.tolist(), strict=True):
                place = place_of.get(other, -1)
                if cosine < threshold or place <= leader:
                    continue
                least = _least_cosine(collection, parts, leader, place, cosine)
                if least is not None and least >= threshold:
                    found.setdefault(leader, []).append((place, min(1.0, least)))
        on_progress("comparing", min(start + _AT_ONCE, len(leaders)), len(leaders))
    return found


def _least_cosine(collection: Collection, parts: _Parts, one: int, other: int, first: float) -> float | None:
    """Of two items part by part; ``None`` where they have not as many parts."""
    ours, theirs = parts.vector_ids[one], parts.vector_ids[other]
    if len(ours) != len(theirs):
        return None
    if len(ours) == 1:
        return first
    return float((collection.vectors.get(ours) * collection.vectors.get(theirs)).sum(axis=1).min())


def _rows(collection: Collection, parts: _Parts, places: set[int]) -> dict[int, Row]:
    of_vector = {int(parts.firsts[place]): place for place in places}
    found = collection.catalog.lookup(list(of_vector)) if of_vector else {}
    return {of_vector[vector_id]: row for vector_id, row in found.items()}


def _texts(collection: Collection, row: ItemRow) -> list[str]:
    return [one.segment.text or row.text or "" for one in collection.catalog.segments_of(row.item_id)]


def _as_group(collection: Collection, parts: _Parts, members: list[tuple[int, float, bool]]) -> tuple[Duplicate, ...]:
    rows = collection.catalog.lookup([int(parts.firsts[place]) for place, _, _ in members])
    return tuple(Duplicate(rows[int(parts.firsts[place])], cosine, same) for place, cosine, same in members)
