"""What the alignment trains: the heads over the towers, the sides of a batch, and its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from indexer.encoders.specs import HeadSpec
from indexer.encoders.towers.heads import Head, IdentityHead, ProjectionHead, whitening
from indexer.encoders.towers.hubness import HubnessCorrection
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.text import TextTowers
from indexer.errors import RecipeError
from indexer.items import Modality
from indexer.training.alignment import Alignment, Criterion, Task, tie_by_concept
from indexer.training.data.prototypes import class_means
from indexer.training.data.rows import Examples
from indexer.training.parallel import World
from indexer.training.recipe import HeadRecipe, Recipe
from indexer.training.sides import CachedSide, LiveSide, PartedSide, Side
from indexer.training.towers import unit
from indexer.training.training_data import TrainingData


class AlignmentParts:
    """Heads, sides and tasks of the alignment."""

    def __init__(self, recipe: Recipe, data: TrainingData, where: torch.device, world: World) -> None:
        self.towers = data.towers
        self.live_texts: TextTowers | None = None
        self.live_images: ImageTower | None = None
        self.heads: dict[str, Head] = {}
        self.hubness: HubnessCorrection | None = None
        torch.manual_seed(recipe.seed)
        text = self._text_side(recipe, data, where)
        tasks = []
        for modality, examples in data.used.items():
            side = self._media_side(recipe, data, modality, where)
            weight = 1.0 if modality is Modality.IMAGE else recipe.audio.weight  # type: ignore[union-attr]
            classes = data.classes if modality is Modality.IMAGE else []
            train, heldout = data.pairs(examples.train, classes), data.pairs(examples.heldout)
            tasks.append(Task(str(modality), side, train, heldout, weight))
        self.modules = nn.ModuleDict(dict(self.heads))
        if self.live_texts is not None:
            self.modules["text_towers"] = self.live_texts
        if self.live_images is not None:
            self.modules["image_tower"] = self.live_images
        if recipe.schedule.compile:
            self._compile()
        teacher = None
        if recipe.schedule.teacher:
            teacher = torch.from_numpy(unit(data.towers.teacher_rows(recipe.schedule.teacher, data.texts))).to(where)
        ties = []
        if recipe.audio is not None and recipe.audio.picture_weight and len(tasks) == 2:
            names = [[example.concept for example in data.used[m].train] for m in (Modality.AUDIO, Modality.IMAGE)]
            tie = tie_by_concept(tasks[1], tasks[0], names[0], names[1], recipe.audio.picture_weight)
            ties = [tie] if tie else []
        self.alignment = Alignment(
            tasks=tasks,
            text=text,
            criterion=Criterion(recipe.schedule, where),
            schedule=recipe.schedule,
            device=where,
            ties=ties,
            teacher=teacher,
            lm_loss=self._lm_loss(data) if recipe.schedule.lm_weight else None,
            world=world,
        )

    def _compile(self) -> None:
        """Compile the models of live towers in place, for any batch and length; names of weights stay."""
        live: list[Any] = [*(self.live_texts or ()), *(self.live_images.trunks if self.live_images is not None else ())]
        for tower in live:
            tower.model.compile(dynamic=True)

    def _text_side(self, recipe: Recipe, data: TrainingData, where: torch.device) -> Side:
        training = sorted({c for side in data.used.values() for e in side.train for c in e.captions})
        if recipe.text.gate is not None or recipe.text.tower_dropout:
            return self._parted_texts(recipe, data, training, where)
        if not recipe.text.live:
            head = self.heads["text"] = _head(recipe, recipe.text.head, data.towers.texts(training), where)
            return CachedSide(head, head.whitened(torch.from_numpy(data.towers.texts(data.texts)).to(where)))
        self.live_texts = towers = data.towers.open_text_towers()
        head = self.heads["text"] = _head(recipe, recipe.text.head, data.towers.texts(training), where)
        autocast = data.towers.autocast(bool(recipe.text.unlocked_layers))
        read = lambda rows: [data.texts[row] for row in rows]  # noqa: E731
        return LiveSide(towers, head, read, recipe.schedule.chunk, autocast=autocast)

    def _parted_texts(self, recipe: Recipe, data: TrainingData, training: list[str], where: torch.device) -> PartedSide:
        """A part a text tower, each whitened by itself; a gated tower has none of the texts that it does not read."""
        towers, gate = data.towers, data.towers.gate
        learnt = [*training, *sorted(data.foreign)]
        numbers = range(len(recipe.text.towers))
        every = towers.texts(data.texts)
        present = torch.ones(len(every), len(numbers), dtype=torch.bool, device=where)
        readable = learnt
        if gate is not None:
            reads = dict(zip(data.texts, gate.reads(towers.of_text_tower(gate.spec.judge, data.texts)), strict=True))
            present[:, gate.spec.gated] = torch.tensor([bool(reads[text]) for text in data.texts], device=where)
            readable = [text for text in training if reads[text]]
        means, maps = [], []
        for number in numbers:
            is_gated = gate is not None and number == gate.spec.gated
            rows = torch.from_numpy(towers.of_text_tower(number, readable if is_gated else learnt))
            share = round(recipe.text.head.whitened * rows.shape[1] / every.shape[1])
            mean, whiten = whitening(rows, min(share, *rows.shape), recipe.text.head.shrinkage)
            means.append(torch.from_numpy(gate.fill) if is_gated and gate is not None else mean)
            maps.append(whiten)
        sizes = HeadSpec(every.shape[1], sum(one.shape[1] for one in maps), recipe.text.head.hidden, recipe.dim)
        head = ProjectionHead(sizes, recipe.text.head.dropout)
        head.set_whitening(torch.cat(means), torch.block_diag(*maps))  # type: ignore[no-untyped-call]
        self.heads["text"] = head.to(where)
        parts, start = [], 0
        for mean in means:
            own = slice(start, start + len(mean))
            centred = torch.from_numpy(every[:, own]).to(where) - head.mean[own]
            parts.append(centred @ head.whiten[own])
            start += len(mean)
        return PartedSide(head, parts, present, recipe.text.tower_dropout)

    def _media_side(self, recipe: Recipe, data: TrainingData, modality: Modality, where: torch.device) -> Side:
        examples = data.used[modality]
        part = recipe.image.head if modality is Modality.IMAGE else recipe.audio.head  # type: ignore[union-attr]
        every = [*examples.train, *examples.heldout]
        if modality is Modality.IMAGE and recipe.image.model:
            whole = self.heads[str(modality)] = IdentityHead(HeadSpec(recipe.dim, 0, 0, recipe.dim))
            return CachedSide(whole, torch.from_numpy(data.towers.of_media(every)).to(where))
        head = self.heads[str(modality)] = _head(recipe, part, data.towers.of_media(examples.train), where)
        if modality is Modality.IMAGE and recipe.image.unlocked_groups:
            self.live_images = tower = data.towers.open_image_tower()
            tower.unlock(recipe.image.unlocked_groups)
            read = data.towers.picture_reader(tower, every)
            return LiveSide(tower, head, read, recipe.schedule.chunk, autocast=data.towers.autocast(True))
        if modality is Modality.IMAGE and (data.classes or recipe.image.trunk_dropout):
            return _parted_side(recipe, data, head, examples, where)
        return CachedSide(head, head.whitened(torch.from_numpy(data.towers.of_media(every)).to(where)))

    def _lm_loss(self, data: TrainingData) -> Callable[[Sequence[int]], torch.Tensor]:
        if self.live_texts is None:
            raise RecipeError("schedule.lm_weight needs text.live = true: a locked language model learns nothing")
        towers = self.live_texts

        def loss(numbers: Sequence[int]) -> torch.Tensor:
            texts = [data.texts[number] for number in numbers]
            return torch.stack([tower.lm_loss(texts) for tower in towers]).mean()

        return loss


def _parted_side(
    recipe: Recipe, data: TrainingData, head: ProjectionHead, examples: Examples, where: torch.device
) -> PartedSide:
    """Training pictures, prototypes of classes, held-out pictures, in this order; a part a trunk."""
    parts, start = [], 0
    count, held, classes = len(examples.train), len(examples.heldout), len(data.classes)
    present = torch.ones(count + classes + held, len(recipe.image.trunks), dtype=torch.bool, device=where)
    for number in range(len(recipe.image.trunks)):
        rows = data.towers.of_trunk(number, [*examples.train, *examples.heldout])
        width = rows.shape[1]
        centred = torch.from_numpy(rows).to(where) - head.mean[start : start + width]
        whiten = head.whiten[start : start + width]
        part = centred @ whiten
        start += width
        if classes:
            theirs = torch.zeros(classes, part.shape[1], device=where)
            prototypes = recipe.image.prototypes
            assert prototypes is not None
            if number == prototypes.trunk:
                means = class_means(rows[:count], data.towers.classifier(prototypes, width))
                own = means[[name.number for name in data.classes]]
                theirs = torch.from_numpy(own).to(where) @ whiten
            else:
                present[count : count + classes, number] = False
            part = torch.cat([part[:count], theirs, part[count:]])
        parts.append(part)
    return PartedSide(head, parts, present, recipe.image.trunk_dropout)


def _head(recipe: Recipe, part: HeadRecipe, rows: NDArray[np.float32], device: torch.device) -> ProjectionHead:
    """A fresh head whose whitening is measured on training rows ``(n, width)``."""
    whitened = min(part.whitened, rows.shape[1], len(rows))
    head = ProjectionHead(HeadSpec(rows.shape[1], whitened, part.hidden, recipe.dim), part.dropout)
    head.set_whitening(*whitening(torch.from_numpy(rows), whitened, part.shrinkage))
    return head.to(device)
