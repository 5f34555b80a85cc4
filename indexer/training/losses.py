"""Losses that align two sides of a batch: pure functions of tensors.

Multi-positive: rows of one label, and rows whose texts are the same, are positives of each other and never negatives.
Knows nothing of files, towers or optimisers.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional


def info_nce(similarity: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Multi-positive InfoNCE of logits ``(n, m)`` with a bool mask ``(n, m)`` that has a positive in each row.

    Mean over rows of ``-log(sum of exp over positives / sum of exp over all)``; with one positive a row it is InfoNCE
    (van den Oord et al. 2018).
    """
    picked = similarity.masked_fill(~positive, -math.inf).logsumexp(dim=1)
    return (similarity.logsumexp(dim=1) - picked).mean()


def symmetric_info_nce(similarity: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Mean of :func:`info_nce` over rows and over columns, as CLIP's."""
    return (info_nce(similarity, positive) + info_nce(similarity.T, positive.T)) / 2


def sigmoid_loss(similarity: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """SigLIP's loss (Zhai et al. 2023) of logits ``(n, m)``, bias included: each pair is a question of its own.

    Sum over pairs of ``-log sigmoid(z * logit)`` with z = 1 for positives and -1 for the others, divided by ``n``.
    """
    signs = positive.to(similarity.dtype) * 2 - 1
    return -functional.logsigmoid(signs * similarity).sum() / len(similarity)


def contradicted(similarity: torch.Tensor, positive: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """InfoNCE of rows that have a further negative each, which is no other row's (NegCLIP, Yuksekgonul et al. 2023).

    ``similarity`` ``(m, n)`` and its mask of positives as in :func:`info_nce`; ``false`` ``(m,)``: logits of each row
    with its contradiction.
    """
    column = torch.zeros(len(false), 1, dtype=torch.bool, device=positive.device)
    return info_nce(torch.cat([similarity, false[:, None]], dim=1), torch.cat([positive, column], dim=1))


def positives(labels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Bool ``(n, n)``: same label or the same text."""
    return (labels[:, None] == labels[None, :]) | (texts[:, None] == texts[None, :])


def distillation(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """How far the student's similarities within a batch are from the teacher's: mean KL divergence of the rows.

    ``student`` and ``teacher`` are unit rows ``(n, d)`` and ``(n, e)``; each row's similarities to the other rows
    become a distribution by softmax at ``temperature`` (relational distillation; the row itself is left out).
    """
    own = torch.eye(len(student), dtype=torch.bool, device=student.device)
    ours = (student @ student.T / temperature).masked_fill(own, -1e4).log_softmax(dim=1)
    theirs = (teacher @ teacher.T / temperature).masked_fill(own, -1e4).softmax(dim=1)
    return functional.kl_div(ours, theirs, reduction="batchmean")
