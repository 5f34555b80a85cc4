"""``index.faiss``: FAISS's own bytes, and after them one line of JSON that says what they are.

FAISS does not read that far. One file, so one atomic replace. The line holds the crc32 of all before it and one of
itself. Knows nothing of FAISS.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from indexer.ann.plan import IndexOptions, IndexPlan, Kind, Storage
from indexer.crc import crc32_of_file, crc32_of_json
from indexer.durable import replace_file
from indexer.errors import IndexDamaged
from indexer.reading import misplaced, read_error

_TRAILER_MAX_BYTES = 65_536
_CHECK = "check"
#: Keys of the file that have another name here.
_KEYS = {"options": "wish"}


@dataclass(frozen=True, slots=True)
class Tuning:
    """How broadly an approximate index is searched, and what that was measured to find."""

    breadth: int
    """Lists looked into (IVF), or breadth of the walk (HNSW)."""
    refine: float = 1.0
    """Candidates of the codes for each one that is compared in the index's storage (IVF)."""
    margin: int = 16
    """Candidates beyond k that are compared exactly."""
    recall: float | None = None
    """Mean share of the true 10 nearest found at these; ``None``: not measured."""
    count: int = 0
    """Vectors that there were when it was measured."""
    queries: str = ""
    """Which queries were used: ``captions``, or ``vectors`` of the collection itself."""
    n_queries: int = 0
    curve: tuple[dict[str, float], ...] = ()
    """Every setting tried: breadth, refine, recall_at_10, ms (a query, all of them at once)."""


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What the last line of an index file says of it."""

    kind: Kind
    ntotal: int
    dim: int
    generation: int
    crc32: int
    storage: Storage = "float32"
    lists: int = 0
    built_for: int = 0
    width: int = 0
    """Of a mapped index: dimensions of its lists and codes; the map for queries follows FAISS's index."""
    options: IndexOptions = field(default_factory=IndexOptions)
    tuning: Tuning | None = None

    @property
    def plan(self) -> IndexPlan:
        """What it was made by."""
        return IndexPlan(self.kind, self.storage, self.lists, self.built_for, self.width)

    def to_json(self) -> dict[str, Any]:
        """``"index_facts"`` of ``info --json``."""
        return {
            "kind": self.kind,
            "vectors": self.ntotal,
            "storage": self.storage,
            "lists": self.lists,
            "width": self.width,
            "memory_bytes": self.plan.memory_bytes(self.ntotal, self.dim),
            "wish": {**asdict(self.options), "target_recall": self.options.recall},
            "tuning": None if self.tuning is None else asdict(self.tuning),
        }

    def lines(self) -> list[str]:
        """The same for people: the index, what it finds, and the curve that was measured, fastest last."""
        if self.kind == "Flat":
            return ["Flat: compares with every vector, exact"]
        kept = "vectors looked at on disk" if self.storage == "disk" else f"{self.storage} in memory"
        lists = f"{self.lists:,} lists, " if self.lists else ""
        lists += f"{self.width} of {self.dim} dimensions, " if self.width else ""
        memory = self.plan.memory_bytes(self.ntotal, self.dim) / 2**20
        lines = [f"{self.kind} of {self.ntotal:,} vectors ({lists}{kept}; about {memory:,.0f} MB)"]
        if self.tuning is None or self.tuning.recall is None:
            return [*lines, "its recall was not measured"]
        wanted, used = f"{self.options.recall:.0%}", f"{self.tuning.n_queries:,} {self.tuning.queries}"
        lines.append(f"finds {self.tuning.recall:.1%} of the 10 nearest (wanted: {wanted}; measured with {used})")
        lines.append("breadth  refine  recall@10  ms a query")
        for one in sorted(self.tuning.curve, key=lambda one: one["ms"]):
            chosen = (one["breadth"], one["refine"]) == (self.tuning.breadth, self.tuning.refine)
            bar = "▇" * round(20 * one["recall_at_10"])
            lines.append(
                f"{one['breadth']:>7,.0f}  {one['refine']:>6g}  {one['recall_at_10']:>9.3f}  {one['ms']:>10.2f}  {bar}"
                + (" ← used" if chosen else "")
            )
        return lines


def write_index_file(path: Path, put: Callable[[Callable[[bytes], int]], None], facts: IndexFacts) -> None:
    """Replace ``path`` atomically by what ``put`` gives to its argument, and ``facts`` with that one's crc32."""

    def write(file: BinaryIO) -> None:
        crc = 0

        def take(data: bytes) -> int:
            nonlocal crc
            crc = zlib.crc32(data, crc)
            return file.write(data)

        put(take)
        values = {_KEYS.get(name, name): value for name, value in asdict(facts).items()} | {"crc32": crc}
        file.write(b"\n" + json.dumps({**values, _CHECK: crc32_of_json(values)}).encode())

    replace_file(path, write)


def read_facts(path: Path, *, checked: bool = True) -> IndexFacts:
    """The last line of the index file; ``checked``: after comparing the crc32 of the rest.

    Raises as :func:`open_index_file`.
    """
    with open_index_file(path, checked=checked) as (_, facts):
        return facts


@contextlib.contextmanager
def open_index_file(path: Path, *, checked: bool = True) -> Iterator[tuple[BinaryIO, IndexFacts]]:
    """The file at its start, and its last line: both of one file, also when a writer replaces it meanwhile.

    ``checked``: the crc32 of all before that line is compared. Raises ``IndexDamaged``; ``StorageError`` where the
    file cannot be read.
    """
    with contextlib.ExitStack() as opened:
        if (wrong := misplaced(path)) is not None:
            raise damaged(path, wrong)
        try:
            file = opened.enter_context(path.open("rb"))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TRAILER_MAX_BYTES))
            line = file.read().rpartition(b"\n")[2]
            facts = _facts_of(json.loads(line))
            if checked and crc32_of_file(file, size - len(line) - 1) != facts.crc32:
                raise damaged(path, "its bytes are not those that were written (crc32)")
            file.seek(0)
        except FileNotFoundError as error:
            raise damaged(path, "is missing") from error
        except (OSError, MemoryError) as error:
            raise read_error(path, error) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # no JSON, other keys: cut short, or not our file
            raise damaged(path, "it is cut short or no index of ours") from error
        yield file, facts


def damaged(path: Path, what: str) -> IndexDamaged:
    """The stated error, with its remedy."""
    return IndexDamaged(f"{path}: {what}; write it anew from the vectors: trimodal verify --repair")


def _facts_of(values: dict[str, Any]) -> IndexFacts:
    check = values.pop(_CHECK, None)
    if check is not None and check != crc32_of_json(values):  # absent from what was written before there was one
        raise ValueError("another line than was written")
    keys = {one.name: _KEYS.get(one.name, one.name) for one in fields(IndexFacts)}
    values = {name: values[key] for name, key in keys.items() if key in values}
    values["options"] = IndexOptions(**values.get("options", {}))
    tuning = values.get("tuning")
    values["tuning"] = None if tuning is None else Tuning(**{**tuning, "curve": tuple(tuning["curve"])})
    return IndexFacts(**values)
