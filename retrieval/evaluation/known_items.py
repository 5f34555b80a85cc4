"""Items of a benchmark whose vectors a collection holds already."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from indexer.collection.collection import Collection
from indexer.encoders.base import DualEncoder
from indexer.encoders.identity import identity_of
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.items import Embeddings, Modality
from indexer.media.text.token_passages import PassageRule
from retrieval.embed import mean_vector


def content_key(digest: str, modality: Modality, rule: PassageRule | None) -> str:
    """What the vectors of an item depend on: its content's hash, of a text also how it is cut."""
    return digest if rule is None or modality is not Modality.TEXT else f"{digest} {rule}"


class CollectionItems:
    """The items of a collection, as its encoder made them. A picture or sound of several parts has their mean."""

    def __init__(self, collection: Collection, encoder: DualEncoder) -> None:
        """Raises ``EncoderMismatch`` unless ``encoder`` made the collection."""
        collection.require_encoder(identity_of(encoder))
        self._collection = collection

    def known_items(
        self, modality: Modality, contents: Mapping[int, str], tokens: TokenSpec | None
    ) -> dict[int, tuple[Embeddings, TokenRows | None]]:
        """Vectors ``(n, dim)`` and packed tokens ``(1, row_bytes)`` of what it holds of ``contents``.

        ``contents``: row -> :func:`content_key`. Where ``tokens`` is given, only of items that have such tokens.
        """
        store = self._collection.tokens if tokens is not None else None
        if tokens is not None and (store is None or self._collection.token_spec != tokens):
            return {}
        ids = self._segments(modality)
        found: dict[int, tuple[Embeddings, TokenRows | None]] = {}
        for row, content in contents.items():
            if content not in ids:
                continue
            vectors = self._collection.vectors.get(ids[content])
            if modality is not Modality.TEXT:
                mean = mean_vector(vectors)
                if mean is None:
                    continue
                vectors = mean[None, :]
            found[row] = vectors, None if store is None else store.get(ids[content][:1])
        return found

    def _segments(self, modality: Modality) -> dict[str, np.ndarray]:
        """Content key -> the rows of its vectors, in the order of its parts; of equal items, of the first."""
        ids, items, hashes = self._collection.catalog.parts(modality)
        starts = np.flatnonzero(np.diff(items, prepend=-1))
        rule = self._collection.passage_rule
        found: dict[str, np.ndarray] = {}
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
            found.setdefault(content_key(hashes[start], modality, rule), ids[start:stop])
        return found
