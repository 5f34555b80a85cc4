"""One collection directory: create, open, commit, compact. Knows nothing of media files and models.

    collection.json    what it is: schema version, encoder and fingerprint, dim, metric; written once, atomically
    catalog.sqlite     items and segments; its transaction is the commit point
    vectors/           the embeddings, append-only: the source of truth
    tokens/            media tokens, row by row beside the vectors; only where it was created to keep them
    index.faiss        derived from the vectors; may lag behind or be missing, and is then completed in memory
    write.lock         held by the one writer; the system releases it when the writer dies

A commit appends vectors and tokens and syncs them, then runs one catalog transaction that names them and counts them. A
crash before the transaction leaves bytes that nothing refers to, which the next commit overwrites.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import filelock
import numpy as np

from indexer.catalog import Catalog
from indexer.check import Problem, repair, verify
from indexer.crc import crc32_of_json
from indexer.durable import replace_text, storage_error, storage_errors, sync_folder
from indexer.encoders.media_tokens import TokenRows, TokenSpec
from indexer.errors import (
    CollectionError,
    CollectionLocked,
    CollectionMissing,
    EncoderMismatch,
    IndexDamaged,
    StorageError,
)
from indexer.faiss_index import VectorIndex
from indexer.index_keeper import AskingOf, IndexKeeper, OnIndexing
from indexer.index_plan import IndexWish
from indexer.items import Embeddings, Item, Modality, Scalar, Segment
from indexer.rows import BadFile, Record
from indexer.token_store import TokenStore
from indexer.vectors import Checksums, RowStore, VectorStore, rows_per_shard

__all__ = ["Collection", "Entry", "Problem"]

SCHEMA_VERSION = 1
#: An embedding is of unit length to within this (half-precision models are a little off).
UNIT_TOLERANCE = 1e-2

_DESCRIPTION, _CATALOG, _VECTORS, _TOKENS, _INDEX, _LOCK = (
    "collection.json", "catalog.sqlite", "vectors", "tokens", "index.faiss", "write.lock",
)  # fmt: skip
_OURS = frozenset((_DESCRIPTION, _CATALOG, _VECTORS, _TOKENS, _INDEX, _LOCK, "lost+found"))
#: Of ``collection.json``: the crc32 of the rest of it.
_CHECK = "check"
#: Beside the collection's directory while it is made anew.
_REBUILDING, _REPLACED = ".rebuilding", ".replaced"
#: Vectors moved at a time, and media tokens, which are wider.
_CHUNK, _TOKEN_CHUNK = 16_384, 4_096
#: How often a reader starts again when a writer compacts under it.
_ATTEMPTS = 5


class MayBeInterrupted(Protocol):
    """What a rebuild needs to know of its result."""

    @property
    def interrupted(self) -> bool: ...


Rebuilt = TypeVar("Rebuilt", bound=MayBeInterrupted)


@dataclass(frozen=True, slots=True)
class Entry:
    """An item, encoded: ``vectors[i]`` (float32, unit length) is the embedding of ``segments[i]``.

    ``tokens[i]`` are its packed media tokens: for pictures and sounds, where the collection keeps them.
    """

    item: Item
    content_hash: str
    facts: Mapping[str, Scalar]
    segments: tuple[Segment, ...]
    vectors: Embeddings
    tokens: TokenRows | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What ``collection.json`` holds."""

    schema_version: int
    encoder: str
    fingerprint: str
    dim: int
    metric: str
    rows_per_shard: int
    created_at: str
    tokens: TokenSpec | None = None
    """Absent from what was written before there were any."""
    checksums: bool = False
    """Whether every row of vectors and tokens has one; absent from what was written before there were any."""


class Collection:
    """A collection, open. Any number may read, each seeing one commit; one may write."""

    def __init__(
        self,
        path: Path,
        description: Description,
        catalog: Catalog,
        vectors: VectorStore,
        tokens: TokenStore | None,
        lock: filelock.BaseFileLock | None,
    ) -> None:
        self.path = path
        self.catalog = catalog
        self.vectors = vectors
        self.tokens = tokens
        """The media tokens, row by row beside the vectors; ``None`` where it keeps none."""
        self.warnings: list[IndexDamaged] = []
        """What was found damaged and worked around; the message has the remedy."""
        self._description = description
        self._lock_file = lock
        self._keeper = IndexKeeper(self, path / _INDEX)
        self._lock = threading.RLock()

    # -- opening and closing --------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        encoder_spec: str,
        fingerprint: str,
        dim: int,
        tokens: TokenSpec | None = None,
        *,
        replace: bool = False,
    ) -> Collection:
        """Make an empty collection, open for writing; with ``replace`` in the place of the one that is there.

        With ``tokens`` it keeps the media tokens of every picture and sound, beside the vectors.
        ``collection.json`` is written last: until then there is no collection. Raises ``CollectionError`` when
        there is one already, or when the folder holds other things.
        """
        _refuse_other_files(path)
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as cleanup:
            lock = _take_lock(path)
            cleanup.callback(lock.release)
            if (path / _DESCRIPTION).exists() and not replace:
                raise CollectionError(
                    f"{path}: is a collection already; add to it (trimodal index PATH...) "
                    "or make it anew (trimodal index --rebuild PATH...)"
                )
            made = cls._make(path, lock, encoder_spec, fingerprint, dim, tokens)
            cleanup.pop_all()
            return made

    @classmethod
    def _make(
        cls, path: Path, lock: filelock.BaseFileLock, encoder_spec: str, fingerprint: str, dim: int,
        tokens: TokenSpec | None,
    ) -> Collection:  # fmt: skip
        """An empty collection in the place of what is there; ``lock`` is held, and becomes the collection's."""
        with storage_errors(path):
            _clear(path)
            (path / _VECTORS).mkdir(exist_ok=True)
            if tokens is not None:
                (path / _TOKENS).mkdir(exist_ok=True)
            sync_folder(path)
        with contextlib.ExitStack() as cleanup:
            catalog = cleanup.enter_context(contextlib.closing(Catalog.create(path / _CATALOG)))
            description = Description(
                schema_version=SCHEMA_VERSION,
                encoder=encoder_spec,
                fingerprint=fingerprint,
                dim=dim,
                metric="inner product",
                rows_per_shard=rows_per_shard(dim),
                created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
                tokens=tokens,
                checksums=True,
            )
            said = asdict(description)
            text = json.dumps({**said, _CHECK: crc32_of_json(said)}, indent=2) + "\n"
            replace_text(path / _DESCRIPTION, text)
            made = cls(path, description, catalog, *_stores(path, description, catalog), lock)
            cleanup.pop_all()
            return made

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Collection:
        """Open a collection. A reader takes no lock and needs no right to write; a writer is the only one.

        Raises ``CollectionMissing``, ``CollectionLocked``, or ``IndexDamaged`` when the catalog is unusable.
        """
        _put_back(path)
        description = _read_description(path)
        with contextlib.ExitStack() as cleanup:
            lock = _take_lock(path) if writable else None
            if lock is not None:
                cleanup.callback(lock.release)
            catalog = cleanup.enter_context(contextlib.closing(Catalog.open(path / _CATALOG, writable=writable)))
            collection = cls(path, description, catalog, *_stores(path, description, catalog), lock)
            if writable:
                for store in collection._row_stores():
                    store.remove_others()
                for left_over in path.glob("*.tmp"):
                    left_over.unlink(missing_ok=True)
            else:
                collection._map_rows()
            cleanup.pop_all()
            return collection

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a collection at ``path``."""
        _put_back(path)
        return (path / _DESCRIPTION).is_file()

    @classmethod
    def open_or_create(
        cls, path: Path, encoder_spec: str, fingerprint: str, dim: int, tokens: TokenSpec | None = None
    ) -> Collection:
        """The collection at ``path``, open for writing; an empty one where there is none.

        ``tokens`` is for a new one: a collection that was made without media tokens goes on without. One that holds
        nothing belongs to no encoder: what a first run with a wrong model left is made anew for this one.
        """
        if not cls.exists(path):
            return cls.create(path, encoder_spec, fingerprint, dim, tokens)
        found = cls.open(path, writable=True)
        lock = found._lock_file
        assert lock is not None
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(found.close)
            if (found.encoder_spec, found.fingerprint) != (encoder_spec, fingerprint) and found.holds_nothing:
                found.catalog.close()
                found = cls._make(path, lock, encoder_spec, fingerprint, dim, tokens)
            cleanup.pop_all()
            return found

    @classmethod
    def rebuild(
        cls,
        path: Path,
        encoder_spec: str,
        fingerprint: str,
        dim: int,
        run: Callable[[Collection], Rebuilt],
        tokens: TokenSpec | None = None,
    ) -> Rebuilt:
        """Make the collection at ``path`` anew beside it, by ``run``, and put it in its place when that is done.

        Until then the old one is searched as before. Interrupted or killed, the old one stays, and the next
        rebuild with the same encoder and tokens continues where this one ended. Returns what ``run`` returns.
        """
        path = path.resolve()
        beside = path.with_name(path.name + _REBUILDING)
        for folder in (path, path.with_name(path.name + _REPLACED)):
            _refuse_other_files(folder)  # they are removed in the end
        with contextlib.ExitStack() as cleanup:
            if cls.exists(path):  # no other writer may add to what is about to be replaced
                cleanup.callback(_take_lock(path).release)
            target: Collection | None = None
            if cls.exists(beside):
                with contextlib.suppress(IndexDamaged):
                    target = cls.open(beside, writable=True)
                    if (target.fingerprint, target.token_spec) != (fingerprint, tokens) or target.verify():
                        target.close()
                        target = None
            if target is None:
                target = cls.create(beside, encoder_spec, fingerprint, dim, tokens, replace=True)
            with target:
                result = run(target)
            if not result.interrupted:
                _exchange(path, beside)
        return result

    def close(self) -> None:
        """Let go of the catalog and the lock; to be called twice does no harm."""
        self.catalog.close()
        if self._lock_file is not None:
            self._lock_file.release()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def refresh(self) -> bool:
        """Let a reader see the newest commit; returns whether there was one since."""
        with self._lock:
            if _read_description(self.path) != self._description:
                raise CollectionError(f"{self.path}: was made anew by another process; open it again")
            before = (self.vectors.generation, self.vectors.count, self.count)
            self.catalog.refresh()
            old = self.vectors
            self.vectors, self.tokens = _stores(self.path, self._description, self.catalog)
            self._map_rows()
            if old.generation != self.vectors.generation:
                self._keeper.forget()
            return before != (self.vectors.generation, self.vectors.count, self.count)

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Width of its vectors."""
        return self._description.dim

    @property
    def encoder_spec(self) -> str:
        """``--model`` of the encoder that made it."""
        return self._description.encoder

    @property
    def fingerprint(self) -> str:
        """Of the encoder that made it."""
        return self._description.fingerprint

    @property
    def token_spec(self) -> TokenSpec | None:
        """What the media tokens are that it keeps; ``None`` where it keeps none."""
        return self._description.tokens

    @property
    def count(self) -> int:
        """Live segments."""
        return sum(self.catalog.count_segments().values())

    @property
    def holds_nothing(self) -> bool:
        """Whether no item, live or dead, is stored: files that could not be read may be noted."""
        return not self.vectors.count and not sum(self.catalog.count_items().values())

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._lock_file is not None

    def require_encoder(self, fingerprint: str, spec: str) -> None:
        """Raise ``EncoderMismatch`` unless the encoder with ``fingerprint`` made this collection."""
        if fingerprint == self.fingerprint:
            return
        if spec == self.encoder_spec:
            raise EncoderMismatch(
                f"{self.path}: was made by another version of model {spec} ({self.fingerprint[:12]}, now "
                f"{fingerprint[:12]}); make it anew: trimodal index --rebuild PATH..."
            )
        raise EncoderMismatch(
            f"{self.path}: was made by model {self.encoder_spec}, not {spec}; use --model {self.encoder_spec}, "
            "another --collection, or make it anew: trimodal index --rebuild PATH..."
        )

    def require_tokens(self, spec: TokenSpec) -> None:
        """Raise ``CollectionError`` unless it keeps media tokens as ``spec`` says: what a reranker asks first."""
        ours = self.token_spec
        if ours is None:
            raise CollectionError(
                f"{self.path}: holds no media tokens, so it can't be reranked; add them: trimodal index --rebuild "
                "PATH..., or search with --no-rerank"
            )
        if ours != spec:
            raise EncoderMismatch(
                f"{self.path}: its media tokens were made by another reranker ({ours.fingerprint[:16]} against "
                f"{spec.fingerprint[:16]}); make them anew: trimodal index --rebuild PATH..., "
                "or search with --no-rerank"
            )

    def stats(self) -> dict[str, Any]:
        """Counts and sizes, fit for JSON."""
        items, segments = self.catalog.count_items(), self.catalog.count_segments()
        live, committed = sum(segments.values()), self.vectors.count
        facts = self._keeper.facts()
        return {
            "path": str(self.path),
            "model": self.encoder_spec,
            "fingerprint": self.fingerprint,
            "dim": self.dim,
            "metric": self._description.metric,
            "created_at": self._description.created_at,
            "items": {str(modality): n for modality, n in items.items()},
            "segments": {str(modality): n for modality, n in segments.items()},
            "skipped": len(self.catalog.bad_files()),
            "vectors": {"live": live, "dead": committed - live, "generation": self.vectors.generation},
            "tokens": None
            if self.token_spec is None
            else {
                "count": self.token_spec.count,
                "width": self.token_spec.width,
                "bytes_per_item": self.token_spec.row_bytes,
            },
            "index": None if facts is None else facts.kind,
            "index_facts": None if facts is None else facts.to_json(),
            "bytes": _size_bytes(self.path) + (self.tokens.disk_bytes() if self.tokens is not None else 0),
        }

    def index_lines(self) -> list[str]:
        """What ``index.faiss`` is and what its recall was measured to be, for people; none where it is missing."""
        facts = self._keeper.facts()
        return [] if facts is None else facts.lines()

    # -- the index ------------------------------------------------------------------------------------------

    def index(self, device: str = "auto") -> VectorIndex:
        """The index over all committed vectors, live and dead: search it with ``allowed``.

        Loaded once a device. Rows that ``index.faiss`` lacks are added from the vectors; where it is damaged or
        missing, or lacks too many, an exact index is made in memory (and damage noted in ``warnings``).
        """
        with self._lock:
            return self._keeper.index(device)

    def save_index(
        self, *, anew: bool = False, wish: IndexWish | None = None, asking: AskingOf = lambda: None,
        on_progress: OnIndexing = lambda done, total: None,
    ) -> None:  # fmt: skip
        """Bring ``index.faiss`` up to the last commit, of the kind that is right for the count and ``wish``.

        An approximate one is searched with the queries of ``asking`` (else with vectors of its own) until it finds what
        is wished. With ``anew`` nothing of the old file is used. Raises ``StorageError``; what is committed stays.
        """
        self._require_writable()
        with self._lock:
            self._keeper.save(anew=anew, wish=wish, asking=asking, on_progress=on_progress)

    # -- writing --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written inside is one commit, or nothing is."""
        self._require_writable()
        before = self.vectors.count
        try:
            with self.catalog.transaction():
                yield
        except BaseException:
            with contextlib.suppress(CollectionError, StorageError):
                before = self.catalog.vector_count
            for store in self._row_stores():
                store.rewind(before)
            raise

    def commit(self, entries: Sequence[Entry]) -> None:
        """Store items with their vectors and tokens, durably when this returns; one of the same key is replaced.

        Raises ``StorageError`` (disk full) with all earlier commits kept, and ``ValueError`` for vectors that
        are not finite, not of unit length or not as many as the segments, and for tokens that do not fit.
        """
        entries = list({entry.item.key: entry for entry in entries}.values())
        for entry in entries:
            _check(entry, self.dim)
            _check_tokens(entry, self.token_spec)
        with self.transaction():
            at = self.catalog.vector_count
            if entries:
                self.vectors.append(np.concatenate([entry.vectors for entry in entries]), at=at)
                if self.tokens is not None:
                    self.tokens.append(
                        np.concatenate([_token_rows(entry, self.tokens.dim) for entry in entries]), at=at
                    )
            records = []
            for entry in entries:
                records.append(Record(entry.item, entry.content_hash, entry.facts, entry.segments, at))
                at += len(entry.segments)
            self.catalog.put(records)
            self.catalog.set_meta(vector_count=at)

    def touch(self, items: Sequence[Item]) -> None:
        """Write again what the items say of themselves (time, captions, metadata); their vectors stay."""
        with self.transaction():
            self.catalog.touch(items)

    def rename(self, old_key: str, item: Item) -> None:
        """The file of ``old_key`` was moved: it is ``item`` now, with the vectors it has."""
        with self.transaction():
            self.catalog.rename(old_key, item)

    def remove(self, keys: Iterable[str]) -> int:
        """Remove items; their vectors are dead until ``compact``. Returns how many there were."""
        with self.transaction():
            return self.catalog.remove(keys)

    def remove_under(self, names: Iterable[str]) -> int:
        """Remove items by file, by folder, or by key (``manifest.jsonl#row``); returns how many there were."""
        names = list(names)
        whole = {Path(name).absolute() for name in names}
        keys = {*names, *map(str, whole)}
        places = self.catalog.places()
        return self.remove(
            place.key for place in places if place.key in keys or place.path in whole or whole & {*place.path.parents}
        )

    def record_skipped(self, bad: Sequence[BadFile]) -> None:
        """Remember files that could not be read."""
        with self.transaction():
            self.catalog.record_skipped(bad)

    def compact(self) -> tuple[int, int]:
        """Give the space of dead vectors back; returns the rows of the vector store before and after.

        The live vectors, and their tokens, are written as a new generation, the catalog changes to it in one
        transaction, and the old one is removed: a crash anywhere leaves one or the other.
        """
        self._require_writable()
        before, live = self.vectors.count, self.catalog.vector_ids()
        if len(live) < before:
            fresh = self.vectors.next_generation()
            tokens = self.tokens.next_generation() if self.tokens is not None else None
            try:
                for start in range(0, len(live), _CHUNK):
                    self.vectors.copy_to(fresh, live[start : start + _CHUNK], at=start)
                if self.tokens is not None and tokens is not None:
                    for start in range(0, len(live), _TOKEN_CHUNK):
                        self.tokens.copy_to(tokens, live[start : start + _TOKEN_CHUNK], at=start)
                with self.catalog.transaction():
                    self.catalog.renumber(live)
                    self.catalog.set_meta(generation=fresh.generation, vector_count=len(live), index_generation=0)
            except StorageError:
                fresh.discard()
                if tokens is not None:
                    tokens.discard()
                raise
            with self._lock:
                self.vectors, self.tokens = fresh, tokens
                self._keeper.forget()
            for store in self._row_stores():
                store.remove_others()
        self.catalog.compact()
        self.save_index()
        return before, len(live)

    # -- checking -------------------------------------------------------------------------------------------

    def verify(self) -> list[Problem]:
        """Every disagreement between catalog, vectors, media tokens and index, with the command that mends it."""
        for _ in range(_ATTEMPTS):
            if not self.writable:
                self.refresh()
            problems = verify(self.catalog, self.vectors, self.path / _INDEX, self.tokens)
            # what a writer changes meanwhile is no damage: look at its newer commit
            if not problems or self.writable or not self.refresh():
                break
        return problems

    def repair(self) -> list[str]:
        """Mend what ``verify`` finds; returns a line for everything done.

        Items whose vectors or tokens are lost are removed, so that the next ``trimodal index`` encodes them again.
        A catalog that SQLite cannot read is left to ``trimodal index --rebuild``.
        """
        self._require_writable()
        return repair(self)

    # -- helpers --------------------------------------------------------------------------------------------

    def _require_writable(self) -> None:
        if not self.writable:
            raise CollectionError(f"{self.path}: is open for reading only")

    def _row_stores(self) -> tuple[RowStore[Any], ...]:
        return (self.vectors,) if self.tokens is None else (self.vectors, self.tokens)

    def _map_rows(self) -> None:
        """Hold the files of a reader's commit open; when a writer compacts meanwhile, take the newer commit."""
        for _ in range(_ATTEMPTS):
            damage: list[IndexDamaged] = []
            for store in self._row_stores():
                try:
                    store.open_all()
                except IndexDamaged as found:
                    damage.append(found)
            if not damage:
                return
            generation = self.vectors.generation
            self.catalog.refresh()
            self.vectors, self.tokens = _stores(self.path, self._description, self.catalog)
            if self.vectors.generation == generation:
                self.warnings += damage
                return


def _exchange(path: Path, beside: Path) -> None:
    """Put the directory ``beside`` in the place of ``path``; a crash between the two steps is mended by `_put_back`."""
    replaced = path.with_name(path.name + _REPLACED)
    with storage_errors(path):
        if replaced.exists():
            shutil.rmtree(replaced)
        if path.exists():
            path.rename(replaced)
        beside.rename(path)
        sync_folder(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def _put_back(path: Path) -> None:
    """Undo half an exchange: the old collection was moved away, and the new one not yet moved in."""
    replaced = path.with_name(path.name + _REPLACED)
    if not path.exists() and (replaced / _DESCRIPTION).is_file():
        with contextlib.suppress(OSError):
            replaced.rename(path)


def _stores(path: Path, description: Description, catalog: Catalog) -> tuple[VectorStore, TokenStore | None]:
    """The vectors of the commit that ``catalog`` sees, and its tokens, their files about as big as those of vectors."""
    generation, count, rows = catalog.generation, catalog.vector_count, description.rows_per_shard
    common: dict[str, Any] = {"generation": generation, "count": count, "checked": description.checksums}
    vectors = VectorStore(path / _VECTORS, dim=description.dim, shard_rows=rows, **common)
    if description.tokens is None:
        return vectors, None
    width = description.tokens.row_bytes
    rows = max(1, rows * description.dim * vectors.dtype.itemsize // width)
    return vectors, TokenStore(path / _TOKENS, dim=width, shard_rows=rows, **common)


def _check(entry: Entry, dim: int) -> None:
    if entry.vectors.shape != (len(entry.segments), dim) or not entry.segments:
        raise ValueError(
            f"{entry.item.key}: {len(entry.segments)} segments need vectors of shape "
            f"({len(entry.segments)}, {dim}), got {entry.vectors.shape}"
        )
    lengths = np.linalg.norm(entry.vectors, axis=1)
    if not bool(np.all(np.abs(lengths - 1.0) <= UNIT_TOLERANCE)):  # false for NaN, too
        raise ValueError(f"{entry.item.key}: its vectors are not of unit length")


def _check_tokens(entry: Entry, spec: TokenSpec | None) -> None:
    """Pictures and sounds have tokens where the collection keeps them; nothing else has."""
    if spec is None or entry.item.modality is Modality.TEXT:
        if entry.tokens is not None:
            raise ValueError(f"{entry.item.key}: has media tokens, and there is no place for them")
        return
    wanted = (len(entry.segments), spec.row_bytes)
    if entry.tokens is None or entry.tokens.shape != wanted or entry.tokens.dtype != np.uint8:
        got = "none" if entry.tokens is None else f"{entry.tokens.dtype} {entry.tokens.shape}"
        raise ValueError(f"{entry.item.key}: needs media tokens, uint8 of shape {wanted}, got {got}")


def _token_rows(entry: Entry, width: int) -> TokenRows:
    return np.zeros((len(entry.segments), width), dtype=np.uint8) if entry.tokens is None else entry.tokens


def _read_description(path: Path) -> Description:
    file = path / _DESCRIPTION
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CollectionMissing(f"{path}: no collection there; make one: trimodal index PATH...") from None
    except OSError as error:
        raise CollectionError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError:
        raise IndexDamaged(f"{file}: is damaged; make the collection anew: trimodal index --rebuild PATH...") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CollectionError(
            f"{file}: was written by a newer trimodal (schema {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade: pip install -U trimodal"
        )
    try:
        check = values.pop(_CHECK, None)
        if check != crc32_of_json(values) and not (check is None and "checksums" not in values):
            raise ValueError  # what was written before there were checksums has neither
        later = {"tokens", "checksums"}  # absent before collections had any
        known = {name: values[name] for name in Description.__dataclass_fields__ if name not in later}
        tokens = values.get("tokens")
        description = Description(
            **known, tokens=None if tokens is None else TokenSpec(**tokens), checksums=values.get("checksums", False)
        )
        if min(description.dim, description.rows_per_shard) < 1:
            raise ValueError
        if description.tokens is not None and min(description.tokens.count, description.tokens.width) < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise IndexDamaged(f"{file}: is damaged; make the collection anew: trimodal index --rebuild PATH...") from None
    return description


def _size_bytes(folder: Path) -> int:
    """Of all files in it but the tokens; one that a writer removes meanwhile counts as nothing."""
    size = 0
    for file in folder.rglob("*"):
        if file.parent.name == _TOKENS:
            continue  # they have holes
        with contextlib.suppress(OSError):
            status = file.stat()
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size


def _refuse_other_files(path: Path) -> None:
    """A folder that holds other things, such as the user's pictures, is not made a collection."""
    if not path.exists():
        return
    if not path.is_dir():
        raise CollectionError(f"{path}: is a file; name a new or empty folder (--collection)")
    with storage_errors(path):
        for entry in sorted(path.iterdir()):
            ours = entry.name in _OURS or entry.name.startswith((_CATALOG, ".")) or entry.suffix == ".tmp"
            if not ours:
                raise CollectionError(
                    f"{path}: holds other files ({entry.name}); name a new or empty folder (--collection)"
                )


def _clear(path: Path) -> None:
    """Remove a collection's files, ``collection.json`` first: from then on there is none."""
    (path / _DESCRIPTION).unlink(missing_ok=True)
    sync_folder(path)
    rows = [*path.glob(f"{_VECTORS}/*{VectorStore.suffix}"), *path.glob(f"{_TOKENS}/*{TokenStore.suffix}"),
            *path.glob(f"*/*{Checksums.suffix}")]  # fmt: skip
    for file in [*path.glob(f"{_CATALOG}*"), *path.glob("*.tmp"), *rows, path / _INDEX]:
        file.unlink(missing_ok=True)


def _take_lock(path: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path / _LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise CollectionLocked(f"{path}: another trimodal is writing to it; wait for it to end, or stop it") from None
    except OSError as error:
        raise storage_error(path, error) from error
    return lock
