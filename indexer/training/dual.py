"""Train a dual encoder from a recipe: read rows, adapt the language model, run locked towers once, align, write.

Locked towers run once (as in LiT): their features are cached by content, so a second run takes as long as what is
trained. What a run writes is a directory that ``--model`` opens and everything needed to repeat it: the recipe,
``run.json``, the curve. A killed run resumes where it was when it is started again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from indexer.encoders.devices import choose_device
from indexer.progress import Progress, silent
from indexer.training.data.rows import by_source
from indexer.training.loop import Checkpoint, Loop, Point, Steps
from indexer.training.parallel import World, join_world
from indexer.training.parts import AlignmentParts
from indexer.training.recipe import Recipe
from indexer.training.report import Clock, TrainingReport
from indexer.training.text_stage import stage_directory, train_text_tower
from indexer.training.towers import RecipeTowers
from indexer.training.training_data import TrainingData
from indexer.training.writing import write_encoder

OnPoint = Callable[[str, Point], None]
"""Gets the stage (``texts`` or ``alignment``) and the point of its curve."""


def train_dual(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    on_progress: Progress = silent,
    on_point: OnPoint = lambda stage, point: None,
) -> TrainingReport:
    """Train what ``recipe`` says and write an encoder directory to ``out``, which may exist (it is overwritten).

    Under ``torchrun`` the processes share every batch; the first one writes. Raises :class:`RecipeError` for a recipe
    or data that can't be used, :class:`ModelError` for a tower that can't be opened, :class:`StorageError`.
    """
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    where = choose_device(device)
    world = join_world(where)
    if not world.leads:
        on_progress, on_point = silent, lambda stage, point: None
    clock = Clock()
    data = TrainingData(recipe, RecipeTowers(recipe, where, on_progress), clock)
    if world.leads:
        data.prepare()
    world.wait()
    if not world.leads:
        data.prepare()  # by now from the cache
    towers = data.towers
    with clock.measure("texts stage"):
        _adapt_texts(recipe, data, world, on_progress, on_point)
    with clock.measure("features"):
        if world.leads and not recipe.text.live:
            data.fit_gate()
            towers.texts(data.texts)
        world.wait()
        if not world.leads:
            data.fit_gate()  # by now from the cache
    with clock.measure("alignment"):
        built = AlignmentParts(recipe, data, where, world)
        digest = hashlib.sha256(repr((recipe_digest(recipe), data.digest, world.size)).encode()).hexdigest()
        checkpoint = Checkpoint(out / "checkpoint.pt", digest)
        schedule = recipe.schedule
        loop = Loop(
            modules=built.modules,
            shared=built.alignment.criterion.parameters,
            steps=Steps(schedule.steps, schedule.learning_rate, schedule.weight_decay, schedule.evaluate_every),
            seed=recipe.seed,
            step=built.alignment.step,
            evaluate=built.alignment.evaluate,
            on_point=lambda point: on_point("alignment", point),
            on_step=lambda step, total: on_progress("alignment", step, total),
            checkpoint=checkpoint,
            world=world,
        )
        curve = loop.run()
        best = max(curve, key=lambda point: point.score)
        heldout = best.heldout
        if recipe.hubness is not None:
            built.hubness = built.alignment.fit_hubness(recipe.hubness, recipe.dim, recipe.seed)
            heldout = built.alignment.evaluate()
    report = TrainingReport(
        name=recipe.name,
        directory=out.name,
        examples={str(m): {"train": len(s.train), "heldout": len(s.heldout)} for m, s in data.used.items()},
        sources={str(m): by_source([*s.train, *s.heldout]) for m, s in data.used.items()},
        dropped_near_duplicates=data.dropped,
        unusable=[*data.unusable, *towers.complaints],
        texts=len(data.texts),
        paraphrased=sum(1 for example in data.every if data.also.of(example)),
        best_step=best.step,
        heldout={key: round(value, 4) for key, value in heldout.items()},
        curve=[asdict(point) for point in curve],
        seconds={**clock.seconds, "all": round(time.monotonic() - started, 1)},
        versions={"torch": torch.__version__, "python": platform.python_version(), "device": str(where)},
        recipe=recipe.path.name,
    )
    if world.leads:
        write_encoder(recipe, out, built, report, curve)
        checkpoint.remove()
    world.wait()
    return report


def recipe_digest(recipe: Recipe) -> str:
    """What two runs must share to be one: the whole recipe, wherever its file lies."""
    content = asdict(replace(recipe, path=Path()))
    if not recipe.image.model:
        del content["image"]["model"]  # a run that was begun before there was the key resumes
    if not recipe.schedule.contradiction_weight:
        del content["schedule"]["contradiction_weight"]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def _adapt_texts(recipe: Recipe, data: TrainingData, world: World, on_progress: Progress, on_point: OnPoint) -> None:
    """The caption-contrastive stage of every text tower that has something to train."""
    stage = recipe.caption_contrastive
    if stage is None:
        return
    texts = data.paraphrases()
    for number, spec in enumerate(recipe.text.towers):
        if spec.lora is None and not recipe.text.unlocked_layers:
            continue
        directory = stage_directory(stage, spec, recipe.text.unlocked_layers, texts)
        if not (directory / "adapter.safetensors").is_file():
            teacher = data.towers.open_teacher(stage.teacher) if stage.teacher else None
            train_text_tower(
                data.towers.open_text_tower(number),
                stage,
                texts,
                teacher,
                directory,
                world=world,
                autocast=data.towers.autocast(bool(recipe.text.unlocked_layers)),
                on_point=lambda point: on_point("texts", point),
                on_step=lambda step, total: on_progress("texts stage", step, total),
            )
        data.towers.adapters[number] = directory / "adapter.safetensors"
