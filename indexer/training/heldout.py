"""Held-out hit rates during training: a small torch form of what ``retrieval.evaluation`` reports.

It lives here because the indexer never imports retrieval; a test holds the two to the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def hit_rates(similarity: torch.Tensor, relevant: torch.Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries with a relevant candidate among the ``k`` most similar.

    ``similarity`` float ``(queries, candidates)``, ``relevant`` bool of that shape with one or more a row. Ties: the
    lower candidate first.
    """
    best, place = similarity.masked_fill(~relevant, -torch.inf).max(dim=1)  # max gives the first of equals
    positions = torch.arange(similarity.shape[1])
    before = (similarity > best[:, None]) | ((similarity == best[:, None]) & (positions[None, :] < place[:, None]))
    rank = before.sum(dim=1)  # 0 is the top
    return {k: (rank < k).double().mean().item() for k in ks}
