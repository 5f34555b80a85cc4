"""A benchmark's files and captions -> vectors: threads decode and prepare, the calling thread encodes.

A file that cannot be read is skipped with its reason, and every other item keeps its own row. With a cache, what it
holds is not encoded again. Knows nothing of directions, relevance or metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.build.batches import Batches, Encoded, Prepared, Refused, prepare
from indexer.build.prefetch import Prefetcher
from indexer.encoders.base import DualEncoder, media_limits
from indexer.encoders.tokens.format import TokenRows, TokenSpec, token_encoder
from indexer.errors import MediaError, ModelError
from indexer.files import display_path, one_line
from indexer.items import Embeddings, Item, Modality, Skipped
from indexer.limits import RUN_BYTES, MediaLimits
from indexer.media.content_hash import content_hash
from indexer.media.decode import decode_parts
from indexer.media.held import Held
from indexer.media.reserve import Reserve
from indexer.media.text.decode import Cut
from indexer.media.text.token_passages import cut_by, rule_of
from indexer.progress import Progress, silent
from retrieval.embed import mean_vector
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.known_items import CollectionItems, content_key

#: Of an item that could not be read.
_SKIPPED_BYTES = 1_000
_CAPTIONS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class EncodedBenchmark:
    """A benchmark's vectors. Rows are numbered as in ``benchmark.rows``; skipped items are not in it."""

    benchmark: Benchmark
    items: Mapping[Modality, Mapping[int, Embeddings]]
    """Of each row's item, rising by row: ``(1, dim)``, for a text ``(passages, dim)``."""
    captions: Mapping[str, NDArray[np.float32]]
    """Of each distinct caption, and of each class's prompts, ``(dim,)``."""
    skipped: tuple[Skipped, ...]
    tokens: Mapping[Modality, Mapping[int, TokenRows]] = field(default_factory=dict)
    """Packed media tokens ``(1, row_bytes)`` of each row's item, of its first segment; empty where none were made."""
    from_collection: Mapping[str, int] = field(default_factory=dict)
    """By modality: how many items' vectors are a collection's."""


def encode_benchmark(
    benchmark: Benchmark,
    encoder: DualEncoder,
    *,
    progress: Progress = silent,
    limits: MediaLimits | None = None,
    batch_size: int = 32,
    workers: int = 2,
    with_tokens: bool = False,
    cache: BenchCache | None = None,
    collection: CollectionItems | None = None,
) -> EncodedBenchmark:
    """Vectors of the items that ``encoder`` has a tower for, and of the captions of those it could read.

    What the ``cache`` and the ``collection`` hold is not encoded; the cache keeps what is. Stages of ``progress`` are
    image, audio, text and captions.
    """
    limits = media_limits(encoder, limits)
    cut = cut_by(rule_of(encoder), encoder)
    items: dict[Modality, Mapping[int, Embeddings]] = {}
    tokens: dict[Modality, Mapping[int, TokenRows]] = {}
    skipped: list[Skipped] = []
    from_collection: dict[str, int] = {}
    for modality in Modality:
        rows = {i: row.items[modality] for i, row in enumerate(benchmark.rows) if modality in row.items}
        if not rows or modality not in encoder.modalities:
            continue
        reading = _Reading(encoder, modality, limits, batch_size, workers, with_tokens, cut, cache, collection)
        items[modality], tokens[modality], failed = reading.run(rows, progress)
        skipped += failed
        if reading.from_collection:
            from_collection[modality.value] = reading.from_collection
    texts: list[str] = []
    if Modality.TEXT in encoder.modalities:
        kept = sorted({row for found in items.values() for row in found})
        written = [text for row in kept for text in benchmark.rows[row].captions]
        texts = list(dict.fromkeys((*written, *prompts(benchmark))))
    captions = encode_captions(texts, encoder, progress, cache) if texts else {}
    for text, vector in captions.items():
        if not np.isfinite(vector).all():
            raise ModelError(
                f"model {encoder.spec}: its vector of the caption {one_line(text, 60)!r} is not finite; "
                f"check the model's weights"
            )
    made = tokens if with_tokens else {}
    return EncodedBenchmark(benchmark, items, captions, tuple(skipped), made, from_collection)


def prompts(benchmark: Benchmark) -> list[str]:
    """Every class in every template, class by class."""
    return [template.replace("{}", name) for name in benchmark.classes for template in benchmark.templates]


def encode_captions(
    texts: Sequence[str], encoder: DualEncoder, progress: Progress = silent, cache: BenchCache | None = None
) -> dict[str, NDArray[np.float32]]:
    """Vectors ``(dim,)`` of distinct captions as queries; near lengths go together, many at once, as they are short."""
    found = cache.known_texts(texts, encoder.dim) if cache is not None else {}
    rising = sorted((text for text in texts if text not in found), key=len)
    if cache is not None:
        cache.count("captions", len(found), len(rising))
    progress("captions", len(found), len(texts))
    for start in range(0, len(rising), _CAPTIONS_AT_ONCE):
        part = rising[start : start + _CAPTIONS_AT_ONCE]
        fresh = dict(zip(part, encoder.encode_queries(part), strict=True))
        found.update(fresh)
        if cache is not None:
            cache.keep_texts({text: vector for text, vector in fresh.items() if np.isfinite(vector).all()})
        progress("captions", len(found), len(texts))
    return {text: found[text] for text in texts}


@dataclass(frozen=True, slots=True)
class _Unread:
    """An item that is skipped, and why."""

    item: Item
    reason: str


@dataclass(slots=True)
class _Reading:
    """Items of one modality -> their vectors: threads decode and prepare, this thread encodes."""

    encoder: DualEncoder
    modality: Modality
    limits: MediaLimits
    batch_size: int
    workers: int
    with_tokens: bool
    cut: Cut
    cache: BenchCache | None = None
    collection: CollectionItems | None = None
    from_collection: int = 0
    vectors: dict[int, Embeddings] = field(default_factory=dict)
    """By row, as are tokens and skipped."""
    tokens: dict[int, TokenRows] = field(default_factory=dict)
    skipped: dict[int, Skipped] = field(default_factory=dict)

    def run(
        self, items: Mapping[int, Item], progress: Progress
    ) -> tuple[dict[int, Embeddings], dict[int, TokenRows], list[Skipped]]:
        """``(vectors by row, rising; media tokens by row; skipped, by row)``."""
        rows = {item.key: row for row, item in items.items()}
        total = len(items)
        spec = self._token_spec()
        if self.cache is not None or self.collection is not None:
            items = self._take_known(items, spec)
        progress(self.modality.value, len(self.vectors), total)
        batches = Batches(self.encoder, self.batch_size, with_tokens=self.with_tokens)
        reading: Prefetcher[Item, Prepared | _Unread] = Prefetcher(
            self._read,
            workers=self.workers,
            limit_items=self.batch_size + 2 * self.workers,
            limit_bytes=RUN_BYTES,
            size_bytes=_size_bytes,
        )

        def keep(done: Sequence[Encoded | Refused]) -> None:
            for one in done:
                self._keep(rows[one.prepared.item.key], one, spec)
            progress(self.modality.value, len(self.vectors) + len(self.skipped), total)

        try:
            for read in reading.run(items.values()):
                if isinstance(read, _Unread):
                    batches.drop()  # what was read of it before
                    self._skip(rows[read.item.key], read.item, read.reason)
                elif done := batches.add(read):
                    keep(done)
            keep(batches.flush())
        finally:
            reading.stop()
        return dict(sorted(self.vectors.items())), self.tokens, [self.skipped[row] for row in sorted(self.skipped)]

    def _token_spec(self) -> TokenSpec | None:
        """Of the media tokens that are made beside the vectors; ``None`` where none are."""
        maker = token_encoder(self.encoder) if self.with_tokens and self.modality is not Modality.TEXT else None
        return maker.token_spec if maker is not None else None

    def _take_known(self, items: Mapping[int, Item], spec: TokenSpec | None) -> dict[int, Item]:
        """Take the vectors and tokens that the cache and the collection hold; gives the other items."""
        contents = self._contents(items)
        if self.cache is not None:
            self._take(self.cache.known_items(self.modality, contents, self.encoder.dim, spec))
        if self.collection is not None:
            there = len(self.vectors)
            left = {row: content for row, content in contents.items() if row not in self.vectors}
            self._take(self.collection.known_items(self.modality, left, spec))
            self.from_collection = len(self.vectors) - there
        left_items = {row: item for row, item in items.items() if row not in self.vectors}
        if self.cache is not None:
            from_cache = len(self.vectors) - self.from_collection
            self.cache.count(self.modality.value, from_cache, len(left_items))
        return left_items

    def _take(self, known: Mapping[int, tuple[Embeddings, TokenRows | None]]) -> None:
        for row, (vectors, packed) in known.items():
            self.vectors[row] = vectors
            if packed is not None:
                self.tokens[row] = packed

    def _keep(self, row: int, one: Encoded | Refused, spec: TokenSpec | None) -> None:
        item = one.prepared.item
        if isinstance(one, Refused):
            self._skip(row, item, one.reason)
            return
        vector = one.vectors if self.modality is Modality.TEXT else _one_row(one.vectors)
        if vector is None:
            self._skip(row, item, "its windows cancel each other out; cut the file shorter")
            return
        self.vectors[row] = vector
        if one.tokens is not None:
            self.tokens[row] = one.tokens[:1]
        if self.cache is not None:  # by what was decoded, which may not be what was hashed before
            self.cache.keep_item(self.modality, self._content(one.prepared.content_hash), vector, one.tokens, spec)

    def _skip(self, row: int, item: Item, reason: str) -> None:
        self.skipped[row] = Skipped(_shown(item), reason)

    def _read(self, item: Item, reserve: Reserve) -> Iterator[Prepared | _Unread]:
        """In a worker thread, part by part. One bad file, whatever it raises, is only itself skipped."""
        try:
            if item.text is not None:
                for part in decode_parts(item, self.limits, reserve, self.cut):
                    yield prepare(part, content_hash(item), self.encoder)
                return
            with Held.hold(item, self.limits) as held:
                for part in held.decode(item, self.limits, reserve, self.cut):
                    yield prepare(part, held.digest, self.encoder)
                    del part
        except MediaError as error:
            yield _Unread(item, error.reason)
        except ModelError:
            raise
        except Exception as error:
            yield _Unread(item, f"cannot be read ({type(error).__name__}: {one_line(error)})")

    def _contents(self, items: Mapping[int, Item]) -> dict[int, str]:
        """Content of each item that can be read; the others are read again, and then skipped with their reason."""

        def hash_of(item: Item) -> str | None:
            try:
                return content_hash(item, self.limits)
            except (MediaError, OSError, ValueError):
                return None

        with ThreadPoolExecutor(self.workers) as pool:
            found: Iterable[str | None] = pool.map(hash_of, items.values())
            return {row: self._content(digest) for row, digest in zip(items, found, strict=True) if digest is not None}

    def _content(self, digest: str) -> str:
        return content_key(digest, self.modality, rule_of(self.encoder))


def _size_bytes(read: Prepared | _Unread) -> int:
    return read.size_bytes if isinstance(read, Prepared) else _SKIPPED_BYTES


def _one_row(segments: Embeddings) -> Embeddings | None:
    """The mean of the segments as the one row of an item, ``(1, dim)``."""
    mean = mean_vector(segments)
    return None if mean is None else mean[None, :]


def _shown(item: Item) -> str:
    return display_path(item.path if item.text is None else item.key)
