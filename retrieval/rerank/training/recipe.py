"""A recipe of a reranker: one TOML file beside the dual encoder's recipe that it builds on.

Data, split and towers are the dual encoder's (``dual``); every key is checked as there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from indexer.encoders.specs import LoraSpec
from indexer.errors import RecipeError
from indexer.items import Modality
from indexer.training.loading import load_recipe
from indexer.training.recipe import Recipe, check_ranges, read_recipe_file, resolve_path


@dataclass(frozen=True)
class CompressorRecipe:
    """Media tokens: learned queries over the trunks' grids, and a summary of their pooled rows; how many, how wide."""

    grids: list[int]
    queries: int = 16
    width: int = 192
    heads: int = 4
    summary: int = 3
    whitened: int = 768
    hidden: int = 1536
    dropout: float = 0.35
    trunk_dropout: float = 0.3
    patch_dropout: float = 0.5
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

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.1
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
    dropout: float = 0.3
    text_dropout: float = 0.45


@dataclass(frozen=True)
class Align:
    """First stage: compressor and projections by contrast over large batches, the language model without media."""

    steps: int = 450
    batch: int = 512
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    evaluate_every: int = 50


@dataclass(frozen=True)
class Tell:
    """Second stage: cross-attention (and adapters) by captioning: pictures and their first captions, word by word."""

    steps: int = 0
    """Without any the result can't caption but by what the matching stage's ``lm_weight`` teaches."""
    batch: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    evaluate_every: int = 50


@dataclass(frozen=True)
class Match:
    """Third stage: every text of a batch with every picture of it, most of them near to each other.

    ``near``: of the texts drawn, how many neighbours by the dual encoder each brings along. The loss is a list-wise
    cross-entropy both ways, ``bce_weight`` of image-text matching, and ``lm_weight`` of the captioning loss.
    """

    steps: int = 400
    batch: int = 24
    near: int = 3
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    bce_weight: float = 0.25
    lm_weight: float = 0.1
    projections: Literal["locked", "trained"] = "locked"
    """Whether compressors and projections stay as the alignment left them."""
    evaluate_every: int = 100


@dataclass(frozen=True)
class Shares:
    """Of the steps, how many are of sounds and of texts captioned by other texts, for each one of pictures; 0: none."""

    audio: float = 0.0
    text: float = 0.0


@dataclass(frozen=True)
class RerankRecipe:
    """The whole file."""

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
    tell: Tell = field(default_factory=Tell)
    match: Match = field(default_factory=Match)
    captions: bool = True
    """Whether the result may caption; see ``docs/experiments.md`` for how long that takes to learn."""
    names: str = ""
    """A text file, a name a line, that captions choose from; without it they are generated freely."""
    shares: Shares = field(default_factory=Shares)
    captions_each: int = 0
    """How many captions of a thing are trained on, the first ones (0: all)."""
    first_caption: float = 0.5
    paraphrase: float = 0.25
    """Chance that a picture's text is one of its label's paraphrases in the dual encoder's recipe."""
    same_concept: Literal["masked", "mismatch"] = "mismatch"
    """What a pair of one concept (the split's: a head noun) is that shares no text: neither, or a mismatch."""
    depth: int = 32
    """How many of the dual encoder's candidates are reranked held out."""
    seed: int = 0
    path: Path = Path()

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
    ranges: list[tuple[str, float, float, float]] = [
        ("match.batch", recipe.match.batch, 2, 4096),
        ("match.steps", recipe.match.steps, 1, 1e7),
        ("match.near", recipe.match.near, 0, 64),
        ("match.evaluate_every", recipe.match.evaluate_every, 1, 1e7),
        ("align.batch", recipe.align.batch, 2, 1e6),
        ("align.steps", recipe.align.steps, 1, 1e7),
        ("tell.steps", recipe.tell.steps, 0, 1e7),
        ("tell.batch", recipe.tell.batch, 1, 1e6),
        ("tell.evaluate_every", recipe.tell.evaluate_every, 1, 1e7),
        ("align.evaluate_every", recipe.align.evaluate_every, 1, 1e7),
        ("depth", recipe.depth, 1, 4096),
        ("compressor.queries", recipe.compressor.queries, 1, 64),
        ("compressor.width", recipe.compressor.width, 8, 512),
        ("compressor.dropout", recipe.compressor.dropout, 0, 0.95),
        ("scorer.dropout", recipe.scorer.dropout, 0, 0.95),
        ("scorer.text_dropout", recipe.scorer.text_dropout, 0, 0.95),
        ("compressor.trunk_dropout", recipe.compressor.trunk_dropout, 0, 1),
        ("compressor.patch_dropout", recipe.compressor.patch_dropout, 0, 0.99),
        ("compressor.summary", recipe.compressor.summary, 1, 16),
        ("first_caption", recipe.first_caption, 0, 1),
        ("paraphrase", recipe.paraphrase, 0, 1),
        ("captions_each", recipe.captions_each, 0, 1e6),
        ("shares.audio", recipe.shares.audio, 0, 1),
        ("shares.text", recipe.shares.text, 0, 1),
    ]
    if recipe.lora is not None:
        ranges += [("lora.rank", recipe.lora.rank, 1, 1024), ("lora.dropout", recipe.lora.dropout, 0, 0.95)]
    check_ranges(path, ranges)
    if recipe.tell.steps and recipe.scorer.interaction == "none":
        raise RecipeError(f'{path}: [tell] needs media that are read; set its steps to 0, or interaction to "one-way"')
    return recipe
