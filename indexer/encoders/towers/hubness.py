"""A correction against hubs: items that lie near every query and push the right ones out of the first ranks.

How much of a hub a row is, is the mean of its largest cosines with a fixed bank of rows of the other side (texts for
media, pictures for texts), as in CSLS (Conneau et al. 2018) and query-bank normalisation (Bogolin et al. 2022). A
part of it is taken off every cosine between two modalities. So that an index needs to know nothing of this, it is
written into a few further coordinates of the rows, which stay of unit length: with ``h`` the hubness of a row and ``w``
the weight, the cosine of rows of two modalities is

    a * (cosine - w * (h_one + h_other)) + c * c,    a = 1 / (1 + 2 * sqrt(2) * w),  c * c = w * a / sqrt(2)

and that of rows of one modality ``a * cosine`` and nearly a constant. Knows nothing of towers or files.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from indexer.encoders.specs import HubnessSpec

_ORDER = ("text", "image", "audio")
EXTRA = 2 * len(_ORDER)
"""Coordinates that are added: for each modality one for its hubness and one that makes the length whole."""


class HubnessCorrection(nn.Module):
    """Unit rows ``(n, dim)`` of a modality -> unit rows ``(n, dim + EXTRA)``."""

    texts: torch.Tensor
    pictures: torch.Tensor

    def __init__(self, spec: HubnessSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("texts", torch.zeros(spec.bank, dim))
        self.register_buffer("pictures", torch.zeros(spec.bank, dim))

    def fill(self, texts: torch.Tensor, pictures: torch.Tensor) -> None:
        """Take the banks, ``(bank, dim)`` unit rows of training texts and pictures."""
        self.texts.copy_(texts)
        self.pictures.copy_(pictures)

    def hubness(self, rows: torch.Tensor, modality: str) -> torch.Tensor:
        """Mean of the ``neighbours`` largest cosines with the bank of the other side, ``(n,)``."""
        bank = self.pictures if modality == "text" else self.texts
        near: torch.Tensor = (rows @ bank.T).topk(min(self.spec.neighbours, len(bank)), dim=1).values
        return near.mean(dim=1).clamp(-1.0, 1.0)

    def forward(self, rows: torch.Tensor, modality: str) -> torch.Tensor:
        scale, constant, slope = self.spec.coefficients
        hubness = self.hubness(rows, modality)
        extra = rows.new_zeros(len(rows), EXTRA)
        extra[:, : len(_ORDER)] = constant
        own = _ORDER.index(modality)
        extra[:, own] = -slope * hubness
        left = 1.0 - scale - 2.0 * constant**2 - (slope * hubness) ** 2
        extra[:, len(_ORDER) + own] = left.clamp(min=0.0).sqrt()
        return nn.functional.normalize(torch.cat([math.sqrt(scale) * rows, extra], dim=1), dim=1)
