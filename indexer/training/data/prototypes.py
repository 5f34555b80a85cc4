"""A classifier's rows as pictures: what a trunk would give for the typical picture of each named class.

For classes that are Gaussian with one covariance S, a softmax classifier's weights are ``inverse(S) @ class mean``
(linear discriminant analysis), so ``S @ weights`` is, up to scale, the mean of the class; S is measured on the training
pictures. Knows nothing of names or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def class_means(features: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centred class means ``(classes, width)`` of a trunk with pooled ``features`` ``(n, width)`` of pictures.

    ``weights`` ``(classes, width)`` are the classifier's. Rows have the length that the centred features typically have
    (the root of their mean squared length).
    """
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred / len(centred)  # (width, width)
    means = (weights - weights.mean(axis=0)) @ covariance  # (classes, width)
    typical = np.sqrt((centred**2).sum(axis=1).mean())
    return np.asarray(means * (typical / np.linalg.norm(means, axis=1, keepdims=True)), dtype=np.float32)
