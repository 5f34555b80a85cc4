"""The second stage: how probably a query and a candidate match; one door to open a model's reranker."""

from __future__ import annotations

from retrieval.rerank.reranker import Reranker, open_reranker

__all__ = ["Reranker", "open_reranker"]
