"""The towers that a recipe names, and their features over the cache: each tower runs once on what is missing.

A locked tower is loaded only if something is missing. Knows nothing of losses or of splits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from indexer.encoders.clap.tower import ClapTower, clap_from_directory
from indexer.encoders.devices import choose_dtype
from indexer.encoders.openclip.visual import visual_weights
from indexer.encoders.specs import AudioSpec, ClapSpec, ClipSpec, GateSpec, TextSpec, TrunkSpec
from indexer.encoders.text_gate import TextGate, joined_features
from indexer.encoders.towers.audio import AudioTower, open_audio_tower
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.load import language_model_directory, load_weights, model_digest
from indexer.encoders.towers.text import TextTower, TextTowers
from indexer.encoders.towers.trunk_weights import load_trunk_weights
from indexer.encoders.weights.base_weights import cache_dir, sha256_of
from indexer.errors import RecipeError
from indexer.limits import MediaLimits, limits_for
from indexer.media.decode import open_sound, read_picture
from indexer.progress import Progress
from indexer.training.clip_space import clip_source
from indexer.training.data.features import FeatureCache, fill
from indexer.training.data.rows import Example
from indexer.training.language_gate import fit_language
from indexer.training.recipe import Prototypes, Recipe

_NOTHING = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Files:
    """Weights of the locked towers as files: what a finished encoder's directory gets a copy of."""

    trunks: list[Path]
    audio: Path | None


class RecipeTowers:
    """The towers of a recipe: features of pictures, sounds and texts, from the cache or by running them.

    ``complaints``: a line for each thing that could not be read. ``adapters`` are safetensors of what a stage trained
    in each text tower (None: nothing).
    """

    def __init__(self, recipe: Recipe, device: torch.device, on_progress: Progress) -> None:
        self.recipe = recipe
        self.device = device
        self.dtype = choose_dtype(device)
        self.on_progress = on_progress
        self.complaints: list[str] = []
        self.text_specs: list[TextSpec] = list(recipe.text.towers)
        self.adapters: list[Path | None] = [None] * len(self.text_specs)
        self._images: list[FeatureCache] = []
        self._audio: FeatureCache | None = None
        self._texts: dict[str, FeatureCache] = {}
        self.gate: TextGate | None = None
        self._audio_part: tuple[AudioSpec, Path] | None = None
        self._trunk_files = [self._trunk_file(spec) for spec in recipe.image.trunks]

    @property
    def files(self) -> Files:
        """The locked towers' weights."""
        return Files(self._trunk_files, self._audio_file()[1] if self.recipe.audio else None)

    @property
    def audio_spec(self) -> AudioSpec:
        """The sound tower's spec; its ``weights`` is a file name."""
        spec, path = self._audio_file()
        return replace(spec, weights=path.name)

    def open_image_tower(self) -> ImageTower:
        """All trunks side by side with their weights, on the device, in float32: to be trained."""
        tower = ImageTower(self.recipe.image.trunks)
        for trunk, path in zip(tower.trunks, self._trunk_files, strict=True):
            _load(trunk.model, load_weights(path, {}), path)  # type: ignore[arg-type]
        return tower.to(self.device)

    def open_text_tower(self, number: int) -> TextTower:
        """One language model with what is to be trained in it unlocked, on the device.

        A base that only gets adapters stays in the device's number format; unlocked layers are float32. Adapters that a
        stage trained are trained further.
        """
        spec, adapter = self.text_specs[number], self.adapters[number]
        layers = self.recipe.text.unlocked_layers
        tower = TextTower(spec, language_model_directory(spec.source))
        tower = tower.to(self.device, torch.float32 if layers else self.dtype)
        tower.unlock(spec.lora, layers)
        if adapter is not None:
            tower.load_adapter(adapter, merge=False)
        return tower

    def open_text_towers(self) -> TextTowers:
        """All language models side by side, unlocked."""
        return TextTowers([self.open_text_tower(number) for number in range(len(self.text_specs))])

    def open_teacher(self, source: str) -> TextTower:
        """A text tower to learn from, read by the mean of its tokens."""
        spec = TextSpec(source, readout="mean")
        return TextTower(spec, language_model_directory(source)).to(self.device, self.dtype)

    def autocast(self, float32: bool) -> torch.dtype | None:
        """What a live tower multiplies in: the device's number format, where the tower itself is float32."""
        return self.dtype if float32 and self.dtype is not torch.float32 else None

    def images(self, examples: Sequence[Example]) -> None:
        """Make sure that every readable picture has its row of every trunk."""
        limits = MediaLimits()
        wanted = {example.key: example.item.path for example in examples}
        for number, (spec, path) in enumerate(zip(self.recipe.image.trunks, self._trunk_files, strict=True)):
            if len(self._images) == number:
                width = ImageTower([spec]).width
                self._images.append(self._cache("image", {**asdict(spec), "weights": sha256_of(path)}, width))
            if not self._images[number].missing(list(wanted)):
                continue
            tower = ImageTower([spec])
            _load(tower.trunks[0].model, load_weights(path, {}), path)  # type: ignore[arg-type]
            tower = tower.to(self.device, self.dtype)
            lines = fill(
                self._images[number],
                wanted,
                _picture_reader(tower, limits),
                tower.features,
                stage=f"pictures by {spec.arch}",
                on_progress=self.on_progress,
            )
            self.complaints += [line for line in lines if line not in self.complaints]

    def grids(self, number: int, examples: Sequence[Example]) -> NDArray[np.float16]:
        """Patches' features of readable pictures by one trunk, float16 ``(n, patches, width)``; made where lacking.

        Pictures without a row of :meth:`images` must have been left out.
        """
        spec, path = self.recipe.image.trunks[number], self._trunk_files[number]
        tower = ImageTower([spec])
        _load(tower.trunks[0].model, load_weights(path, {}), path)  # type: ignore[arg-type]
        tower = tower.to(self.device, self.dtype)
        blank = tower.prepare(Image.new("RGB", (tower.size_px, tower.size_px), "white"))
        found = self._grids(
            examples,
            {**asdict(spec), "weights": sha256_of(path)},
            blank,
            _picture_reader(tower, MediaLimits()),
            lambda prepared: tower.with_grids(prepared, [0])[1],
            f"patches by {spec.arch}",
        )
        return found[0]

    def sound_grids(self, examples: Sequence[Example]) -> list[NDArray[np.float16]]:
        """Frames' features of readable sounds' first windows, float16 ``(n, frames, width)``; none of a CLAP.

        Sounds without a row of :meth:`sounds` must have been left out.
        """
        spec, path = self._audio_file()
        tower = open_audio_tower(spec)
        tower.load(load_weights(path, {}))
        running: AudioTower | ClapTower = tower.to(self.device, self.dtype)
        return self._grids(
            examples,
            {**asdict(spec), "weights": sha256_of(path)},
            running.prepare(np.zeros(1600, dtype=np.float32)),
            self._sound_reader(running),
            lambda prepared: running.with_grids(prepared)[1],
            "frames of sounds",
        )

    def _grids(
        self,
        examples: Sequence[Example],
        identity: dict[str, Any],
        blank: NDArray[Any],
        read: Callable[[Path], Any],
        grids_of: Callable[[list[Any]], list[torch.Tensor]],
        stage: str,
    ) -> list[NDArray[np.float16]]:
        """The one grid that ``grids_of`` gives of each, or none; kept in the cache. ``blank`` gives its shape."""
        shapes = [grid.shape[1:] for grid in grids_of([blank])]
        if not shapes:
            return []
        ((count, width),) = shapes
        content = json.dumps({**identity, "dtype": str(self.dtype)}, sort_keys=True)
        name = f"grid-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        cache = FeatureCache(cache_dir() / "features" / name, count * width, half=True)
        self.complaints += fill(
            cache,
            {example.key: example.item.path for example in examples},
            read,
            lambda prepared: np.asarray(grids_of(prepared)[0].flatten(1).cpu().numpy(), dtype=np.float32),
            stage=stage,
            on_progress=self.on_progress,
        )
        return [cache.raw([example.key for example in examples]).reshape(len(examples), count, width)]

    def sounds(self, examples: Sequence[Example]) -> None:
        """Make sure that every readable sound has the row of its first window."""
        spec, path = self._audio_file()
        tower = open_audio_tower(spec)
        self._audio = self._cache("audio", {**asdict(spec), "weights": sha256_of(path)}, tower.width)
        wanted = {example.key: example.item.path for example in examples}
        if not self._audio.missing(list(wanted)):
            return
        tower.load(load_weights(path, {}))
        running: AudioTower | ClapTower = tower.to(self.device, self.dtype)
        self.complaints += fill(
            self._audio,
            wanted,
            self._sound_reader(running),
            running.features,
            stage="sounds",
            on_progress=self.on_progress,
            batch_size=16,
        )

    def fit_gate(self, spec: GateSpec, own: Sequence[str], foreign: Sequence[str]) -> None:
        """Fit the gate of the text towers on captions in the gated tower's language and in others."""
        rows = self.of_text_tower(spec.judge, [*own, *foreign])
        weight, bias = fit_language(rows, np.arange(len(rows)) < len(own))
        # in the number format that a model is written in, so that a text is judged now as it will be
        rounded = TextGate(spec, weight.astype(np.float16).astype(np.float32), float(np.float16(bias)), _NOTHING)
        readable = [text for text, reads in zip(own, rounded.reads(rows), strict=False) if reads]
        if not readable:
            raise RecipeError(f"{self.recipe.path}: text.gate: no caption differs from its translations")
        mean = self.of_text_tower(spec.gated, readable).mean(axis=0)
        self.gate = replace(rounded, fill=mean.astype(np.float16).astype(np.float32))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of texts, all towers joined, ``(n, width)``; a gated tower reads only what it can."""
        towers = [_TextRows(partial(self.of_text_tower, number)) for number in range(len(self.text_specs))]
        return joined_features(towers, texts, self.gate)

    def of_text_tower(self, number: int, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of texts by one tower, ``(n, width)``."""
        spec, adapter = self.text_specs[number], self.adapters[number]
        plain = asdict(replace(spec, adapter=sha256_of(adapter) if adapter else ""))
        identity = {**plain, "weights": model_digest(spec.source)}
        return self._text_rows(identity, partial(self._open_text, number), texts)

    def teacher_rows(self, source: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of texts by a teacher, ``(n, width)``."""
        plain = {**asdict(TextSpec(source, readout="mean")), "weights": model_digest(source)}
        return self._text_rows(plain, lambda: self.open_teacher(source), texts)

    def usable(self, examples: Sequence[Example]) -> list[Example]:
        """Those whose file could be read."""
        caches = self._media(examples)
        keys = [example.key for example in examples]
        missing = {key for cache in caches for key in cache.missing(keys)}
        return [example for example in examples if example.key not in missing]

    def of_media(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Rows of examples of one modality, all trunks joined, ``(n, width)``."""
        keys = [example.key for example in examples]
        return np.concatenate([cache.get(keys) for cache in self._media(examples)], axis=1)

    def of_trunk(self, number: int, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Rows of examples of pictures by one trunk, ``(n, width)``."""
        return self._images[number].get([example.key for example in examples])

    def classifier(self, prototypes: Prototypes, width: int) -> NDArray[np.float32]:
        """A classifier's weights ``(classes, width)``. Raises :class:`RecipeError` where they are not of that width."""
        path = self.recipe.resolve(prototypes.classifier)
        weights = load_weights(path, {}).get("weight")
        if weights is None or weights.ndim != 2 or weights.shape[1] != width:
            shape = None if weights is None else tuple(weights.shape)
            raise RecipeError(f"{path}: weight is {shape}, not (classes, {width}) as trunk {prototypes.trunk} reads")
        return weights.numpy()

    def of_first_trunk(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """What pictures are compared by: the first trunk's class tokens, or its pooled rows; ``(n, width)``."""
        rows = self._images[0].get([example.key for example in examples])
        return rows[:, : rows.shape[1] // 2] if self.recipe.image.trunks[0].readout == "cls+mean" else rows

    def picture_reader(self, tower: ImageTower, examples: Sequence[Example]) -> Callable[[Sequence[int]], Any]:
        """Row numbers of ``examples`` -> their prepared pictures; read in threads, for a live picture tower."""
        read = _picture_reader(tower, MediaLimits())
        paths = [example.item.path for example in examples]
        pool = ThreadPoolExecutor(2)
        return lambda rows: list(pool.map(lambda row: read(paths[row]), rows))

    def _media(self, examples: Sequence[Example]) -> list[FeatureCache]:
        if not examples or examples[0].item.modality.value == "image":
            return self._images
        assert self._audio is not None
        return [self._audio]

    def _sound_reader(self, tower: AudioTower | ClapTower) -> Callable[[Path], NDArray[np.float32]]:
        """A sound's first window, prepared."""
        limits = limits_for(self._audio_file()[0].window_s)
        return lambda file: tower.prepare(next(open_sound(file, limits).windows)[2])

    def _open_text(self, number: int) -> TextTower:
        spec, adapter = self.text_specs[number], self.adapters[number]
        tower = TextTower(replace(spec, lora=None) if adapter is None else spec, language_model_directory(spec.source))
        if adapter is not None:
            tower.load_adapter(adapter)
        return tower.to(self.device, self.dtype)

    def _text_rows(
        self, identity: dict[str, Any], open_tower: Callable[[], TextTower], texts: Sequence[str]
    ) -> NDArray[np.float32]:
        name = json.dumps(identity, sort_keys=True)
        keys = {text: _text_key(text) for text in texts}
        if name not in self._texts:
            self._texts[name] = self._cache("text", identity, None, open_tower)
        cache = self._texts[name]
        if cache.missing(list(keys.values())):
            tower = open_tower()
            self.complaints += fill(
                cache,
                {keys[text]: text for text in sorted(keys, key=len)},  # near lengths share a batch
                lambda text: text,
                tower.features,
                stage=f"texts by {identity['source']}",
                on_progress=self.on_progress,
                batch_size=64,
            )
        return cache.get([keys[text] for text in texts])

    def _cache(
        self, kind: str, identity: Any, width: int | None, open_tower: Callable[[], TextTower] | None = None
    ) -> FeatureCache:
        content = json.dumps({"spec": identity, "dtype": str(self.dtype)}, sort_keys=True)
        directory = cache_dir() / "features" / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        remembered = directory / "width.txt"
        if width is None:
            assert open_tower is not None
            width = int(remembered.read_text()) if remembered.is_file() else open_tower().width
        cache = FeatureCache(directory, width)
        remembered.write_text(str(width))
        return cache

    def _audio_file(self) -> tuple[AudioSpec, Path]:
        """The sound tower's spec and weights; a CLAP directory's are written to the cache once."""
        if self._audio_part is None:
            assert self.recipe.audio is not None
            if self.recipe.audio.tower is not None:
                spec: AudioSpec = self.recipe.audio.tower
                self._audio_part = spec, self.recipe.resolve(spec.weights)
            else:
                directory = self.recipe.resolve(self.recipe.audio.directory)
                clap, weights = clap_from_directory(directory)
                self._audio_part = clap, _kept(f"clap-{directory.name}", weights)
        spec, path = self._audio_part
        assert not isinstance(spec, ClapSpec) or path.is_file()
        return spec, path

    def _trunk_file(self, spec: TrunkSpec) -> Path:
        """The trunk's weights as a safetensors file; those of a checkpoint or the hub are written to the cache."""
        if isinstance(spec, ClipSpec):
            return _kept(f"clip-{spec.arch}", visual_weights(clip_source(self.recipe)))
        path = self.recipe.resolve(spec.weights)
        if path.suffix == ".safetensors" and path.is_file() and spec.library == "timm":
            return path
        return _kept(f"trunk-{spec.arch}", load_trunk_weights(spec.weights, spec, self.recipe.resolve))


@dataclass(frozen=True)
class _TextRows:
    """A text tower behind the cache."""

    features: Callable[[Sequence[str]], NDArray[np.float32]]


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit L2 length."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _kept(name: str, weights: dict[str, torch.Tensor]) -> Path:
    """Weights as a file of the cache, named by their content."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode() + weights[key].contiguous().float().numpy().tobytes())
    safe = "".join(letter if letter.isalnum() else "-" for letter in name).lower()
    path = cache_dir() / "towers" / f"{safe}-{digest.hexdigest()[:12]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in weights.items()}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    return path


def _load(model: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RecipeError(f"{path}: does not fit the trunk that the recipe names; correct arch or weights") from error


def _picture_reader(tower: ImageTower, limits: MediaLimits) -> Callable[[Path], NDArray[np.uint8]]:
    return lambda path: tower.prepare(read_picture(path, limits))


def _text_key(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
