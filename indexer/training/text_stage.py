"""The caption-contrastive stage: a language model learns to compare texts before it meets a picture.

Texts that say the same (two captions of one item, a word and its gloss) are drawn together, others apart, by InfoNCE
on the read-out of the language model through a linear projection; optionally a teacher's similarities are distilled and
the language-model loss kept beside it. What is trained (LoRA, last layers) is stored in the cache under a digest of all
that made it, so a recipe that shares the stage does not run it again, and a killed run resumes. The order is that of
LLM2CLIP (Wu et al. 2024): first the texts, then, with the model locked, the media.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from indexer.encoders.specs import TextSpec
from indexer.encoders.towers.heads import whitening
from indexer.encoders.towers.load import model_digest
from indexer.encoders.towers.text import TextTower
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import RecipeError
from indexer.training.heldout import hit_rates
from indexer.training.loop import Checkpoint, Loop, Point, Steps
from indexer.training.losses import distillation, positives, symmetric_info_nce
from indexer.training.parallel import World
from indexer.training.recipe import CaptionContrastive
from indexer.training.sides import LiveSide, backward
from indexer.training.towers import unit

_HELDOUT = 500  # pairs that the curve is measured on
_SAMPLE = 2048  # texts that the whitening is measured on


@dataclass(frozen=True)
class Paraphrases:
    """Texts, each with others that say the same: ``(text, others)``."""

    captions: list[tuple[str, list[str]]]
    """Of the rows that media are trained on."""
    pairs: list[tuple[str, list[str]]]
    """Of the recipe's ``pairs`` files."""
    heldout: list[tuple[str, list[str]]]
    """Of held-out rows: never drawn, measured."""


class TextProjection(nn.Module):
    """Features -> unit rows ``(n, dim)``: whitened (PCA of a sample, fixed), then a linear map that starts as identity.

    A language model's states have a few huge directions; unwhitened, they alone would be the similarity.
    """

    mean: torch.Tensor
    whiten: torch.Tensor

    def __init__(self, sample: torch.Tensor, dim: int) -> None:
        """``sample``: features ``(m, width)`` of texts of the stage."""
        super().__init__()
        mean, whiten = whitening(sample, min(dim, sample.shape[1], len(sample)), shrinkage=1.0)
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)
        self.linear = nn.Linear(whiten.shape[1], whiten.shape[1], bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.linear((features - self.mean) @ self.whiten), dim=-1)


def stage_directory(stage: CaptionContrastive, spec: TextSpec, unlocked_layers: int, texts: Paraphrases) -> Path:
    """Where what comes of a stage is kept: named by the digest of the stage, the tower and all texts."""
    content = json.dumps(
        {
            "stage": asdict(stage),
            "tower": asdict(spec),
            "unlocked": unlocked_layers,
            "model": model_digest(spec.source),
            "texts": [texts.captions, texts.pairs, texts.heldout],
        },
        sort_keys=True,
    )
    return cache_dir() / "stages" / hashlib.sha256(content.encode()).hexdigest()[:16]


def train_text_tower(
    tower: TextTower,
    stage: CaptionContrastive,
    texts: Paraphrases,
    teacher: TextTower | None,
    directory: Path,
    *,
    world: World,
    autocast: torch.dtype | None,
    on_point: Callable[[Point], None],
    on_step: Callable[[int, int], None],
) -> Path:
    """Train what is unlocked in a tower; returns the adapter's file. Does nothing where that file is there."""
    adapter = directory / "adapter.safetensors"
    if adapter.is_file():
        return adapter
    if not texts.heldout or not (texts.captions or texts.pairs):
        raise RecipeError(
            "caption_contrastive: no texts with other words for them; give pairs, or rows of two captions"
        )
    device = next(tower.parameters()).device
    torch.manual_seed(stage.seed)
    pool = _Pool(texts, stage)
    with torch.no_grad():
        sample = torch.from_numpy(tower.features(pool.some(_SAMPLE))).to(device)
    projection = TextProjection(sample, stage.dim).to(device)
    modules = nn.ModuleDict({"tower": tower, "projection": projection})
    side = LiveSide(tower, projection, pool.read, stage.chunk, autocast=autocast)
    scale = nn.ParameterDict({"scale": nn.Parameter(torch.tensor(math.log(1 / stage.temperature), device=device))})

    def step(generator: torch.Generator) -> torch.Tensor:
        left, right, labels = pool.draw(generator)

        def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            mask = positives(labels, right).to(device)
            value = symmetric_info_nce(a @ b.T * scale["scale"].exp().clamp(max=100.0), mask)
            if teacher is not None:
                rows = unit(teacher.features(pool.read([*left.tolist(), *right.tolist()])))
                theirs = torch.from_numpy(rows).to(device)
                ours = torch.cat([a, b])
                value = value + stage.distill_weight * distillation(ours, theirs, stage.distill_temperature)
            return value

        total = backward([(side, left), (side, right)], loss, world)
        if stage.lm_weight:
            mine = world.share(right)
            value = stage.lm_weight * tower.lm_loss(pool.read(mine.tolist())) * len(mine) / len(right)
            value.backward()  # type: ignore[no-untyped-call]
            total = total + value.detach()
        return total

    def evaluate() -> dict[str, float]:
        heldout = texts.heldout[:_HELDOUT]
        with torch.inference_mode():
            a = projection(torch.from_numpy(tower.features([text for text, _ in heldout])).to(device))
            b = projection(torch.from_numpy(tower.features([also[0] for _, also in heldout])).to(device))
        relevant = torch.eye(len(heldout), dtype=torch.bool)
        there, back = (hit_rates(s, relevant) for s in ((a @ b.T).float().cpu(), (b @ a.T).float().cpu()))
        rates = {f"text->paraphrase @{k}": value for k, value in there.items()}
        rates |= {f"paraphrase->text @{k}": value for k, value in back.items()}
        return {**rates, "score": sum(rates.values()) / len(rates)}

    checkpoint = Checkpoint(directory / "checkpoint.pt", f"{directory.name} {world.size}")
    loop = Loop(
        modules=modules,
        shared=scale,
        steps=Steps(stage.steps, stage.learning_rate, stage.weight_decay, stage.evaluate_every),
        seed=stage.seed,
        step=step,
        evaluate=evaluate,
        on_point=on_point,
        on_step=on_step,
        checkpoint=checkpoint,
        world=world,
    )
    curve = loop.run()
    if world.leads:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "curve.json").write_text(json.dumps([asdict(point) for point in curve]))
        partial = directory / "adapter.partial"
        tower.save_adapter(partial)
        partial.replace(adapter)
        checkpoint.remove()
    world.wait()
    return adapter


class _Pool:
    """All texts of a stage by number, and the drawing of pairs of them."""

    def __init__(self, texts: Paraphrases, stage: CaptionContrastive) -> None:
        numbers: dict[str, int] = {}
        self._sources = [
            [[numbers.setdefault(one, len(numbers)) for one in (text, *also)] for text, also in source if also]
            for source in (texts.captions, texts.pairs)
        ]
        self._texts = list(numbers)
        share = stage.captions if self._sources[0] and self._sources[1] else float(bool(self._sources[0]))
        self._counts = round(stage.batch * share), stage.batch - round(stage.batch * share)

    def some(self, count: int) -> list[str]:
        """Evenly spread texts."""
        return self._texts[:: max(1, len(self._texts) // count)][:count]

    def read(self, numbers: Sequence[int]) -> list[str]:
        """Texts by number."""
        return [self._texts[n] for n in numbers]

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Text numbers of both sides and the number of what they describe, int64 ``(n,)`` each."""
        left, right, labels = [], [], []
        for source, count in zip(self._sources, self._counts, strict=True):
            if not count:
                continue
            rows = torch.randint(len(source), (count,), generator=generator).tolist()
            chance = torch.rand(count, 2, generator=generator).tolist()
            for row, (first, second) in zip(rows, chance, strict=True):
                group = source[row]
                a = 0 if first < 0.5 else int((2 * first - 1) * len(group))  # mostly the name, sometimes any
                b = int(second * (len(group) - 1))
                left.append(group[a])
                right.append(group[b + (b >= a)])
                labels.append(group[0])  # the same name is the same thing, wherever it stands
        return torch.tensor(left), torch.tensor(right), torch.tensor(labels)
