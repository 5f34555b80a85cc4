"""The alignment of media and texts: each task's batch, its loss, and what the held-out rows say.

A task ties one modality to texts; a tie draws the sounds and pictures of one concept together directly (in a batch
where a text ties a picture and a sound, the three meet). Knows nothing of files, and of towers only their sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn import functional

from indexer.encoders.specs import HubnessSpec
from indexer.encoders.towers.hubness import HubnessCorrection
from indexer.training.data.pairs import Pairs, Sampler
from indexer.training.heldout import hit_rates
from indexer.training.losses import contradicted, distillation, positives, sigmoid_loss, symmetric_info_nce
from indexer.training.parallel import ALONE, World
from indexer.training.recipe import Schedule
from indexer.training.sides import Side, backward

_MAX_SCALE = 100.0  # CLIP's bound on 1 / temperature
_SIGMOID_SCALE, _SIGMOID_BIAS = 10.0, -10.0  # SigLIP's start: nearly all pairs of a batch are negatives
_ROWS_AT_ONCE = 512
_LEAST_QUERIES = 100  # of a language, held out


@dataclass(frozen=True)
class Task:
    """One modality's rows to train on and to hold out, its side, and the weight of its loss.

    The side's rows are the training rows in order, then the held-out ones.
    """

    name: str
    side: Side
    train: Pairs
    heldout: Pairs
    weight: float

    @property
    def heldout_rows(self) -> torch.Tensor:
        """Numbers of the held-out rows."""
        return torch.arange(len(self.heldout.texts)) + len(self.train.texts)


@dataclass(frozen=True)
class Tie:
    """Rows of two tasks that show one concept: for each row of ``left`` in ``rows`` those of ``right`` to draw from."""

    left: Task
    right: Task
    rows: torch.Tensor
    partners: list[torch.Tensor]
    left_concepts: torch.Tensor
    right_concepts: torch.Tensor
    weight: float

    def draw(self, generator: torch.Generator, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the left task and of the right one, int64 ``(n,)`` each."""
        picked = torch.randperm(len(self.rows), generator=generator)[:batch]
        chance = torch.rand(len(picked), generator=generator)
        others = [
            self.partners[n][int(c * len(self.partners[n]))]
            for n, c in zip(picked.tolist(), chance.tolist(), strict=True)
        ]
        return self.rows[picked], torch.stack(others)


class Criterion:
    """The contrastive loss with its learned temperature (and bias, for the sigmoid loss)."""

    def __init__(self, schedule: Schedule, device: torch.device) -> None:
        self.sigmoid = schedule.loss == "sigmoid"
        scale = _SIGMOID_SCALE if self.sigmoid else 1.0 / schedule.temperature
        bias = _SIGMOID_BIAS if self.sigmoid else 0.0
        self.parameters = nn.ParameterDict(
            {
                "scale": nn.Parameter(torch.tensor(math.log(scale), device=device)),
                "bias": nn.Parameter(torch.tensor(bias, device=device), requires_grad=self.sigmoid),
            }
        )

    def __call__(self, left: torch.Tensor, right: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """Loss of unit rows ``(n, dim)`` and ``(m, dim)`` whose positives are marked in ``(n, m)``."""
        scale = self.parameters["scale"].exp()
        if self.sigmoid:
            return sigmoid_loss(left @ right.T * scale + self.parameters["bias"], positive)
        return symmetric_info_nce(left @ right.T * scale.clamp(max=_MAX_SCALE), positive)

    def contradicted(
        self, left: torch.Tensor, right: torch.Tensor, positive: torch.Tensor, false: torch.Tensor
    ) -> torch.Tensor:
        """Mean loss of rows ``left`` ``(m, dim)`` that know one more false text each, ``false`` ``(m, dim)``.

        With the sigmoid loss each row and its contradiction are one more pair that does not belong together.
        """
        scale = self.parameters["scale"].exp()
        pairs = (left * false).sum(dim=1)
        if self.sigmoid:
            return functional.softplus(pairs * scale + self.parameters["bias"]).mean()
        scale = scale.clamp(max=_MAX_SCALE)
        return contradicted(left @ right.T * scale, positive, pairs * scale)


@dataclass
class Alignment:
    """Everything that a step needs. ``teacher`` ``(texts, e)`` unit rows; ``lm_loss`` of text numbers, or None."""

    tasks: list[Task]
    text: Side
    criterion: Criterion
    schedule: Schedule
    device: torch.device
    ties: list[Tie] = field(default_factory=list)
    teacher: torch.Tensor | None = None
    lm_loss: Callable[[Sequence[int]], torch.Tensor] | None = None
    world: World = ALONE
    hubness: HubnessCorrection | None = None
    """Fitted after training; from then on the held-out figures are with it."""

    def __post_init__(self) -> None:
        self.samplers = [
            Sampler(
                task.train,
                self.schedule.batch,
                first_caption=self.schedule.first_caption,
                paraphrase=self.schedule.paraphrase,
                translation=self.schedule.translation,
            )
            for task in self.tasks
        ]

    def step(self, generator: torch.Generator) -> torch.Tensor:
        """Draw every task's batch, leave gradients in the parameters, return the loss ``()``."""
        total = torch.zeros((), device=self.device)
        for task, sampler in zip(self.tasks, self.samplers, strict=True):
            rows, picked = sampler.draw(generator)
            parts = [(task.side, rows), (self.text, picked)]
            if self.schedule.text_weight:
                parts.append((self.text, sampler.texts(rows, generator)))
            mask = positives(task.train.labels[rows], picked).to(self.device)
            places = None
            if self.schedule.contradiction_weight:
                places, false = task.train.contradictions(rows, generator)
                if len(places):
                    parts.append((self.text, false))
            total = total + backward(parts, self._loss_of(task, picked, mask, places), self.world)
            if self.lm_loss is not None and self.schedule.lm_weight:
                mine = self.world.share(picked)
                value = self.schedule.lm_weight * task.weight * self.lm_loss(mine.tolist()) * len(mine) / len(picked)
                value.backward()  # type: ignore[no-untyped-call]
                total = total + value.detach()
        for tie in self.ties:
            left, right = tie.draw(generator, self.schedule.batch)
            mask = (tie.left_concepts[left][:, None] == tie.right_concepts[right][None, :]).to(self.device)
            total = total + backward(
                [(tie.left.side, left), (tie.right.side, right)],
                lambda a, b, mask=mask, tie=tie: tie.weight * self.criterion(a, b, mask),
                self.world,
            )
        return total

    def _loss_of(
        self, task: Task, picked: torch.Tensor, mask: torch.Tensor, places: torch.Tensor | None = None
    ) -> Callable[..., torch.Tensor]:
        """The loss of a task's embedded batch: media, their texts, and perhaps other texts of the same rows.

        ``places``: rows of the batch whose contradictions come last.
        """

        def loss(media: torch.Tensor, words: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            value = self.criterion(media, words, mask)
            if places is not None and len(places):
                *others, false = others  # type: ignore[assignment]
                share = self.schedule.contradiction_weight * len(places) / len(picked)
                value = value + share * self.criterion.contradicted(media[places], words, mask[places], false)
            for other in others:
                value = value + self.schedule.text_weight * self.criterion(words, other, mask)
            if self.teacher is not None:
                theirs = self.teacher[picked.to(self.device)]
                value = value + self.schedule.distill_weight * distillation(
                    words, theirs, self.schedule.distill_temperature
                )
            return task.weight * value

        return loss

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Held-out hit rates, ``"text->image @1"`` and so on, and ``"score"``: the mean of the first task's."""
        result: dict[str, float] = {}
        for number, task in enumerate(self.tasks):
            if not task.heldout.texts:
                continue
            first = torch.tensor([own[0] for own in task.heldout.texts])
            wanted, inverse = torch.unique(first, return_inverse=True)  # a caption of several rows is one text
            media = self._finished(embed_all(task.side, task.heldout_rows), task.name)
            words = self._finished(embed_all(self.text, wanted), "text")
            similarity = words @ media.T  # (texts, media)
            relevant = inverse[None, :] == torch.arange(len(wanted))[:, None]
            rates = {
                f"text->{task.name}": hit_rates(similarity, relevant),
                f"{task.name}->text": hit_rates(similarity.T, relevant.T),
            }
            for direction, values in rates.items():
                result |= {f"{direction} @{k}": value for k, value in values.items()}
            result |= self._by_description(task, media)
            result |= self._choices(task, media)
            foreign = self._by_language(task, media)
            result |= foreign
            if number == 0:
                result["score"] = sum(sum(values.values()) for values in rates.values()) / 6
                if foreign:  # every language counts as much as English does
                    result["score"] = (result["score"] + sum(foreign.values()) / len(foreign)) / 2
        return result

    def _finished(self, rows: torch.Tensor, modality: str) -> torch.Tensor:
        return rows if self.hubness is None else self.hubness(rows, modality)

    @torch.inference_mode()
    def fit_hubness(self, spec: HubnessSpec, dim: int, seed: int) -> HubnessCorrection:
        """Fill the banks with training pictures and captions drawn by ``seed``; from now on figures are corrected."""
        generator = torch.Generator().manual_seed(seed)
        task = self.tasks[0]
        pictures = torch.randperm(len(task.train.texts), generator=generator)[: spec.bank]
        captions = torch.tensor(sorted({own[0] for own in task.train.texts}))
        texts = captions[torch.randperm(len(captions), generator=generator)[: spec.bank]]
        fitted = replace(spec, bank=min(len(pictures), len(texts)))
        correction = HubnessCorrection(fitted, dim)
        banks = [embed_all(side, rows[: fitted.bank]) for side, rows in ((self.text, texts), (task.side, pictures))]
        correction.fill(*banks)
        self.hubness = correction
        return correction

    def _by_language(self, task: Task, media: torch.Tensor) -> dict[str, float]:
        """Hit rates of translated captions as queries, of every language that has a hundred; none without them."""
        found: dict[str, float] = {}
        for language in sorted({one for own in task.heldout.foreign for one in own}):
            firsts = [own.get(language, [-1])[0] for own in task.heldout.foreign]
            queries = torch.tensor(sorted({text for text in firsts if text >= 0}))
            if len(queries) < _LEAST_QUERIES:
                continue
            relevant = queries[:, None] == torch.tensor(firsts)[None, :]
            rates = hit_rates(self._finished(embed_all(self.text, queries), "text") @ media.T, relevant)
            found |= {f"{language}->{task.name} @{k}": value for k, value in rates.items()}
        return found

    def _choices(self, task: Task, media: torch.Tensor) -> dict[str, float]:
        """By kind of contradiction, the share of rows whose first caption is nearer than one of its contradictions.

        Chance is a half; a tie is lost. Which contradiction of a row it is, is drawn once.
        """
        pairs = task.heldout
        places, false = pairs.contradictions(torch.arange(len(pairs.texts)), torch.Generator().manual_seed(0))
        if not len(places):
            return {}
        true = torch.tensor([pairs.texts[place][0] for place in places.tolist()])
        near, far = (
            (self._finished(embed_all(self.text, texts), "text") * media[places]).sum(dim=1) for texts in (true, false)
        )
        kinds = [pairs.kinds[place] for place in places.tolist()]
        prefix = "" if task is self.tasks[0] else f"{task.name}: "
        return {
            f"{prefix}{kind} choice": (near > far)[torch.tensor([one == kind for one in kinds])].double().mean().item()
            for kind in sorted(set(kinds))
        }

    def _by_description(self, task: Task, media: torch.Tensor) -> dict[str, float]:
        """Hit rates of other words for captions (a gloss, what a thing is used for) as queries; none without them."""
        described = {also[0] for also in task.heldout.also if also}
        if not described:
            return {}
        queries = torch.tensor(sorted(described))
        relevant = torch.zeros(len(queries), len(media), dtype=torch.bool)
        place = {text: n for n, text in enumerate(queries.tolist())}
        for row, also in enumerate(task.heldout.also):
            for text in also:
                if text in place:
                    relevant[place[text], row] = True
        rates = hit_rates(self._finished(embed_all(self.text, queries), "text") @ media.T, relevant)
        return {f"description->{task.name} @{k}": value for k, value in rates.items()}


def embed_all(side: Side, rows: torch.Tensor) -> torch.Tensor:
    """Rows of a side in blocks, float32 on the CPU ``(n, dim)``."""
    return torch.cat([side.embed(part).float().cpu() for part in torch.split(rows, _ROWS_AT_ONCE)])


def tie_by_concept(left: Task, right: Task, left_names: list[str], right_names: list[str], weight: float) -> Tie | None:
    """A tie of training rows by the names of their concepts; None where no concept has both."""
    numbers = {name: n for n, name in enumerate(sorted({*left_names, *right_names}))}
    left_concepts = torch.tensor([numbers[name] for name in left_names])
    right_concepts = torch.tensor([numbers[name] for name in right_names])
    by_concept = {n: (right_concepts == n).nonzero()[:, 0] for n in set(left_concepts.tolist())}
    rows = [row for row, n in enumerate(left_concepts.tolist()) if len(by_concept[n])]
    if not rows:
        return None
    partners = [by_concept[int(left_concepts[row])] for row in rows]
    return Tie(left, right, torch.tensor(rows), partners, left_concepts, right_concepts, weight)
