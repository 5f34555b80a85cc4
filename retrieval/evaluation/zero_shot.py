"""Zero-shot classification: a class is the mean of its prompts' vectors, a picture belongs to the nearest.

It is retrieval of classes by pictures, so accuracy@k is hit rate@k of the direction ``image->class`` and shares its
ranks and ties (the lower class first). Names and definitions are CLIP_benchmark's: ``acc1``, ``acc5``,
``mean_per_class_recall``. Pure functions; knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import ModelError
from indexer.items import Embeddings
from retrieval.embed import mean_vector
from retrieval.evaluation.metrics import metrics
from retrieval.evaluation.metrics.ranks import Floats, RelevantRanks


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Accuracies of one classification."""

    acc1: float
    acc5: float | None
    """``None`` for fewer than five classes."""
    mean_per_class_recall: float
    """Mean over the classes that have pictures of the share of theirs that is classified rightly."""

    def to_json(self) -> dict[str, Any]:
        """Keys of the direction in ``bench --json``."""
        return {"acc1": self.acc1, "acc5": self.acc5, "mean_per_class_recall": self.mean_per_class_recall}

    def note(self) -> str:
        """The same on one line, for people."""
        fifth = "" if self.acc5 is None else f"acc@5 {100 * self.acc5:.1f}, "
        recall = f"mean per-class recall {100 * self.mean_per_class_recall:.1f}"
        return f"zero-shot: acc@1 {100 * self.acc1:.1f}, {fifth}{recall} %"


def class_vectors(
    classes: Sequence[str], templates: Sequence[str], vectors: Mapping[str, NDArray[np.float32]]
) -> Embeddings:
    """Unit vectors ``(n_classes, dim)``: of each class the normalised mean of its prompts' unit vectors.

    Raises ``ModelError`` where the prompts of a class cancel each other out.
    """
    rows = []
    for name in classes:
        mean = mean_vector(np.stack([vectors[template.replace("{}", name)] for template in templates]))
        if mean is None:
            raise ModelError(f"class {name!r}: the vectors of its prompts cancel each other out; change --template")
        rows.append(mean)
    return np.stack(rows)


def classification(ranks: RelevantRanks, labels: Sequence[int], n_classes: int) -> ZeroShot:
    """Accuracies from the rank of each picture's own class.

    >>> found = RelevantRanks(np.array([1, 2, 1, 7]), np.arange(5))
    >>> classification(found, [0, 0, 1, 2], 8)
    ZeroShot(acc1=0.5, acc5=0.75, mean_per_class_recall=0.5)
    """
    acc5 = metrics.hit_rate_at_k(ranks, 5) if n_classes >= 5 else None
    hits = metrics.hits_at_k(ranks, 1)
    return ZeroShot(metrics.hit_rate_at_k(ranks, 1), acc5, mean_per_class_recall(hits, labels))


def mean_per_class_recall(hits: Floats, labels: Sequence[int]) -> float:
    """Formula: ``mean_c mean_{i of class c} hit_i`` over the classes that occur; scikit-learn's balanced accuracy.

    >>> mean_per_class_recall(np.array([1.0, 0.0, 1.0]), [4, 4, 2])
    0.75
    """
    of = np.asarray(labels)
    return float(np.mean([hits[of == label].mean() for label in np.unique(of)]))
