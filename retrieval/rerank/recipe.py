"""A recipe of a reranker: one TOML file beside the dual encoder's recipe that it builds on.

Data, split and towers are the dual encoder's (``dual``); every key is checked as there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from indexer.training.recipe import Recipe, check_ranges, load_recipe, read_recipe_file


@dataclass(frozen=True)
class CompressorRecipe:
    """Media tokens: how many learned queries beside the pooled rows, how wide, and which trunks' grids are read."""

    grids: list[int]
    queries: int = 16
    width: int = 192
    heads: int = 4
    dropout: float = 0.35


@dataclass(frozen=True)
class ReaderRecipe:
    """The language model: ``layers`` of it are kept (0: all), the first ``lower`` of them never see media."""

    source: str
    layers: int
    lower: int
    prompt: str
    max_tokens: int = 32


@dataclass(frozen=True)
class ScorerRecipe:
    """Cross-attention and match head; see :class:`retrieval.rerank.scorer.ScorerSpec`."""

    inner: int = 256
    heads: int = 4
    joint: int = 384
    interaction: Literal["none", "one-way", "bidirectional"] = "bidirectional"
    dropout: float = 0.3


@dataclass(frozen=True)
class Align:
    """First stage: compressor and projections by contrast over large batches, the language model without media."""

    steps: int = 450
    batch: int = 512
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    evaluate_every: int = 50


@dataclass(frozen=True)
class Match:
    """Second stage: every text of a batch with every picture of it, most of them near to each other.

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
    evaluate_every: int = 100


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
    align: Align = field(default_factory=Align)
    match: Match = field(default_factory=Match)
    first_caption: float = 0.6
    depth: int = 32
    """How many of the dual encoder's candidates are reranked held out."""
    seed: int = 0
    path: Path = Path()

    @property
    def dual_recipe(self) -> Recipe:
        """The dual encoder's recipe, read."""
        return load_recipe((self.path.parent / self.dual).resolve())

    @property
    def model_directory(self) -> Path:
        """The trained dual encoder."""
        return (self.path.parent / self.model).resolve()


def load_rerank_recipe(path: Path) -> RerankRecipe:
    """Read and check a recipe. Raises :class:`RecipeError`."""
    built: RerankRecipe = read_recipe_file(path, RerankRecipe, example="data/recipes/reranker.toml")
    recipe = dataclasses.replace(built, path=path.resolve())
    ranges: list[tuple[str, float, float, float]] = [
        ("match.batch", recipe.match.batch, 2, 4096), ("match.steps", recipe.match.steps, 1, 1e7),
        ("match.near", recipe.match.near, 0, 64), ("match.evaluate_every", recipe.match.evaluate_every, 1, 1e7),
        ("align.batch", recipe.align.batch, 2, 1e6), ("align.steps", recipe.align.steps, 1, 1e7),
        ("align.evaluate_every", recipe.align.evaluate_every, 1, 1e7), ("depth", recipe.depth, 1, 4096),
        ("compressor.queries", recipe.compressor.queries, 1, 64), ("compressor.width", recipe.compressor.width, 8, 512),
        ("compressor.dropout", recipe.compressor.dropout, 0, 0.95), ("scorer.dropout", recipe.scorer.dropout, 0, 0.95),
        ("first_caption", recipe.first_caption, 0, 1),
    ]  # fmt: skip
    check_ranges(path, ranges)
    return recipe
