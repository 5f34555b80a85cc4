"""From what the towers see of a picture or sound to a few media tokens: learned queries read it by cross-attention.

What goes in are *sources*: one row of pooled features or a grid of patch or frame features a trunk. What comes out are
a few tokens that sum up the pooled rows, by a head as the dual encoder's, and the learned queries' tokens (Perceiver
resampler, Jaegle et al. 2021; for offline tokens of a reranker: EDJE, 2026). Knows nothing of texts or of language
models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from indexer.encoders.specs import HeadSpec
from indexer.encoders.tokens.config import CONFIG, FOLDER, LORA, WEIGHTS, RerankerConfig
from indexer.encoders.towers.adapter import put_trained
from indexer.encoders.towers.heads import ProjectionHead, whitening
from indexer.encoders.towers.load import load_weights
from indexer.errors import WeightsCorrupt


@dataclass(frozen=True)
class CompressorSpec:
    """Sizes: ``sources`` are (tokens, width) of everything that is read, in order; one token is a pooled row.

    The pooled rows, joined and whitened to ``whitened`` components, become ``summary`` tokens by a linear map and a
    residual MLP ``hidden`` wide.
    """

    sources: tuple[tuple[int, int], ...]
    queries: int = 16
    width: int = 192
    heads: int = 4
    summary: int = 3
    whitened: int = 768
    hidden: int = 1536

    @property
    def count(self) -> int:
        """Tokens that come out."""
        return self.queries + self.summary

    @property
    def pooled(self) -> int:
        """Width of the joined pooled rows."""
        return sum(width for tokens, width in self.sources if tokens == 1)


class Compressor(nn.Module):
    """Sources, each ``(n, tokens, width)`` -> media tokens float32 ``(n, count, width)``.

    While training, whole components of the features are dropped (``dropout``), the row of one trunk of several
    (``trunk_dropout``: the chance of it), and a share of each grid's tokens, the same ones in a batch
    (``patch_dropout``: a step costs less, too).
    """

    def __init__(
        self, spec: CompressorSpec, dropout: float = 0.0, trunk_dropout: float = 0.0, patch_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.spec = spec
        self.dropout, self.trunk_dropout, self.patch_dropout = dropout, trunk_dropout, patch_dropout
        width = spec.width
        grids = [source for source in spec.sources if source[0] > 1]
        sizes = HeadSpec(spec.pooled, min(spec.whitened, spec.pooled), spec.hidden, spec.summary * width)
        self.head = ProjectionHead(sizes, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(inputs) for _, inputs in grids)
        self.projections = nn.ModuleList(nn.Linear(inputs, width) for _, inputs in grids)
        self.places = nn.ParameterList(nn.Parameter(torch.randn(tokens, width) * 0.02) for tokens, _ in grids)
        self.queries = nn.Parameter(torch.randn(spec.queries, width) * 0.02)
        self.attention = CrossAttention(width, width, width, spec.heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.out = nn.LayerNorm(width)

    def whiten(self, rows: torch.Tensor) -> None:
        """Measure the whitening of the joined pooled rows on training rows ``(n, pooled)``."""
        self.head.set_whitening(*whitening(rows, self.head.spec.whitened, 1.0))

    def forward(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tokens of items, the summary first."""
        pooled = [rows[:, 0].float() for rows in sources if rows.shape[1] == 1]
        joined = torch.cat(self._without_a_trunk(pooled) if self.training else pooled, dim=1)
        with torch.autocast(joined.device.type, enabled=False):  # small components drown in bfloat16
            whitened = self.head.whitened(joined)
        summary = self.head.rows(whitened).view(len(joined), self.spec.summary, self.spec.width)
        read = [summary]
        grids = [rows for rows in sources if rows.shape[1] > 1]
        for norm, projection, place, grid in zip(self.norms, self.projections, self.places, grids, strict=True):
            if self.training and self.patch_dropout:
                kept = max(1, round(grid.shape[1] * (1 - self.patch_dropout)))
                seen_ones = torch.randperm(grid.shape[1], device=grid.device)[:kept]
                grid, place = grid[:, seen_ones], place[seen_ones]
            rows = norm(grid.float())
            if self.training and self.dropout:  # a component is dropped in all tokens of an item alike
                rows = rows * functional.dropout(torch.ones_like(rows[:, :1]), self.dropout)
            read.append(projection(rows) + place)
        seen = torch.cat(read, dim=1)  # (n, all tokens, width)
        queries = self.queries.expand(len(seen), -1, -1)
        queries = queries + self.attention(queries, seen)
        queries = queries + self.mlp(queries)
        return torch.as_tensor(self.out(torch.cat([summary, queries], dim=1)))

    def _without_a_trunk(self, pooled: list[torch.Tensor]) -> list[torch.Tensor]:
        """Of some items one trunk's row becomes the mean, as where it sees nothing."""
        if not self.trunk_dropout or len(pooled) < 2:
            return pooled
        count, where = len(pooled[0]), pooled[0].device
        lost = torch.randint(len(pooled), (count,), device=where)
        lost[torch.rand(count, device=where) >= self.trunk_dropout] = -1
        means = torch.split(self.head.mean, [rows.shape[1] for rows in pooled])
        return [
            torch.where((lost == number)[:, None], mean, rows)
            for number, (rows, mean) in enumerate(zip(pooled, means, strict=True))
        ]


def load_compressor(model: Path, config: RerankerConfig, modality: str) -> Compressor:
    """A modality's compressor of a model's directory, in eval mode. Raises :class:`ModelError` for what is wrong."""
    module = Compressor(CompressorSpec(config.sources[modality].sources, **config.compressors[modality]))
    fill_part(model, config, f"compressor.{modality}", module)
    return module.eval()


def fill_part(model: Path, config: RerankerConfig, name: str, module: nn.Module) -> None:
    """Put the part ``name`` of the reranker's weights into ``module``. Raises :class:`ModelError` for what is wrong."""
    path, prefix = model / FOLDER / WEIGHTS, f"{name}."
    weights = load_weights(path, {WEIGHTS: config.sha256})
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if name == LORA:  # adapters alone stand in the file, not what they adapt
        put_trained(module, own, path)
        return
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
