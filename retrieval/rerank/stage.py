"""The second stage of a search: the best candidates of the first one, scored by a reranker.

The score of a judged candidate is its match logit plus its cosine (LAVIS); what was not judged stays below, in its
order. Knows nothing of indexes, filters, several modalities in one ranking, or the terminal.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from indexer.collection.catalog.records import Row
from indexer.encoders.base import DualEncoder
from indexer.encoders.tokens.format import TokenRows, token_encoder
from indexer.errors import CollectionError, ModelError, UsageError
from indexer.items import Modality
from retrieval.query import Query, QueryPart
from retrieval.rerank.base import Captioner, Reranker
from retrieval.rerank.registry import captioner_of, open_reranker

if TYPE_CHECKING:
    from indexer.collection.collection import Collection

#: Candidates of a query that are judged: LAVIS' k_test is 128 to 256, on a bigger pool than most collections.
RERANK_DEPTH = 64

_MEDIA = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds"}


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate in its new order. ``logit``, ``score`` and ``probability`` are ``None`` below the depth."""

    cosine: float
    row: Row
    logit: float | None = None
    score: float | None = None
    probability: float | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """What of a query can be judged: its one part, against candidates of ``modalities``."""

    reranker: Reranker
    part: QueryPart
    modalities: frozenset[Modality]

    @property
    def needs_query_tokens(self) -> bool:
        """Whether the query is a picture or sound, whose own media tokens are read."""
        return self.part.kind is not Modality.TEXT


def require_reranker(encoder: DualEncoder, device: str = "auto") -> Reranker:
    """The reranker of a model. Raises ``ModelError`` where it has none."""
    reranker = open_reranker(encoder, device)
    if reranker is None:
        raise ModelError(
            f"model {encoder.spec}: has no reranker; use a model that has one, "
            "or train one: trimodal train rerank RECIPE --out DIR"
        )
    return reranker


def choose_reranker(
    encoder: DualEncoder, device: str = "auto", rerank: bool | None = None
) -> tuple[Reranker | None, list[str]]:
    """The reranker of a run over many queries, and warnings.

    ``rerank``: ``None`` takes the model's where it has one, and warns where that lacks something on this machine;
    ``True`` raises ``ModelError`` where the model has none; ``False`` takes none.
    """
    if rerank is False:
        return None, []
    if rerank:
        return require_reranker(encoder, device), []
    reranker = open_reranker(encoder, device)
    lacking = None if reranker is None else reranker.missing()
    return (reranker, []) if lacking is None else (None, [lacking])


def require_captioner(encoder: DualEncoder, device: str = "auto") -> Captioner:
    """The captioner of a model. Raises ``ModelError`` where the model has no reranker or that can't caption."""
    return captioner_of(require_reranker(encoder, device), encoder)


def match_scores(
    reranker: Reranker, logits: NDArray[Any], cosines: NDArray[Any], modality: Modality
) -> NDArray[np.float32]:
    """Match logits ``(n,)`` and cosines ``(n,)`` of texts and ``modality`` -> scores ``(n,)``: their weighted sum."""
    weight = np.float32(reranker.cosine_weight(modality))
    scores = np.asarray(logits, dtype=np.float32) + weight * np.asarray(cosines, dtype=np.float32)
    if not np.isfinite(scores).all():
        raise ModelError("the reranker gives scores that are not finite; check its weights, or search with --no-rerank")
    return np.asarray(scores, dtype=np.float32)


def supported_directions(reranker: Reranker) -> str:
    """In words: ``text against pictures, and pictures against texts``."""
    parts = []
    for modality, noun in _MEDIA.items():
        if reranker.supports(Modality.TEXT, modality):
            parts.append(f"text against {noun}")
        if reranker.supports(modality, Modality.TEXT):
            parts.append(f"{noun} against texts (with --rerank)")
    if reranker.supports(Modality.TEXT, Modality.TEXT):
        parts.append("texts against texts (with --rerank)")
    return ", and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "nothing"


def make_plan(
    query: Query, encoder: DualEncoder, reranker: Reranker, collection: Collection, modalities: Many[Modality]
) -> Plan:
    """What of ``query`` can be judged among candidates of ``modalities``.

    Raises ``UsageError`` where the reranker judges no such pairs, and ``CollectionError`` where the collection has
    no media tokens for it.
    """
    part = query.parts[0]
    alone = len(query.parts) == 1 and part.weight > 0
    found = {modality for modality in modalities if alone and _judges(reranker, part.kind, modality)}
    if part.kind is not Modality.TEXT and token_encoder(encoder) is None:
        found = set()
    if not found:
        pairs = "parts that are combined" if not alone else f"{part.kind} against {', '.join(sorted(modalities))}"
        raise UsageError(
            f"the reranker cannot judge {pairs}: it reranks {supported_directions(reranker)}; search with --no-rerank"
        )
    if part.kind is Modality.TEXT and found != {Modality.TEXT}:
        collection.require_tokens(reranker.token_spec)
    return Plan(reranker, part, frozenset(found))


def judge(
    plan: Plan,
    found: Sequence[tuple[float, Row]],
    modality: Modality,
    collection: Collection,
    query_tokens: TokenRows | None,
    depth: int,
) -> list[Judged]:
    """Candidates of one modality, by falling cosine -> the first ``depth`` by falling score, then the rest as it was.

    Equal scores: the lower ``vector_id`` first.
    """
    top = found[:depth]
    if not top:
        return []
    reranker = plan.reranker
    media = modality if plan.part.kind is Modality.TEXT else plan.part.kind
    if media is Modality.TEXT:
        assert isinstance(plan.part.value, str)
        logits = reranker.score_pairs(plan.part.value, [row.text or "" for _, row in top])
    elif plan.part.kind is Modality.TEXT:
        assert isinstance(plan.part.value, str) and collection.tokens is not None
        ids = np.array([row.vector_id for _, row in top], dtype=np.int64)
        logits = reranker.score_media(plan.part.value, collection.tokens.get(ids), modality)
    else:
        assert query_tokens is not None
        logits = reranker.score_texts(query_tokens, [row.text or "" for _, row in top], media)
    scores = match_scores(reranker, logits, np.array([cosine for cosine, _ in top]), media)
    chances = reranker.probability(scores, media)
    order = np.lexsort((np.array([row.vector_id for _, row in top]), -scores.astype(np.float64)))
    judged = []
    for place in order.tolist():
        cosine, row = top[place]
        judged.append(Judged(cosine, row, float(logits[place]), float(scores[place]), float(chances[place])))
    return judged + [Judged(cosine, row) for cosine, row in found[depth:]]


def falling_scores(judged: Sequence[Judged]) -> list[float]:
    """A score for each, falling: the judged ones' own, and below them the least of those minus ``1 - cosine``."""
    least = min((one.score for one in judged if one.score is not None), default=0.0)
    return [least + one.cosine - 1.0 if one.score is None else one.score for one in judged]


def planned(
    query: Query,
    encoder: DualEncoder,
    reranker: Reranker | None,
    collection: Collection,
    modalities: Many[Modality],
    rerank: bool | None,
    *,
    calibrated: bool = False,
) -> tuple[Plan | None, list[str]]:
    """The plan of a query, and warnings. ``rerank`` is ``--rerank``, ``--no-rerank`` or neither (``None``).

    ``None``: rerank where that is possible and no candidate's text has to be read for it. ``True`` raises what stands
    in the way; so does a ``min_probability``, as ``UsageError``, unless every hit is ``calibrated`` without a reranker.
    """
    chance = query.min_probability is not None and not calibrated
    if rerank is False:
        if chance:
            raise UsageError("--min-probability needs the reranker; leave out --no-rerank")
        return None, []
    try:
        if reranker is None:
            raise ModelError(f"model {encoder.spec}: has no reranker; search without --rerank")
        if not rerank and not chance:
            # reading 64 texts takes seconds, and of long ones the reader sees the beginning
            modalities = [modality for modality in modalities if modality is not Modality.TEXT]
        plan = make_plan(query, encoder, reranker, collection, modalities)
        lacking = reranker.missing()
        if lacking is not None and not rerank and not chance:
            return None, [lacking]
        return plan, []
    except (CollectionError, ModelError, UsageError) as error:
        if chance:
            reason = str(error)
            for advice in ("search with --no-rerank", "search without --rerank"):  # then nothing would be judged
                reason = reason.replace(advice, "leave out --min-probability")
            raise UsageError(f"--min-probability needs the reranker: {reason}") from error
        if rerank:
            raise
        return None, [str(error)] if isinstance(error, CollectionError) else []


def _judges(reranker: Reranker, query: Modality, candidate: Modality) -> bool:
    return Modality.TEXT in (query, candidate) and reranker.supports(query, candidate)
