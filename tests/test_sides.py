"""GradCache against the whole batch at once, and shares of a batch against one process."""

from __future__ import annotations

import torch
from torch import nn

from indexer.training.losses import symmetric_info_nce
from indexer.training.parallel import World
from indexer.training.sides import LiveSide, backward


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
