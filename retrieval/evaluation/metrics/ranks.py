"""The ranks of relevant candidates, from similarities, embeddings or ranked ids: what every metric reads.

The rank of a candidate is ``1 + (candidates with a higher similarity) + (candidates with the same similarity and a
lower index)``: ties go to the lower index, so a matrix of equal numbers has one answer, and a model that gives every
pair the same score gets the credit of the order of the pool and no more. NaN has no rank and is refused. A query
without a relevant candidate is refused by number.

Knows nothing of models, files or what the candidates are.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Rank of a relevant candidate that a ranked list does not hold.
NOT_FOUND = int(np.iinfo(np.int64).max)

#: Similarities held at once by :func:`ranks_of_embeddings`: 32 MiB of float32.
BLOCK_ELEMENTS = 8 * 1024 * 1024

#: With more relevant candidates a query than this, sorting the row once beats counting for each of them.
_SORT_ABOVE = 16


@dataclass(frozen=True, eq=False)
class Relevance:
    """Which candidates are relevant to which query; at least one each.

    ``candidates[offsets[i]:offsets[i + 1]]`` are the indices relevant to query ``i``, ascending, each once.
    """

    candidates: Ints  # (n_pairs,)
    offsets: Ints  # (n_queries + 1,)
    n_candidates: int

    @classmethod
    def from_lists(cls, lists: Sequence[Collection[int]], n_candidates: int) -> Relevance:
        """A collection of candidate indices a query. ``ValueError`` for none, or one outside the pool.

        >>> Relevance.from_lists([[2, 0], [1]], 3).candidates.tolist()
        [0, 2, 1]
        """
        rows = [np.unique(np.fromiter(relevant, dtype=np.int64)) for relevant in lists]
        for query, row in enumerate(rows):
            if not len(row):
                raise ValueError(f"query {query} has no relevant candidate; leave it out of the queries")
            if row[0] < 0 or row[-1] >= n_candidates:
                outside = row[0] if row[0] < 0 else row[-1]
                raise ValueError(f"query {query}: candidate {outside} is outside a pool of {n_candidates}")
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(np.concatenate([np.empty(0, dtype=np.int64), *rows]), offsets, n_candidates)

    @property
    def n_queries(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Ints:
        """Relevant candidates of each query, ``(n_queries,)``."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class RelevantRanks:
    """The ranks (1 is the top) of every query's relevant candidates; what the metrics read.

    ``ranks[offsets[i]:offsets[i + 1]]`` are those of query ``i``, ascending; :data:`NOT_FOUND` for a
    candidate that a shortened list does not hold.
    """

    ranks: Ints  # (n_pairs,)
    offsets: Ints  # (n_queries + 1,)

    @property
    def n_queries(self) -> int:
        return len(self.offsets) - 1

    @property
    def first(self) -> Ints:
        """Rank of each query's best relevant candidate, ``(n_queries,)``."""
        return self.ranks[self.offsets[:-1]]

    @property
    def counts(self) -> Ints:
        """Relevant candidates of each query, ``(n_queries,)``."""
        return np.diff(self.offsets)


def ranks(similarity: NDArray[Any], relevance: Relevance) -> RelevantRanks:
    """Ranks from a similarity matrix ``(n_queries, n_candidates)``; higher is more alike.

    Formula: ``rank(i, j) = 1 + |{c : s_ic > s_ij}| + |{c < j : s_ic = s_ij}|``. Ties: the lower index first.
    Infinities rank as numbers do; NaN is a ``ValueError``.

    >>> similarity = np.array([[0.9, 0.1, 0.9], [0.5, 0.5, 0.5]])
    >>> ranks(similarity, Relevance.from_lists([[2], [0, 2]], 3)).ranks.tolist()
    [2, 1, 3]
    """
    similarity = np.asarray(similarity)
    expected = (relevance.n_queries, relevance.n_candidates)
    if similarity.shape != expected:
        raise ValueError(f"similarity is {similarity.shape}, the relevance is for {expected}")
    return RelevantRanks(_block_ranks(similarity, relevance, 0), relevance.offsets)


def ranks_of_embeddings(
    queries: Embeddings,
    candidates: Embeddings,
    relevance: Relevance,
    *,
    candidate_starts: Ints | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> RelevantRanks:
    """As :func:`ranks` on ``queries @ candidates.T``, made in blocks of queries to bound the memory.

    ``candidate_starts``: where several rows of ``candidates`` are one candidate (the passages of one text),
    the first row of each; the candidate's similarity is that of its best row. ``None``: a row a candidate.

    Equal candidate rows tie exactly: each distinct row is multiplied once, because BLAS may round the same
    product differently in different columns of a block. Rows that differ may swap with the block size only
    where their float32 products differ by rounding.

    >>> queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    >>> ranks_of_embeddings(queries, queries[::-1], Relevance.from_lists([[0], [0]], 2)).ranks.tolist()
    [2, 1]
    """
    n_pool = len(candidates) if candidate_starts is None else len(candidate_starts)
    if (len(queries), n_pool) != (relevance.n_queries, relevance.n_candidates):
        raise ValueError(
            f"{len(queries)} queries and {n_pool} candidates, but the relevance is for "
            f"{relevance.n_queries} and {relevance.n_candidates}"
        )
    parts = [np.empty(0, dtype=np.int64)]
    for start, block in similarity_blocks(queries, candidates, block_elements=block_elements):
        if candidate_starts is not None:
            block = np.maximum.reduceat(block, candidate_starts, axis=1)  # (b, n) -> (b, pool)
        parts.append(_block_ranks(block, relevance, start))
    return RelevantRanks(np.concatenate(parts), relevance.offsets)


def similarity_blocks(
    queries: Embeddings, candidates: Embeddings, *, block_elements: int = BLOCK_ELEMENTS
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """``queries @ candidates.T`` in blocks of queries: the first query's number, and float32 ``(b, n_candidates)``.

    Equal candidate rows have exactly equal similarities. ``ValueError`` for an embedding that is not finite.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    candidates = np.ascontiguousarray(candidates, dtype=np.float32)
    for name, matrix in (("query", queries), ("candidate", candidates)):
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} {bad[0]}: its embedding is not finite")
    distinct, where = _distinct_rows(candidates)
    step = max(1, block_elements // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        block = queries[start : start + step] @ distinct.T  # (b, d) @ (d, u) -> (b, u)
        yield start, block if where is None else block[:, where]  # (b, u) -> (b, n)


def ranks_of_ids(ranked: Sequence[Sequence[Hashable]], relevant: Sequence[Collection[Hashable]]) -> RelevantRanks:
    """Ranks from ranked lists of ids, best first, which may stop at some k.

    The first place of a repeated id counts. A relevant id that a list does not hold has the rank
    :data:`NOT_FOUND`. Ties were settled by whoever ranked.

    >>> ranks_of_ids([["b", "a"], ["c"]], [{"a"}, {"c", "d"}]).ranks.tolist() == [2, 1, NOT_FOUND]
    True
    """
    if len(ranked) != len(relevant):
        raise ValueError(f"{len(ranked)} ranked lists for {len(relevant)} queries")
    flat: list[int] = []
    offsets = [0]
    for query, (ids, wanted) in enumerate(zip(ranked, relevant, strict=True)):
        if not wanted:
            raise ValueError(f"query {query} has no relevant candidate; leave it out of the queries")
        place: dict[Hashable, int] = {}
        for rank, candidate in enumerate(ids, start=1):
            place.setdefault(candidate, rank)
        flat += sorted(place.get(candidate, NOT_FOUND) for candidate in set(wanted))
        offsets.append(len(flat))
    return RelevantRanks(np.array(flat, dtype=np.int64), np.array(offsets, dtype=np.int64))


def best_first(similarities: NDArray[Any], depth: int) -> Ints:
    """Indices of the ``depth`` highest of ``(n,)``, falling; ties: the lower index first.

    >>> best_first(np.array([0.5, 0.9, 0.5, 0.5]), 3).tolist()
    [1, 0, 2]
    """
    n = len(similarities)
    if depth >= n:
        return np.argsort(-similarities, kind="stable")
    least = np.partition(similarities, n - depth)[n - depth]
    there = np.flatnonzero(similarities >= least)
    return there[np.argsort(-similarities[there], kind="stable")][:depth]


def _block_ranks(block: NDArray[Any], relevance: Relevance, first_query: int) -> Ints:
    """Ranks of the pairs of the queries ``first_query ...`` that ``block`` ``(b, n_candidates)`` holds."""
    if np.isnan(block).any():
        query = first_query + int(np.argmax(np.isnan(block).any(axis=1)))
        raise ValueError(f"query {query}: a similarity is NaN, which has no rank")
    n_rows, n_columns = block.shape
    offsets = relevance.offsets[first_query : first_query + n_rows + 1]
    columns = relevance.candidates[offsets[0] : offsets[-1]]
    rows = np.repeat(np.arange(n_rows), np.diff(offsets))
    if len(rows) > _SORT_ABOVE * n_rows:
        found = _ranks_by_sorting(block, rows, columns)
    else:
        found = _ranks_by_counting(block, rows, columns)
    # Ascending within each query: one sort on (query, rank).
    return found[np.lexsort((found, rows))] if n_columns else found


def _ranks_by_counting(block: NDArray[Any], rows: Ints, columns: Ints) -> Ints:
    found = np.empty(len(rows), dtype=np.int64)
    step = max(1, BLOCK_ELEMENTS // max(1, block.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        others = block[rows[part]]  # (p, n)
        own = others[np.arange(len(others)), columns[part]][:, None]  # (p, 1)
        higher = np.count_nonzero(others > own, axis=1)
        tied = np.flatnonzero(np.count_nonzero(others >= own, axis=1) - higher > 1)
        before = np.arange(block.shape[1])[None, :] < columns[part][tied, None]
        found[part] = 1 + higher
        found[start + tied] += np.count_nonzero((others[tied] == own[tied]) & before, axis=1)
    return found


def _ranks_by_sorting(block: NDArray[Any], rows: Ints, columns: Ints) -> Ints:
    found = np.empty(len(rows), dtype=np.int64)
    bounds = np.searchsorted(rows, np.arange(len(block) + 1))
    place = np.empty(block.shape[1], dtype=np.int64)
    for row, similarities in enumerate(block):
        pairs = slice(bounds[row], bounds[row + 1])
        # Stable on the negated row keeps the lower index first; unsigned numbers would wrap, floats do not.
        place[np.argsort(-similarities.astype(np.float64), kind="stable")] = np.arange(len(place))
        found[pairs] = 1 + place[columns[pairs]]
    return found


def _distinct_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32], Ints | None]:
    """``(distinct, where)`` with ``matrix = distinct[where]``; ``where`` is ``None`` if no row repeats."""
    matrix = matrix + np.float32(0)  # -0.0 and 0.0 are one number, with two bit patterns
    seen: dict[bytes, int] = {}
    where = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in matrix], dtype=np.int64)
    if len(seen) == len(matrix):
        return matrix, None
    _, first = np.unique(where, return_index=True)
    return matrix[first], where
