"""The contrastive loss, and the training of projection heads on features of locked towers.

Multi-positive InfoNCE: rows of one label, and rows whose texts are the same, are positives of each other and never
negatives. Knows nothing of files or towers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from indexer.encoders.heads import ProjectionHead
from indexer.training.heldout import hit_rates
from indexer.training.recipe import Schedule

_MAX_SCALE = 100.0  # CLIP's bound on 1 / temperature


@dataclass(frozen=True)
class Pairs:
    """Media features of one modality with the texts that tell of each.

    ``media`` is ``(n, width)`` whitened. Row ``i`` has the texts ``texts[i]``, numbers into a matrix of whitened text
    features; the first is its best caption. ``labels[i]`` numbers what it shows: rows of one label are positives.
    """

    media: torch.Tensor
    texts: list[list[int]]
    labels: torch.Tensor


@dataclass(frozen=True)
class Task:
    """One modality's pairs to train on and to hold out, and the weight of its loss."""

    name: str
    train: Pairs
    heldout: Pairs
    weight: float


@dataclass(frozen=True)
class Point:
    """The learning curve at one step: mean loss since the last, and held-out hit rates by task and direction."""

    step: int
    loss: float
    heldout: dict[str, float]

    @property
    def score(self) -> float:
        """What the best step is chosen by: mean of the held-out hit rates of the first task."""
        return self.heldout["score"]


def info_nce(similarity: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Multi-positive InfoNCE of logits ``(n, m)`` with a bool mask ``(n, m)`` that has a positive in each row.

    Mean over rows of ``-log(sum of exp over positives / sum of exp over all)``; with one positive a row it is InfoNCE.
    """
    picked = similarity.masked_fill(~positive, -math.inf).logsumexp(dim=1)
    return (similarity.logsumexp(dim=1) - picked).mean()


def positives(labels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Bool ``(n, n)``: same label or the same text."""
    return (labels[:, None] == labels[None, :]) | (texts[:, None] == texts[None, :])


def train_heads(
    heads: dict[str, ProjectionHead],
    texts: torch.Tensor,
    tasks: list[Task],
    schedule: Schedule,
    seed: int,
    on_point: Callable[[Point], None],
) -> tuple[dict[str, ProjectionHead], list[Point]]:
    """Train media heads and the text head together; return those of the best held-out step, and the curve.

    ``texts``: whitened text features ``(t, width)``. ``heads`` holds one head a task by its name, and ``"text"``.
    The same seed, data and number of threads give the same result.
    """
    generator = torch.Generator().manual_seed(seed)
    device = texts.device
    scale = nn.Parameter(torch.tensor(math.log(1.0 / schedule.temperature), device=device))
    modules = nn.ModuleDict(heads)
    decayed = [p for p in modules.parameters() if p.ndim > 1]
    plain = [p for p in modules.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": schedule.weight_decay},
            {"params": [*plain, scale], "weight_decay": 0.0},
        ],
        lr=schedule.learning_rate,
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.learning_rate, total_steps=schedule.steps + 1)
    samplers = [_Sampler(task.train, schedule, generator) for task in tasks]
    curve: list[Point] = []
    best = copy.deepcopy(modules.state_dict())
    losses: list[float] = []
    for step in range(1, schedule.steps + 1):
        modules.train()
        loss = torch.zeros((), device=device)
        for task, sampler in zip(tasks, samplers, strict=True):
            rows, picked = sampler.draw()
            media = heads[task.name].project(task.train.media[rows.to(device)])
            words = heads["text"].project(texts[picked.to(device)])
            logits = media @ words.T * scale.exp().clamp(max=_MAX_SCALE)
            mask = positives(task.train.labels[rows], picked).to(device)
            loss = loss + task.weight * (info_nce(logits, mask) + info_nce(logits.T, mask.T)) / 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cycle.step()
        losses.append(loss.item())
        if step % schedule.evaluate_every == 0 or step == schedule.steps:
            modules.eval()
            point = Point(step, sum(losses) / len(losses), evaluate(heads, texts, tasks))
            losses.clear()
            if not curve or point.score > max(earlier.score for earlier in curve):
                best = copy.deepcopy(modules.state_dict())
            curve.append(point)
            on_point(point)
    modules.load_state_dict(best)
    modules.eval()
    return heads, curve


@torch.inference_mode()
def evaluate(heads: dict[str, ProjectionHead], texts: torch.Tensor, tasks: list[Task]) -> dict[str, float]:
    """Held-out hit rates, ``"image text->image @1"`` and so on, and ``"score"``: the mean of the first task's."""
    result: dict[str, float] = {}
    for number, task in enumerate(tasks):
        first = torch.tensor([own[0] for own in task.heldout.texts])
        wanted, inverse = torch.unique(first, return_inverse=True)  # a caption of several rows is one text
        media = heads[task.name].project(task.heldout.media)
        words = heads["text"].project(texts[wanted.to(texts.device)])
        similarity = (words @ media.T).float().cpu()  # (texts, media)
        relevant = inverse[None, :] == torch.arange(len(wanted))[:, None]
        rates = {
            f"text->{task.name}": hit_rates(similarity, relevant),
            f"{task.name}->text": hit_rates(similarity.T, relevant.T),
        }
        for direction, values in rates.items():
            result |= {f"{direction} @{k}": value for k, value in values.items()}
        if number == 0:
            result["score"] = sum(sum(values.values()) for values in rates.values()) / 6
    return result


class _Sampler:
    """Draws a batch of rows, a label in proportion to the root of its number of rows, and a text for each row."""

    def __init__(self, pairs: Pairs, schedule: Schedule, generator: torch.Generator) -> None:
        counts = torch.bincount(pairs.labels)
        self.weights = counts[pairs.labels].double().rsqrt()
        self.batch = min(schedule.batch, len(pairs.texts))
        self.first_caption = schedule.first_caption
        self.pairs = pairs
        self.generator = generator

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Row numbers and text numbers, each ``(batch,)``."""
        rows = torch.multinomial(self.weights, self.batch, generator=self.generator)
        chance = torch.rand(self.batch, 2, generator=self.generator).tolist()
        picked = []
        for row, (which, other) in zip(rows.tolist(), chance, strict=True):
            own = self.pairs.texts[row]
            if which < self.first_caption or len(own) == 1:
                picked.append(own[0])
            else:
                picked.append(own[1 + int(other * (len(own) - 1))])
        return rows, torch.tensor(picked)
