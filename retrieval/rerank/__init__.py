"""The second stage: how probably a query and a candidate match; one door to open a model's reranker."""

from __future__ import annotations

from retrieval.rerank.base import Captioner, Reranker
from retrieval.rerank.registry import open_reranker

__all__ = ["Captioner", "Reranker", "open_reranker"]
