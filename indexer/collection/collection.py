"""One collection: create, open, commit, compact. Knows nothing of media files and models.

A commit appends vectors and tokens and syncs them, then runs one catalog transaction that names them and counts them. A
crash before the transaction leaves bytes that nothing refers to, which the next commit overwrites. The files and their
names are in :mod:`indexer.collection.layout`, what a commit takes in :mod:`indexer.collection.entries`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.ann.index import VectorIndex
from indexer.ann.plan import IndexOptions
from indexer.collection import layout
from indexer.collection.catalog.catalog import Catalog
from indexer.collection.catalog.records import BadFile, GeneratedCaption, Record
from indexer.collection.compacting import copy_live_rows
from indexer.collection.compatibility import require_same_encoder, require_same_tokens
from indexer.collection.description import (
    DESCRIPTION_NAME,
    SCHEMA_VERSION,
    Description,
    read_description,
)
from indexer.collection.entries import CaptionEntry, Entry
from indexer.collection.index_file_manager import IndexFileManager, TuningQueriesOf
from indexer.collection.places import keys_under
from indexer.collection.repair import repair_rows
from indexer.collection.row_store import RowStore, VectorStore, rows_per_shard
from indexer.collection.stats import collection_stats
from indexer.collection.token_store import TokenStore
from indexer.collection.verify import REPAIR, Problem, verify
from indexer.durable import make_way, replace_text, storage_errors, sync_folder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenSpec
from indexer.errors import (
    CollectionError,
    CollectionMissing,
    IndexDamaged,
    StorageError,
)
from indexer.items import Item
from indexer.media.text.token_passages import PassageRule
from indexer.progress import Progress, silent
from indexer.reading import misplaced

if TYPE_CHECKING:
    import filelock

__all__ = ["CaptionEntry", "Collection", "Entry", "Problem"]

#: How often a reader starts again when a writer compacts under it.
_ATTEMPTS = 5


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
        self._index_file = IndexFileManager(path / layout.INDEX_NAME, catalog, vectors, self.warnings)
        self._lock = threading.RLock()

    # -- opening and closing --------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        encoder: EncoderIdentity,
        passages: PassageRule | None = None,
        *,
        replace: bool = False,
    ) -> Collection:
        """Make an empty collection, open for writing; with ``replace`` in the place of the one that is there.

        Where the encoder makes media tokens, those of every picture and sound are kept beside the vectors. Texts are
        cut by ``passages``.
        ``collection.json`` is written last: until then there is no collection. Raises ``CollectionError`` when
        there is one already, or when the folder holds other things, and ``IndexDamaged`` when it holds what is left
        of a collection whose description is gone.
        """
        layout.refuse_other_files(path)
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as cleanup:
            lock = layout.take_lock(path)
            cleanup.callback(lock.release)
            if not replace and cls.exists(path):
                layout.refuse_remains(path)
                raise CollectionError(
                    f"{path}: is a collection already; add to it (trimodal index PATH...) "
                    "or make it anew (trimodal index --rebuild PATH...)"
                )
            made = cls._make(path, lock, encoder, passages)
            cleanup.pop_all()
            return made

    @classmethod
    def _make(
        cls,
        path: Path,
        lock: filelock.BaseFileLock,
        encoder: EncoderIdentity,
        passages: PassageRule | None,
    ) -> Collection:
        """An empty collection in the place of what is there; ``lock`` is held, and becomes the collection's."""
        with storage_errors(path):
            layout.clear(path)
            (path / layout.VECTORS_NAME).mkdir(exist_ok=True)
            if encoder.tokens is not None:
                (path / layout.TOKENS_NAME).mkdir(exist_ok=True)
            sync_folder(path)
        with contextlib.ExitStack() as cleanup:
            catalog = cleanup.enter_context(contextlib.closing(Catalog.create(path / layout.CATALOG_NAME)))
            description = Description(
                schema_version=SCHEMA_VERSION,
                encoder=encoder.spec,
                fingerprint=encoder.fingerprint,
                dim=encoder.dim,
                metric="inner product",
                rows_per_shard=rows_per_shard(encoder.dim),
                created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
                tokens=encoder.tokens,
                checksums=True,
                passages=passages,
                revision=encoder.revision,
            )
            catalog.keep_description(description.text())
            replace_text(path / DESCRIPTION_NAME, description.text())
            made = cls(path, description, catalog, *layout.open_stores(path, description, catalog), lock)
            cleanup.pop_all()
            return made

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Collection:
        """Open a collection. A reader takes no lock and needs no right to write; a writer is the only one.

        Raises ``CollectionMissing``, ``CollectionLocked``, ``IndexDamaged`` when the description or the catalog is
        unusable, and ``StorageError`` when a file cannot be read: then nothing is known of it, and nothing written.
        """
        layout.finish_replacing(path)
        try:
            description = read_description(path)
        except CollectionMissing:
            layout.refuse_remains(path)
            raise
        with contextlib.ExitStack() as cleanup:
            lock = layout.take_lock(path) if writable else None
            if lock is not None:
                cleanup.callback(lock.release)
            catalog = cleanup.enter_context(
                contextlib.closing(Catalog.open(path / layout.CATALOG_NAME, writable=writable))
            )
            stores = layout.open_stores(path, description, catalog)
            collection = cls(path, description, catalog, *stores, lock)
            if writable:
                collection._tidy_up()
            else:
                collection._map_rows()
            cleanup.pop_all()
            return collection

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a collection at ``path``, be it damaged. Raises ``StorageError`` where that is not known."""
        return layout.exists(path)

    @staticmethod
    def restore(path: Path) -> list[str]:
        """Put ``collection.json`` back from its copy: see :func:`indexer.collection.layout.restore_description`."""
        return layout.restore_description(path)

    @classmethod
    def open_or_create(cls, path: Path, encoder: EncoderIdentity, passages: PassageRule | None = None) -> Collection:
        """The collection at ``path``, open for writing; an empty one where there is none.

        The encoder's tokens and ``passages`` are for a new one: a collection that was made without media tokens stays
        without, and its texts are cut as before. One that holds nothing belongs to no encoder: what a first run with a
        wrong model left is made anew for this one.
        """
        if not cls.exists(path):
            return cls.create(path, encoder, passages)
        found = cls.open(path, writable=True)
        lock = found._lock_file
        assert lock is not None
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(found.close)
            if (found.encoder_spec, found.fingerprint) != (encoder.spec, encoder.fingerprint) and (
                found.catalog.is_whole and found.holds_nothing
            ):
                found.catalog.close()
                found = cls._make(path, lock, encoder, passages)
            cleanup.pop_all()
            return found

    def close(self) -> None:
        """Let go of the catalog and the lock; to be called twice does no harm."""
        self.catalog.close()
        for store in self._row_stores():
            store.close()
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
            if read_description(self.path) != self._description:
                raise CollectionError(f"{self.path}: was made anew by another process; open it again")
            before = (self.vectors.generation, self.vectors.count, self.count)
            self.catalog.refresh()
            self._use(*layout.open_stores(self.path, self._description, self.catalog))
            self._map_rows()
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
    def passage_rule(self) -> PassageRule | None:
        """How its texts are cut; ``None`` by characters."""
        return self._description.passages

    @property
    def count(self) -> int:
        """Live segments."""
        return sum(self.catalog.count_segments().values())

    @property
    def holds_nothing(self) -> bool:
        """Whether no item, live or dead, is stored: files that could not be read may be noted."""
        return not self.vectors.count and not sum(self.catalog.count_items().values())

    @property
    def index_file(self) -> Path:
        """Where ``index.faiss`` is."""
        return self.path / layout.INDEX_NAME

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._lock_file is not None

    @property
    def encoder(self) -> EncoderIdentity:
        """The encoder that made it, with the media tokens that it keeps."""
        return EncoderIdentity(
            self.encoder_spec, self.fingerprint, self.dim, self.token_spec, self._description.revision
        )

    def require_encoder(self, encoder: EncoderIdentity) -> None:
        """Raise ``EncoderMismatch`` unless ``encoder`` made this collection; its tokens: see :meth:`require_tokens`."""
        require_same_encoder(self.path, self.encoder, encoder)

    def require_tokens(self, spec: TokenSpec) -> None:
        """Raise ``CollectionError`` unless it keeps media tokens as ``spec`` says, as a reranker needs them."""
        require_same_tokens(self.path, self.token_spec, spec)

    def require_whole(self) -> None:
        """Raise ``IndexDamaged`` naming a file of vectors or tokens that is missing or short: nothing can be added."""
        for store in self._row_stores():
            for line in store.short_shards():
                raise IndexDamaged(f"{line}; run: trimodal verify --repair")

    def stats(self) -> dict[str, Any]:
        """Counts and sizes, fit for JSON."""
        facts = self._index_file.facts()
        return collection_stats(self.path, self._description, self.catalog, self.vectors, self.tokens, facts)

    def index_lines(self) -> list[str]:
        """What ``index.faiss`` is and what its recall was measured to be, for people; none where it is missing."""
        facts = self._index_file.facts()
        return [] if facts is None else facts.lines()

    # -- the index ------------------------------------------------------------------------------------------

    def index(self, device: str = "auto") -> VectorIndex:
        """The index over all committed vectors, live and dead: search it with ``allowed``.

        Loaded once a device. Rows that ``index.faiss`` lacks are added from the vectors; where it is damaged or
        missing, or lacks too many, an exact index is made in memory (and damage noted in ``warnings``).
        """
        with self._lock:
            return self._index_file.index(device)

    def save_index(
        self,
        *,
        anew: bool = False,
        options: IndexOptions | None = None,
        tuning_queries: TuningQueriesOf = lambda: None,
        on_progress: Progress = silent,
    ) -> None:
        """Bring ``index.faiss`` up to the last commit, of the kind that is right for the count and ``options``.

        An approximate one is searched with the queries that ``tuning_queries`` gives (else with vectors of its own)
        until it finds the recall wanted.
        With ``anew`` nothing of the old file is used. Raises ``StorageError``; what is committed stays.
        """
        self._require_writable()
        with self._lock:
            self._index_file.save(anew=anew, options=options, tuning_queries=tuning_queries, on_progress=on_progress)

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

    def commit(self, entries: Sequence[Entry], captions: Sequence[CaptionEntry] = ()) -> None:
        """Store items, and captions made for stored pictures, with their vectors: durably when this returns.

        The only code that adds vectors. An item of the same key is replaced. The rows of vectors and tokens are
        appended and synced first, entries before captions; then one catalog transaction names and counts them.

        Raises ``StorageError`` (disk full) with all earlier commits kept, and ``ValueError`` for vectors that
        are not finite, not of unit length or not as many as the segments, and for tokens that do not fit.
        """
        entries = list({entry.item.key: entry for entry in entries}.values())
        for entry in entries:
            entry.check(self.dim, self.token_spec)
        for caption in captions:
            caption.check(self.dim)
        with self.transaction():
            at = self.catalog.vector_count
            if entries or captions:
                self._append_rows(entries, captions, at)
            records = []
            for entry in entries:
                records.append(Record(entry.item, entry.content_hash, entry.facts, entry.segments, at))
                at += len(entry.segments)
            self.catalog.put(records)
            self.catalog.put_generated(
                GeneratedCaption(caption.item_id, caption.caption, caption.model, at + place)
                for place, caption in enumerate(captions)
            )
            self.catalog.set_meta(vector_count=at + len(captions))

    def _append_rows(self, entries: Sequence[Entry], captions: Sequence[CaptionEntry], at: int) -> None:
        """Append the vectors of ``entries``, then of ``captions``, from row ``at`` on, and as many rows of tokens."""
        vectors = [entry.vectors for entry in entries] + [caption.vector[None] for caption in captions]
        self.vectors.append(np.concatenate(vectors), at=at)
        if self.tokens is not None:
            width = self.tokens.dim
            tokens = [entry.token_rows(width) for entry in entries]
            tokens.append(np.zeros((len(captions), width), dtype=np.uint8))  # words have none
            self.tokens.append(np.concatenate(tokens), at=at)

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
        return self.remove(keys_under(self.catalog.places(), names))

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
            fresh, tokens = copy_live_rows(live, self.catalog, self.vectors, self.tokens)
            with self._lock:
                self._use(fresh, tokens)
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
            problems = verify(self.catalog, self.vectors, self.index_file, self.tokens)
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
        problems = self.verify()
        if not problems or any(problem.remedy != REPAIR for problem in problems):
            return []
        repaired = repair_rows(self.catalog, self.vectors, self.tokens)
        done = repaired.done
        if repaired.compact:
            before, after = self.compact()
            done.append(f"vectors written anew, {after:,} of {before:,} rows")
        self.catalog.forget_damaged_checksum()
        if misplaced(self.index_file) is not None:
            make_way(self.index_file)
        self.save_index(anew=True)
        done.append("index.faiss written anew from the vectors")
        return done

    # -- helpers --------------------------------------------------------------------------------------------

    def _tidy_up(self) -> None:
        """Remove what earlier writers left; only where the catalog is whole: a damaged one may name other files."""
        if self.catalog.is_whole:
            if not any(store.short_shards() for store in self._row_stores()):
                for store in self._row_stores():
                    store.remove_others()
            if self.catalog.description() is None:  # made before there was a copy
                self.catalog.keep_description(self._description.text())
        layout.remove_temporary_files(self.path)

    def _require_writable(self) -> None:
        if not self.writable:
            raise CollectionError(f"{self.path}: is open for reading only")

    def _row_stores(self) -> tuple[RowStore[Any], ...]:
        return (self.vectors,) if self.tokens is None else (self.vectors, self.tokens)

    def _use(self, vectors: VectorStore, tokens: TokenStore | None) -> None:
        """Read these rows from now on, of a newer commit or another generation."""
        self.vectors, self.tokens = vectors, tokens
        self._index_file.follow(vectors)

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
            self._use(*layout.open_stores(self.path, self._description, self.catalog))
            if self.vectors.generation == generation:
                self.warnings += damage
                return
