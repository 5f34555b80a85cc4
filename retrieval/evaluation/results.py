"""What a benchmark gave, as values: each direction, the reranker, and all of it, with their JSON.

Knows nothing of how the numbers were made, of models or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from indexer.items import Skipped
from retrieval.evaluation.ann import AnnResult
from retrieval.evaluation.captioning import CaptionResult
from retrieval.evaluation.details import DirectionDetails
from retrieval.evaluation.zero_shot import ZeroShot


@dataclass(frozen=True, slots=True)
class Gain:
    """What a second stage gave over the first one, on the same queries."""

    gain: float
    ci95: tuple[float, float]
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """``gain``, ``ci95`` and ``p_value``."""
        return {"gain": self.gain, "ci95": list(self.ci95), "p_value": self.p_value}


@dataclass(frozen=True, slots=True)
class DirectionResult:
    """What one direction gave."""

    direction: str
    stage: str
    queries: str
    """What the queries and the candidates are, in words: captions, pictures, sounds, texts."""
    candidates: str
    n_queries: int
    n_candidates: int
    captions_per_item: float | None
    """Mean over the items with captions; ``None`` where captions play no part."""
    hit_rate_at: Mapping[int, float]
    recall_at: Mapping[int, float]
    mrr: float
    chance: Mapping[str, float]
    """What a random order gives."""
    ci95: Mapping[str, tuple[float, float]]
    """Bootstrap interval over queries of each metric, under its JSON name."""
    gain: Mapping[str, Gain] | None = None
    """Of a second stage: of each hit rate, over the first stage's."""
    calibration: Mapping[str, Any] | None = None
    """Of a second stage: see ``reranking.calibration_of``."""
    zero_shot: ZeroShot | None = None
    """Of ``image->class``."""
    details: DirectionDetails | None = None
    """In ``report.json`` only; ``None`` where they were not made."""

    def to_json(self, *, details: bool = False) -> dict[str, Any]:
        """One of ``"results"`` of ``bench --json``, in ``report.json`` with its ``details``."""
        document: dict[str, Any] = {
            "direction": self.direction,
            "queries": self.queries,
            "candidates": self.candidates,
            "n_queries": self.n_queries,
            "n_candidates": self.n_candidates,
            "captions_per_item": self.captions_per_item,
            "stage": self.stage,
            **{f"hit_rate_at_{k}": value for k, value in self.hit_rate_at.items()},
            **{f"recall_at_{k}": value for k, value in self.recall_at.items()},
            "mrr": self.mrr,
            "chance": dict(self.chance),
            "ci95": {name: list(interval) for name, interval in self.ci95.items()},
        }
        if self.gain is not None:
            document["gain"] = {name: gain.to_json() for name, gain in self.gain.items()}
        if self.calibration is not None:
            document["calibration"] = dict(self.calibration)
        if self.zero_shot is not None:
            document.update(self.zero_shot.to_json())
        if details and self.details is not None:
            document["details"] = self.details.to_json()
        return document


@dataclass(frozen=True, slots=True)
class RerankerFacts:
    """Which reranker ran, and how."""

    fingerprint: str
    """Of its media tokens, which depend on its weights."""
    rerank_depth: int
    seconds: float
    pairs_per_s: float

    def to_json(self) -> dict[str, Any]:
        """``"reranker"`` of ``bench --json``."""
        return {
            "fingerprint": self.fingerprint,
            "rerank_depth": self.rerank_depth,
            "seconds": round(self.seconds, 3),
            "pairs_per_s": round(self.pairs_per_s, 1),
        }


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What a benchmark gave, with what is needed to reproduce it."""

    dataset: str
    manifest_name: str
    manifest_sha256: str
    split: str | None
    encoder: str
    encoder_fingerprint: str
    dim: int
    items: Mapping[str, int]
    """Items measured of each modality, and ``captions``: their captions, repeated ones counted."""
    captions_per_item: float
    """Mean over the rows with captions."""
    results: tuple[DirectionResult, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    seconds: float
    seconds_by_stage: Mapping[str, float]
    reranker: RerankerFacts | None = None
    """``None`` where no direction was reranked."""
    captions: CaptionResult | None = None
    """Of the pictures; ``None`` without a captioner."""
    layout: str = "manifest"
    ann: tuple[AnnResult, ...] = ()
    """The approximate index beside exact search; empty where that was not compared."""
    cache: Mapping[str, Mapping[str, int]] | None = None
    """How much of each kind was found in the cache; ``None`` without one."""
    from_collection: Mapping[str, int] = field(default_factory=dict)
    """By modality, how many items' vectors were taken from a collection."""

    def to_json(self, *, details: bool = False) -> dict[str, Any]:
        """The document of ``bench --json``, with ``details`` that of ``report.json``."""
        return {
            "dataset": self.dataset,
            "manifest": {"name": self.manifest_name, "sha256": self.manifest_sha256, "layout": self.layout},
            "split": self.split,
            "items": dict(self.items),
            "captions_per_item": self.captions_per_item,
            "encoder": self.encoder,
            "encoder_fingerprint": self.encoder_fingerprint,
            "dim": self.dim,
            "reranker": None if self.reranker is None else self.reranker.to_json(),
            "results": [result.to_json(details=details) for result in self.results],
            "captions": None if self.captions is None else self.captions.to_json(),
            "ann": [one.to_json() for one in self.ann],
            "cache": None if self.cache is None else {kind: dict(counts) for kind, counts in self.cache.items()},
            "from_collection": dict(self.from_collection),
            "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in self.skipped],
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            "seconds_by_stage": {stage: round(s, 3) for stage, s in self.seconds_by_stage.items()},
        }
