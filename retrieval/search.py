"""Searching a collection: a query in, ranked hits out.

Encodes the query, searches the index once for each modality among the rows that the filter leaves (so the
filter can never empty the top k), keeps an item's best segment, has the best of them scored by the model's
reranker where it has one (``retrieval.rerank.stage``), says how probably each hit matches where the model is
calibrated (``retrieval.matching``), and merges the modalities. Knows nothing of the terminal or of how a
collection is made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.ann.index import VectorIndex
from indexer.collection.catalog.records import Row
from indexer.collection.collection import Collection
from indexer.encoders.base import DualEncoder
from indexer.encoders.identity import identity_of
from indexer.errors import MediaError, UsageError
from indexer.files import absolute, display_path, one_line
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.content_hash import content_hash
from retrieval.embed import Embedded, Vector, embed_query
from retrieval.fusion import cohort_ids
from retrieval.hits import ScoreKind, SearchResult
from retrieval.matching.file import open_match
from retrieval.matching.judging import LEAST_HITS, kind_of, knows, match_lists
from retrieval.matching.model import ListMatch, MatchModel
from retrieval.query import Query, parse_modalities
from retrieval.ranking import rank
from retrieval.rerank import stage
from retrieval.rerank.base import Reranker
from retrieval.rerank.registry import open_reranker
from retrieval.rerank.stage import RERANK_DEPTH, Judged, Plan

#: How much more is fetched each time that a few items with many segments fill the top of the ranking.
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class _Cohort:
    """The fixed cohort of a modality, as it was last read: within a generation a vector never changes."""

    generation: int
    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    """``(n, d)``, in the order of ``ids``."""


class Searcher:
    """A collection and the encoder that made it. Sees the commit that was the last when it was opened.

    >>> with Searcher.open(path) as searcher:                             # doctest: +SKIP
    ...     for hit in searcher.search("a red door", k=3):
    ...         print(hit.rank, hit.path)
    """

    def __init__(
        self,
        collection: Collection,
        encoder: DualEncoder,
        *,
        device: str = "auto",
        limits: MediaLimits | None = None,
        reranker: Reranker | Literal["auto"] | None = "auto",
        match: MatchModel | Literal["auto"] | None = "auto",
    ) -> None:
        """``device`` is the index's and the reranker's; ``limits`` are for queries that are pictures or sounds.

        ``reranker`` and ``match`` (the calibration): ``"auto"`` is the encoder's own, where it has one, opened by the
        first search that needs it.
        Raises ``EncoderMismatch`` when another encoder made the collection.
        """
        collection.require_encoder(identity_of(encoder))
        self.collection = collection
        self.encoder = encoder
        self._device = device
        self._limits = limits
        self._given = reranker
        self._given_match = match
        self._cohorts: dict[Modality, _Cohort] = {}

    @cached_property
    def reranker(self) -> Reranker | None:
        """Who judges the best candidates; ``None`` where nobody can."""
        return open_reranker(self.encoder, self._device) if self._given == "auto" else self._given

    @cached_property
    def match(self) -> MatchModel | None:
        """The model's calibration; ``None`` where it has none."""
        return open_match(self.encoder) if self._given_match == "auto" else self._given_match

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        model: str | None = None,
        device: str = "auto",
        limits: MediaLimits | None = None,
    ) -> Searcher:
        """Open a collection with the encoder that it names, or with ``model``, which must be interchangeable.

        Raises ``ModelNotConfirmed`` where the collection names a model that was not used on this machine before;
        naming it as ``model`` confirms it.
        """
        from indexer.encoders import open_encoder
        from indexer.encoders.trust import confirm_if_possible, require_confirmed

        collection = Collection.open(Path(path))
        try:
            if model is None:
                require_confirmed(collection.encoder_spec, collection.fingerprint, collection.path)
            encoder = open_encoder(model or collection.encoder_spec, device=device)
            opened = cls(collection, encoder, device=device, limits=limits)
            if model is not None:
                confirm_if_possible(encoder)
            return opened
        except BaseException:
            collection.close()
            raise

    def refresh(self) -> bool:
        """See the newest commit; returns whether there was one since."""
        return self.collection.refresh()

    def close(self) -> None:
        """Let go of the collection's files."""
        self.collection.close()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search(
        self,
        query: str | Query,
        *,
        k: int | None = None,
        modalities: Iterable[str] | None = None,
        where: str | None = None,
        rerank: bool | None = None,
        rerank_depth: int = RERANK_DEPTH,
        embedded: Embedded | None = None,
    ) -> SearchResult:
        """The hits of a text, or of a :class:`Query`; ``k``, ``modalities`` and ``where`` replace the query's own.

        At most ``k`` hits, one an item, by falling score; equal scores by rising ``vector_id`` within a
        modality. A picture or sound of the collection that is the query itself is marked and comes beside the ``k``.
        ``groups`` are the ``k`` best of each modality.

        Nothing found is no error: ``warnings`` say what stood in the way. Raises ``UsageError`` for
        what makes no sense, ``FilterError`` for a filter, ``MediaError`` for a query that is a picture or sound and
        cannot be read.

        ``rerank``: ``None`` has the ``rerank_depth`` best of each modality judged where the model has a reranker
        that can (one text against pictures, a picture against texts), and warns where only the collection's media
        tokens are missing; ``True`` raises what stands in the way; ``False`` is the plain order. Judged candidates
        come by match logit plus cosine, what is below the depth follows in its order. Where one modality is searched
        that is the score (``"match"``; below the depth, the least judged score minus ``1 - cosine``). Where several
        are, a hit's score is its own standard score; each modality has the places that its cosines give it, a judged
        one fills them in the new order, and ``order`` is ``"places"``. ``embedded``: a query that is one text, where
        it was encoded before.
        """
        query = _with_options(query, k, modalities, where)
        if rerank_depth < 1:
            raise UsageError(f"--rerank-depth is {rerank_depth}; it is a whole number, at least 1")
        started = time.perf_counter()
        allowed, warnings = self._allowed(query)
        plan: Plan | None = None
        calibrated = knows(self.match, query, set(allowed))
        if allowed:
            reranker = None if rerank is False else self.reranker
            plan, notes = stage.planned(
                query, self.encoder, reranker, self.collection, allowed, rerank, calibrated=calibrated
            )
            warnings += notes
        # Decided before the filter, so that what a score means does not depend on what passes it.
        score_kind: ScoreKind = "standard" if len(allowed) > 1 else "match" if plan is not None else "cosine"
        if not any(len(ids) for ids in allowed.values()):
            timings = {"encode": None, "search": _since(started), "rerank": None}
            return SearchResult((), query, timings, score_kind, tuple(warnings))
        looked_up = _since(started)

        started = time.perf_counter()
        if embedded is None:
            with_tokens = plan is not None and plan.needs_query_tokens
            embedded = embed_query(query, self.encoder, self._limits, with_tokens=with_tokens)
        warnings += embedded.warnings
        encoded = _since(started)

        started = time.perf_counter()
        index = self.collection.index(self._device)
        warnings += [str(warning) for warning in self.collection.warnings]
        judged = plan.modalities if plan is not None else frozenset()
        same = self._same_items(query)
        k = max(query.k, LEAST_HITS if calibrated else 0) + len(same)
        found = {
            modality: self._best_items(index, embedded.vector, ids, max(k, rerank_depth) if modality in judged else k)
            if len(ids)
            else []
            for modality, ids in allowed.items()
        }
        searched = _since(started)

        started = time.perf_counter()
        ranked = {modality: [Judged(*one) for one in items] for modality, items in found.items()}
        if plan is not None:
            for modality in judged:
                ranked[modality] = stage.judge(
                    plan, found[modality], modality, self.collection, embedded.tokens, rerank_depth
                )
        reranked = _since(started)

        started = time.perf_counter()
        cohorts = {modality: self._cohort_cosines(modality, embedded.vector) for modality in allowed}
        lists: dict[Modality, ListMatch] | None = None
        if calibrated and self.match is not None:
            counts = {modality: len(ids) for modality, ids in allowed.items()}
            ranked, lists = match_lists(self.match, query, ranked, cohorts, counts, same)
        best = rank(ranked, cohorts, query, score_kind, same, lists)
        timings = {
            "encode": encoded,
            "search": looked_up + searched + _since(started),
            "rerank": reranked if plan is not None else None,
        }
        warnings += best.warnings
        found_result = SearchResult(best.hits, query, timings, score_kind, tuple(warnings), best.groups, best.order)
        return found_result if lists is None else self._with_match(found_result, lists)

    def _with_match(self, result: SearchResult, lists: Mapping[Modality, ListMatch]) -> SearchResult:
        """The result with what the lists say of it as a whole."""
        kind = kind_of(result.query)
        assert self.match is not None and kind is not None
        chance = max((one.probability for one in lists.values()), default=None)
        return replace(result, match_probability=chance, matches=self.match.anything(kind, lists))

    def _allowed(self, query: Query) -> tuple[dict[Modality, NDArray[np.int64]], list[str]]:
        """Of each modality that is searched and not empty, the vector_ids that pass the filter; and what is missing."""
        catalog = self.collection.catalog
        shown = display_path(self.collection.path)
        for modality in sorted(query.modalities or ()):
            if modality not in self.encoder.modalities:
                raise UsageError(
                    f"model {self.encoder.spec} has no {modality} tower, so {shown} holds no {modality}; "
                    f"it reads {', '.join(sorted(self.encoder.modalities))}"
                )
        condition = catalog.compile_filter(query.where) if query.where is not None else None
        live = {modality: catalog.vector_ids(modality) for modality in Modality}
        if not any(len(ids) for ids in live.values()):
            return {}, [f"{shown}: the collection is empty; fill it: trimodal index PATH..."]
        warnings = [
            f"{shown}: holds no {modality}; add some: trimodal index PATH..."
            for modality in Modality
            if query.modalities is not None and modality in query.modalities and not len(live[modality])
        ]
        wanted = query.modalities or frozenset(Modality)
        allowed = {modality: ids for modality, ids in live.items() if len(ids) and modality in wanted}
        if condition is not None and allowed:
            allowed = {modality: catalog.vector_ids(modality, condition) for modality in allowed}
            if not any(len(ids) for ids in allowed.values()):
                warnings.append(f"{shown}: nothing that is searched passes --where {one_line(repr(query.where))}")
        return allowed, warnings

    def _best_items(
        self, index: VectorIndex, vector: Vector, allowed: NDArray[np.int64], k: int
    ) -> list[tuple[float, Row]]:
        """The ``k`` best items, each by its best segment: cosine and row, best first.

        Several segments of one item may stand before the next item, so more are fetched until k items are
        found or nothing is left.
        """
        fetch = min(k, len(allowed))
        rows: dict[int, Row] = {}
        while True:
            scores, ids = index.search(vector[None, :], fetch, allowed)
            there = ids[0] >= 0
            order = ids[0][there].tolist()
            rows.update(self.collection.catalog.lookup([i for i in order if i not in rows]))
            best: dict[int, tuple[float, Row]] = {}
            for vector_id, cosine in zip(order, scores[0][there].tolist(), strict=True):
                row = rows.get(vector_id)
                if row is not None:
                    # Unit vectors in float32 may pass 1 by their rounding.
                    best.setdefault(row.item_id, (min(1.0, max(-1.0, cosine)), row))
            if len(best) >= k or len(order) < fetch or fetch >= len(allowed):
                return list(best.values())[:k]
            fetch = min(len(allowed), fetch * _GROWTH)

    def _cohort_cosines(self, modality: Modality, vector: Vector) -> NDArray[np.float32]:
        """The query's cosines with the fixed cohort of a modality; see ``retrieval.fusion``."""
        ids = cohort_ids(self.collection.catalog.vector_ids(modality))
        vectors = self.collection.vectors
        cohort = self._cohorts.get(modality)
        if cohort is None or cohort.generation != vectors.generation or not np.array_equal(cohort.ids, ids):
            cohort = self._cohorts[modality] = _Cohort(vectors.generation, ids, vectors.get(ids))
        return np.asarray(cohort.rows @ vector)  # (n, d) @ (d,) -> (n,)

    def _same_items(self, query: Query) -> set[int]:
        """item_ids of the pictures and sounds of the collection that are what the query draws towards.

        By the path, or by the same bytes; a picture in memory that was opened from a file counts as that file.
        """
        same: set[int] = set()
        for part in query.parts:
            named = getattr(part.value, "filename", part.value)
            if part.weight < 0 or part.kind is Modality.TEXT or not isinstance(named, str | Path) or not str(named):
                continue
            path = absolute(Path(named))
            found = list(self.collection.catalog.find([str(path)]).values())
            with contextlib.suppress(MediaError):
                digest = content_hash(Item(str(path), part.kind, path))
                found += self.collection.catalog.find_hash(digest, part.kind)
            same |= {row.item_id for row in found}
        return same


def _with_options(query: str | Query, k: int | None, modalities: Iterable[str] | None, where: str | None) -> Query:
    if isinstance(query, str):
        query = Query.text(query)
    if k is not None:
        query = replace(query, k=k)
    if modalities is not None:
        query = replace(query, modalities=parse_modalities(modalities))
    if where is not None:
        query = replace(query, where=where)
    return query


def _since(started: float) -> float:
    return 1_000.0 * (time.perf_counter() - started)
