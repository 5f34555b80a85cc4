"""Train a dual encoder from a recipe: read rows, run the locked towers once, train the heads, write a directory.

The towers stay as they are (as in LiT); what is trained are the projection heads over them. Features are cached by
content, so a second run takes as long as the heads do.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indexer.encoders.audio import AudioTower
from indexer.encoders.devices import choose_device, choose_dtype
from indexer.encoders.heads import ProjectionHead, whitening
from indexer.encoders.image import ImageTower
from indexer.encoders.specs import CONFIG, EncoderConfig, HeadSpec
from indexer.encoders.text import TextTower
from indexer.encoders.towers import language_model_directory, load_weights, save_heads
from indexer.encoders.weights import BASE_WEIGHTS, cache_dir, sha256_of
from indexer.errors import RecipeError, StorageError
from indexer.items import Modality
from indexer.limits import MediaLimits, limits_for
from indexer.media import read_picture, read_sound, sound_windows
from indexer.training.contrastive import Pairs, Point, Task, train_heads
from indexer.training.data import Example, by_source, manifest_examples, read_examples
from indexer.training.features import FeatureCache, OnProgress, fill
from indexer.training.recipe import HeadRecipe, Recipe


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
    on_progress: OnProgress = lambda stage, done, total: None,
    on_point: Callable[[Point], None] = lambda point: None,
) -> TrainingReport:
    """Train what ``recipe`` says and write an encoder directory to ``out``, which may exist (it is overwritten)."""
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    where = choose_device(device)
    seconds: dict[str, float] = {}
    examples, unusable = read_examples(recipe)
    seconds["read manifests"] = time.monotonic() - started

    features = _Features(recipe, where, on_progress)
    mark = time.monotonic()
    image = examples[Modality.IMAGE]
    features.images([*image.train, *image.heldout])
    kept, dropped = _without_near_duplicates(recipe, image.train, features)
    image = replace(image, train=kept)
    used = {Modality.IMAGE: image}
    if recipe.audio is not None and Modality.AUDIO in examples:
        used[Modality.AUDIO] = examples[Modality.AUDIO]
        features.sounds([*used[Modality.AUDIO].train, *used[Modality.AUDIO].heldout])
    unusable += features.complaints
    used = {
        modality: replace(side, train=features.usable(side.train), heldout=features.usable(side.heldout))
        for modality, side in used.items()
    }
    every = [example for side in used.values() for example in (*side.train, *side.heldout)]
    texts = sorted({caption for example in every for caption in example.captions})
    features.texts(texts)
    seconds["features"] = time.monotonic() - mark

    mark = time.monotonic()
    training_texts = sorted({c for side in used.values() for example in side.train for c in example.captions})
    heads = {"text": _head(recipe, recipe.text.head, features.of_texts(training_texts), where)}
    text_number = {text: number for number, text in enumerate(texts)}
    # One emoji in five styles is one label; two kinds of hammer are one concept for the split, and two labels here.
    labels = {text: n for n, text in enumerate(sorted({example.captions[0] for example in every}))}
    tasks = []
    for modality, side in used.items():
        part = recipe.image.head if modality is Modality.IMAGE else recipe.audio.head  # type: ignore[union-attr]
        head = _head(recipe, part, features.of_media(side.train), where)
        heads[str(modality)] = head
        weight = 1.0 if modality is Modality.IMAGE else recipe.audio.weight  # type: ignore[union-attr]
        train, heldout = (
            Pairs(
                media=head.whitened(torch.from_numpy(features.of_media(some)).to(where)),
                texts=[[text_number[caption] for caption in example.captions] for example in some],
                labels=torch.tensor([labels[example.captions[0]] for example in some]),
            )
            for some in (side.train, side.heldout)
        )
        tasks.append(Task(str(modality), train, heldout, weight))
    whitened_texts = heads["text"].whitened(torch.from_numpy(features.of_texts(texts)).to(where))
    heads, curve = train_heads(heads, whitened_texts, tasks, recipe.schedule, recipe.seed, on_point)
    seconds["heads"] = time.monotonic() - mark
    best = max(curve, key=lambda point: point.score)

    config = _write(recipe, out, heads)
    seconds["all"] = time.monotonic() - started
    report = TrainingReport(
        name=config.name,
        directory=out.name,
        examples={str(m): {"train": len(s.train), "heldout": len(s.heldout)} for m, s in used.items()},
        sources={str(m): by_source([*s.train, *s.heldout]) for m, s in used.items()},
        dropped_near_duplicates=dropped,
        unusable=unusable,
        texts=len(texts),
        best_step=best.step,
        heldout={key: round(value, 4) for key, value in best.heldout.items()},
        curve=[asdict(point) for point in curve],
        seconds={key: round(value, 1) for key, value in seconds.items()},
        versions={"torch": torch.__version__, "python": platform.python_version(), "device": str(where)},
        recipe=recipe.path.name,
    )
    (out / "run.json").write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return report


class _Features:
    """The towers of a recipe over the feature caches; each tower is loaded only if something is missing."""

    def __init__(self, recipe: Recipe, device: torch.device, on_progress: OnProgress) -> None:
        self.recipe = recipe
        self.device = device
        self.dtype = choose_dtype(device)
        self.on_progress = on_progress
        self.complaints: list[str] = []
        self._image: FeatureCache | None = None
        self._audio: FeatureCache | None = None
        self._text: FeatureCache | None = None

    def images(self, examples: list[Example]) -> None:
        """Make sure that every readable picture has its row."""
        specs = self.recipe.image.trunks
        shas = [sha256_of(self.recipe.resolve(spec.weights)) for spec in specs]
        tower = ImageTower(specs)
        for trunk, spec in zip(tower.trunks, specs, strict=True):
            trunk.model.load_state_dict(load_weights(self.recipe.resolve(spec.weights), {}))  # type: ignore[union-attr]
        tower = tower.to(self.device, self.dtype)
        plain = [{**asdict(spec), "weights": sha} for spec, sha in zip(specs, shas, strict=True)]
        self._image = self._image or self._cache("image", plain, tower.width)
        limits = MediaLimits()
        self.complaints += fill(
            self._image,
            {example.key: example.item.path for example in examples},
            lambda path: tower.prepare(read_picture(path, limits)),
            tower.features,
            stage="picture features",
            on_progress=self.on_progress,
        )

    def sounds(self, examples: list[Example]) -> None:
        """Make sure that every readable sound has the row of its first window."""
        assert self.recipe.audio is not None
        spec = self.recipe.audio.tower
        weights = self.recipe.resolve(spec.weights)
        tower = AudioTower(spec)
        tower.load(load_weights(weights, {}))
        tower = tower.to(self.device, self.dtype)
        self._audio = self._cache("audio", {**asdict(spec), "weights": sha256_of(weights)}, tower.width)
        limits = limits_for(spec.window_s)
        self.complaints += fill(
            self._audio,
            {example.key: example.item.path for example in examples},
            lambda path: tower.prepare(sound_windows(read_sound(path, limits)[0], limits)[0][2]),
            tower.features,
            stage="sound features",
            on_progress=self.on_progress,
            batch_size=16,
        )

    def texts(self, texts: list[str]) -> None:
        """Make sure that every text has its row."""
        spec = self.recipe.text.tower
        directory = language_model_directory(spec.source)
        tower = TextTower(spec, directory).to(self.device, self.dtype)
        self._text = self._cache("text", {**asdict(spec), "weights": _model_digest(spec.source)}, tower.width)
        self.complaints += fill(
            self._text,
            {_text_key(text): text for text in sorted(texts, key=len)},  # near lengths share a batch
            lambda text: text,
            tower.features,
            stage="text features",
            on_progress=self.on_progress,
            batch_size=64,
        )

    def usable(self, examples: list[Example]) -> list[Example]:
        """Those whose file could be read."""
        return [example for example in examples if not self._media(example).missing([example.key])]

    def of_media(self, examples: list[Example]) -> NDArray[np.float32]:
        """Rows of examples of one modality, ``(n, width)``."""
        return self._media(examples[0]).get([example.key for example in examples])

    def of_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Rows of texts, ``(n, width)``."""
        assert self._text is not None
        return self._text.get([_text_key(text) for text in texts])

    def _media(self, example: Example) -> FeatureCache:
        cache = self._image if example.item.modality is Modality.IMAGE else self._audio
        assert cache is not None
        return cache

    def _cache(self, kind: str, spec: Any, width: int) -> FeatureCache:
        content = json.dumps({"spec": spec, "dtype": str(self.dtype)}, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return FeatureCache(cache_dir() / "features" / f"{kind}-{digest}", width)


def _without_near_duplicates(
    recipe: Recipe, train: list[Example], features: _Features
) -> tuple[list[Example], dict[str, int]]:
    """Training pictures less those that are near-duplicates of an evaluation picture; how many went, by manifest.

    Likeness is the cosine of the first trunk's class tokens (its pooled row, where it has none).
    """
    spec = recipe.image.trunks[0]
    dropped: dict[str, int] = {}
    for near in recipe.data.exclude_near:
        path = recipe.resolve(near.manifest)
        found, complaints = manifest_examples(path, recipe)
        features.complaints += complaints
        others = [example for _, example in found if example.item.modality is Modality.IMAGE]
        features.images(others)
        train, others = features.usable(train), features.usable(others)
        if not train or not others:
            raise RecipeError(f"{path}: no picture of it, or of the training rows, could be read")
        width = ImageTower([spec]).width // (2 if spec.readout == "cls+mean" else 1)
        ours, theirs = (_unit(features.of_media(some)[:, :width]) for some in (train, others))
        closest = (ours @ theirs.T).max(axis=1)
        kept = [example for example, cosine in zip(train, closest, strict=True) if cosine < near.cosine]
        dropped[f"{path.parent.name}/{path.name} at {near.cosine:g}"] = len(train) - len(kept)
        train = kept
    return train, dropped


def _head(recipe: Recipe, part: HeadRecipe, rows: NDArray[np.float32], device: torch.device) -> ProjectionHead:
    """A fresh head whose whitening is measured on training rows ``(n, width)``."""
    whitened = min(part.whitened, rows.shape[1], len(rows))
    head = ProjectionHead(HeadSpec(rows.shape[1], whitened, part.hidden, recipe.dim), part.dropout)
    head.set_whitening(*whitening(torch.from_numpy(rows), whitened, part.shrinkage))
    return head.to(device)


def _write(recipe: Recipe, out: Path, heads: dict[str, ProjectionHead]) -> EncoderConfig:
    """The encoder directory: heads, the towers' files (copied if they are elsewhere), ``encoder.json`` last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        files: dict[str, str] = {}
        sources = [trunk.weights for trunk in recipe.image.trunks]
        if recipe.audio is not None and "audio" in heads:
            sources.append(recipe.audio.tower.weights)
        for name in sources:
            source, target = recipe.resolve(name), out / Path(name).name
            if source != target.resolve():
                shutil.copyfile(source, target)
            files[target.name] = sha256_of(target)
        files["heads.safetensors"] = save_heads(out, heads)
        files["language model"] = _model_digest(recipe.text.tower.source)
        config = EncoderConfig(
            name=recipe.name,
            dim=recipe.dim,
            image=tuple(replace(trunk, weights=Path(trunk.weights).name) for trunk in recipe.image.trunks),
            audio=_local(recipe) if "audio" in heads else None,
            text=recipe.text.tower,
            heads={name: head.spec for name, head in heads.items()},
            sha256=files,
        )
        (out / CONFIG).write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out}: can't be written ({error.strerror or error}); choose another --out") from error
    return config


def _local(recipe: Recipe) -> Any:
    assert recipe.audio is not None
    return replace(recipe.audio.tower, weights=Path(recipe.audio.tower.weights).name)


def _model_digest(source: str) -> str:
    """What tells one language model from another: sha256 of the GGUF it was converted from, or of its files."""
    if source in BASE_WEIGHTS:
        return BASE_WEIGHTS[source].sha256
    files = sorted(language_model_directory(source).glob("*.safetensors"))
    return hashlib.sha256("".join(sha256_of(path) for path in files).encode()).hexdigest()


def _text_key(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
