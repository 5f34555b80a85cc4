"""A training recipe: one TOML file that names data, towers, heads and the schedule.

Paths are relative to the recipe; ``{cache}`` stands for the user's cache folder. Every key is checked: an unknown one,
a wrong type or a value out of range is a :class:`RecipeError` that names the key and what is allowed.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexer.encoders.specs import TextSpec, TrunkSpec, WhisperSpec
from indexer.encoders.weights import cache_dir
from indexer.errors import RecipeError


@dataclass(frozen=True)
class HeadRecipe:
    """Sizes and regularisation of a projection head."""

    whitened: int = 512
    hidden: int = 1024
    dropout: float = 0.3
    shrinkage: float = 1.0
    """Of the whitening, in mean eigenvalues: 0 blows every component up to unit variance."""


@dataclass(frozen=True)
class NearDuplicates:
    """Training pictures at least this like a picture of ``manifest`` are dropped: cosine of the first trunk's rows."""

    manifest: str
    cosine: float = 0.90


@dataclass(frozen=True)
class DataRecipe:
    """Which rows train, which are held out, and what ties rows to one concept."""

    manifests: list[str]
    train_split: str = "train"
    heldout_split: str = "val"
    concept: str = "concept"
    """Key of the rows' metadata; rows of one concept stay on one side of the split."""
    exclude_near: list[NearDuplicates] = field(default_factory=list)


@dataclass(frozen=True)
class ImageRecipe:
    """Trunks (``weights`` are paths) and the head over them."""

    trunks: list[TrunkSpec]
    head: HeadRecipe = field(default_factory=HeadRecipe)


@dataclass(frozen=True)
class TextRecipe:
    """The language model and the head over it."""

    tower: TextSpec
    head: HeadRecipe = field(default_factory=HeadRecipe)


@dataclass(frozen=True)
class AudioRecipe:
    """The sound tower and the head over it; ``weight`` of its loss beside the pictures'."""

    tower: WhisperSpec
    head: HeadRecipe = field(default_factory=HeadRecipe)
    weight: float = 0.25


@dataclass(frozen=True)
class Schedule:
    """How the heads are trained: multi-positive InfoNCE both ways, AdamW, one-cycle."""

    steps: int = 500
    batch: int = 768
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    temperature: float = 0.07
    """At the start; it is learned."""
    first_caption: float = 0.5
    """Chance that a row's first caption is its text; else another of its captions."""
    evaluate_every: int = 25


@dataclass(frozen=True)
class Recipe:
    """The whole file."""

    name: str
    data: DataRecipe
    image: ImageRecipe
    text: TextRecipe
    audio: AudioRecipe | None = None
    dim: int = 384
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    path: Path = Path()

    def resolve(self, path: str) -> Path:
        """A path of the recipe as an absolute path."""
        expanded = Path(path.replace("{cache}", str(cache_dir()))).expanduser()
        return expanded if expanded.is_absolute() else (self.path.parent / expanded).resolve()


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises :class:`RecipeError`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe; data/recipes/starter.toml is one to copy") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: can't be read as TOML ({error})") from error
    recipe: Recipe = dataclasses.replace(_build(Recipe, document, str(path)), path=path.resolve())
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    ranges: list[tuple[str, float, float, float]] = [
        ("dim", recipe.dim, 8, 4096),
        ("schedule.steps", recipe.schedule.steps, 1, 1e7),
        ("schedule.batch", recipe.schedule.batch, 2, 1e6),
        ("schedule.learning_rate", recipe.schedule.learning_rate, 1e-8, 1.0),
        ("schedule.temperature", recipe.schedule.temperature, 1e-3, 1.0),
        ("schedule.first_caption", recipe.schedule.first_caption, 0.0, 1.0),
        ("schedule.evaluate_every", recipe.schedule.evaluate_every, 1, 1e7),
        ("image.head.dropout", recipe.image.head.dropout, 0.0, 0.95),
        ("image.head.shrinkage", recipe.image.head.shrinkage, 0.0, 1e6),
        ("text.head.shrinkage", recipe.text.head.shrinkage, 0.0, 1e6),
        ("text.head.dropout", recipe.text.head.dropout, 0.0, 0.95),
    ]
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise RecipeError(f"{path}: {name} is {value}; allowed are {low:g} to {high:g}")
    if not recipe.image.trunks:
        raise RecipeError(f"{path}: image.trunks is empty; name at least one trunk")
    if "{text}" not in recipe.text.tower.prompt:
        raise RecipeError(f"{path}: text.tower.prompt must hold {{text}}")


def _build(kind: Any, value: Any, where: str) -> Any:
    """A value of TOML as ``kind``: a dataclass from a table, a list item by item, or a plain value."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _build(next(part for part in typing.get_args(kind) if part is not type(None)), value, where)
    if origin is list:
        if not isinstance(value, list):
            raise RecipeError(f"{where}: must be a list")
        return [_build(typing.get_args(kind)[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise RecipeError(f"{where}: is {value!r}; allowed are {', '.join(map(repr, typing.get_args(kind)))}")
        return value
    if dataclasses.is_dataclass(kind):
        return _build_table(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecipeError(f"{where}: is {value!r}; must be {kind.__name__}")
    return value


def _build_table(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecipeError(f"{where}: must be a table")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "path"}
    for key in value:
        if key not in fields:
            raise RecipeError(f"{where}: unknown key {key}; allowed are {', '.join(fields)}")
    arguments = {key: _build(hints[key], item, f"{where}: {key}") for key, item in value.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f"{where}: lacks {', '.join(missing)}")
    return kind(**arguments)
