"""A training recipe: one TOML file that names data, towers, heads and the schedule.

Paths are relative to the recipe; ``{cache}`` stands for the user's cache folder. Every key is checked: an unknown one,
a wrong type or a value out of range is a :class:`RecipeError` that names the key and what is allowed. Knows nothing of
the files and models that a recipe names; :mod:`indexer.training.loading` looks up the CLIP model of one.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from indexer.encoders.specs import AudioSpec, GateSpec, HubnessSpec, TextSpec, TrunkSpec
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import RecipeError
from indexer.files import one_line
from indexer.validation import Mistake, NoKey, Within, validated


@dataclass(frozen=True)
class HeadRecipe:
    """Sizes and regularisation of a projection head."""

    whitened: int = 512
    hidden: int = 1024
    dropout: Annotated[float, Within(0, 0.95)] = 0.3
    shrinkage: Annotated[float, Within(0, 1e6)] = 1.0
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
    translations: list[str] = field(default_factory=list)
    """``.jsonl`` files of lines ``{"id": row, "translations": {"de": ["Hammer", …], …}}``: a row's other languages.

    With ``"text"`` in place of ``"id"`` they are those of every row, or class of a classifier, with that first caption.
    """


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
    unlocked_groups: Annotated[int, Within(0, 1e4)] = 0
    trunk_dropout: Annotated[float, Within(0, 1)] = 0.0
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
    captions: Annotated[float, Within(0, 1)] = 0.5
    """Share of a batch that is drawn from the rows' own captions and paraphrases."""
    steps: Annotated[int, Within(1, 1e7)] = 300
    batch: Annotated[int, Within(2, 1e6)] = 256
    chunk: Annotated[int, Within(1, 1e6)] = 64
    """Texts that go through the model with gradients at once (GradCache)."""
    learning_rate: Annotated[float, Within(1e-8, 1)] = 2e-4
    weight_decay: float = 0.01
    temperature: Annotated[float, Within(1e-3, 1)] = 0.05
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
    with the media too; otherwise they are locked then, and their features cached. ``gate``: one tower reads only the
    texts that another one judges to be in its language; what it learns from are the captions and their translations.
    ``tower_dropout``: as ``image.trunk_dropout``.
    """

    towers: list[TextSpec]
    head: HeadRecipe = field(default_factory=HeadRecipe)
    unlocked_layers: Annotated[int, Within(0, 1e4)] = 0
    live: bool = False
    gate: GateSpec | None = None
    tower_dropout: Annotated[float, Within(0, 1)] = 0.0


@dataclass(frozen=True)
class AudioRecipe:
    """The sound tower and the head over it; ``weight`` of its loss beside the pictures'.

    ``directory`` names a CLAP model in transformers' layout instead of ``tower``. ``picture_weight``: of the loss that
    draws a sound and a picture of one concept together directly.
    """

    tower: AudioSpec | None = None
    directory: str = ""
    head: HeadRecipe = field(default_factory=HeadRecipe)
    weight: float = 0.25
    picture_weight: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How the heads, and what is unlocked in the towers, are trained: AdamW, one-cycle."""

    steps: Annotated[int, Within(1, 1e7)] = 500
    batch: Annotated[int, Within(2, 1e6)] = 768
    learning_rate: Annotated[float, Within(1e-8, 1)] = 3e-3
    weight_decay: float = 0.05
    loss: Literal["infonce", "sigmoid"] = "infonce"
    temperature: Annotated[float, Within(1e-3, 1)] = 0.07
    """At the start; it is learned."""
    first_caption: Annotated[float, Within(0, 1)] = 0.5
    """Chance that a row's first caption is its text; else another of its captions."""
    paraphrase: Annotated[float, Within(0, 1)] = 0.0
    """Chance that the text is a paraphrase of the first caption instead."""
    translation: Annotated[float, Within(0, 1)] = 0.0
    """Chance that the text of a row that has translations is one of them, every language as often."""
    text_weight: float = 0.0
    """Of the same loss between a row's text and another text of the row: captions are drawn together directly too."""
    contradiction_weight: Annotated[float, Within(0, 1e3)] = 0.0
    """Of a loss on the rows that have ``metadata.contradictions``: media to texts, with one contradiction of the row as
    a further negative of that row alone."""
    evaluate_every: Annotated[int, Within(1, 1e7)] = 25
    chunk: Annotated[int, Within(1, 1e6)] = 64
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

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    name: str
    data: DataRecipe
    image: ImageRecipe
    text: TextRecipe
    audio: AudioRecipe | None = None
    caption_contrastive: CaptionContrastive | None = None
    dim: Annotated[int, Within(8, 4096, or_zero=True)] = 0
    """0: 384, or the width of ``image.model``; of a loaded recipe it is the width."""
    seed: int = 0
    hubness: HubnessSpec | None = None
    schedule: Schedule = field(default_factory=Schedule)
    path: Annotated[Path, NoKey()] = Path()

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
    """A TOML file as the dataclass ``kind``, its keys, types and ranges checked. Raises :class:`RecipeError`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe; {example} is one to copy") from error
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise RecipeError(f"{path}: can't be read as TOML ({one_line(error)})") from error
    try:
        return validated(kind, document)
    except Mistake as mistake:
        raise RecipeError(f"{path}: {mistake}") from None


def _check(recipe: Recipe, path: Path) -> None:
    """What no single key can be blamed for."""
    for check in (_check_image, _check_text, _check_rest):
        if problem := check(recipe):
            raise RecipeError(f"{path}: {problem}")


def _check_image(recipe: Recipe) -> str:
    image = recipe.image
    if image.model:
        return _check_clip(recipe)
    if not image.trunks:
        return "image.trunks is empty; name at least one trunk, or a CLIP as image.model"
    if image.prototypes is not None and not 0 <= image.prototypes.trunk < len(image.trunks):
        return f"image.prototypes: trunk is {image.prototypes.trunk}; there are {len(image.trunks)}, numbered from 0"
    if image.unlocked_groups and (image.prototypes or image.trunk_dropout):
        return "image.prototypes and image.trunk_dropout need locked trunks; set unlocked_groups to 0"
    return ""


def _check_text(recipe: Recipe) -> str:
    text = recipe.text
    if not text.towers:
        return "text.towers is empty; name at least one language model"
    if any("{text}" not in tower.prompt for tower in text.towers):
        return "text.towers: prompt must hold {text}"
    if text.gate is not None:
        if text.gate.gated == text.gate.judge or max(text.gate.gated, text.gate.judge) >= len(text.towers):
            return f"text.gate: gated and judge are two of the towers, numbered from 0 to {len(text.towers) - 1}"
        if not recipe.data.translations:
            return "text.gate learns from translations; name some in data.translations"
    if (text.gate is not None or text.tower_dropout) and text.live:
        return "text.gate and text.tower_dropout need locked towers; set text.live to false"
    trained = text.unlocked_layers or any(tower.lora for tower in text.towers)
    if (recipe.caption_contrastive is not None or text.live) and not trained:
        return (
            "no text tower has anything to train; give one lora, set text.unlocked_layers, "
            "or leave caption_contrastive and text.live out"
        )
    return ""


def _check_rest(recipe: Recipe) -> str:
    if recipe.audio is not None and bool(recipe.audio.tower) == bool(recipe.audio.directory):
        return "audio needs a tower or a directory, one of the two"
    hubness = recipe.hubness
    if hubness is not None and hubness.neighbours > hubness.bank:
        return f"hubness.neighbours is {hubness.neighbours}; allowed are 1 to {hubness.bank}"
    return ""


def _check_clip(recipe: Recipe) -> str:
    """What would change the rows of ``image.model``, or nothing."""
    image, plain = recipe.image, ImageRecipe(model=recipe.image.model)
    if not image.model.startswith("openclip:"):
        return (
            f"image.model is {image.model!r}; allowed are openclip:ARCH/TAG, openclip:ARCH@PATH, openclip:DIR "
            f"and openclip:hf-hub:NAME"
        )
    for f in dataclasses.fields(ImageRecipe):
        if getattr(image, f.name) != getattr(plain, f.name):
            return (
                f"image.{f.name} has no place beside image.model, whose pictures' embeddings stay as they are; "
                f"leave one of the two out"
            )
    if recipe.hubness is not None:
        return "hubness would change the embeddings of image.model, which stay as they are; leave it out"
    return ""
