"""Small real files, and collections over them, for the tests of the indexer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.build.run import BuildReport, build
from indexer.collection.collection import Collection, Entry
from indexer.collection.row_store import VectorStore
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenSpec
from indexer.items import Item, Modality, Scalar, Segment


def picture(path: Path, seed: int) -> Path:
    """A 16 x 16 picture of 4 x 4 coloured squares, another one for every seed."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.kron(squares, np.ones((4, 4, 1), dtype=np.uint8))).save(path)
    return path


def pictures(folder: Path, n: int, *, first: int = 0) -> list[Path]:
    """``n`` pictures that differ."""
    return [picture(folder / f"{number:04}.png", number) for number in range(first, first + n)]


def unit_rows(n: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Random directions, float32 ``(n, dim)``."""
    rows = np.random.default_rng(seed).normal(size=(n, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def entry(
    key: str,
    vectors: NDArray[np.float32],
    *,
    modality: Modality = Modality.IMAGE,
    metadata: Mapping[str, Scalar] | None = None,
    facts: Mapping[str, Scalar] | None = None,
    **said: Any,
) -> Entry:
    """An encoded item under /media with a segment for every vector."""
    item = Item(f"/media/{key}", modality, Path(f"/media/{key}"), metadata=metadata or {}, **said)
    segments = tuple(Segment(ordinal) for ordinal in range(len(vectors)))
    return Entry(item, f"hash of {key}", facts or {}, segments, vectors)


def new_collection(path: Path, dim: int = 64, tokens: TokenSpec | None = None) -> Collection:
    """An empty collection of the fake encoder, open for writing."""
    return Collection.create(path, EncoderIdentity(FakeEncoder.spec, FakeEncoder.fingerprint, dim, tokens))


def index(collection: Collection, *paths: Path, **options: Any) -> BuildReport:
    """What ``trimodal index PATHS`` does."""
    return build(collection, find_items(paths), FakeEncoder(), **options)


def found_by_itself(collection: Collection, path: Path, k: int = 1) -> list[str]:
    """Keys of the ``k`` best hits for the picture at ``path``."""
    encoder = FakeEncoder()
    with Image.open(path) as opened:
        query = encoder.encode_images([encoder.prepare_image(opened.convert("RGB"))])
    _, ids = collection.index("cpu").search(query, k, collection.catalog.vector_ids())
    rows = collection.catalog.lookup(ids[0][ids[0] >= 0])
    return [rows[int(vector_id)].key for vector_id in ids[0] if vector_id >= 0]


def snapshot(collection: Collection) -> dict[str, tuple[Any, ...]]:
    """What a collection holds, told by key: segments with the bytes of their vectors and tokens."""
    held: dict[str, tuple[Any, ...]] = {}
    for row in collection.catalog.items():
        segments = collection.catalog.segments_of(row.item_id)
        ids = np.array([one.vector_id for one in segments], dtype=np.int64)
        stored = [store.get(ids).tobytes() for store in (collection.vectors, collection.tokens) if store is not None]
        held[row.key] = (row.content_hash, tuple(one.segment for one in segments), *stored)
    return held


def vector_store(
    folder: Path, count: int = 0, *, dim: int = 8, generation: int = 1, shard_rows: int = 10
) -> VectorStore:
    """The vector store of a folder, which is made where it is missing."""
    folder.mkdir(exist_ok=True)
    return VectorStore(folder, dim=dim, generation=generation, count=count, shard_rows=shard_rows)
