"""Which index a collection gets: arithmetic over its size, the memory allowed and the recall wanted. No FAISS here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from indexer.errors import UsageError

Kind = Literal["Flat", "HNSW", "IVF"]
Storage = Literal["float32", "float16", "int8", "disk"]

#: Up to here a comparison with every vector takes a millisecond or two and is exact.
FLAT_LIMIT = 20_000
#: Links of a node of an HNSW graph; on the lowest layer twice as many.
HNSW_LINKS = 32
DEFAULT_TARGET_RECALL = 0.95

#: A list of an IVF index is trained on at least that many vectors (FAISS warns below 39).
_LEAST_A_LIST = 39
#: In fewer dimensions a graph is as small, and finds more.
_LEAST_DIM = 64
#: An IVF index is made anew when the collection has grown to that many times what its lists were made for.
_OUTGROWN = 3.0
_BYTES_OF = {"float32": 4, "float16": 2, "int8": 1, "disk": 0}
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """The options of the index that the user gave; ``None``: not given."""

    kind: Kind | Literal["auto"] | None = None
    memory_bytes: int | None = None
    """That the index may take while it is searched (0: any); the vectors on disk are not counted."""
    target_recall: float | None = None
    """Mean share of the true 10 nearest that a search is to find; 1: exact search."""

    @property
    def recall(self) -> float:
        """The recall wanted."""
        return DEFAULT_TARGET_RECALL if self.target_recall is None else self.target_recall

    def over(self, before: IndexOptions) -> IndexOptions:
        """These options, and where one is not given that with which the index was made."""
        return IndexOptions(
            before.kind if self.kind is None else self.kind,
            before.memory_bytes if self.memory_bytes is None else self.memory_bytes,
            before.target_recall if self.target_recall is None else self.target_recall,
        )


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """A kind of index, and what it keeps of the vectors themselves.

    ``Flat`` compares with every vector: exact. ``HNSW`` walks a graph of them. ``IVF`` looks into some of ``lists``
    clusters, at codes of four bits for two dimensions, and then at the best candidates once more in ``storage``, both
    of ``width`` dimensions. ``disk``: they are looked at in the vector store.
    """

    kind: Kind
    storage: Storage = "float32"
    lists: int = 0
    built_for: int = 0
    """Vectors that were there."""
    width: int = 0
    """Dimensions of lists and codes, known once the index is built; 0: not mapped, those of the vectors."""

    def memory_bytes(self, n: int, dim: int) -> int:
        """What an index of ``n`` vectors takes in memory, about; before it is built, at most."""
        maps = 2 * self.width * dim * 4
        dim = self.width or dim
        held = _BYTES_OF[self.storage] * dim
        if self.kind == "HNSW":
            held += int(4 * HNSW_LINKS * 2 * 1.1)
        if self.kind == "IVF":
            held += math.ceil(dim / 4) + 2 * _ID_BYTES
        return n * held + self.lists * dim * 4 + maps


def parse_index_options(kind: str | None, memory: str | None, target_recall: float | None) -> IndexOptions:
    """The index options of a command line: ``500MB``, ``2GB``, ``1.5 GiB``. Raises ``UsageError``."""
    known: dict[str, Any] = {name.lower(): name for name in (*get_args(Kind), "auto")}
    if kind is not None and kind.lower() not in known:
        raise UsageError(f"--index-kind {kind}: is none of {', '.join(known.values())}")
    return IndexOptions(
        None if kind is None else known[kind.lower()], None if memory is None else _bytes(memory), target_recall
    )


def _bytes(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if found is None:
        raise UsageError(f"--memory {text}: is no amount of memory; write it such as 500MB or 2GB")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))


def plan_index(n: int, dim: int, options: IndexOptions | None = None) -> IndexPlan:
    """The plan for ``n`` vectors ``(dim,)``. Raises ``UsageError`` where the memory allowed is too little for any."""
    options = options or IndexOptions()
    plans = _fitting_kinds(n, dim, options)
    for plan in plans:
        if not options.memory_bytes or plan.memory_bytes(n, dim) <= options.memory_bytes:
            return plan
    least = min(plan.memory_bytes(n, dim) for plan in plans)
    what = f"an index of kind {options.kind}" if options.kind not in (None, "auto") else "the smallest index"
    allowed = _megabytes(options.memory_bytes or 0)
    raise UsageError(
        f"--memory {allowed}: {what} of {n:,} vectors takes {_megabytes(least)}; allow more"
        + ("" if options.kind in (None, "auto", "IVF") else ", or use --index-kind IVF")
    )


def smallest_plan(n: int, dim: int) -> IndexPlan:
    """What takes least memory: for a collection that has grown out of the memory that was once allowed."""
    return min(_fitting_kinds(n, dim, IndexOptions("IVF")), key=lambda plan: plan.memory_bytes(n, dim))


def outgrown(plan: IndexPlan, n: int, dim: int, options: IndexOptions) -> bool:
    """Whether an index of ``plan`` is no longer the right one for ``n`` vectors."""
    try:
        right = plan_index(n, dim, options)
    except UsageError:
        right = smallest_plan(n, dim)
    if (right.kind, right.storage) != (plan.kind, plan.storage):
        return True
    return plan.kind == "IVF" and n > _OUTGROWN * max(1, plan.built_for)


def _fitting_kinds(n: int, dim: int, options: IndexOptions) -> list[IndexPlan]:
    """Plans that fulfil the options but for their memory, the best first."""
    flat = IndexPlan("Flat", built_for=n)
    graphs = [IndexPlan("HNSW", storage, built_for=n) for storage in ("float16", "int8")]
    lists = min(2 ** round(math.log2(2 * math.sqrt(max(1, n)))), max(1, n // _LEAST_A_LIST))
    clusters = [IndexPlan("IVF", storage, lists, n) for storage in ("int8", "disk")]
    if n == 0:
        return [flat]
    if options.kind is not None and options.kind != "auto":
        return {"Flat": [flat], "HNSW": graphs, "IVF": clusters}[options.kind]
    if options.recall >= 1:
        return [flat]
    if n <= FLAT_LIMIT:
        return [flat, *clusters]
    return clusters if dim >= _LEAST_DIM else [*graphs, *clusters]


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MB" if n_bytes >= 2**20 else f"{n_bytes:,} bytes"
