"""The training loop: steps, learning-rate cycle, held-out points, the best state, and checkpoints to resume from.

A run that is killed resumes from its last checkpoint and ends with the same weights as one that was not: parameters,
optimiser, cycle, random states, the best state and the curve are all in it. Knows nothing of what is trained.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from indexer.errors import RecipeError, StorageError
from indexer.training.parallel import ALONE, World


@dataclass(frozen=True)
class Point:
    """The learning curve at one step: mean loss since the last point, and the held-out figures."""

    step: int
    loss: float
    heldout: dict[str, float]

    @property
    def score(self) -> float:
        """What the best step is chosen by."""
        return self.heldout["score"]


@dataclass(frozen=True)
class Steps:
    """How many steps, how fast: AdamW with a one-cycle learning rate."""

    steps: int
    learning_rate: float
    weight_decay: float
    evaluate_every: int


@dataclass(frozen=True)
class Checkpoint:
    """Where a run's checkpoint lies, and what it is of: a run does not resume from one of another recipe."""

    path: Path
    digest: str

    def load(self) -> dict[str, Any] | None:
        """The state that was saved; None where there is none. :class:`RecipeError` for one of another recipe."""
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise RecipeError(
                f"{self.path}: no whole checkpoint ({type(error).__name__}); delete it to begin anew"
            ) from error
        if state["digest"] != self.digest:
            raise RecipeError(
                f"{self.path}: is of another recipe, data or number of processes; delete it to begin anew, "
                f"or choose another --out"
            )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the state; it appears whole or not at all."""
        partial = self.path.with_suffix(".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save({**state, "digest": self.digest}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"{self.path}: can't be written ({error}); free some space, or choose another --out"
            ) from error

    def remove(self) -> None:
        """The run is over."""
        self.path.unlink(missing_ok=True)


@dataclass
class Loop:
    """One run of training.

    ``modules``: what is trained; parameters that need no gradient stay as they are. ``shared``: parameters whose
    gradient every process has in full (temperature, bias). ``step``: draws a batch with the generator, leaves gradients
    in the parameters, returns the loss. ``evaluate``: held-out figures with a ``"score"``.
    """

    modules: nn.ModuleDict
    shared: nn.ParameterDict
    steps: Steps
    seed: int
    step: Callable[[torch.Generator], torch.Tensor]
    evaluate: Callable[[], dict[str, float]]
    on_point: Callable[[Point], None]
    on_step: Callable[[int, int], None] = lambda step, total: None
    checkpoint: Checkpoint | None = None
    world: World = ALONE

    def run(self) -> list[Point]:
        """Train; afterwards the modules hold the best step's weights and are in eval mode. Returns the curve."""
        self.modules.zero_grad()  # a parameter that an earlier stage trained and this one locks would count in clipping
        parameters = [p for p in self.modules.parameters() if p.requires_grad]
        shared = list(self.shared.parameters())
        optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.steps.weight_decay},
                {"params": [*(p for p in parameters if p.ndim <= 1), *shared], "weight_decay": 0.0},
            ],
            lr=self.steps.learning_rate,
        )
        total = self.steps.steps
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.steps.learning_rate, total_steps=total + 1)
        generator = torch.Generator().manual_seed(self.seed)
        torch.manual_seed(self.seed + self.world.rank)
        curve: list[Point] = []
        best = self._trained()
        done = 0
        if self.checkpoint is not None and (state := self.checkpoint.load()) is not None:
            done = state["step"]
            self._take(state["modules"])
            self.shared.load_state_dict(state["shared"])
            optimiser.load_state_dict(state["optimiser"])
            cycle.load_state_dict(state["cycle"])
            generator.set_state(state["generator"])
            torch.set_rng_state(state["random"][self.world.rank])
            curve = [Point(**point) for point in state["curve"]]
            best = state["best"]
        losses: list[float] = []
        for step in range(done + 1, total + 1):
            self.modules.train()
            optimiser.zero_grad()
            loss = self.step(generator).item()
            if not math.isfinite(loss):
                raise RecipeError(f"the loss is {loss} at step {step}; lower the learning rate")
            self.world.sum_gradients([*parameters, *shared], shared)
            optimiser.step()
            cycle.step()
            losses.append(loss)
            self.on_step(step, total)
            if step % self.steps.evaluate_every == 0 or step == total:
                self.modules.eval()
                point = Point(step, sum(losses) / len(losses), self.evaluate())
                losses.clear()
                if not curve or point.score > max(earlier.score for earlier in curve):
                    best = self._trained()
                curve.append(point)
                self.on_point(point)
                if self.checkpoint is not None:
                    state = {
                        "step": step,
                        "modules": self._trained(),
                        "shared": self.shared.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "cycle": cycle.state_dict(),
                        "generator": generator.get_state(),
                        "random": self._random_states(),
                        "curve": [asdict(earlier) for earlier in curve],
                        "best": best,
                    }
                    if self.world.leads:
                        self.checkpoint.save(state)
        self._take(best)
        self.modules.eval()
        return curve

    def _trained(self) -> dict[str, torch.Tensor]:
        """Copies of the parameters that are trained; locked ones are not the checkpoint's business."""
        return {
            name: copy.deepcopy(parameter.detach())
            for name, parameter in self.modules.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def _take(self, state: dict[str, torch.Tensor]) -> None:
        own = dict(self.modules.named_parameters())
        for name, value in state.items():
            own[name].copy_(value)

    def _random_states(self) -> list[torch.Tensor]:
        """Every process's random state, by rank."""
        own = torch.get_rng_state()
        if self.world.size == 1:
            return [own]
        import torch.distributed as dist

        states: list[Any] = [None] * self.world.size
        dist.all_gather_object(states, own)
        return states
