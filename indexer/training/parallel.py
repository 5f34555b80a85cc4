"""Data-parallel training: what the processes of ``torchrun`` share. One process is the simplest case.

Every process draws the same batch, embeds its share of the rows and gathers all embeddings, so that the loss is that of
the whole batch; the gradient of its own rows is exact, and the sum over processes is the gradient of one process that
had them all. Knows nothing of towers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class World:
    """This process's number (from 0) and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """The contiguous part of ``rows`` ``(n, …)`` that is this process's to embed."""
        return rows.tensor_split(self.size)[self.rank]

    def gather(self, own: torch.Tensor, total: int) -> torch.Tensor:
        """The shares ``(n_rank, dim)`` of all processes in order, ``(total, dim)``; gradients flow to ``own`` only."""
        if self.size == 1:
            return own
        counts = [len(part) for part in torch.empty(total).tensor_split(self.size)]
        padded = own.new_zeros(max(counts), own.shape[1])
        padded[: len(own)] = own.detach()
        everyone = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(everyone, padded)
        parts = [part[:count] for part, count in zip(everyone, counts, strict=True)]
        parts[self.rank] = own
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[nn.Parameter], shared: Iterable[nn.Parameter] = ()) -> None:
        """Add up the processes' gradients; those of ``shared``, which every process has in full, are averaged."""
        if self.size == 1:
            return
        whole = {id(parameter) for parameter in shared}
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            if id(parameter) in whole:
                parameter.grad /= self.size

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


#: One process.
ALONE = World()


def join_world(device: torch.device) -> World:
    """The world that ``torchrun`` set up by its environment variables, joined; alone without them.

    NCCL on CUDA, gloo on the CPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size())
