"""From what the towers see of a picture or sound to a few media tokens: learned queries read it by cross-attention.

What goes in are *sources*: one row of pooled features or a grid of patch or frame features a trunk. What comes out are
the pooled rows, one token each, and the learned queries' tokens (Perceiver resampler, Jaegle et al. 2021; for offline
tokens of a reranker: EDJE, 2026). Knows nothing of texts or of language models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from indexer.encoders.tokenizer import CONFIG, FOLDER, WEIGHTS, RerankerConfig
from indexer.encoders.towers import load_weights
from indexer.errors import WeightsCorrupt


@dataclass(frozen=True)
class CompressorSpec:
    """Sizes: ``sources`` are (tokens, width) of everything that is read, in order; one token is a pooled row."""

    sources: tuple[tuple[int, int], ...]
    queries: int = 16
    width: int = 192
    heads: int = 4

    @property
    def count(self) -> int:
        """Tokens that come out."""
        return self.queries + sum(tokens == 1 for tokens, _ in self.sources)


class Compressor(nn.Module):
    """Sources, each ``(n, tokens, width)`` -> media tokens float32 ``(n, count, width)``."""

    def __init__(self, spec: CompressorSpec, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.dropout = dropout
        width = spec.width
        self.means = nn.ParameterList(nn.Parameter(torch.zeros(inputs), False) for _, inputs in spec.sources)
        self.deviations = nn.ParameterList(nn.Parameter(torch.ones(inputs), False) for _, inputs in spec.sources)
        self.norms = nn.ModuleList(nn.LayerNorm(inputs) for _, inputs in spec.sources)
        self.projections = nn.ModuleList(nn.Linear(inputs, width) for _, inputs in spec.sources)
        self.places = nn.ParameterList(nn.Parameter(torch.randn(tokens, width) * 0.02) for tokens, _ in spec.sources)
        self.queries = nn.Parameter(torch.randn(spec.queries, width) * 0.02)
        self.attention = CrossAttention(width, width, width, spec.heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.out = nn.LayerNorm(width)

    def standardise(self, number: int, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Features of a source are first brought to mean 0 and deviation 1 with these, ``(width,)`` each."""
        self.means[number].data = mean.float()
        self.deviations[number].data = deviation.float()

    def forward(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """While training, whole components of the features are dropped."""
        read = []
        for number, source in enumerate(sources):
            norm, projection, place = self.norms[number], self.projections[number], self.places[number]
            rows = norm((source.float() - self.means[number]) / self.deviations[number])
            if self.training and self.dropout:  # a component is dropped in all tokens of an item alike
                rows = rows * functional.dropout(torch.ones_like(rows[:, :1]), self.dropout)
            read.append(projection(rows) + place)
        seen = torch.cat(read, dim=1)  # (n, all tokens, width)
        queries = self.queries.expand(len(seen), -1, -1)
        queries = queries + self.attention(queries, seen)
        queries = queries + self.mlp(queries)
        pooled = [rows for rows in read if rows.shape[1] == 1]
        return torch.as_tensor(self.out(torch.cat([*pooled, queries], dim=1)))


def load_compressor(model: Path, config: RerankerConfig) -> Compressor:
    """The compressor of a model's directory, in eval mode. Raises :class:`ModelError` naming what is wrong."""
    module = Compressor(CompressorSpec(config.image.sources, **config.compressor))
    fill_part(model, config, "compressor", module)
    return module.eval()


def fill_part(model: Path, config: RerankerConfig, name: str, module: nn.Module) -> None:
    """Put the part ``name`` of the reranker's weights into ``module``. Raises :class:`ModelError` for what is wrong."""
    path, prefix = model / FOLDER / WEIGHTS, f"{name}."
    weights = load_weights(path, {WEIGHTS: config.sha256})
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsCorrupt(f"{path}: does not fit what {CONFIG} says; train or fetch the reranker again") from error


class CrossAttention(nn.Module):
    """Multi-head attention of ``(n, t, width)`` to ``(n, s, other)``, both normed first, without a residual."""

    def __init__(self, width: int, other: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_other = nn.LayerNorm(width), nn.LayerNorm(other)
        self.query, self.key_value = nn.Linear(width, inner), nn.Linear(other, 2 * inner)
        self.out = nn.Linear(inner, width)

    def keys(self, other: torch.Tensor) -> torch.Tensor:
        """Keys and values ``(2, n, heads, s, d)`` of what is read; they can serve many readers."""
        n, s, _ = other.shape
        both = self.key_value(self.norm_other(other)).view(n, s, 2, self.heads, -1)
        return torch.as_tensor(both.permute(2, 0, 3, 1, 4))

    def read(self, rows: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Rows ``(n, t, width)`` read ``keys``, of as many -> ``(n, t, width)``.

        ``mask`` bool ``(n, s)`` is true where there is something to read.
        """
        n, t, _ = rows.shape
        query = self.query(self.norm(rows)).view(n, t, self.heads, -1).transpose(1, 2)
        where: Any = None if mask is None else mask[:, None, None, :]
        found = functional.scaled_dot_product_attention(query, keys[0], keys[1], attn_mask=where)
        return torch.as_tensor(self.out(found.transpose(1, 2).reshape(n, t, -1)))

    def forward(self, rows: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Each row's own ``other``."""
        return self.read(rows, self.keys(other))
