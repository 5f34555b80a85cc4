"""The two kinds of sides of a contrastive batch, and GradCache, which bounds the memory of the live ones.

A cached side is the head over features that a locked tower gave once. A live side runs its tower in every step: first
without gradients in chunks, for the embeddings that the loss needs all at once; after the loss each chunk again with
gradients, fed by the loss's gradient at its embeddings (GradCache, Gao et al. 2021). The random state of every chunk is
kept between, so that dropout falls alike in both runs. Knows nothing of files or of what a row is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from indexer.encoders.towers.heads import Head, ProjectionHead
from indexer.training.parallel import World


class Side(Protocol):
    """Rows by number -> unit rows ``(n, dim)`` with gradients."""

    @property
    def live(self) -> bool:
        """Whether a tower is run in every step."""

    @property
    def chunk(self) -> int:
        """How many rows go through a live tower with gradients at once."""

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` int64 ``(n,)`` -> float32 ``(n, dim)``."""


@dataclass(frozen=True)
class CachedSide:
    """A head over whitened features ``(rows, width)`` of a locked tower."""

    head: Head
    whitened: torch.Tensor
    live: bool = False
    chunk: int = 0

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        """Unit rows ``(n, dim)``."""
        return self.head.project(self.whitened[rows.to(self.whitened.device)])


@dataclass(frozen=True)
class PartedSide:
    """A head over the whitened features of several locked trunks, kept apart: their sum is the whole row.

    ``parts``: ``(rows, width)`` a trunk. ``present`` bool ``(rows, trunks)``: which trunks a row has at all. While
    training, with chance ``dropout`` a row is read by some of its trunks only; a part that is left out is zero, the
    whitened mean.
    """

    head: ProjectionHead
    parts: list[torch.Tensor]
    present: torch.Tensor
    dropout: float
    live: bool = False
    chunk: int = 0

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        """Unit rows ``(n, dim)``."""
        rows = rows.to(self.present.device)
        kept = self.present[rows]
        if self.head.training and self.dropout:
            some = kept & (torch.rand(kept.shape, device=kept.device) < 0.5)
            fewer = (torch.rand(len(kept), device=kept.device) < self.dropout) & some.any(dim=1)
            kept = torch.where(fewer[:, None], some, kept)
        whole = sum(part[rows] * kept[:, n, None] for n, part in enumerate(self.parts))
        assert isinstance(whole, torch.Tensor)
        return self.head.project(whole)


@dataclass(frozen=True)
class LiveSide:
    """A tower with trainable parts under a head; ``read`` gives the inputs of row numbers.

    ``autocast``: the number format that a float32 tower multiplies in (None: its own).
    """

    tower: nn.Module
    head: nn.Module
    read: Callable[[Sequence[int]], Any]
    chunk: int = 64
    live: bool = True
    autocast: torch.dtype | None = None

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        """Unit rows ``(n, dim)``; the tower takes what ``read`` gives and returns features ``(n, width)``."""
        device = next(self.tower.parameters()).device
        with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
            features = self.tower(self.read(rows.tolist()))
        found: torch.Tensor = self.head(features.float())
        return found


def backward(
    parts: Sequence[tuple[Side, torch.Tensor]], loss: Callable[..., torch.Tensor], world: World
) -> torch.Tensor:
    """Embed every part's rows, take ``loss`` of the embeddings, and leave its gradients in the parameters.

    ``parts``: sides with the row numbers of the whole batch; each process of ``world`` embeds its share of them, and
    ``loss`` is called with the whole batch's embeddings, one tensor ``(n, dim)`` a part. Returns the loss, detached.
    """
    replays: list[tuple[Side, list[torch.Tensor], list[Any], torch.Tensor]] = []
    whole = []
    for side, rows in parts:
        mine = world.share(rows)
        if not side.live or side.chunk >= len(mine):
            own = side.embed(mine)
        else:
            chunks, states, embedded = list(torch.split(mine, side.chunk)), [], []
            with torch.no_grad():
                for chunk in chunks:
                    states.append(_random_state())
                    embedded.append(side.embed(chunk))
            own = torch.cat(embedded).requires_grad_()
            replays.append((side, chunks, states, own))
        whole.append(world.gather(own, len(rows)))
    value = loss(*whole)
    value.backward()  # type: ignore[no-untyped-call]
    for side, chunks, states, own in replays:
        assert own.grad is not None
        for chunk, state, gradient in zip(chunks, states, torch.split(own.grad, side.chunk), strict=True):
            with _random_state_of(state):
                side.embed(chunk).backward(gradient)  # type: ignore[no-untyped-call]
    return value.detach()


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


class _random_state_of:
    """For a while the random state is another; afterwards it is what it was before."""

    def __init__(self, state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
        self.state = state

    def __enter__(self) -> None:
        self.before = _random_state()
        _set_random_state(self.state)

    def __exit__(self, *error: object) -> None:
        _set_random_state(self.before)


def _set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
