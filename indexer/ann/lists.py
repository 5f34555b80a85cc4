"""The FAISS index of lists: its parts, made for mapped vectors, and other ways to find the lists of the same codes.

    IndexPreTransform( map for vectors, IndexRefine( IndexIVFPQFastScan( IndexFlatL2 ), int8 ) )

A vector belongs to the nearest centre (L2), while a query looks where the product with the centre is greatest. So what
is in the file adds vectors, and searches go through views of the same lists with other quantizers. Files of earlier
versions have no map, and centres that are compared by product for both. Knows nothing of files or of tuning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexer.ann.maps import Maps
from indexer.ann.plan import IndexPlan

faiss: Any = _faiss

#: Rounds of k-means for the lists.
_ROUNDS = 10
#: And for the codes of their centres.
_CENTRE_ROUNDS = 8
#: Of a code of the centres, so many times as many as wanted are compared exactly.
_CENTRES_AGAIN = 3.0


@dataclass(frozen=True, slots=True)
class View:
    """An index over the lists of another; ``parts`` are the objects that it refers to."""

    index: Any
    parts: tuple[Any, ...]


def mapped_lists(plan: IndexPlan, maps: Maps) -> Any:
    """An untrained index of ``plan`` for vectors ``(dim,)``, over ``maps.width`` dimensions."""
    # a code of four bits for each two dimensions of what the centre leaves over, compared in registers (fast-scan)
    text = f"IVF{plan.lists},PQ{maps.width // 2}x4fsr" + (",Refine(SQ8)" if plan.storage == "int8" else "")
    inner = faiss.index_factory(maps.width, text, faiss.METRIC_INNER_PRODUCT)
    ivf = ivf_of(inner)
    centres = faiss.IndexFlatL2(maps.width)
    centres.this.disown()
    ivf.quantizer = centres  # the one that was there holds nothing
    ivf.cp.niter, ivf.cp.spherical = _ROUNDS, False
    return faiss.IndexPreTransform(transform(maps.vectors), inner)


def transform(matrix: NDArray[np.float32]) -> Any:
    """FAISS's transform by ``matrix`` ``(width, dim)``."""
    made = faiss.LinearTransform(matrix.shape[1], matrix.shape[0], False)
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix, dtype=np.float32).ravel(), made.A)
    made.is_trained = True
    return made


def read_maps(index: Any, reader: Any) -> Maps:
    """The map for vectors of ``index``, and that for queries, which is the next thing of ``reader``."""
    return Maps(_matrix(faiss.read_VectorTransform(reader)), _matrix(index.chain.at(0)))


def _matrix(found: Any) -> NDArray[np.float32]:
    linear = faiss.downcast_VectorTransform(found)
    return np.asarray(faiss.vector_to_array(linear.A), dtype=np.float32).reshape(linear.d_out, linear.d_in).copy()


def inner_of(index: Any) -> Any:
    """What is behind the map for vectors; without one the index itself."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def ivf_of(index: Any) -> Any:
    """The IVF part of an index."""
    index = inner_of(index)
    return faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index


def compared(index: Any) -> View:
    """Its lists, found by comparing with every centre."""
    if not isinstance(index, faiss.IndexPreTransform):
        return View(index, ())
    centres = _centres(index)
    quantizer = faiss.IndexFlatIP(centres.shape[1])
    quantizer.add(centres)
    return _over(index, quantizer)


def coded(index: Any) -> View | None:
    """Its lists, found by codes of the centres and comparing with the best of them; ``None`` where it has no PQ codes.

    To compare a query with thousands of centres takes FAISS as long as all that follows.
    """
    if not isinstance(ivf_of(index), faiss.IndexIVFPQFastScan):
        return None
    centres = _centres(index)
    codes = faiss.IndexPQFastScan(centres.shape[1], centres.shape[1] // 2, 4, faiss.METRIC_INNER_PRODUCT)
    codes.pq.cp.niter, codes.pq.cp.min_points_per_centroid = _CENTRE_ROUNDS, 1
    codes.train(centres)
    codes.add(centres)
    quantizer = faiss.IndexRefineFlat(codes, faiss.swig_ptr(centres))  # it has a copy
    quantizer.k_factor = _CENTRES_AGAIN
    return _over(index, quantizer, codes)


def _centres(index: Any) -> NDArray[np.float32]:
    ivf = ivf_of(index)
    return np.asarray(ivf.quantizer.reconstruct_n(0, ivf.nlist), dtype=np.float32)


def _over(index: Any, quantizer: Any, *parts: Any) -> View:
    inner, ivf = inner_of(index), ivf_of(index)
    seen = faiss.IndexIVFPQFastScan(quantizer, ivf.d, ivf.nlist, ivf.pq.M, ivf.pq.nbits, ivf.metric_type, ivf.bbs)
    seen.own_fields = False
    seen.pq, seen.by_residual, seen.is_trained = ivf.pq, ivf.by_residual, True
    seen.replace_invlists(ivf.invlists, False)
    seen.ntotal = ivf.ntotal
    if inner is ivf or not isinstance(inner, faiss.IndexRefine):
        return View(seen, (quantizer, *parts))
    refined = faiss.IndexRefine(seen, inner.refine_index)
    refined.own_fields = refined.own_refine_index = False
    refined.ntotal = ivf.ntotal
    return View(refined, (seen, quantizer, *parts))
