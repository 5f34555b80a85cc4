"""Train a dual encoder from a recipe: read rows, adapt the language model, run locked towers once, align, write.

Locked towers run once (as in LiT): their features are cached by content, so a second run takes as long as what is
trained. What a run writes is a directory that ``--model`` opens and everything needed to repeat it: the recipe,
``run.json``, the curve. A killed run resumes where it was when it is started again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from indexer.encoders.devices import choose_device
from indexer.encoders.specs import CONFIG, HEADS, EncoderConfig, HeadSpec
from indexer.encoders.towers.heads import Head, IdentityHead, ProjectionHead, whitening
from indexer.encoders.towers.hubness import EXTRA, HubnessCorrection
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.load import model_digest, save_heads
from indexer.encoders.towers.text import TextTowers
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import ModelError, RecipeError, StorageError
from indexer.items import Modality
from indexer.progress import Progress, silent
from indexer.training.alignment import Alignment, Criterion, Task, tie_by_concept
from indexer.training.curve import plot_curve
from indexer.training.data.pairs import Pairs
from indexer.training.data.prototypes import class_means
from indexer.training.data.rows import (
    ClassName,
    Example,
    Examples,
    OtherWords,
    by_source,
    manifest_examples,
    read_classes,
    read_examples,
    read_paraphrases,
)
from indexer.training.loop import Checkpoint, Loop, Point, Steps
from indexer.training.parallel import World, join_world
from indexer.training.recipe import HeadRecipe, Recipe
from indexer.training.sides import CachedSide, LiveSide, PartedSide, Side
from indexer.training.text_stage import Paraphrases, stage_directory, train_text_tower
from indexer.training.towers import RecipeTowers, unit

OnPoint = Callable[[str, Point], None]
"""Gets the stage (``texts`` or ``alignment``) and the point of its curve."""


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did; ``run.json`` of its directory."""

    name: str
    directory: str
    examples: dict[str, dict[str, int]]
    sources: dict[str, dict[str, int]]
    dropped_near_duplicates: dict[str, int]
    unusable: list[str]
    texts: int
    paraphrased: int
    best_step: int
    heldout: dict[str, float]
    curve: list[dict[str, Any]]
    seconds: dict[str, float]
    versions: dict[str, str]
    recipe: str


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
            towers.texts(data.texts)
        world.wait()
    with clock.measure("alignment"):
        built = _Built(recipe, data, where, world)
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
        _write(recipe, out, built, report, curve)
        checkpoint.remove()
    world.wait()
    return report


def recipe_digest(recipe: Recipe) -> str:
    """What two runs must share to be one: the whole recipe, wherever its file lies."""
    content = asdict(replace(recipe, path=Path()))
    if not recipe.image.model:
        del content["image"]["model"]  # a run that was begun before there was the key resumes
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


class Clock:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def measure(self, name: str) -> Clock:
        self._name, self._mark = name, time.monotonic()
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + time.monotonic() - self._mark, 1)


class TrainingData:
    """The rows of a recipe, less what can't be used, with the numbers of their texts."""

    def __init__(self, recipe: Recipe, towers: RecipeTowers, clock: Clock) -> None:
        self.recipe = recipe
        self.towers = towers
        self.clock = clock
        self.used: dict[Modality, Examples] = {}
        self.unusable: list[str] = []
        self.dropped: dict[str, int] = {}
        self.texts: list[str] = []
        self.also = OtherWords({}, {})
        self.classes: list[ClassName] = []

    def prepare(self) -> None:
        """Read manifests, run the locked media towers, drop near-duplicates and what can't be read."""
        recipe, towers = self.recipe, self.towers
        with self.clock.measure("read manifests"):
            examples, self.unusable = read_examples(recipe)
            self.also = read_paraphrases(
                [recipe.resolve(name) for name in recipe.data.paraphrases], recipe.data.paraphrases_each
            )
        with self.clock.measure("features"):
            image = examples[Modality.IMAGE]
            towers.images([*image.train, *image.heldout])
            self.used = {Modality.IMAGE: replace(image, train=self._without_near_duplicates(image.train))}
            if recipe.audio is not None and Modality.AUDIO in examples:
                self.used[Modality.AUDIO] = examples[Modality.AUDIO]
                towers.sounds([*examples[Modality.AUDIO].train, *examples[Modality.AUDIO].heldout])
        self.used = {
            modality: Examples(towers.usable(side.train), towers.usable(side.heldout))
            for modality, side in self.used.items()
        }
        if recipe.image.prototypes is not None:
            held = {example.concept for side in self.used.values() for example in side.heldout}
            named = read_classes(recipe.resolve(recipe.image.prototypes.names), recipe)
            self.classes = [name for name in named if name.concept not in held]
        every = self.every
        captions = [*(example.captions for example in every), *(name.captions for name in self.classes)]
        firsts = {own[0] for own in captions}
        found = {caption for own in captions for caption in own}
        if recipe.schedule.paraphrase:
            found |= {other for example in every for other in self.also.of(example)}
            found |= {other for name in self.classes for other in name.also}
        self.texts = sorted(found)
        self.numbers = {text: number for number, text in enumerate(self.texts)}
        # One emoji in five styles is one label; two kinds of hammer are one concept for the split, and two labels here.
        self.labels = {text: n for n, text in enumerate(sorted(firsts))}

    @property
    def every(self) -> list[Example]:
        """Every usable example."""
        return [example for side in self.used.values() for example in (*side.train, *side.heldout)]

    @property
    def digest(self) -> str:
        """What was trained on: files and texts."""
        rows = [(example.key, example.captions) for example in self.every]
        return hashlib.sha256(json.dumps([rows, self.texts]).encode()).hexdigest()

    def pairs(self, examples: Sequence[Example], classes: Sequence[ClassName] = ()) -> Pairs:
        """Rows with the numbers of their texts; prototypes of classes come after the examples."""
        also = [*(self.also.of(example) for example in examples), *(name.also for name in classes)]
        captions = [*(example.captions for example in examples), *(name.captions for name in classes)]
        return Pairs(
            texts=[[self.numbers[caption] for caption in own] for own in captions],
            labels=torch.tensor([self.labels[own[0]] for own in captions]),
            also=[[self.numbers[other] for other in others if other in self.numbers] for others in also],
        )

    def paraphrases(self) -> Paraphrases:
        """Training rows' captions with their other words; held-out ones apart; the recipe's pairs without those."""
        stage = self.recipe.caption_contrastive
        assert stage is not None
        image = self.used[Modality.IMAGE]
        sides = []
        for examples in (image.train, image.heldout):
            groups: dict[str, dict[str, None]] = {}
            for example in examples:
                first, *rest = example.captions
                groups.setdefault(first, {}).update(dict.fromkeys([*self.also.of(example), *rest]))
            sides.append([(text, list(others)) for text, others in groups.items() if others])
        known = {text for text, _ in sides[1]}
        pairs = read_paraphrases([self.recipe.resolve(name) for name in stage.pairs])
        return Paraphrases(
            sides[0], [(text, also) for text, also in pairs.by_text.items() if text not in known], sides[1]
        )

    def _without_near_duplicates(self, train: list[Example]) -> list[Example]:
        """Training pictures less those that are near-duplicates of an evaluation picture, by the first trunk."""
        for near in self.recipe.data.exclude_near:
            path = self.recipe.resolve(near.manifest)
            found, complaints = manifest_examples(path, self.recipe)
            self.unusable += complaints
            others = [example for _, example in found if example.item.modality is Modality.IMAGE]
            self.towers.images(others)
            train, others = self.towers.usable(train), self.towers.usable(others)
            if not train or not others:
                raise RecipeError(f"{path}: no picture of it, or of the training rows, could be read")
            ours, theirs = (unit(self.towers.of_first_trunk(some)) for some in (train, others))
            closest = (ours @ theirs.T).max(axis=1)
            kept = [example for example, cosine in zip(train, closest, strict=True) if cosine < near.cosine]
            self.dropped[f"{path.parent.name}/{path.name} at {near.cosine:g}"] = len(train) - len(kept)
            train = kept
        return train


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


class _Built:
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
        if not recipe.text.live:
            head = self.heads["text"] = _head(recipe, recipe.text.head, data.towers.texts(training), where)
            return CachedSide(head, head.whitened(torch.from_numpy(data.towers.texts(data.texts)).to(where)))
        self.live_texts = towers = data.towers.open_text_towers()
        head = self.heads["text"] = _head(recipe, recipe.text.head, data.towers.texts(training), where)
        autocast = data.towers.autocast(bool(recipe.text.unlocked_layers))
        read = lambda rows: [data.texts[row] for row in rows]  # noqa: E731
        return LiveSide(towers, head, read, recipe.schedule.chunk, autocast=autocast)

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


def _write(recipe: Recipe, out: Path, built: _Built, report: TrainingReport, curve: list[Point]) -> None:
    """The encoder directory: weights of towers and heads, recipe, report, curve, and ``encoder.json`` last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        sha256 = _write_towers(recipe, out, built)
        extra = {"hubness": built.hubness} if built.hubness is not None else {}
        sha256[HEADS] = save_heads(out, {**built.heads, **extra})
        audio = built.towers.audio_spec if "audio" in built.heads else None
        config = EncoderConfig(
            name=recipe.name,
            dim=recipe.dim + (EXTRA if built.hubness is not None else 0),
            image=tuple(
                replace(spec, weights=path.name)
                for spec, path in zip(recipe.image.trunks, built.towers.files.trunks, strict=True)
            ),
            audio=audio,
            text=_text_specs(recipe, built),
            heads={name: head.spec for name, head in built.heads.items()},
            hubness=built.hubness.spec if built.hubness is not None else None,
            sha256=sha256,
        )
        target = out / "recipe.toml"
        if recipe.path.resolve() != target.resolve():
            shutil.copyfile(recipe.path, target)
        plot_curve(curve, out / "curve.png", recipe.name)
        (out / "run.json").write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
        (out / CONFIG).write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out}: can't be written ({error.strerror or error}); choose another --out") from error


def _text_specs(recipe: Recipe, built: _Built) -> tuple[Any, ...]:
    """Text towers as the directory's reader needs them: local sources absolute, adapters by file name."""
    specs = []
    for number, spec in enumerate(built.towers.text_specs):
        trained = built.towers.adapters[number] is not None or built.live_texts is not None
        source = Path(spec.source).expanduser()
        specs.append(
            replace(
                spec,
                source=str(source.resolve()) if source.exists() else spec.source,
                adapter=_adapter_name(number) if trained else "",
                lora=spec.lora if trained else None,
            )
        )
    return tuple(specs)


def _adapter_name(number: int) -> str:
    return f"text-{number}-adapter.safetensors"


def _write_towers(recipe: Recipe, out: Path, built: _Built) -> dict[str, str]:
    """Copy or save the towers' weights; digests by file name, and of the language models by source."""
    digests = _write_trunks(out, built)
    audio = built.towers.files.audio
    if "audio" in built.heads and audio is not None:
        digests[audio.name] = _copied(audio, out / audio.name)
    digests |= _write_texts(recipe, out, built)
    if not digests:
        raise ModelError(f"{out}: nothing to write")
    return digests


def _write_trunks(out: Path, built: _Built) -> dict[str, str]:
    from safetensors.torch import save_file

    digests: dict[str, str] = {}
    for number, path in enumerate(built.towers.files.trunks):
        target = out / path.name
        if built.live_images is None:
            digests[target.name] = _copied(path, target)
        else:
            trunk: Any = built.live_images.trunks[number]
            save_file({k: v.half().contiguous().cpu() for k, v in trunk.model.state_dict().items()}, target)
            digests[target.name] = sha256_of(target)
    return digests


def _write_texts(recipe: Recipe, out: Path, built: _Built) -> dict[str, str]:
    digests: dict[str, str] = {}
    for number, spec in enumerate(recipe.text.towers):
        digests[f"language model {spec.source}"] = model_digest(spec.source)
        target = out / _adapter_name(number)
        adapter = built.towers.adapters[number]
        if built.live_texts is not None:
            tower: Any = built.live_texts.towers[number]
            digests[target.name] = tower.save_adapter(target)
        elif adapter is not None:
            digests[target.name] = _copied(adapter, target)
        elif target.is_file():
            target.unlink()  # of an earlier recipe
    return digests


def _copied(source: Path, target: Path) -> str:
    """Copy a file, unless it is there already. Returns its sha256."""
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)
    return sha256_of(target)
