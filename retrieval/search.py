"""Searching a collection: a query in, ranked hits out.

Encodes the query, searches the index once for each modality among the rows that the filter leaves (so the
filter can never empty the top k), keeps an item's best segment, and merges the modalities. Knows nothing of
the terminal or of how a collection is made.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from indexer.collection import Collection
from indexer.encoders.dual import DualEncoder
from indexer.errors import UsageError
from indexer.faiss_index import VectorIndex
from indexer.files import display_path
from indexer.items import Modality
from indexer.limits import MediaLimits
from indexer.rows import Row
from retrieval.embed import Vector, embed_query
from retrieval.hits import Hit, ScoreKind, SearchResult
from retrieval.merge import cohort_ids, merge
from retrieval.query import Query, parse_modalities

#: How much more is fetched each time that a few items with many segments fill the top of the ranking.
_GROWTH = 4


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
    ) -> None:
        """``device`` is the index's; ``limits`` are for pictures and sounds that ask.

        Raises ``EncoderMismatch`` when another encoder made the collection.
        """
        collection.require_encoder(encoder.fingerprint, encoder.spec)
        self.collection = collection
        self.encoder = encoder
        self._device = device
        self._limits = limits

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        model: str | None = None,
        device: str = "auto",
        limits: MediaLimits | None = None,
    ) -> Searcher:
        """Open a collection with the encoder that it names, or with ``model``, which must be interchangeable."""
        from indexer.encoders import open_encoder

        collection = Collection.open(Path(path))
        try:
            encoder = open_encoder(model or collection.encoder_spec, device=device)
            return cls(collection, encoder, device=device, limits=limits)
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
    ) -> SearchResult:
        """The hits of a text, or of a :class:`Query`; ``k``, ``modalities`` and ``where`` replace the query's own.

        At most ``k`` hits, one an item, by falling score; equal scores by rising ``vector_id`` within a
        modality. Nothing found is no error: ``warnings`` say what stood in the way. Raises ``UsageError`` for
        what makes no sense, ``FilterError`` for a filter, ``MediaError`` for a picture or sound that asks and
        cannot be read.
        """
        query = _with_options(query, k, modalities, where)
        started = time.perf_counter()
        allowed, warnings = self._allowed(query)
        # Decided before the filter, so that what a score means does not depend on what passes it.
        score_kind: ScoreKind = "standard" if len(allowed) > 1 else "cosine"
        if not any(len(ids) for ids in allowed.values()):
            timings = {"encode": None, "search": _since(started), "rerank": None}
            return SearchResult((), query, timings, score_kind, tuple(warnings))
        looked_up = _since(started)

        started = time.perf_counter()
        vector = embed_query(query, self.encoder, self._limits)
        encoded = _since(started)

        started = time.perf_counter()
        index = self.collection.index(self._device)
        warnings += [str(warning) for warning in self.collection.warnings]
        found = {
            modality: self._best_items(index, vector, ids, query.k) if len(ids) else []
            for modality, ids in allowed.items()
        }
        hits = self._ranked(found, vector, query, score_kind)
        timings = {"encode": encoded, "search": looked_up + _since(started), "rerank": None}
        return SearchResult(hits, query, timings, score_kind, tuple(warnings))

    def _allowed(self, query: Query) -> tuple[dict[Modality, NDArray[np.int64]], list[str]]:
        """Of each modality asked for and there, the vector_ids that pass the filter; and what is missing."""
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
                warnings.append(f"{shown}: nothing that is searched passes --where {query.where!r}")
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
        """The query's cosines with the fixed cohort of a modality; see ``retrieval.merge``."""
        ids = cohort_ids(self.collection.catalog.vector_ids(modality))
        return np.asarray(self.collection.vectors.get(ids) @ vector)  # (n, d) @ (d,) -> (n,)

    def _ranked(
        self, found: Mapping[Modality, list[tuple[float, Row]]], vector: Vector, query: Query, score_kind: ScoreKind
    ) -> tuple[Hit, ...]:
        """One ranking, cut at ``min_score`` and ``k``."""
        if score_kind == "cosine":
            scored = [(cosine, cosine, row) for items in found.values() for cosine, row in items]
        else:
            cosines = {modality: np.array([cosine for cosine, _ in items]) for modality, items in found.items()}
            cohorts = {modality: self._cohort_cosines(modality, vector) for modality in found}
            merged = merge(cosines, cohorts)
            scored = [(place.score, *found[place.modality][place.position]) for place in merged]
        least = -np.inf if query.min_score is None else query.min_score
        kept = [entry for entry in scored if entry[0] >= least][: query.k]
        return tuple(_hit(rank, *entry) for rank, entry in enumerate(kept, start=1))


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


def _hit(rank: int, score: float, cosine: float, row: Row) -> Hit:
    return Hit(
        rank=rank,
        score=float(score),
        cosine=cosine,
        match_probability=None,
        modality=row.modality,
        path=row.path,
        start_s=row.start_s,
        end_s=row.end_s,
        text=row.text if row.modality is Modality.TEXT else None,
        caption=row.caption,
        metadata=row.metadata,
        vector_id=row.vector_id,
        key=row.key,
    )


def _since(started: float) -> float:
    return 1_000.0 * (time.perf_counter() - started)
