"""What a commit takes: encoded items, and captions made later for stored pictures. Knows nothing of files or SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.items import Embeddings, Item, Modality, Scalar, Segment

#: An embedding is of unit length to within this (half-precision models are a little off).
UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class Entry:
    """An item, encoded: ``vectors[i]`` (float32, unit length) is the embedding of ``segments[i]``.

    ``tokens[i]`` are its packed media tokens: for pictures and sounds, where the collection keeps them.
    """

    item: Item
    content_hash: str
    facts: Mapping[str, Scalar]
    segments: tuple[Segment, ...]
    vectors: Embeddings
    tokens: TokenRows | None = None

    def check(self, dim: int, spec: TokenSpec | None) -> None:
        """Raise ``ValueError`` unless vectors and tokens fit the segments, ``dim`` and ``spec``.

        Pictures and sounds have tokens where the collection keeps them (``spec``); nothing else has.
        """
        if self.vectors.shape != (len(self.segments), dim) or not self.segments:
            raise ValueError(
                f"{self.item.key}: {len(self.segments)} segments need vectors of shape "
                f"({len(self.segments)}, {dim}), got {self.vectors.shape}"
            )
        if not of_unit_length(self.vectors):
            raise ValueError(f"{self.item.key}: its vectors are not of unit length")
        if spec is None or self.item.modality is Modality.TEXT:
            if self.tokens is not None:
                raise ValueError(f"{self.item.key}: has media tokens, and there is no place for them")
            return
        expected = (len(self.segments), spec.row_bytes)
        if self.tokens is None or self.tokens.shape != expected or self.tokens.dtype != np.uint8:
            got = "none" if self.tokens is None else f"{self.tokens.dtype} {self.tokens.shape}"
            raise ValueError(f"{self.item.key}: needs media tokens, uint8 of shape {expected}, got {got}")

    def token_rows(self, width: int) -> TokenRows:
        """Its tokens, uint8 ``(segments, width)``; zeros where it has none."""
        return np.zeros((len(self.segments), width), dtype=np.uint8) if self.tokens is None else self.tokens


@dataclass(frozen=True, slots=True)
class CaptionEntry:
    """A caption that a model made for the stored picture ``item_id``: it becomes a text segment of the picture.

    ``vector`` (float32 ``(dim,)``, unit length) is the embedding of the words. ``model`` is the spec of the model.
    """

    item_id: int
    caption: str
    model: str
    vector: NDArray[np.float32]

    def check(self, dim: int) -> None:
        """Raise ``ValueError`` unless the vector is one of ``dim`` components and unit length."""
        if self.vector.shape != (dim,) or not of_unit_length(self.vector[None]):
            raise ValueError(f"caption of item {self.item_id}: needs a unit vector of shape ({dim},)")


def of_unit_length(vectors: Embeddings) -> bool:
    """Whether every row of ``vectors`` ``(n, dim)`` is finite and of unit length."""
    lengths = np.linalg.norm(vectors, axis=-1)
    return bool(np.all(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))  # false for NaN, too
