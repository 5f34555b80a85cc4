"""Losses against hand-computed values and slow obvious forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from indexer.training.losses import distillation, info_nce, positives, sigmoid_loss, symmetric_info_nce


def test_info_nce_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    eye = torch.eye(2, dtype=torch.bool)
    by_hand = (-np.log(np.e**2 / (np.e**2 + 1)) - np.log(np.e**3 / (np.e + np.e**3))) / 2
    assert info_nce(logits, eye).item() == pytest.approx(by_hand, abs=1e-6)
    assert info_nce(logits, torch.ones(2, 2, dtype=torch.bool)).item() == pytest.approx(0.0, abs=1e-6)


def test_symmetric_info_nce_is_the_mean_over_rows_and_columns() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    eye = torch.eye(5, dtype=torch.bool)
    cross = torch.nn.functional.cross_entropy
    target = torch.arange(5)
    clip = (cross(logits, target) + cross(logits.T, target)) / 2
    torch.testing.assert_close(symmetric_info_nce(logits, eye), clip)


def test_the_sigmoid_loss_is_a_sum_over_pairs_with_several_positives() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    positive = torch.tensor([[True, False, True], [False, True, False]])
    slow = 0.0
    for i in range(2):
        for j in range(3):
            z = 1.0 if positive[i, j] else -1.0
            slow += math.log(1 + math.exp(-z * logits[i, j].item()))
    assert sigmoid_loss(logits, positive).item() == pytest.approx(slow / 2, abs=1e-6)


def test_equal_texts_and_equal_labels_are_positives() -> None:
    mask = positives(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 7, 7]))
    assert mask.tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, True],
        [False, False, True, True],
    ]


def test_distillation_is_nothing_for_equal_similarities_and_grows_with_their_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    turned = rows @ torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]  # the same similarities
    assert distillation(turned, rows, 0.1).item() == pytest.approx(0.0, abs=1e-5)
    a_little = torch.nn.functional.normalize(rows + 0.1 * torch.randn(6, 4, generator=generator), dim=1)
    a_lot = torch.nn.functional.normalize(rows + 1.0 * torch.randn(6, 4, generator=generator), dim=1)
    assert 0 < distillation(a_little, rows, 0.1) < distillation(a_lot, rows, 0.1)
