"""What is known of a model, as ``models show`` and ``models list`` print it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelInfo:
    """What ``models list`` and ``models show`` print of a model."""

    spec: str
    modalities: list[str]
    dim: int
    state: str
    """``ready``, or the command that makes it so."""
    licence: str
    towers: dict[str, str]
    sources: dict[str, str]
    """Where each part came from."""
    size_mb: float
    fingerprint: str
    directory: str
    card: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of ``models show --json``."""
        return {**asdict(self), "card": str(self.card) if self.card else None}
