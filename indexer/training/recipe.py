"""A training recipe: one TOML file that names data, towers, heads and the schedule.

Paths are relative to the recipe; ``{cache}`` stands for the user's cache folder. Every key is checked: an unknown one,
a wrong type or a value out of range is a :class:`RecipeError` that names the key and what is allowed. Knows nothing of
the files and models that a recipe names; :mod:`indexer.training.loading` looks up the CLIP model of one.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from indexer.encoders.specs import ClapSpec, HubnessSpec, TextSpec, TrunkSpec, WhisperSpec
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import RecipeError
from indexer.files import one_line


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
    train_only: list[str] = field(default_factory=list)
    """Manifests of which only the training rows are taken, so that the held-out figures stay those of ``manifests``."""
    train_splits: list[str] = field(default_factory=lambda: ["train"])
    heldout_split: str = "val"
    concept: str = "concept"
    """Key of the rows' metadata; rows of one concept stay on one side of the split."""
    captions_each: int = 0
    """How many captions of a row are taken, the first ones (0: all)."""
    exclude_sources: list[str] = field(default_factory=list)
    """Sources (metadata ``source``) of which nothing is trained on or held out."""
    exclude_near: list[NearDuplicates] = field(default_factory=list)
    paraphrases: list[str] = field(default_factory=list)
    """``.jsonl`` files of lines ``{"text": "hammer", "also": ["a tool used to …", …]}``: other words for captions."""
    paraphrases_each: int = 0
    """How many of a line's texts are taken, the first ones (0: all)."""


@dataclass(frozen=True)
class Prototypes:
    """Rows of a classifier over one trunk's pooled features, trained as pictures of the classes that they stand for.

    ``trunk``: its place among the trunks, from 0. ``classifier``: safetensors with ``weight`` (classes, width).
    ``names``: ``.jsonl``, a line a class in order: captions, also, split, metadata, as in manifests.
    """

    trunk: int
    classifier: str
    names: str


@dataclass(frozen=True)
class ImageRecipe:
    """Trunks and the head over them; or ``model``, a whole CLIP model whose pictures' embeddings are the space.

    ``model`` is an ``openclip:`` spec as ``--model`` takes it; then nothing is trained here, and ``trunks`` gets its
    picture half when the recipe is loaded. A trunk's ``weights`` are a path, ``hub`` or ``hub:TAG``.
    ``unlocked_groups``: how many of each trunk's last groups of layers are trained (0: locked, as in LiT).
    ``trunk_dropout``: chance that a training row is read by some of the trunks only, the features of the others being
    set to their mean.
    """

    trunks: list[TrunkSpec] = field(default_factory=list)
    model: str = ""
    head: HeadRecipe = field(default_factory=HeadRecipe)
    unlocked_groups: int = 0
    trunk_dropout: float = 0.0
    prototypes: Prototypes | None = None


@dataclass(frozen=True)
class CaptionContrastive:
    """A stage before the alignment: texts that say the same are drawn together in the language model itself.

    Trained are the towers that have ``lora`` or ``unlocked_layers``; afterwards they are locked (LLM2CLIP's order).
    ``pairs`` are paraphrase files; the captions of the training rows are pairs too. ``teacher`` names a text tower
    (read by its mean) whose similarities are distilled with ``distill_weight``; ``lm_weight`` is that of the
    language-model loss on the same texts.
    """

    pairs: list[str] = field(default_factory=list)
    captions: float = 0.5
    """Share of a batch that is drawn from the rows' own captions and paraphrases."""
    steps: int = 300
    batch: int = 256
    chunk: int = 64
    """Texts that go through the model with gradients at once (GradCache)."""
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    temperature: float = 0.05
    dim: int = 256
    evaluate_every: int = 50
    teacher: str = ""
    distill_weight: float = 1.0
    distill_temperature: float = 0.05
    lm_weight: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class TextRecipe:
    """Language models side by side and the head over them.

    ``unlocked_layers``: how many last layers of each model are trained beside its LoRA. ``live``: train them (again)
    with the media too; otherwise they are locked then, and their features cached.
    """

    towers: list[TextSpec]
    head: HeadRecipe = field(default_factory=HeadRecipe)
    unlocked_layers: int = 0
    live: bool = False


@dataclass(frozen=True)
class AudioRecipe:
    """The sound tower and the head over it; ``weight`` of its loss beside the pictures'.

    ``directory`` names a CLAP model in transformers' layout instead of ``tower``. ``picture_weight``: of the loss that
    draws a sound and a picture of one concept together directly.
    """

    tower: WhisperSpec | ClapSpec | None = None
    directory: str = ""
    head: HeadRecipe = field(default_factory=HeadRecipe)
    weight: float = 0.25
    picture_weight: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How the heads, and what is unlocked in the towers, are trained: AdamW, one-cycle."""

    steps: int = 500
    batch: int = 768
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    loss: Literal["infonce", "sigmoid"] = "infonce"
    temperature: float = 0.07
    """At the start; it is learned."""
    first_caption: float = 0.5
    """Chance that a row's first caption is its text; else another of its captions."""
    paraphrase: float = 0.0
    """Chance that the text is a paraphrase of the first caption instead."""
    text_weight: float = 0.0
    """Of the same loss between a row's text and another text of the row: captions are drawn together directly too."""
    evaluate_every: int = 25
    chunk: int = 64
    """Rows that go through a live tower with gradients at once (GradCache)."""
    teacher: str = ""
    """A text tower whose similarities between the batch's texts are distilled."""
    distill_weight: float = 0.5
    distill_temperature: float = 0.05
    lm_weight: float = 0.0
    """Of the language-model loss on the batch's texts, where the text towers are live."""
    compile: bool = False
    """Compile live towers with ``torch.compile``: worth its minute or two on a GPU."""


@dataclass(frozen=True)
class Recipe:
    """The whole file."""

    name: str
    data: DataRecipe
    image: ImageRecipe
    text: TextRecipe
    audio: AudioRecipe | None = None
    caption_contrastive: CaptionContrastive | None = None
    dim: int = 0
    """0: 384, or the width of ``image.model``; of a loaded recipe it is the width."""
    seed: int = 0
    hubness: HubnessSpec | None = None
    schedule: Schedule = field(default_factory=Schedule)
    path: Path = Path()

    def resolve(self, path: str) -> Path:
        """A path of the recipe as an absolute path."""
        return resolve_path(self.path, path)


def resolve_path(recipe: Path, path: str) -> Path:
    """A path that a recipe's file names, as an absolute path: relative to it, ``{cache}`` the user's cache folder."""
    expanded = Path(path.replace("{cache}", str(cache_dir()))).expanduser()
    return expanded if expanded.is_absolute() else (recipe.parent / expanded).resolve()


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; nothing that it names is looked up. Raises :class:`RecipeError`."""
    built: Recipe = read_recipe_file(path, Recipe, example="data/recipes/starter.toml")
    dim = built.dim if built.dim or built.image.model else 384
    recipe = dataclasses.replace(built, path=path.resolve(), dim=dim)
    _check(recipe, path)
    return recipe


def read_recipe_file(path: Path, kind: Any, *, example: str) -> Any:
    """A TOML file as the dataclass ``kind``, its keys and types checked. Raises :class:`RecipeError`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe; {example} is one to copy") from error
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise RecipeError(f"{path}: can't be read as TOML ({one_line(error)})") from error
    return _build(kind, document, str(path))


def check_ranges(path: Path, ranges: Iterable[tuple[str, float, float, float]]) -> None:
    """(key, value, lowest, highest); raises :class:`RecipeError` for the first value out of its range."""
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise RecipeError(f"{path}: {name} is {one_line(value, 60)}; allowed are {low:g} to {high:g}")


def _check(recipe: Recipe, path: Path) -> None:
    schedule, stage = recipe.schedule, recipe.caption_contrastive
    ranges: list[tuple[str, float, float, float]] = [
        ("dim", recipe.dim or 8, 8, 4096),
        ("schedule.steps", schedule.steps, 1, 1e7),
        ("schedule.batch", schedule.batch, 2, 1e6),
        ("schedule.chunk", schedule.chunk, 1, 1e6),
        ("schedule.learning_rate", schedule.learning_rate, 1e-8, 1.0),
        ("schedule.temperature", schedule.temperature, 1e-3, 1.0),
        ("schedule.first_caption", schedule.first_caption, 0.0, 1.0),
        ("schedule.paraphrase", schedule.paraphrase, 0.0, 1.0),
        ("schedule.evaluate_every", schedule.evaluate_every, 1, 1e7),
        ("image.trunk_dropout", recipe.image.trunk_dropout, 0.0, 1.0),
        ("image.unlocked_groups", recipe.image.unlocked_groups, 0, 1e4),
        ("text.unlocked_layers", recipe.text.unlocked_layers, 0, 1e4),
    ]
    heads = [("image.head", recipe.image.head), ("text.head", recipe.text.head)]
    if recipe.audio is not None:
        heads.append(("audio.head", recipe.audio.head))
    for name, head in heads:
        ranges += [(f"{name}.dropout", head.dropout, 0.0, 0.95), (f"{name}.shrinkage", head.shrinkage, 0.0, 1e6)]
    if stage is not None:
        ranges += [
            ("caption_contrastive.steps", stage.steps, 1, 1e7),
            ("caption_contrastive.batch", stage.batch, 2, 1e6),
            ("caption_contrastive.chunk", stage.chunk, 1, 1e6),
            ("caption_contrastive.learning_rate", stage.learning_rate, 1e-8, 1.0),
            ("caption_contrastive.temperature", stage.temperature, 1e-3, 1.0),
            ("caption_contrastive.captions", stage.captions, 0.0, 1.0),
        ]
    if recipe.hubness is not None:
        ranges += [
            ("hubness.bank", recipe.hubness.bank, 1, 1e6),
            ("hubness.neighbours", recipe.hubness.neighbours, 1, recipe.hubness.bank),
            ("hubness.weight", recipe.hubness.weight, 1e-3, 2.0),
        ]
    check_ranges(path, ranges)
    if recipe.image.model:
        _check_clip(recipe, path)
    elif not recipe.image.trunks:
        raise RecipeError(f"{path}: image.trunks is empty; name at least one trunk, or a CLIP as image.model")
    if recipe.image.prototypes is not None and not 0 <= recipe.image.prototypes.trunk < len(recipe.image.trunks):
        raise RecipeError(
            f"{path}: image.prototypes: trunk is {recipe.image.prototypes.trunk}; there are "
            f"{len(recipe.image.trunks)}, numbered from 0"
        )
    if recipe.image.unlocked_groups and (recipe.image.prototypes or recipe.image.trunk_dropout):
        raise RecipeError(
            f"{path}: image.prototypes and image.trunk_dropout need locked trunks; set unlocked_groups to 0"
        )
    if not recipe.text.towers:
        raise RecipeError(f"{path}: text.towers is empty; name at least one language model")
    for tower in recipe.text.towers:
        if "{text}" not in tower.prompt:
            raise RecipeError(f"{path}: text.towers: prompt must hold {{text}}")
    trained = recipe.text.unlocked_layers or any(tower.lora for tower in recipe.text.towers)
    if (stage is not None or recipe.text.live) and not trained:
        raise RecipeError(
            f"{path}: no text tower has anything to train; give one lora, set text.unlocked_layers, "
            f"or leave caption_contrastive and text.live out"
        )
    if recipe.audio is not None and bool(recipe.audio.tower) == bool(recipe.audio.directory):
        raise RecipeError(f"{path}: audio needs a tower or a directory, one of the two")


def _check_clip(recipe: Recipe, path: Path) -> None:
    """Whether everything else leaves the rows of ``image.model`` as they are."""
    image, plain = recipe.image, ImageRecipe(model=recipe.image.model)
    if not image.model.startswith("openclip:"):
        raise RecipeError(
            f"{path}: image.model is {image.model!r}; allowed are openclip:ARCH/TAG, openclip:ARCH@PATH, openclip:DIR "
            f"and openclip:hf-hub:NAME"
        )
    for f in dataclasses.fields(ImageRecipe):
        if getattr(image, f.name) != getattr(plain, f.name):
            raise RecipeError(
                f"{path}: image.{f.name} has no place beside image.model, whose pictures' embeddings stay as they are; "
                f"leave one of the two out"
            )
    if recipe.hubness is not None:
        raise RecipeError(
            f"{path}: hubness would change the embeddings of image.model, which stay as they are; leave it out"
        )


def _build(kind: Any, value: Any, where: str) -> Any:
    """A value of TOML as ``kind``: a dataclass from a table, a list item by item, or a plain value."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        return _build(parts[0] if len(parts) == 1 else _by_kind(parts, value, where), value, where)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise RecipeError(f"{where}: must be a list")
        items = [_build(typing.get_args(kind)[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
        return items if origin is list else tuple(items)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise RecipeError(f"{where}: is {value!r}; allowed are {', '.join(map(repr, typing.get_args(kind)))}")
        return value
    if dataclasses.is_dataclass(kind):
        return _build_table(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise RecipeError(f"{where}: is {one_line(value, 60)}, too large a number") from error
    if origin is dict:
        kind = dict
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecipeError(f"{where}: is {value!r}; must be {kind.__name__}")
    return value


def _by_kind(parts: list[Any], value: Any, where: str) -> Any:
    """Of several dataclasses the one whose ``kind`` the table names (the first, where it names none)."""
    asked = value.get("kind") if isinstance(value, dict) else None
    kinds = {typing.get_args(typing.get_type_hints(part)["kind"])[0]: part for part in parts}
    if asked is not None and asked not in kinds:
        raise RecipeError(f"{where}: kind is {asked!r}; allowed are {', '.join(map(repr, kinds))}")
    return kinds[asked] if asked is not None else parts[0]


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
