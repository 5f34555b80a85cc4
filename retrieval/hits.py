"""What a search gives back: hits, best first, with the query and how long it took.

Plain values; knows nothing of where they come from or how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from indexer.items import Modality, Scalar
from retrieval.query import Query

#: What ``score`` is: the cosine itself, a standard score that compares modalities (``retrieval.fusion``), or a
#: reranker's match logit plus the cosine (``retrieval.rerank.stage``).
ScoreKind = Literal["cosine", "standard", "match"]
#: What hits are sorted by: their score; or places: each modality has the places of its cosines' standard scores, and
#: one that a reranker judged fills its places in the reranker's order; or the probability that each one matches, where
#: the model is calibrated (``retrieval.matching``).
Order = Literal["score", "places", "probability"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that was found, by its best segment."""

    rank: int
    """1 is the best; 0 is the file that is the query itself, which takes no place."""
    score: float
    """The hit's own; rises with relevance. See :data:`ScoreKind`, and :attr:`SearchResult.order`."""
    cosine: float
    """Of the query and the segment, in [-1, 1]; to be compared within one modality only."""
    match_probability: float | None
    """By the model's calibration, else by a reranker's; ``None`` where there is neither."""
    modality: Modality
    path: Path
    """The file; for a text that stands in a manifest, the manifest."""
    start_s: float | None
    """Of a sound: where the window that matched begins and ends, seconds from the start of the file."""
    end_s: float | None
    text: str | None
    """The passage that matched; ``None`` for pictures and sounds."""
    caption: str | None
    metadata: Mapping[str, Scalar]
    vector_id: int
    key: str
    """Identity of the item in its collection: its path, or ``manifest#row`` for a text in a manifest."""
    match_logit: float | None = None
    """The reranker's, raw; ``None`` for what none has judged."""
    standard_score: float | None = None
    """How far the cosine stands out from the query's with its own kind (:mod:`retrieval.fusion`): 0 is ordinary.

    ``None`` where the collection holds one segment of that kind, which has nothing to stand out from.
    """
    is_query: bool = False
    """Whether this is the picture or sound that the query is: the same path, or the same bytes."""

    def to_json(self) -> dict[str, Any]:
        """One of ``"hits"`` of ``search --json``."""
        return {
            "rank": self.rank,
            "score": self.score,
            "cosine": self.cosine,
            "match_probability": self.match_probability,
            "match_logit": self.match_logit,
            "standard_score": self.standard_score,
            "is_query": self.is_query,
            "modality": self.modality.value,
            "path": str(self.path),
            "start_s": self.start_s,
            "end_s": self.end_s,
            "text": self.text,
            "caption": self.caption,
            "metadata": dict(self.metadata),
            "key": self.key,
            "vector_id": self.vector_id,
        }


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits of one modality, at most ``query.k``; ``rank`` counts within it."""

    modality: Modality
    hits: tuple[Hit, ...]

    def to_json(self) -> dict[str, Any]:
        """One of ``"groups"`` of ``search --json``."""
        return {"modality": self.modality.value, "hits": [hit.to_json() for hit in self.hits]}


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """Hits of all modalities in one ranking, best first; at most ``query.k``, one an item.

    Beside these ``k`` there may be the file that is the query itself (``Hit.is_query``).
    """

    hits: tuple[Hit, ...]
    query: Query
    timings_ms: Mapping[str, float | None]
    """``encode``, ``search`` and ``rerank``; ``None`` for a stage that did not run."""
    score_kind: ScoreKind = "cosine"
    warnings: tuple[str, ...] = ()
    """What the user should know of how this came about, a line each."""
    groups: tuple[HitGroup, ...] = ()
    """The same search by modality, each with its own ``k`` best; the one whose best hit stands out most first."""
    order: Order = "score"
    match_probability: float | None = None
    """That something of what was searched matches; ``None`` where the model is not calibrated for such a search."""
    matches: bool | None = None
    """Whether it is taken to: ``False`` says that the hits are the nearest, but nothing matches well."""

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def to_json(self) -> dict[str, Any]:
        """The document of ``search --json``."""
        return {
            "query": self.query.to_json(),
            "hits": [hit.to_json() for hit in self.hits],
            "timings_ms": dict(self.timings_ms),
            "score_kind": self.score_kind,
            "warnings": list(self.warnings),
            "order": self.order,
            "match_probability": self.match_probability,
            "matches": self.matches,
            "groups": [group.to_json() for group in self.groups],
        }
