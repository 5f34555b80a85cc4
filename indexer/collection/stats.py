"""Counts and sizes of a collection, as ``info --json`` prints them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from indexer.ann.file import IndexFacts
from indexer.collection import layout
from indexer.collection.catalog.catalog import Catalog
from indexer.collection.description import Description
from indexer.collection.row_store import VectorStore
from indexer.collection.token_store import TokenStore


def collection_stats(
    path: Path,
    description: Description,
    catalog: Catalog,
    vectors: VectorStore,
    tokens: TokenStore | None,
    facts: IndexFacts | None,
) -> dict[str, Any]:
    """Counts and sizes (bytes), fit for JSON; ``facts`` are those of its index file, ``None`` for none."""
    items, segments = catalog.count_items(), catalog.count_segments()
    live, committed = sum(segments.values()), vectors.count
    spec, passages = description.tokens, description.passages
    return {
        "path": str(path),
        "model": description.encoder,
        "fingerprint": description.fingerprint,
        "dim": description.dim,
        "metric": description.metric,
        "created_at": description.created_at,
        "items": {str(modality): n for modality, n in items.items()},
        "segments": {str(modality): n for modality, n in segments.items()},
        "skipped": len(catalog.bad_files()),
        "vectors": {"live": live, "dead": committed - live, "generation": vectors.generation},
        "tokens": None
        if spec is None
        else {"count": spec.count, "width": spec.width, "bytes_per_item": spec.row_bytes},
        "passages": None if passages is None else asdict(passages),
        "index": None if facts is None else facts.kind,
        "index_facts": None if facts is None else facts.to_json(),
        "bytes": layout.size_bytes(path) + (tokens.disk_bytes() if tokens is not None else 0),
    }
