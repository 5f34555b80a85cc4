"""Corpus -> collection: read what is new, encode it, commit it; again and again, after any crash.

What was indexed before is recognised in this order, cheapest first: same size, times and inode (not read at all); same
bytes (read, its row updated); bytes of another item, so moved or copied (its vectors reused); else decoded
and encoded. Worker threads read, hash, decode and prepare; the calling thread encodes and commits. Every
commit leaves the collection whole, so a killed build is continued by running it again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexer.ann.plan import IndexOptions, plan_index
from indexer.build.batches import Batches, Encoded, Prepared, Refused
from indexer.build.committer import Committer
from indexer.build.item_reader import ItemReader
from indexer.build.outcomes import Failed, Fatal, KnownContent, Outcome, SameContent, size_bytes
from indexer.build.prefetch import Prefetcher
from indexer.build.report import BuildReport
from indexer.build.selection import Selection, once_each
from indexer.build.tally import Tally
from indexer.build.tuning_queries import caption_queries_of
from indexer.collection.catalog.records import BadFile, with_generated_caption_of, with_words_of
from indexer.collection.collection import Collection, Entry
from indexer.corpus.pruning import Gone, Kept, Roots, find_gone, is_gone
from indexer.corpus.walk import Corpus
from indexer.encoders.base import DualEncoder, media_limits
from indexer.encoders.identity import identity_of
from indexer.encoders.tokens.format import token_encoder
from indexer.encoders.trust import confirm_if_possible
from indexer.errors import CollectionError, StorageError, TrimodalError
from indexer.items import Modality, Place
from indexer.limits import RUN_BYTES, MediaLimits
from indexer.media.text.token_passages import cut_by
from indexer.progress import Progress, silent

__all__ = ["BuildReport", "build"]

#: Items that get the vectors of others in one commit.
_MOST_REUSED = 1_000


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
    run = _Build(
        collection,
        corpus,
        encoder,
        media_limits(encoder, limits),
        on_progress,
        verify_content=verify_content,
        prune_missing_roots=prune_missing_roots,
    )
    return run.run(
        batch_size=batch_size,
        commit_every=commit_every,
        workers=workers,
        prune=prune or prune_missing_roots,
        index_options=index_options,
    )


class _Build:
    """One run of :func:`build`."""

    def __init__(
        self,
        collection: Collection,
        corpus: Corpus,
        encoder: DualEncoder,
        limits: MediaLimits,
        on_progress: Progress,
        *,
        verify_content: bool,
        prune_missing_roots: bool,
    ) -> None:
        self.collection = collection
        self.catalog = collection.catalog
        self.corpus = corpus
        self.encoder = encoder
        self.on_progress = on_progress
        self.prune_missing_roots = prune_missing_roots
        self.not_pruned: list[Kept] = []
        self.roots = Roots(corpus.roots)
        items = once_each(corpus.items)
        self.tally = Tally(len(items), corpus.skipped, on_progress)
        self.committer = Committer(collection, self.tally)
        self.reader = ItemReader(self.catalog, encoder, limits, cut_by(collection.passage_rule, encoder))
        self.selection = Selection(
            collection,
            items,
            encoder,
            self.committer,
            self.tally,
            reader_version=self.reader.version,
            verify_content=verify_content,
        )
        self.deferred: list[KnownContent] = []

    def run(
        self, *, batch_size: int, commit_every: int, workers: int, prune: bool, index_options: IndexOptions | None
    ) -> BuildReport:
        if index_options is not None:  # options that can't be fulfilled are refused before hours of encoding
            plan_index(self.collection.vectors.count, self.collection.dim, index_options)
        started = time.monotonic()
        interrupted = False
        batches = Batches(self.encoder, batch_size, with_tokens=self.collection.tokens is not None)
        prefetcher = Prefetcher(
            self.reader.read,
            workers=workers,
            limit_items=batch_size + 2 * workers,
            limit_bytes=RUN_BYTES,
            size_bytes=size_bytes,
        )
        try:
            self.tally.show("indexing", now=True)
            for outcome in prefetcher.run(self.selection.to_read()):
                self._take(outcome, batches)
                self.committer.commit_if_due(commit_every)
            self._finish(batches)
            if prune:
                self._prune()
            self.tally.show("saving", now=True)
            self._save_index(index_options)
        except KeyboardInterrupt:
            interrupted = True
            self.reader.stopped.set()
            prefetcher.stop()
            self.committer.commit()
        except StorageError as error:
            raise StorageError(f"{error} ({self.tally.committed:,} items of this run are kept)") from error
        except TrimodalError:
            self.committer.commit()
            raise
        finally:
            self.reader.stopped.set()
            prefetcher.stop()
        return BuildReport(
            added=self.tally.added,
            changed=self.tally.changed,
            unchanged=self.tally.unchanged,
            moved=self.tally.moved,
            pruned=self.tally.pruned,
            segments=self.tally.segments,
            skipped=self.tally.skipped,
            seconds=time.monotonic() - started,
            interrupted=interrupted,
            warnings=self.reader.warnings(),
            not_pruned=tuple(self.not_pruned),
            excluded=self.corpus.n_excluded,
            not_indexed=dict(self.corpus.not_indexed),
            links_not_followed=self.corpus.links_not_followed,
        )

    def _take(self, outcome: Outcome, batches: Batches) -> None:
        match outcome:
            case Prepared():
                self._collect(batches.add(outcome))
            case SameContent(item):
                self.committer.pending.touched.append(item)
                self.tally.unchanged += 1
                self.tally.settle()
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
                self.committer.pending.entries.append(
                    Entry(item, prepared.content_hash, prepared.facts, prepared.segments, one.vectors, one.tokens)
                )
                self.tally.count_encoded(item.key)
                self.tally.settle()

    def _reuse(self, known: KnownContent) -> bool:
        """Give the item the vectors and tokens of one with the same content; False when there is none (yet)."""
        item = known.item
        sources = [
            row
            for row in self.catalog.find_hash(known.content_hash, item.modality)
            if row.key not in self.committer.pending.renamed and row.key != item.key
        ]
        if not sources:
            return False
        for source in sources:
            place = Place(source.key, source.path, source.manifest)
            if item.text is None and source.text is None and self.roots.hold(place) and is_gone(place, self.roots):
                described = with_generated_caption_of(with_words_of(item, source), source)
                self.committer.pending.renamed[source.key] = described
                self.tally.moved += 1
                self.tally.settle()
                return True
        source = sources[0]
        segments = self.catalog.segments_of(source.item_id)
        facts = {fact: getattr(source, fact) for fact in ("width_px", "height_px", "duration_s", "taken_at")}
        ids = np.array([one.vector_id for one in segments], dtype=np.int64)
        vectors, store = self.collection.vectors.get(ids), self.collection.tokens
        tokens = store.get(ids) if store is not None and item.modality is not Modality.TEXT else None
        found = tuple(one.segment for one in segments)
        self.committer.pending.entries.append(Entry(item, known.content_hash, facts, found, vectors, tokens))
        self.tally.moved += 1
        self.tally.settle()
        return True

    def _fail(self, failed: Failed) -> None:
        """Skip the file. What is stored for it goes when its new content cannot be read."""
        self.tally.skip(failed.item, failed.reason)
        if failed.lasting:
            item = failed.item
            self.committer.pending.stale.append(item.key)
            self.committer.pending.bad.append(
                BadFile(item.key, item.size_bytes, item.mtime_ns, failed.reason, self.reader.version, item.file_id)
            )

    def _finish(self, batches: Batches) -> None:
        """The batches that are not full, and the items that waited for one with the same content."""
        self._collect(batches.flush())
        self.committer.commit()
        for known in self.deferred:
            if not self._reuse(known):
                self.committer.commit()  # the item with its content may be one that was moved just now
                if not self._reuse(known):  # that item could not be read; this one may have the better name
                    for outcome in self.reader.read_again(known.item):  # it may have changed since
                        self._take(outcome, batches)
                    self._collect(batches.flush())
            if len(self.committer.pending.entries) >= _MOST_REUSED:
                self.committer.commit()
        self.deferred.clear()
        self.committer.commit()

    def _prune(self) -> None:
        self.tally.show("removing", now=True)
        gone = self._gone(self.catalog.places())
        self.not_pruned = gone.kept
        self.tally.pruned = self.collection.remove(gone.keys) if gone.keys else 0
        bad = [Place(key, Path(key), None) for key in self.catalog.bad_files() if key not in self.selection.keys]
        forgotten = self._gone(bad)
        if forgotten.keys:
            self.collection.remove(forgotten.keys)

    def _gone(self, places: Sequence[Place]) -> Gone:
        return find_gone(places, self.corpus, missing_roots=self.prune_missing_roots)

    def _save_index(self, options: IndexOptions | None) -> None:
        queries = caption_queries_of(self.collection, self.encoder)
        self.collection.save_index(options=options, tuning_queries=queries, on_progress=self.on_progress)


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
