"""The stages of a reranker's training, each a loop with its checkpoint: align, caption, match.

A killed run resumes from its last point. Knows nothing of what a step computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from indexer.progress import Progress
from indexer.training.loop import Checkpoint, Loop, Point, Steps
from retrieval.rerank.training.evaluate import Evaluation
from retrieval.rerank.training.modules import RerankerModules
from retrieval.rerank.training.recipe import RerankRecipe
from retrieval.rerank.training.steps import TrainingSteps

OnPoint = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Stage:
    """One stage of the training: its steps, its held-out figures, and whether the projections are locked."""

    name: str
    steps: Steps
    step: Callable[[torch.Generator], torch.Tensor]
    evaluate: Callable[[], dict[str, float]]
    locked: bool | None
    """``None``: as the stage before left them."""


def stages_of(recipe: RerankRecipe, modules: RerankerModules) -> list[Stage]:
    """The stages in their order; one of no steps is left out of the training."""
    steps, heldout = TrainingSteps(recipe, modules), Evaluation(modules, recipe.depth)
    parts = (
        ("align", recipe.align, steps.align, heldout.alignment, None),
        ("tell", recipe.tell, steps.caption, heldout.captioning, True),
        ("match", recipe.match, steps.match, heldout.matching, recipe.match.projections == "locked"),
    )
    return [
        Stage(
            name,
            Steps(settings.steps, settings.learning_rate, settings.weight_decay, settings.evaluate_every),
            step,
            evaluate,
            locked,
        )
        for name, settings, step, evaluate, locked in parts
    ]


def train_stage(
    stage: Stage, modules: RerankerModules, seed: int, out: Path, digest: str, on_progress: Progress, on_point: OnPoint
) -> list[Point]:
    """Train one stage, from its last checkpoint of this ``digest``; returns its curve."""
    finished = Checkpoint(out / f"{stage.name}.pt", digest)
    if (state := finished.load()) is not None and state.get("done"):
        modules.trained.load_state_dict(state["modules"])
        return [Point(**point) for point in state["curve"]]
    if stage.locked is not None:
        modules.lock_projections(stage.locked)
    loop = Loop(
        modules.trained,
        nn.ParameterDict(),
        stage.steps,
        seed,
        stage.step,
        stage.evaluate,
        lambda point: on_point(point.step, {"loss": point.loss, **point.heldout}),
        lambda done, total: on_progress(stage.name, done, total),
        Checkpoint(out / f"{stage.name}-part.pt", digest),
    )
    curve = loop.run()
    finished.save({"done": True, "modules": modules.trained.state_dict(), "curve": [asdict(point) for point in curve]})
    (out / f"{stage.name}-part.pt").unlink(missing_ok=True)
    return curve
