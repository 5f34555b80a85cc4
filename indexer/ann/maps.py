"""Two linear maps into fewer dimensions, one for queries and one for vectors: their products are nearly the scores.

Queries in words lie elsewhere in the space than the pictures that they find. What matters of a vector is what such
queries meet: the maps are learned from both (LeanVec-OOD, arXiv 2312.16335). With K_q and K_x the second moments of
queries and vectors and U S Vᵀ the singular values of K_q^½ K_x^½, queries go by U_dᵀ K_q^-½ and vectors by
S_d V_dᵀ K_x^-½: mapped queries are white, so that the nearest code to a mapped vector is the one that errs least in the
scores of the queries expected. Knows nothing of FAISS or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings

#: Of the moments of the queries: so much is every direction alike, since few queries know little of most, and other
#: queries come, too. A vector is then still found by itself.
_SHRUNK = 0.5
#: So much is the vectors themselves, since pictures are queries for pictures, too.
_OWN = 0.3
#: The share of the scores' variance that the kept dimensions hold.
_KEPT = 0.998
#: The width is a multiple of it.
_STEP = 32
#: Of the mean moment, added to the vectors' so that they can be inverted.
_RIDGE = 1e-6
#: Queries, from which on theirs count in full: fewer are mixed with more of the vectors.
_ENOUGH_QUERIES = 100

_Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Maps:
    """``queries`` and ``vectors``, float32 ``(width, dim)``: ``(queries @ q) · (vectors @ x)`` is about ``q · x``.

    Mapped vectors have a mean square length of 1.
    """

    queries: NDArray[np.float32]
    vectors: NDArray[np.float32]

    @property
    def width(self) -> int:
        """Dimensions of what is mapped; even."""
        return len(self.queries)


def learned_maps(vectors: Embeddings, queries: Embeddings | None = None, *, width: int | None = None) -> Maps:
    """The maps for a sample of the vectors ``(n, dim)`` and of the queries ``(q, dim)`` to come.

    Without queries every direction counts alike: the maps are one rotation. ``width``: as many dimensions as hold
    nearly all of the scores. The dimensions are ordered so that pairs of neighbours (the unit of a code) hold about as
    much of the scores each.
    """
    dim = vectors.shape[1]
    of_vectors = _moments(vectors) if len(vectors) else np.eye(dim)
    of_queries = np.eye(dim)
    if queries is not None and len(queries):
        own = max(_OWN, 1 - len(queries) / _ENOUGH_QUERIES)
        mixed = (1 - own) * _moments(queries) + own * of_vectors
        of_queries = (1 - _SHRUNK) * mixed + _SHRUNK * _mean_moment(mixed) * np.eye(dim)
    of_vectors = of_vectors + _RIDGE * _mean_moment(of_vectors) * np.eye(dim)
    root_q, whiten_q = _roots(of_queries)
    root_x, whiten_x = _roots(of_vectors)
    left, singular, right = np.linalg.svd(root_q @ root_x)
    if width is None:
        held = np.cumsum(singular**2) / np.sum(singular**2)
        width = min(-(-int(np.searchsorted(held, _KEPT) + 1) // _STEP) * _STEP, dim + dim % 2)
    from_queries = left[:, :width].T @ whiten_q
    from_vectors = singular[:width, None] * (right[:width] @ whiten_x)
    length = np.sqrt(np.trace(from_vectors @ of_vectors @ from_vectors.T))
    order = _paired(len(from_queries))
    made = [(from_queries * length)[order], (from_vectors / length)[order]]
    if width > dim:  # an odd number of dimensions: one more that holds nothing
        made = [np.concatenate([one, np.zeros((1, dim))]) for one in made]
    return Maps(*(np.ascontiguousarray(one, dtype=np.float32) for one in made))


def _paired(width: int) -> NDArray[np.int64]:
    """The order of dimensions, falling in what they hold, that puts the most beside the least: 0, n-1, 1, n-2, ..."""
    first = np.arange((width + 1) // 2)
    return np.stack([first, width - 1 - first], axis=1).ravel()[:width]


def _moments(rows: Embeddings) -> _Wide:
    """Second moments ``(dim, dim)`` of rows ``(n, dim)``."""
    wide: _Wide = rows.T.astype(np.float32) @ rows.astype(np.float32) / len(rows)
    return wide.astype(np.float64)


def _mean_moment(moments: _Wide) -> float:
    """Of one direction; never 0."""
    return max(float(np.trace(moments)) / len(moments), 1e-12)


def _roots(moments: _Wide) -> tuple[_Wide, _Wide]:
    """Their square root and its inverse."""
    values, vectors = np.linalg.eigh(moments)
    values = np.sqrt(np.maximum(values, 1e-9 * values.max()))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T
