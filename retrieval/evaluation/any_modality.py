"""Directions whose candidates are the items of every modality together, ranked as a search of all of them ranks.

- ``text->any``: every caption is a query; relevant are the items of the rows that carry it, whatever they are.
- ``image->any``, ``audio->any``: over the rows that hold further items; those are relevant, and the query itself is no
  candidate.

A candidate's score is the log-odds that it matches, where the model's calibration knows every pair of modalities, else
the standard score of :mod:`retrieval.fusion`, by the cohort that a collection of them has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings, Modality
from retrieval.evaluation.details import SHOWN, DirectionDetails, examples_of
from retrieval.evaluation.encoding import EncodedBenchmark
from retrieval.evaluation.metrics.ranks import Ints, Relevance, RelevantRanks, best_first, ranks, similarity_blocks
from retrieval.evaluation.shown_items import ShownItem, fingerprint, shown_item
from retrieval.fusion import backgrounds, cohort_ids
from retrieval.matching.features import CandidateList
from retrieval.matching.model import MatchModel


@dataclass(frozen=True, eq=False)
class Pool:
    """The items of every modality: their vectors, modality by modality, and which row each belongs to."""

    vectors: Embeddings
    """``(v, dim)``; a text has one a passage."""
    starts: Ints
    """First vector of each candidate, ``(n,)``."""
    parts: dict[Modality, slice]
    """Of ``vectors``, those of each modality."""
    rows: list[int]
    """Of each candidate."""
    modalities: list[Modality]
    """Of each candidate."""

    @classmethod
    def of(cls, encoded: EncodedBenchmark) -> Pool | None:
        """``None`` where there are not two modalities to be ranked together."""
        held = [modality for modality in Modality if encoded.items.get(modality)]
        if len(held) < 2:
            return None
        vectors: list[Embeddings] = []
        starts, rows, modalities = [], [], []
        parts: dict[Modality, slice] = {}
        count = 0
        for modality in held:
            first = count
            for row, own in encoded.items[modality].items():
                vectors.append(own)
                starts.append(count)
                rows.append(row)
                modalities.append(modality)
                count += len(own)
            parts[modality] = slice(first, count)
        return cls(np.concatenate(vectors), np.array(starts, dtype=np.int64), parts, rows, modalities)

    def ranked(
        self,
        queries: Embeddings,
        relevance: Relevance,
        own: Ints | None = None,
        kind: Modality = Modality.TEXT,
        match: MatchModel | None = None,
    ) -> tuple[RelevantRanks, Ints]:
        """Ranks by match, or by standard score, and of each query the first candidates ``(q, k)``.

        ``own`` ``(q,)``: the candidate that each query is, which comes last. ``kind``: the queries' modality.
        """
        known = match if match is not None and all(match.knows(kind, one) for one in self.parts) else None
        found = []
        for start, cosines in similarity_blocks(queries, self.vectors):
            if known is not None:
                items = np.maximum.reduceat(cosines, self.starts, axis=1)
                places = [None] * len(items) if own is None else own[start : start + len(items)].tolist()
                rows = zip(cosines, items, places, strict=True)
                scores = np.stack([self._log_odds(known, kind, *row) for row in rows])
            else:
                scores = np.maximum.reduceat(self._scores(cosines), self.starts, axis=1)  # (b, v) -> (b, n)
            if own is not None:
                scores[np.arange(len(scores)), own[start : start + len(scores)]] = -np.inf
            found.append(scores)
        scores = np.concatenate(found)
        depth = min(SHOWN, scores.shape[1])
        return ranks(scores, relevance), np.stack([best_first(row, depth) for row in scores])

    def _log_odds(
        self,
        match: MatchModel,
        kind: Modality,
        cosines: NDArray[np.float32],
        items: NDArray[np.float32],
        own: int | None,
    ) -> NDArray[np.float64]:
        """That each candidate matches one query, ``(n,)``, from its cosines ``(v,)``, and the items' ``(n,)``."""
        found = np.full(len(items), -np.inf)
        for modality, part in self.parts.items():
            places = np.array([n for n, held in enumerate(self.modalities) if held is modality and n != own], np.int64)
            if len(places):
                values = items[places].astype(np.float64)
                cohort = cosines[part.start + cohort_ids(np.arange(part.stop - part.start))].astype(np.float64)
                given = CandidateList(np.sort(values)[::-1], cohort, part.stop - part.start)
                found[places] = match.judge(kind, modality, given, values).log_odds
        return found

    def _scores(self, cosines: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cosines ``(b, v)`` -> standard scores ``(b, v)``."""
        scores = np.empty(cosines.shape)
        cohorts = {
            modality: part.start + cohort_ids(np.arange(part.stop - part.start))
            for modality, part in self.parts.items()
        }
        for query, row in enumerate(cosines):
            ordinary = backgrounds({modality: row[places] for modality, places in cohorts.items()})
            for modality, part in self.parts.items():
                one = ordinary[modality]
                scores[query, part] = (row[part] - one.centre) / one.spread
        return scores


@dataclass(frozen=True, eq=False)
class AnyDirection:
    """The queries of one direction, and which of the pool's candidates are relevant to each."""

    direction: str
    queries: str
    vectors: Embeddings
    relevance: Relevance
    own: Ints | None
    captions_per_item: float | None
    query_items: list[ShownItem]
    candidates: str = "items"
    labels: None = None
    kind: Modality = Modality.TEXT
    """Of the queries."""


def any_directions(encoded: EncodedBenchmark, pool: Pool, nouns: dict[Modality, str]) -> Iterator[AnyDirection]:
    """Every direction that the rows allow. ``nouns``: what the items of a modality are called."""
    of_row: dict[int, list[int]] = {}
    for place, row in enumerate(pool.rows):
        of_row.setdefault(row, []).append(place)
    benchmark = encoded.benchmark
    captions = [(row, text) for row in sorted(of_row) for text in benchmark.rows[row].captions]
    if captions and encoded.captions:
        carriers: dict[str, list[int]] = {}
        for row, places in of_row.items():
            for text in set(benchmark.rows[row].captions):
                carriers.setdefault(text, []).extend(places)
        yield AnyDirection(
            "text->any",
            "captions",
            np.stack([encoded.captions[text] for _, text in captions]),
            Relevance.from_lists([carriers[text] for _, text in captions], len(pool.rows)),
            None,
            len(captions) / len({row for row, _ in captions}),
            [ShownItem(benchmark.rows[row].row_id, Modality.TEXT, text=text) for row, text in captions],
        )
    for modality in (Modality.IMAGE, Modality.AUDIO):
        own = [n for n, kind in enumerate(pool.modalities) if kind is modality and len(of_row[pool.rows[n]]) > 1]
        if not own:
            continue
        yield AnyDirection(
            f"{modality}->any",
            nouns[modality],
            pool.vectors[pool.starts[own]],
            Relevance.from_lists([[n for n in of_row[pool.rows[one]] if n != one] for one in own], len(pool.rows)),
            np.array(own, dtype=np.int64),
            None,
            [shown_item(benchmark, pool.rows[one], modality) for one in own],
            kind=modality,
        )


def detail_any(
    encoded: EncodedBenchmark, pool: Pool, one: AnyDirection, found: RelevantRanks, best: Ints
) -> DirectionDetails:
    """What a report shows of a direction: no curve of cosines, which are not what it is ranked by."""
    candidates = [
        shown_item(encoded.benchmark, row, kind) for row, kind in zip(pool.rows, pool.modalities, strict=True)
    ]
    misses, hits = examples_of(
        one.vectors,
        pool.vectors,
        one.relevance,
        found,
        one.query_items,
        candidates,
        candidate_starts=pool.starts,
        best=best,
    )
    return DirectionDetails(fingerprint(one.query_items), fingerprint(candidates), found, None, misses, hits)
