"""The modules that the training of a reranker trains: compressors, scorer, and adapters of the language model.

They read the sides of a pool. Knows nothing of losses that compare pairs, of optimisers or of files.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from indexer.encoders.devices import mixed_precision
from indexer.encoders.tokens.compressor import Compressor, CompressorSpec
from indexer.encoders.tokens.config import LORA
from indexer.items import Modality
from retrieval.rerank.scorer import Scorer, ScorerSpec
from retrieval.rerank.training.pool import Pool, Rows, Side
from retrieval.rerank.training.recipe import RerankRecipe


class RerankerModules:
    """The untrained modules of a recipe, and the pool that they are trained on."""

    def __init__(self, recipe: RerankRecipe, pool: Pool) -> None:
        self.pool = pool
        settings, where = recipe.compressor, pool.where
        self.compressors = nn.ModuleDict()
        for modality, side in pool.sides.items():
            compressor = Compressor(
                CompressorSpec(side.sources.sources, **settings.sizes(modality)),
                settings.dropout,
                settings.trunk_dropout,
                settings.patch_dropout,
            )
            compressor.whiten(side.joined)
            self.compressors[str(modality)] = compressor.to(where)
        spec = ScorerSpec(
            pool.reader.width,
            len(pool.reader.upper_layers),
            settings.width,
            settings.queries + settings.summary,
            recipe.scorer.inner,
            recipe.scorer.heads,
            recipe.scorer.joint,
            recipe.scorer.interaction,
            recipe.scorer.whitened,
            recipe.scorer.hidden,
        )
        self.scorer = Scorer(spec, recipe.scorer.dropout, recipe.scorer.text_dropout)
        side = pool.sides[Modality.IMAGE]
        trained_on = {text for own in (*side.captions[: side.count], *side.also[: side.count]) for text in own}
        self.scorer.whiten(pool.last[sorted(trained_on)])
        self.scorer.to(where)
        self.trained = nn.ModuleDict({"compressors": self.compressors, "scorer": self.scorer})
        """All of them, as one module."""
        self._adapted: nn.Module | None = None
        if recipe.lora is not None:
            pool.reader.add_lora(recipe.lora.spec)
            self._adapted = self.trained["upper"] = pool.reader.upper_layers

    def lock_projections(self, locked: bool = True) -> None:
        """Only cross-attention, match head and adapters are trained from now on; or, not ``locked``, everything."""
        self.compressors.requires_grad_(not locked)
        self.scorer.lock_projections(locked)

    def parts(self) -> dict[str, dict[str, torch.Tensor]]:
        """The weights that are saved, by part of the model's file."""
        parts = {f"compressor.{name}": module.state_dict() for name, module in self.compressors.items()}
        parts["scorer"] = self.scorer.state_dict()
        if self._adapted is not None:
            parts[LORA] = {name: value for name, value in self._adapted.named_parameters() if value.requires_grad}
        return parts

    def tokens(self, side: Side, rows: Any) -> torch.Tensor:
        """Media tokens ``(n, count, width)`` of things by number."""
        compressor = self.compressors[str(side.modality)]
        return torch.as_tensor(compressor(side.media_of(rows, self.pool.where)))

    def heldout_tokens(self, side: Side) -> torch.Tensor:
        """Float32 media tokens of the held-out things, without gradients."""
        parts = []
        with torch.no_grad(), mixed_precision(self.pool.where):
            for at in range(0, len(side.heldout), 256):
                parts.append(self.tokens(side, side.heldout[at : at + 256]).float())
        return torch.cat(parts)

    def caption_loss(self, side: Side, rows: Rows, texts: Rows) -> torch.Tensor:
        """Mean cross-entropy, nats a token, of texts by number as captions of things by number."""
        with mixed_precision(self.pool.where):
            tokens = self.tokens(side, rows)
            return self.scorer.caption_loss(self.pool.reader, self.pool.states_of(texts), tokens).float()
