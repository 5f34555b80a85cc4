"""What a benchmark computed, kept on disk by content, so that the next run computes only what is new.

Embeddings are kept by encoder, device, number format and the content of the file or the words of the text; match logits
by reranker and the content of the pair. Whatever is wrong with the stores, the benchmark works without them. Knows
nothing of files, directions or metrics.

A vector or logit that is found is the one that was computed when it was first needed: it may differ by a rounding
from what another batch gives.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.base import DualEncoder, RunsOnTorch
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.items import Embeddings, Modality
from retrieval.evaluation.store import Store
from retrieval.rerank.base import Reranker

#: Part of every key; raised when the same file decodes to something else, or an entry is written differently.
FORMAT = "1"


@dataclass(slots=True)
class Counts:
    """How much of one kind was there, and how much was computed."""

    found: int = 0
    computed: int = 0

    def to_json(self) -> dict[str, int]:
        """``found`` and ``computed``."""
        return {"found": self.found, "computed": self.computed}


@dataclass(slots=True)
class BenchCache:
    """The stores of one encoder (and its reranker) on one device."""

    embeddings: Store
    logits: Store
    encoder: str
    """What every vector depends on: fingerprint, device and number format, as a digest."""
    counts: dict[str, Counts] = field(default_factory=dict)
    """By kind: image, audio, text, captions, logits."""

    @classmethod
    def open(cls, directory: Path, encoder: DualEncoder, fingerprint: str) -> BenchCache:
        """The stores in ``directory`` for an encoder with this fingerprint."""
        device = str(encoder.device) if isinstance(encoder, RunsOnTorch) else "cpu"
        digest = _key("encoder", fingerprint, device, os.environ.get("TRIMODAL_DTYPE", "auto")).hex()
        place = directory / digest[:24]
        return cls(Store(place / "embeddings.sqlite"), Store(place / "logits.sqlite"), digest)

    def __enter__(self) -> BenchCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.embeddings.close()
        self.logits.close()

    def count(self, kind: str, found: int, computed: int) -> None:
        """Add to the counts of ``kind``."""
        counts = self.counts.setdefault(kind, Counts())
        counts.found += found
        counts.computed += computed

    def to_json(self) -> dict[str, dict[str, int]]:
        """``"cache"`` of ``bench --json``: of each kind, found and computed."""
        return {kind: counts.to_json() for kind, counts in self.counts.items()}

    def known_items(
        self, modality: Modality, contents: Mapping[int, str], dim: int, tokens: TokenSpec | None
    ) -> dict[int, tuple[Embeddings, TokenRows | None]]:
        """Vectors ``(n, dim)`` and packed tokens ``(1, row_bytes)`` of what is here of ``contents`` (row -> hash)."""
        keys = {row: self._vectors_key(modality, content) for row, content in contents.items()}
        there = self.embeddings.get(keys.values())
        packed: dict[bytes, bytes] = {}
        if tokens is not None:
            packed = self.embeddings.get(self._tokens_key(modality, content, tokens) for content in contents.values())
        found: dict[int, tuple[Embeddings, TokenRows | None]] = {}
        for row, key in keys.items():
            data = there.get(key, b"")
            if not data or len(data) % (4 * dim):
                continue
            made: TokenRows | None = None
            if tokens is not None:
                kept = packed.get(self._tokens_key(modality, contents[row], tokens), b"")
                if len(kept) != tokens.row_bytes:
                    continue
                made = np.frombuffer(kept, np.uint8)[None, :]
            found[row] = _floats(data).reshape(-1, dim), made
        return found

    def keep_item(
        self, modality: Modality, content: str, vectors: Embeddings, tokens: TokenRows | None, spec: TokenSpec | None
    ) -> None:
        """Keep an item's vectors ``(n, dim)`` and, where a ``spec`` is given, its tokens ``(1, row_bytes)``."""
        self.embeddings.put(self._vectors_key(modality, content), _bytes(vectors))
        if spec is not None and tokens is not None:
            self.embeddings.put(self._tokens_key(modality, content, spec), tokens[:1].tobytes())

    def known_texts(self, texts: Sequence[str], dim: int) -> dict[str, NDArray[np.float32]]:
        """Vectors ``(dim,)`` of those of ``texts`` that are here, as queries."""
        keys = {text: self._text_key(text) for text in texts}
        there = self.embeddings.get(keys.values())
        here = {text: there.get(key, b"") for text, key in keys.items()}
        return {text: _floats(data) for text, data in here.items() if len(data) == 4 * dim}

    def keep_texts(self, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep vectors ``(dim,)`` of texts as queries."""
        for text, vector in vectors.items():
            self.embeddings.put(self._text_key(text), _bytes(vector))

    def reranker(self, reranker: Reranker) -> CachedReranker:
        """``reranker``, judging only pairs that were not judged before."""
        return CachedReranker(reranker, self)

    def _vectors_key(self, modality: Modality, content: str) -> bytes:
        return _key("item", self.encoder, modality.value, content)

    def _tokens_key(self, modality: Modality, content: str, spec: TokenSpec) -> bytes:
        return _key("tokens", self.encoder, modality.value, content, spec.fingerprint)

    def _text_key(self, text: str) -> bytes:
        return _key("query", self.encoder, text)


class CachedReranker:
    """A :class:`retrieval.rerank.base.Reranker` whose match logits are kept, a store entry for each query.

    An entry holds the logits of all candidates that the query was ever judged against, so another depth judges only
    what is new.
    """

    def __init__(self, reranker: Reranker, cache: BenchCache) -> None:
        self._reranker = reranker
        self._cache = cache
        self.counts = cache.counts.setdefault("logits", Counts())
        """Of pairs."""
        self._identity = _key("reranker", cache.encoder, reranker.token_spec.fingerprint, reranker.identity).hex()

    @property
    def token_spec(self) -> TokenSpec:
        return self._reranker.token_spec

    @property
    def identity(self) -> str:
        return self._reranker.identity

    def missing(self) -> str | None:
        return self._reranker.missing()

    def supports(self, query: Modality, candidate: Modality) -> bool:
        return self._reranker.supports(query, candidate)

    def read(self, texts: Sequence[str]) -> None:
        keys = {_key("media", self._identity, modality.value, text): text for text in texts for modality in Modality}
        known = {keys[key] for key in self._cache.logits.get(list(keys))}
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            self._reranker.read(missing)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        return self._judged(
            _key("media", self._identity, modality.value, text),
            [_digest(row.tobytes()) for row in tokens],
            lambda missing: self._reranker.score_media(text, tokens[missing], modality),
        )

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        return self._judged(
            _key("texts", self._identity, modality.value, tokens.tobytes()),
            [_digest(text.encode("utf-8", "surrogatepass")) for text in texts],
            lambda missing: self._reranker.score_texts(tokens, [texts[place] for place in missing], modality),
        )

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._reranker.score_pairs(text, texts)

    def cosine_weight(self, modality: Modality) -> float:
        return self._reranker.cosine_weight(modality)

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        return self._reranker.probability(scores, modality)

    def _judged(
        self, key: bytes, candidates: Sequence[bytes], compute: Callable[[list[int]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        known = _pairs(self._cache.logits.get([key]).get(key, b""))
        missing = [place for place, candidate in enumerate(candidates) if candidate not in known]
        if missing:
            fresh = compute(missing)
            known.update((candidates[place], logit) for place, logit in zip(missing, fresh, strict=True))
            entry = b"".join(candidate + struct.pack("<f", logit) for candidate, logit in known.items())
            self._cache.logits.put(key, entry)
        self.counts.found += len(candidates) - len(missing)
        self.counts.computed += len(missing)
        return np.array([known[candidate] for candidate in candidates], dtype=np.float32)


_DIGEST_BYTES = 12


def _pairs(entry: bytes) -> dict[bytes, float]:
    size = _DIGEST_BYTES + 4
    if len(entry) % size:
        return {}
    parts = (entry[start : start + size] for start in range(0, len(entry), size))
    return {part[:_DIGEST_BYTES]: struct.unpack("<f", part[_DIGEST_BYTES:])[0] for part in parts}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _key(*parts: str | bytes) -> bytes:
    digest = hashlib.blake2b(FORMAT.encode(), digest_size=20)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def _bytes(vectors: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(vectors, dtype="<f4").tobytes()


def _floats(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, dtype="<f4").astype(np.float32)
