"""GradCache against the whole batch at once, shares of a batch, trunks kept apart, and a classifier's rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from indexer.encoders.specs import HeadSpec
from indexer.encoders.towers.heads import ProjectionHead
from indexer.training.data.prototypes import class_means
from indexer.training.losses import symmetric_info_nce
from indexer.training.parallel import World
from indexer.training.sides import LiveSide, PartedSide, backward


def sides(chunk: int, dropout: float) -> tuple[LiveSide, LiveSide, nn.ModuleList]:
    torch.manual_seed(1)
    left, right = (nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 4)) for _ in range(2))
    data = torch.randn(40, 6)
    head = nn.Identity()
    modules = nn.ModuleList([left, right])
    read = lambda rows: data[list(rows)]  # noqa: E731
    return LiveSide(left, head, read, chunk), LiveSide(right, head, read, chunk), modules


def gradients(chunk: int, dropout: float = 0.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    left, right, modules = sides(chunk, dropout)
    modules.train()
    rows = torch.arange(20)
    torch.manual_seed(5)
    value = backward(
        [(left, rows), (right, rows + 10)],
        lambda a, b: symmetric_info_nce(a @ b.T, torch.eye(20, dtype=torch.bool)),
        World(),
    )
    return value, [parameter.grad for parameter in modules.parameters() if parameter.grad is not None]


def test_chunks_give_the_loss_and_gradients_of_the_whole_batch() -> None:
    whole, expected = gradients(chunk=100)
    for chunk in (1, 7, 20):
        value, found = gradients(chunk)
        torch.testing.assert_close(value, whole)
        assert len(found) == len(expected) == 8
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_dropout_falls_alike_in_both_runs_of_a_chunk() -> None:
    """With dropout drawn anew in the second run, the gradient would not be that of the loss that was measured."""
    left, right, modules = sides(7, 0.5)
    modules.train()
    rows = torch.arange(20)
    seen: list[torch.Tensor] = []
    left.tower.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    backward([(left, rows), (right, rows)], lambda a, b: (a * b).sum(), World())
    first, second = seen[:3], seen[3:]  # chunks of 7, 7 and 6, first for the loss, then for the gradients
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)
    assert (first[0] != first[1]).any()


def test_shares_are_contiguous_and_cover_the_batch() -> None:
    rows = torch.arange(11)
    parts = [World(rank, 3).share(rows) for rank in range(3)]
    assert torch.cat(parts).tolist() == rows.tolist()
    assert [len(part) for part in parts] == [4, 4, 3]


def parted(dropout: float) -> tuple[PartedSide, ProjectionHead, torch.Tensor]:
    torch.manual_seed(2)
    features = torch.randn(30, 10)
    head = ProjectionHead(HeadSpec(10, 6, 0, 4))
    head.set_whitening(features.mean(dim=0), torch.randn(10, 6))
    parts = [(features[:, own] - head.mean[own]) @ head.whiten[own] for own in (slice(0, 3), slice(3, 7), slice(7, 10))]
    present = torch.ones(30, 3, dtype=torch.bool)
    return PartedSide(head, parts, present, dropout), head, features


def test_the_parts_of_a_row_are_together_the_whole_row() -> None:
    side, head, features = parted(dropout=1.0)
    head.eval()  # only training leaves trunks out
    rows = torch.tensor([4, 0, 29])
    torch.testing.assert_close(side.embed(rows), head(features[rows]))


def test_training_leaves_trunks_out_but_never_all_of_them() -> None:
    side, head, _ = parted(dropout=1.0)
    head.train()
    side.present[:, 2] = False  # a trunk that the rows do not have, as prototypes
    rows = torch.arange(30)
    whole = head.project(side.parts[0] + side.parts[1])
    found = side.embed(rows)
    fewer = (found - whole).abs().max(dim=1).values > 1e-5
    assert 5 < fewer.sum() < 25
    single = [head.project(part) for part in side.parts[:2]]
    nearest = torch.stack([(found - one).abs().max(dim=1).values for one in single]).min(dim=0).values
    assert (nearest[fewer] < 1e-5).all()


def test_class_means_point_from_a_linear_classifier_back_to_the_classes() -> None:
    """Gaussian classes, the best linear classifier of them, and what is made of its rows."""
    random = np.random.default_rng(0)
    spread = random.normal(size=(8, 8))
    covariance = spread @ spread.T / 8 + 0.1 * np.eye(8)
    means = 0.3 * random.normal(size=(5, 8))
    features = np.concatenate([random.multivariate_normal(mean, covariance, 2_000) for mean in means])
    weights = means @ np.linalg.inv(covariance)
    found = class_means(features.astype(np.float32), weights.astype(np.float32))
    wanted = means - means.mean(axis=0)
    cosines = (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > 0.95
    naive = weights - weights.mean(axis=0)
    assert (
        cosines.min() > ((naive * wanted).sum(1) / np.linalg.norm(naive, axis=1) / np.linalg.norm(wanted, axis=1)).min()
    )
    typical = np.sqrt(((features - features.mean(axis=0)) ** 2).sum(axis=1).mean())
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), typical, rtol=1e-4)
