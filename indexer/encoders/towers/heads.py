"""Projection heads: from a tower's features into the shared space.

Features are centred and whitened (PCA of the training features, fixed), then a linear map plus a residual MLP that
starts at zero takes them to ``dim``; rows come out with unit L2 length. The features of a whole CLIP model are in the
space already: their head is the identity.
"""

from __future__ import annotations

import torch
from torch import nn

from indexer.encoders.specs import HeadSpec


class ProjectionHead(nn.Module):
    """Features ``(n, inputs)`` float32 -> unit rows ``(n, dim)`` float32."""

    mean: torch.Tensor
    whiten: torch.Tensor

    def __init__(self, spec: HeadSpec, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.zeros(spec.inputs))
        self.register_buffer("whiten", torch.zeros(spec.inputs, spec.whitened))
        self.linear = nn.Linear(spec.whitened, spec.dim)
        self.mlp = _residual(spec, dropout) if spec.hidden else None
        self.dropout = nn.Dropout(dropout)

    def set_whitening(self, mean: torch.Tensor, whiten: torch.Tensor) -> None:
        """Take the mean ``(inputs,)`` and the map ``(inputs, whitened)`` measured on training features."""
        self.mean.copy_(mean)
        self.whiten.copy_(whiten)

    def whitened(self, features: torch.Tensor) -> torch.Tensor:
        """Centred and whitened features ``(n, whitened)``: the fixed first step."""
        return (features - self.mean) @ self.whiten

    def project(self, whitened: torch.Tensor) -> torch.Tensor:
        """Whitened features -> unit rows: the trained step."""
        return nn.functional.normalize(self.rows(whitened), dim=-1)

    def rows(self, whitened: torch.Tensor) -> torch.Tensor:
        """The trained step before its rows are brought to unit length."""
        kept = self.dropout(whitened)
        rows: torch.Tensor = self.linear(kept)
        return rows if self.mlp is None else rows + self.mlp(kept)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.project(self.whitened(features))


class IdentityHead(nn.Module):
    """Features ``(n, dim)`` float32 -> the same rows, of unit length: they are the space, and nothing is trained."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec

    def whitened(self, features: torch.Tensor) -> torch.Tensor:
        """The features themselves."""
        return features

    def project(self, whitened: torch.Tensor) -> torch.Tensor:
        """Unit rows."""
        return nn.functional.normalize(whitened, dim=-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.project(self.whitened(features))


Head = ProjectionHead | IdentityHead


def open_head(spec: HeadSpec) -> Head:
    """The head that a specification names, with random weights where it has any."""
    return ProjectionHead(spec) if spec.whitened else IdentityHead(spec)


def whitening(features: torch.Tensor, components: int, shrinkage: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and PCA whitening of ``(n, inputs)`` features: ``(inputs,)`` and ``(inputs, components)``.

    Each feature is first scaled to unit variance, so that one trunk's scale does not drown another's; ``shrinkage``
    (of the mean eigenvalue) keeps the small components from being blown up. A feature that hardly varies (1/1000 of the
    typical deviation) says nothing and gets no weight.
    """
    mean = features.mean(dim=0)
    deviation = features.std(dim=0).double()
    per_unit = torch.where(deviation > 1e-3 * deviation.median(), 1.0 / deviation, 0.0)
    scaled = (features - mean).double() * per_unit
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    values, vectors = values.flip(0)[:components], vectors.flip(1)[:, :components]
    gain = (values.clamp(min=0) + shrinkage * values.mean()).rsqrt()
    return mean, ((vectors * gain) * per_unit[:, None]).to(features.dtype)


def _residual(spec: HeadSpec, dropout: float) -> nn.Sequential:
    last = nn.Linear(spec.hidden, spec.dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(spec.whitened, spec.hidden), nn.GELU(), nn.Dropout(dropout), last)
