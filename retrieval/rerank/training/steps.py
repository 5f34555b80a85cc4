"""The training steps of a reranker, one for each stage: draw a batch, compute the loss, add its gradients.

Hard negatives are neighbours by the dual encoder. Knows nothing of optimisers, checkpoints or held-out figures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from indexer.encoders.devices import mixed_precision
from indexer.items import Modality
from indexer.training.losses import symmetric_info_nce
from retrieval.rerank.training.modules import RerankerModules
from retrieval.rerank.training.pool import Rows, Side
from retrieval.rerank.training.recipe import RerankRecipe

#: The logit of a pair that is left out of the contrast.
_MASKED = -1e4


class TrainingSteps:
    """The step of each stage: adds gradients to the modules and returns the loss."""

    def __init__(self, recipe: RerankRecipe, modules: RerankerModules) -> None:
        self.recipe, self.modules, self.pool = recipe, modules, modules.pool
        shares = np.array([_share(recipe, modality) for modality in self.pool.sides])
        self._shares = shares / shares.sum()

    def align(self, generator: torch.Generator) -> torch.Tensor:
        """One contrastive step of the projections, of one side."""
        draws, side = self._begin(generator)
        batch = min(self.recipe.align.batch, len(side.labels))
        labels = draws.choice(len(side.labels), batch, p=side.weights, replace=False)
        rows, texts = self._draw(draws, side, labels)
        with mixed_precision(self.pool.where):
            tokens = self.modules.tokens(side, rows)
        cosines = self.modules.scorer.likeness(self.pool.last[texts].to(self.pool.where), tokens.float())
        loss = _both_ways(cosines * self.modules.scorer.scale.exp(), *self._judged(side, rows, texts))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def caption(self, generator: torch.Generator) -> torch.Tensor:
        """One step of captioning, of pictures and their first captions."""
        side = self.pool.sides[Modality.IMAGE]
        draws = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        batch = min(self.recipe.tell.batch, len(side.labels))
        rows, texts = side.draw(draws, draws.choice(len(side.labels), batch, p=side.weights, replace=False), 1.0, 0.0)
        loss = self.modules.caption_loss(side, rows, texts)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.trained.parameters(), 1.0)
        return loss.detach()

    def match(self, generator: torch.Generator) -> torch.Tensor:
        """One step over every pair of a batch of neighbours, of one side."""
        pool, settings = self.pool, self.recipe.match
        draws, side = self._begin(generator)
        rows, texts = self._draw(draws, side, _neighbourhoods(draws, side, settings.batch, settings.near))
        states = pool.states_of(texts)
        with mixed_precision(self.pool.where):
            tokens = self.modules.tokens(side, rows)
            every = tokens[None].expand(len(texts), -1, -1, -1)
            logits: torch.Tensor = self.modules.scorer(pool.reader, states, every).float()
            captioning: torch.Tensor = logits.new_zeros(())
            if settings.lm_weight and side.itself is None:
                captioning = self.modules.scorer.caption_loss(pool.reader, states, tokens)
        positive, ignored = self._judged(side, rows, texts)
        pairs = functional.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
        matching = (pairs * ~ignored).sum() / len(texts)
        loss = (
            _both_ways(logits, positive, ignored)
            + settings.bce_weight * matching
            + settings.lm_weight * captioning.float()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.trained.parameters(), 1.0)
        return loss.detach()

    def _begin(self, generator: torch.Generator) -> tuple[np.random.Generator, Side]:
        """This step's random numbers, and the side that it is of."""
        draws = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        sides = list(self.pool.sides.values())
        return draws, sides[int(draws.choice(len(sides), p=self._shares))]

    def _draw(self, draws: np.random.Generator, side: Side, labels: NDArray[Any]) -> tuple[Rows, Rows]:
        return side.draw(draws, labels, self.recipe.first_caption, self.recipe.paraphrase)

    def _judged(self, side: Side, rows: Rows, texts: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        positive, ignored = side.judged(rows, texts, masked=self.recipe.same_concept == "masked")
        return positive.to(self.pool.where), ignored.to(self.pool.where)


def _share(recipe: RerankRecipe, modality: Modality) -> float:
    """Steps of a side for each one of pictures."""
    return {Modality.AUDIO: recipe.shares.audio, Modality.TEXT: recipe.shares.text}.get(modality, 1.0)


def _neighbourhoods(draws: np.random.Generator, side: Side, batch: int, near: int) -> NDArray[np.int64]:
    """Labels by place: some at random, each with some of its 24 nearest by the dual encoder."""
    count = min(max(1, batch // (near + 1)), len(side.labels))
    seeds = draws.choice(len(side.labels), count, p=side.weights, replace=False)
    found = list(seeds)
    for seed in seeds:
        nearest = np.argsort(-side.likeness[seed], kind="stable")[1:25]
        if near and len(nearest):
            found += list(draws.choice(nearest, min(near, len(nearest)), replace=False))
    return np.array(list(dict.fromkeys(found))[:batch])


def _both_ways(logits: torch.Tensor, positive: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
    """List-wise cross-entropy over rows and over columns; all positives of a row share its mass."""
    return 2 * symmetric_info_nce(logits.masked_fill(ignored, _MASKED), positive)
