"""Corpus -> collection: read what is new, encode it, commit it; again and again, after any crash.

What was indexed before is recognised in this order, cheapest first: same size, times and inode (not read at all); same
bytes (read, its row updated); bytes of another item, so moved or copied (its vectors reused); else decoded
and encoded. Worker threads read, hash, decode and prepare; the calling thread encodes and commits. Every
commit leaves the collection whole, so a killed build is continued by running it again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np

from indexer.ann.plan import IndexOptions, plan_index
from indexer.build.batches import Batches, Encoded, Prepared, Refused, prepare
from indexer.build.outcomes import Failed, Fatal, KnownContent, NewContent, Outcome, SameContent, ToRead, size_bytes
from indexer.build.prefetch import Prefetcher
from indexer.build.report import BuildReport
from indexer.build.tuning_queries import caption_queries_of
from indexer.collection.collection import Collection, Entry
from indexer.collection.records import BadFile, ItemRow, describes_same, with_generated_caption_of, with_words_of
from indexer.corpus.keys import APART, is_apart, key_apart, row_key
from indexer.corpus.pruning import Gone, Kept, Roots, find_gone, is_gone
from indexer.corpus.walk import Corpus
from indexer.encoders.base import DualEncoder, require_tower
from indexer.encoders.identity import identity_of
from indexer.encoders.tokens.format import token_encoder
from indexer.encoders.trust import confirm_if_possible
from indexer.errors import (
    CatalogRefuses,
    ChangedWhileRead,
    CollectionError,
    MediaError,
    MissingExtra,
    ModelError,
    StorageError,
    TrimodalError,
)
from indexer.files import FileId, display_path, one_line
from indexer.integers import LEAST_INTEGER, MOST_INTEGER
from indexer.items import DecodedItem, Item, Modality, Place, Skipped
from indexer.limits import READING_RULES, RUN_BYTES, MediaLimits, limits_for
from indexer.media.content_hash import content_hash
from indexer.media.decode import decode_parts
from indexer.media.held import Held
from indexer.media.reserve import Reserve, no_reserve
from indexer.media.text.token_passages import cut_by
from indexer.progress import Progress, silent

__all__ = ["COMMIT_EVERY_S", "BuildReport", "build"]

#: Of a reading function.
_Read = TypeVar("_Read")
#: A commit is made at least this often while there is something to commit.
COMMIT_EVERY_S = 5.0
#: Items whose rows are looked up in one go.
_CHUNK = 1_000
_PROGRESS_EVERY_S = 0.1
#: What can be installed later and then reads files that could not be read before.
_OPTIONAL = ("resvg_py", "pillow_heif")
#: Of a transaction: a value in it that SQLite, JSON or the vector store does not hold. It does not say which one.
_CANNOT_BE_STORED = (CatalogRefuses, ArithmeticError, ValueError, TypeError, RecursionError)


def build(
    collection: Collection,
    corpus: Corpus,
    encoder: DualEncoder,
    *,
    limits: MediaLimits | None = None,
    batch_size: int = 32,
    prune: bool = False,
    prune_missing_roots: bool = False,
    verify_content: bool = False,
    commit_every: int = 256,
    workers: int = 2,
    index_options: IndexOptions | None = None,
    on_progress: Progress = silent,
) -> BuildReport:
    """Bring ``collection`` (open for writing) up to date with ``corpus``.

    ``index_options``: of the index, where it is to be another than before; see :mod:`indexer.ann.plan`.

    A bad file is skipped, with its reason, and never moves its neighbours. With ``prune`` items that are gone
    from under ``corpus.roots`` are removed; what only cannot be seen is kept and reported. With ``prune_missing_roots``
    that is kept only where the system fails to answer (see :mod:`indexer.corpus.visibility`).
    With ``verify_content`` every file is read, also one of the same size and times as before.
    Stages of ``on_progress`` are ``indexing``, ``removing``, ``saving``, and ``index``: vectors put into it.
    On ``KeyboardInterrupt`` what is encoded is committed and the report
    says ``interrupted``. Raises ``StorageError`` on a full disk, saying what is kept; ``EncoderMismatch``, also
    when the collection keeps media tokens and the encoder makes other ones. Tokens are made where the collection
    was created to keep them.
    """
    collection.require_encoder(identity_of(encoder))
    confirm_if_possible(encoder)
    _require_same_tokens(collection, encoder)
    collection.require_whole()  # before hours of encoding
    run = _Build(collection, corpus, encoder, limits_for(encoder.window_s, limits), on_progress)
    run.verify_content = verify_content
    run.prune_missing_roots = prune_missing_roots
    prune = prune or prune_missing_roots
    return run.run(
        batch_size=batch_size, commit_every=commit_every, workers=workers, prune=prune, index_options=index_options
    )


@dataclass(slots=True)
class _Pending:
    """What the next commit writes."""

    entries: list[Entry] = field(default_factory=list)
    touched: list[Item] = field(default_factory=list)
    renamed: dict[str, Item] = field(default_factory=dict)
    bad: list[BadFile] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def apart(self) -> Iterator[_Pending]:
        """The same, an item each, in the order in which they are written together."""
        yield _Pending(stale=self.stale)
        yield from (_Pending(renamed={old_key: item}) for old_key, item in self.renamed.items())
        yield from (_Pending(touched=[item]) for item in self.touched)
        yield from (_Pending(bad=[bad]) for bad in self.bad)
        yield from (_Pending(entries=[entry]) for entry in self.entries)

    def keys_to_store(self) -> list[str]:
        """Keys of the items that are to be stored; what is to be removed, or was skipped before, is none of them."""
        return [item.key for item in (*self.renamed.values(), *self.touched, *(entry.item for entry in self.entries))]

    def __len__(self) -> int:
        return len(self.entries) + len(self.touched) + len(self.renamed) + len(self.bad) + len(self.stale)


@dataclass(slots=True)
class _Counts:
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    moved: int = 0
    pruned: int = 0
    segments: int = 0
    settled: int = 0
    committed: int = 0


class _Build:
    """One run of :func:`build`."""

    def __init__(
        self,
        collection: Collection,
        corpus: Corpus,
        encoder: DualEncoder,
        limits: MediaLimits,
        on_progress: Progress,
    ) -> None:
        self.collection = collection
        self.catalog = collection.catalog
        self.corpus = corpus
        self.encoder = encoder
        self.limits = limits
        self.on_progress = on_progress
        self.prune_missing_roots = False
        self.verify_content = False
        self.not_pruned: list[Kept] = []
        self.roots = Roots(corpus.roots)
        self.items = _once_each(corpus.items)
        self.keys = {item.key for item in self.items}
        self.keys_apart = self.catalog.keys_with(APART)
        """Of stored rows, from earlier runs."""
        self.reader = _reader(limits)
        self.cut = cut_by(collection.passage_rule, encoder)
        self.skipped = list(corpus.skipped)
        self.remarks: dict[str, list[str]] = {}
        """What was wrong with files that could be read, and their keys."""
        self.counts = _Counts()
        self.pending = _Pending()
        self.deferred: list[KnownContent] = []
        self.stored_keys: set[str] = set()
        """Keys at work that are in the catalog already: changed, not added."""
        self._claimed: set[tuple[str, Modality]] = set()
        self._claim_lock = threading.Lock()
        self._stop = threading.Event()
        self._shown_at = 0.0
        self._committed_at = time.monotonic()

    def run(
        self, *, batch_size: int, commit_every: int, workers: int, prune: bool, index_options: IndexOptions | None
    ) -> BuildReport:
        if index_options is not None:  # options that can't be fulfilled are refused before hours of encoding
            plan_index(self.collection.vectors.count, self.collection.dim, index_options)
        started = time.monotonic()
        interrupted = False
        batches = Batches(self.encoder, batch_size, with_tokens=self.collection.tokens is not None)
        prefetcher = Prefetcher(
            self._read,
            workers=workers,
            limit_items=batch_size + 2 * workers,
            limit_bytes=RUN_BYTES,
            size_bytes=size_bytes,
        )
        try:
            self._show("indexing", now=True)
            for outcome in prefetcher.run(self._to_read()):
                self._take(outcome, batches)
                if len(self.pending) >= commit_every or time.monotonic() - self._committed_at > COMMIT_EVERY_S:
                    self._commit()
            self._finish(batches)
            if prune:
                self._prune()
            self._show("saving", now=True)
            self._save_index(index_options)
        except KeyboardInterrupt:
            interrupted = True
            self._stop.set()
            prefetcher.stop()
            self._commit()
        except StorageError as error:
            raise StorageError(f"{error} ({self.counts.committed:,} items of this run are kept)") from error
        except TrimodalError:
            self._commit()
            raise
        finally:
            self._stop.set()
            prefetcher.stop()
        return BuildReport(
            added=self.counts.added,
            changed=self.counts.changed,
            unchanged=self.counts.unchanged,
            moved=self.counts.moved,
            pruned=self.counts.pruned,
            segments=self.counts.segments,
            skipped=self.skipped,
            seconds=time.monotonic() - started,
            interrupted=interrupted,
            warnings=_warnings(self.remarks),
            not_pruned=tuple(self.not_pruned),
            excluded=self.corpus.n_excluded,
            not_indexed=dict(self.corpus.not_indexed),
            links_not_followed=self.corpus.links_not_followed,
        )

    # -- what needs reading ---------------------------------------------------------------------------------

    def _to_read(self) -> Iterator[ToRead]:
        """The items that have to be read; all others are settled here, from the catalog alone."""
        for start in range(0, len(self.items), _CHUNK):
            chunk = self.items[start : start + _CHUNK]
            keys = [item.key for item in chunk]
            rows, bad, ids = self.catalog.find(keys), self.catalog.bad_files(keys), self.catalog.file_ids(keys)
            for item in chunk:
                item, stored = self._one_name_each(item, rows.get(item.key))
                if stored is not None:
                    item = with_words_of(item, stored)
                unread = item if stored is None else with_generated_caption_of(item, stored)
                if not self._settled(unread, stored, bad.get(item.key), ids.get(item.key)):
                    if stored is not None:
                        self.stored_keys.add(item.key)
                    yield ToRead(item, unread, stored)

    def _one_name_each(self, item: Item, stored: ItemRow | None) -> tuple[Item, ItemRow | None]:
        """``item`` and what is stored of it, where a file and a row, or two rows, have one key (``corpus.keys``).

        A stored row makes way for a file, under the key of a row apart; a row is given that key where another row has
        the usual one. Neither is lost.
        """
        if item.text is not None and item.manifest is not None and item.row_id is not None and self.keys_apart:
            apart = key_apart(item.manifest, item.row_id)
            if apart in self.keys_apart and apart != item.key:  # it keeps the key that it was given once
                return replace(item, key=apart), self.catalog.find([apart]).get(apart)
        if stored is None:
            if item.row_id is not None and item.manifest is not None and item.text is not None and is_apart(item.key):
                # stored under the usual key before there was another thing of that name
                usual = row_key(item.manifest, item.row_id)
                before = self.catalog.find([usual]).get(usual)
                if before is not None and before.text is not None and _is_row(item, before):
                    self.collection.rename(usual, replace(_item_of(before), key=item.key))
                    return item, self.catalog.find([item.key]).get(item.key)
            return item, stored
        if stored.text is None or stored.manifest is None or stored.row_id is None:
            return item, stored
        apart = key_apart(stored.manifest, stored.row_id)
        if item.text is None:
            if apart not in self.keys and not self.catalog.find([apart]):
                self.collection.rename(stored.key, replace(_item_of(stored), key=apart))
            return item, None
        if _is_row(item, stored) or item.manifest is None or item.row_id is None:
            return item, stored
        key = key_apart(item.manifest, item.row_id)
        return replace(item, key=key), self.catalog.find([key]).get(key)

    def _settled(self, item: Item, stored: ItemRow | None, bad: BadFile | None, before: FileId | None) -> bool:
        """Whether nothing of the item has to be read. ``before``: its file as it was when that was read last."""
        if item.modality not in self.encoder.modalities:
            try:
                require_tower(self.encoder, item.modality)
            except ModelError as error:
                self._skip(item, str(error))
                return True
        if stored is not None:
            if stored.modality is not item.modality or not self._looks_unchanged(item, stored, before):
                return False
            if describes_same(item, stored):
                self.counts.unchanged += 1
            else:
                self.pending.touched.append(replace(item, file_id=None))  # not read, so what was stored of it stays
                self.counts.changed += 1
            self._settle()
            return True
        same_file = bad is not None and (bad.size_bytes, bad.mtime_ns) == (item.size_bytes, item.mtime_ns)
        same_file = same_file and self._may_be_same_file(item, before)
        if bad is not None and same_file and bad.reader == self.reader and item.text is None:
            self._skip(item, bad.reason)
            return True
        return False

    def _looks_unchanged(self, item: Item, stored: ItemRow, before: FileId | None) -> bool:
        if item.text is not None:
            return content_hash(item) == stored.content_hash
        if item.mtime_ns in (LEAST_INTEGER, MOST_INTEGER):
            return False  # its time is beyond what is stored: two times look alike, so its content decides
        same = (item.size_bytes, item.mtime_ns) == (stored.size_bytes, stored.mtime_ns)
        return same and self._may_be_same_file(item, before)

    def _may_be_same_file(self, item: Item, before: FileId | None) -> bool:
        """Of a file of the same size and time; one that was read before this was stored is taken for the same."""
        if self.verify_content:
            return False
        return before is None or item.file_id is None or item.file_id == before

    # -- in the worker threads ------------------------------------------------------------------------------

    def _read(self, task: ToRead, reserve: Reserve) -> Iterator[Outcome]:
        found = self._guarded(task.item, lambda: self._look_at(task))
        if isinstance(found, NewContent):
            yield from self._decode(found, reserve)
        else:
            yield found

    def _look_at(self, task: ToRead) -> Outcome | NewContent:
        new, stored = self._hold(task.item), task.stored
        found: Outcome | NewContent = new
        if stored is not None and (stored.content_hash, stored.modality) == (new.content_hash, new.item.modality):
            found = SameContent(_as_read(task.same, new.held))
        elif not self._claim(new.content_hash, new.item.modality):
            found = KnownContent(new.item, new.content_hash)
        if new.held is not None and found is not new:
            new.held.close()
        return found

    def _hold(self, item: Item) -> NewContent:
        """The item with the hash of its content, as it is now."""
        if item.text is not None:
            return NewContent(item, content_hash(item), None)
        held = Held.hold(item, self.limits, content_hash)
        return NewContent(_as_read(item, held), held.digest, held)

    def _decode(self, new: NewContent, reserve: Reserve = no_reserve) -> Iterator[Outcome]:
        """The parts of an item, prepared; ``Failed`` in the place of the part that can't be read, and then no more."""
        decoding = decode_parts if new.held is None else new.held.decode
        parts = decoding(new.item, self.limits, reserve, self.cut)
        is_last = False
        try:
            while not is_last:
                outcome = self._guarded(new.item, lambda: self._next_part(new, parts))
                is_last = not isinstance(outcome, Prepared) or outcome.is_last
                yield outcome
                del outcome  # it may be large, and the next is read meanwhile
        finally:
            if new.held is not None:
                new.held.close()

    def _next_part(self, new: NewContent, parts: Iterator[DecodedItem]) -> Outcome:
        if self._stop.is_set():
            return Failed(new.item, "stopped", lasting=False)
        decoded = next(parts)
        with self._claim_lock:
            for remark in decoded.remarks:
                self.remarks.setdefault(remark, []).append(new.item.key)
        if not decoded.segments:
            return Failed(new.item, "holds nothing to index; leave it out", lasting=True)
        return prepare(decoded, new.content_hash, self.encoder)

    @staticmethod
    def _guarded(item: Item, read: Callable[[], _Read]) -> _Read | Failed | Fatal:
        """Whatever goes wrong with a file is the outcome of that file alone."""
        try:
            return read()
        except (MediaError, MissingExtra) as error:
            reason = error.reason if isinstance(error, MediaError) else str(error)
            return Failed(item, reason, _is_lasting(error))
        except TrimodalError as error:
            return Fatal(error)
        except Exception as error:
            return Failed(item, f"cannot be read ({one_line(error)}); leave it out", _is_lasting(error))

    def _claim(self, digest: str, modality: Modality) -> bool:
        """Whether this content is new to the collection and to this run, and so to be encoded here."""
        with self._claim_lock:
            if (digest, modality) in self._claimed or self.catalog.find_hash(digest, modality):
                return False
            self._claimed.add((digest, modality))
            return True

    # -- in the calling thread ------------------------------------------------------------------------------

    def _take(self, outcome: Outcome, batches: Batches) -> None:
        match outcome:
            case Prepared():
                self._collect(batches.add(outcome))
            case SameContent(item):
                self.pending.touched.append(item)
                self.counts.unchanged += 1
                self._settle()
            case KnownContent():
                if not self._reuse(outcome):
                    self.deferred.append(outcome)
            case Failed():
                batches.drop()  # what was read of it before
                self._fail(outcome)
            case Fatal(error):
                raise error

    def _collect(self, done: Sequence[Encoded | Refused]) -> None:
        for one in done:
            item = one.prepared.item
            if isinstance(one, Refused):
                self._fail(Failed(item, one.reason, lasting=True))
            else:
                prepared = one.prepared
                self.pending.entries.append(
                    Entry(item, prepared.content_hash, prepared.facts, prepared.segments, one.vectors, one.tokens)
                )
                self.counts.changed += item.key in self.stored_keys
                self.counts.added += item.key not in self.stored_keys
                self._settle()

    def _reuse(self, known: KnownContent) -> bool:
        """Give the item the vectors and tokens of one with the same content; False when there is none (yet)."""
        item = known.item
        sources = [
            row
            for row in self.catalog.find_hash(known.content_hash, item.modality)
            if row.key not in self.pending.renamed and row.key != item.key
        ]
        if not sources:
            return False
        for source in sources:
            place = Place(source.key, source.path, source.manifest)
            if item.text is None and source.text is None and self.roots.hold(place) and is_gone(place, self.roots):
                self.pending.renamed[source.key] = with_generated_caption_of(with_words_of(item, source), source)
                self.counts.moved += 1
                self._settle()
                return True
        source = sources[0]
        segments = self.catalog.segments_of(source.item_id)
        facts = {fact: getattr(source, fact) for fact in ("width_px", "height_px", "duration_s", "taken_at")}
        ids = np.array([one.vector_id for one in segments], dtype=np.int64)
        vectors, store = self.collection.vectors.get(ids), self.collection.tokens
        tokens = store.get(ids) if store is not None and item.modality is not Modality.TEXT else None
        found = tuple(one.segment for one in segments)
        self.pending.entries.append(Entry(item, known.content_hash, facts, found, vectors, tokens))
        self.counts.moved += 1
        self._settle()
        return True

    def _fail(self, failed: Failed) -> None:
        """Skip the file. What is stored for it goes when its new content cannot be read."""
        self._skip(failed.item, failed.reason)
        if failed.lasting:
            item = failed.item
            self.pending.stale.append(item.key)
            self.pending.bad.append(
                BadFile(item.key, item.size_bytes, item.mtime_ns, failed.reason, self.reader, item.file_id)
            )

    def _skip(self, item: Item, reason: str) -> None:
        self.skipped.append(Skipped(display_path(item.key), reason))
        self._settle()

    def _finish(self, batches: Batches) -> None:
        """The batches that are not full, and the items that waited for one with the same content."""
        self._collect(batches.flush())
        self._commit()
        for known in self.deferred:
            if not self._reuse(known):
                self._commit()  # the item with its content may be one that was moved just now
                if not self._reuse(known):  # that item could not be read; this one may have the better name
                    again = self._guarded(known.item, partial(self._hold, known.item))  # it may have changed since
                    for outcome in self._decode(again) if isinstance(again, NewContent) else [again]:
                        self._take(outcome, batches)
                    self._collect(batches.flush())
            if len(self.pending.entries) >= _CHUNK:
                self._commit()
        self.deferred.clear()
        self._commit()

    def _prune(self) -> None:
        self._show("removing", now=True)
        gone = self._gone(self.catalog.places())
        self.not_pruned = gone.kept
        self.counts.pruned = self.collection.remove(gone.keys) if gone.keys else 0
        bad = [Place(key, Path(key), None) for key in self.catalog.bad_files() if key not in self.keys]
        forgotten = self._gone(bad)
        if forgotten.keys:
            self.collection.remove(forgotten.keys)

    def _gone(self, places: Sequence[Place]) -> Gone:
        return find_gone(places, self.corpus, missing_roots=self.prune_missing_roots)

    def _commit(self) -> None:
        """Write all that is pending in one commit; on an error it stays pending, but for what can't be stored."""
        pending = self.pending
        if len(pending):
            try:
                self._store(pending)
            except _CANNOT_BE_STORED:
                for part in pending.apart():
                    self._store_or_skip(part)
            self.pending = _Pending()
        self._committed_at = time.monotonic()

    def _store(self, pending: _Pending) -> None:
        with self.collection.transaction():
            self.collection.remove(pending.stale)
            for old_key, item in pending.renamed.items():
                self.collection.rename(old_key, item)
            self.collection.touch(pending.touched)
            self.collection.record_skipped(pending.bad)
            self.collection.commit(pending.entries)
        self.counts.segments += sum(len(entry.segments) for entry in pending.entries)
        self.counts.committed += len(pending.entries) + len(pending.renamed)

    def _store_or_skip(self, part: _Pending) -> None:
        """Store one item, in a commit of its own; one with a value that the catalog can't hold is skipped."""
        try:
            self._store(part)
        except _CANNOT_BE_STORED as error:
            reason = f"cannot be stored ({one_line(error)}); change it or leave it out"
            self.skipped.extend(Skipped(display_path(key), reason) for key in part.keys_to_store())
            for entry in part.entries:
                self.counts.changed -= entry.item.key in self.stored_keys
                self.counts.added -= entry.item.key not in self.stored_keys

    def _save_index(self, options: IndexOptions | None) -> None:
        queries = caption_queries_of(self.collection, self.encoder)
        self.collection.save_index(options=options, tuning_queries=queries, on_progress=self.on_progress)

    def _settle(self) -> None:
        self.counts.settled += 1
        self._show("indexing")

    def _show(self, stage: str, *, now: bool = False) -> None:
        if now or self.counts.settled == len(self.items) or time.monotonic() - self._shown_at > _PROGRESS_EVERY_S:
            self._shown_at = time.monotonic()
            self.on_progress(stage, self.counts.settled, len(self.items), len(self.skipped))


def _require_same_tokens(collection: Collection, encoder: DualEncoder) -> None:
    """Refuse to mix tokens of two rerankers, or items with tokens and such without."""
    if collection.token_spec is None:
        return
    maker = token_encoder(encoder)
    spec = maker.token_spec if maker is not None else None
    if spec is None:
        raise CollectionError(
            f"{collection.path}: holds media tokens, but model {encoder.spec} makes none; "
            "make it anew: trimodal index --rebuild PATH..."
        )
    collection.require_tokens(spec)


def _is_row(item: Item, stored: ItemRow) -> bool:
    """Whether both are the same row of the same manifest."""
    return (item.manifest, item.row_id) == (stored.manifest, stored.row_id)


def _item_of(row: ItemRow) -> Item:
    """A stored item as it was given."""
    return Item(
        key=row.key,
        modality=row.modality,
        path=row.path,
        text=row.text,
        captions=row.captions,
        metadata=row.metadata,
        row_id=row.row_id,
        split=row.split,
        manifest=row.manifest,
        size_bytes=row.size_bytes,
        mtime_ns=row.mtime_ns,
    )


def _as_read(item: Item, held: Held | None) -> Item:
    """``item`` with the size and time of the content that was read, not of what was there when it was listed."""
    return (
        item
        if held is None
        else replace(item, size_bytes=held.size_bytes, mtime_ns=held.mtime_ns, file_id=held.file_id)
    )


def _once_each(items: Sequence[Item]) -> list[Item]:
    """One item a key, the last one that a manifest lists where one does."""
    by_key: dict[str, Item] = {}
    for item in items:
        if item.key not in by_key or item.manifest is not None:
            by_key[item.key] = item
    return list(by_key.values())


def _warnings(remarks: dict[str, list[str]]) -> list[str]:
    lines = []
    for remark, keys in sorted(remarks.items()):
        first = display_path(min(keys))
        lines.append(f"{first}: {remark}" + (f" (and {len(keys) - 1:,} more files)" if len(keys) > 1 else ""))
    return lines


def _reader(limits: MediaLimits) -> str:
    """What decides whether a file can be read, beside the file; a file that failed is tried again when it changes."""
    try:
        ours = version("trimodal")
    except PackageNotFoundError:  # run from a source tree
        ours = ""
    extras = [name for name in _OPTIONAL if find_spec(name) is not None]
    return hashlib.blake2b(repr((limits, ours, extras, READING_RULES)).encode(), digest_size=8).hexdigest()


def _is_lasting(error: BaseException | None) -> bool:
    """Whether the file itself is at fault, and not the system that was to give it (permission, memory)."""
    while error is not None:
        refused = isinstance(error, OSError) and error.errno is not None
        if refused or isinstance(error, MemoryError | ChangedWhileRead):
            return False
        error = error.__cause__ or error.__context__
    return True
