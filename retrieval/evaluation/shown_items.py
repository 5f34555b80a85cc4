"""Queries and candidates as people see them, in a report and in the examples of a direction.

Knows nothing of vectors or ranks, and opens no file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.files import display_path
from indexer.items import Modality
from retrieval.evaluation.datasets.benchmark import Benchmark


@dataclass(frozen=True, slots=True)
class ShownItem:
    """A query or a candidate as people see it: a file of a row, or words."""

    row_id: str
    modality: Modality
    path: str | None = None
    """Of the file, relative to the manifest where it is below it, printable."""
    text: str | None = None
    """Of a caption or a text itself; of a file, its first caption."""

    def to_json(self) -> dict[str, Any]:
        """``modality``, ``path`` and ``text``."""
        return {"modality": self.modality.value, "path": self.path, "text": self.text}


def shown_item(benchmark: Benchmark, row: int, modality: Modality) -> ShownItem:
    """A row's item as an example names it."""
    there = benchmark.rows[row]
    item = there.items[modality]
    if item.text is not None:
        return ShownItem(there.row_id, modality, text=item.text)
    folder = benchmark.path.parent
    # of a file elsewhere only the end: a report is shown to people whom the rest does not concern
    inside = item.path.is_relative_to(folder)
    path = item.path.relative_to(folder) if inside else Path("…", *item.path.parts[-3:])
    return ShownItem(there.row_id, modality, display_path(path), there.captions[0] if there.captions else None)


def fingerprint(entries: Sequence[ShownItem]) -> str:
    """sha256 of what the entries are, in their order."""
    digest = hashlib.sha256()
    for entry in entries:
        own = entry.text or "" if entry.path is None else ""
        for part in (entry.row_id, entry.modality.value, own):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
