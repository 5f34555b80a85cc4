"""A recipe of a reranker: one TOML file beside the dual encoder's recipe that it builds on.

Data, split and towers are the dual encoder's (``dual``); every key is checked as there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from indexer.encoders.specs import LoraSpec
from indexer.errors import RecipeError
from indexer.items import Modality
from indexer.training.loading import load_recipe
from indexer.training.recipe import Recipe, read_recipe_file, resolve_path
from indexer.validation import NoKey, Within


@dataclass(frozen=True)
class CompressorRecipe:
    """Media tokens: learned queries over the trunks' grids, and a summary of their pooled rows; how many, how wide."""

    grids: list[int]
    queries: Annotated[int, Within(1, 64)] = 16
    width: Annotated[int, Within(8, 512)] = 192
    heads: int = 4
    summary: Annotated[int, Within(1, 16)] = 3
    whitened: int = 768
    hidden: int = 1536
    dropout: Annotated[float, Within(0, 0.95)] = 0.35
    trunk_dropout: Annotated[float, Within(0, 1)] = 0.3
    patch_dropout: Annotated[float, Within(0, 0.99)] = 0.5
    other_whitened: int = 256
    """Of sounds and texts, of which there is less to learn from."""
    other_hidden: int = 384

    def sizes(self, modality: Modality) -> dict[str, int]:
        """What a modality's :class:`CompressorSpec` has but for its sources."""
        image = modality is Modality.IMAGE
        return {
            "queries": self.queries,
            "width": self.width,
            "heads": self.heads,
            "summary": self.summary,
            "whitened": self.whitened if image else self.other_whitened,
            "hidden": self.hidden if image else self.other_hidden,
        }


@dataclass(frozen=True)
class ReaderRecipe:
    """The language model: ``layers`` of it are kept (0: all), the first ``lower`` of them never see media."""

    source: str
    layers: int
    lower: int
    prompt: str
    max_tokens: int = 32


@dataclass(frozen=True)
class LoraRecipe:
    """Adapters in the language model's upper layers, trained while matching; see :class:`LoraSpec`."""

    rank: Annotated[int, Within(1, 1024)] = 8
    alpha: float = 16.0
    dropout: Annotated[float, Within(0, 0.95)] = 0.1
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    @property
    def spec(self) -> LoraSpec:
        """As the encoders take it."""
        return LoraSpec(self.rank, self.alpha, self.dropout, tuple(self.targets))


@dataclass(frozen=True)
class ScorerRecipe:
    """Cross-attention and match head; see :class:`retrieval.rerank.scorer.ScorerSpec`."""

    inner: int = 256
    heads: int = 4
    joint: int = 384
    interaction: Literal["none", "one-way", "bidirectional"] = "bidirectional"
    whitened: int = 576
    hidden: int = 1536
    dropout: Annotated[float, Within(0, 0.95)] = 0.3
    text_dropout: Annotated[float, Within(0, 0.95)] = 0.45


@dataclass(frozen=True)
class Align:
    """First stage: compressor and projections by contrast over large batches, the language model without media."""

    steps: Annotated[int, Within(1, 1e7)] = 450
    batch: Annotated[int, Within(2, 1e6)] = 512
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    evaluate_every: Annotated[int, Within(1, 1e7)] = 50


@dataclass(frozen=True)
class Captioning:
    """Second stage: cross-attention (and adapters) by captioning: pictures and their first captions, word by word."""

    steps: Annotated[int, Within(0, 1e7)] = 0
    """Without any the result can't caption but by what the matching stage's ``lm_weight`` teaches."""
    batch: Annotated[int, Within(1, 1e6)] = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    evaluate_every: Annotated[int, Within(1, 1e7)] = 50


@dataclass(frozen=True)
class Match:
    """Third stage: every text of a batch with every picture of it, most of them near to each other.

    ``near``: of the texts drawn, how many neighbours by the dual encoder each brings along. The loss is a list-wise
    cross-entropy both ways, ``bce_weight`` of image-text matching, and ``lm_weight`` of the captioning loss.
    """

    steps: Annotated[int, Within(1, 1e7)] = 400
    batch: Annotated[int, Within(2, 4096)] = 24
    near: Annotated[int, Within(0, 64)] = 3
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    bce_weight: float = 0.25
    lm_weight: float = 0.1
    projections: Literal["locked", "trained"] = "locked"
    """Whether compressors and projections stay as the alignment left them."""
    evaluate_every: Annotated[int, Within(1, 1e7)] = 100


@dataclass(frozen=True)
class Shares:
    """Of the steps, how many are of sounds and of texts captioned by other texts, for each one of pictures; 0: none."""

    audio: Annotated[float, Within(0, 1)] = 0.0
    text: Annotated[float, Within(0, 1)] = 0.0


@dataclass(frozen=True)
class RerankRecipe:
    """The whole file."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    dual: str
    """The dual encoder's recipe: its data, split and towers."""
    model: str
    """The trained dual encoder's directory."""
    compressor: CompressorRecipe
    language_model: ReaderRecipe
    scorer: ScorerRecipe = field(default_factory=ScorerRecipe)
    lora: LoraRecipe | None = None
    """Without it the language model is locked."""
    align: Align = field(default_factory=Align)
    tell: Captioning = field(default_factory=Captioning)
    match: Match = field(default_factory=Match)
    captions: bool = True
    """Whether the result may caption; see ``docs/experiments.md`` for how long that takes to learn."""
    names: str = ""
    """A text file, a name a line, that captions choose from; without it they are generated freely."""
    shares: Shares = field(default_factory=Shares)
    captions_each: Annotated[int, Within(0, 1e6)] = 0
    """How many captions of a thing are trained on, the first ones (0: all)."""
    first_caption: Annotated[float, Within(0, 1)] = 0.5
    paraphrase: Annotated[float, Within(0, 1)] = 0.25
    """Chance that a picture's text is one of its label's paraphrases in the dual encoder's recipe."""
    same_concept: Literal["masked", "mismatch"] = "mismatch"
    """What a pair of one concept (the split's: a head noun) is that shares no text: neither, or a mismatch."""
    depth: Annotated[int, Within(1, 4096)] = 32
    """How many of the dual encoder's candidates are reranked held out."""
    seed: int = 0
    path: Annotated[Path, NoKey()] = Path()

    @property
    def dual_recipe(self) -> Recipe:
        """The dual encoder's recipe, read."""
        return load_recipe((self.path.parent / self.dual).resolve())

    @property
    def names_file(self) -> Path | None:
        """Where the names are; ``{cache}`` is the user's cache folder."""
        return resolve_path(self.path, self.names) if self.names else None

    @property
    def model_directory(self) -> Path:
        """The trained dual encoder."""
        return (self.path.parent / self.model).resolve()


def load_rerank_recipe(path: Path) -> RerankRecipe:
    """Read and check a recipe. Raises :class:`RecipeError`."""
    built: RerankRecipe = read_recipe_file(path, RerankRecipe, example="data/recipes/reranker.toml")
    recipe = dataclasses.replace(built, path=path.resolve())
    if recipe.tell.steps and recipe.scorer.interaction == "none":
        raise RecipeError(f'{path}: [tell] needs media that are read; set its steps to 0, or interaction to "one-way"')
    return recipe
