"""The values that travel through the indexer: modalities, items, segments and decoded media.

Knows nothing of files on disk, SQL, FAISS or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

    from indexer.files import FileId

#: Embeddings: float32 ``(n, dim)``, rows of unit L2 length.
Embeddings = NDArray[np.float32]
#: Mono sound: float32 ``(n_samples,)`` in [-1, 1].
Samples = NDArray[np.float32]
#: A value of an item's metadata, as a manifest gives it and ``--where`` compares it.
Scalar = str | int | float | bool | None


class Modality(StrEnum):
    """What an item is; the words of the command line and of ``--json``."""

    IMAGE = "image"
    AUDIO = "audio"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Item:
    """One file or one manifest row, before it is read.

    ``key`` is its identity within a collection: the absolute path of the file, or ``<absolute manifest path>#<row id>``
    for a text that stands in the manifest itself (see :mod:`indexer.corpus.keys`).
    """

    key: str
    modality: Modality
    path: Path
    """The file to read; for a text row, the manifest that holds it."""
    text: str | None = None
    """The text itself where it stands in a manifest row; ``None`` for files."""
    captions: tuple[str, ...] = ()
    """Captions from a manifest: shown with hits, and the queries of ``bench``."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    row_id: str | None = None
    """``"id"`` of the manifest row, or its line number as text."""
    split: str | None = None
    manifest: Path | None = None
    size_bytes: int = 0
    """Of the file, or of the UTF-8 text of a row."""
    mtime_ns: int = 0
    """Of the file, at most ``2**63 - 1``; 0 for a text row, which is known by its content hash."""
    file_id: FileId | None = None
    """Of the file as it was listed or read; ``None`` where it is not known, and for a text row."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of an item that has one vector, without its payload.

    A whole picture; a window of sound (``start_s``/``end_s``, seconds from the start of the
    file); a passage of text (``text`` holds it).
    """

    ordinal: int
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class DecodedSegment:
    """A segment with what its tower reads."""

    segment: Segment
    payload: Image | Samples | str
    """RGB picture | float32 mono window at 16,000 Hz | passage."""


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """An item or a part of it, read: its segments (at least one) and what is worth keeping of the file."""

    item: Item
    segments: tuple[DecodedSegment, ...]
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    """Catalog columns learned by reading: ``width_px``, ``height_px``, ``duration_s``, ``taken_at``."""
    is_last: bool = True
    """False where more parts of the item follow."""
    remarks: tuple[str, ...] = ()
    """What was wrong with the file and costs nothing of its content, a sentence each."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that could not be indexed: the path as the user knows it, and one line of why and remedy."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is: its file, or the manifest that it stands in."""

    key: str
    path: Path
    manifest: Path | None
