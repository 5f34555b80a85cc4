"""Captions for the pictures of a collection that have none, from the media tokens that it keeps: no file is opened.

The captioner is passed in. A generated caption becomes the caption of the item, marked in its metadata
(``GENERATED_BY`` of the catalog's records), and a second segment of it, a text with a vector of its own, by
which the picture is found as text. A caption that is empty (the model is unsure) or holds an unwanted word
(:mod:`indexer.unwanted_words`) is not stored. Pictures of one content get one caption. Every commit leaves the
collection whole, so a killed run is resumed by running it again. Knows nothing of rerankers, of how words are
found, or of how a commit is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from indexer.build.committer import COMMIT_EVERY_S
from indexer.build.report import CaptionReport
from indexer.build.tuning_queries import caption_queries_of
from indexer.collection.catalog.records import GENERATED_BY, Uncaptioned
from indexer.collection.collection import Collection
from indexer.collection.entries import CaptionEntry, of_unit_length
from indexer.encoders.base import DualEncoder, require_tower
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.errors import CollectionError, ModelError
from indexer.items import Embeddings, Modality
from indexer.progress import Progress, silent
from indexer.unwanted_words import is_unwanted

#: Packed media tokens ``(n, row_bytes)`` and vectors ``(n, dim)`` of the same pictures -> ``n`` captions.
CaptionFunction = Callable[[TokenRows, Embeddings], Sequence[str]]

#: Pictures that are captioned together, and the most that wait for a commit.
_AT_ONCE, _COMMIT_EVERY = 8, 256


def require_captionable(collection: Collection, encoder: DualEncoder, spec: TokenSpec) -> None:
    """Raise ``CollectionError`` unless ``collection`` keeps the media tokens ``spec``; ``ModelError`` without texts."""
    require_tower(encoder, Modality.TEXT)
    if collection.token_spec is None:
        raise CollectionError(
            f"{collection.path}: holds no media tokens, so its pictures can't be captioned; add them: "
            "trimodal index --rebuild --caption PATH..."
        )
    collection.require_tokens(spec)


def fill_captions(
    collection: Collection,
    encoder: DualEncoder,
    captioner: CaptionFunction,
    *,
    on_progress: Progress = silent,
) -> CaptionReport:
    """Caption every picture of ``collection`` (open for writing) that has no caption.

    The collection keeps media tokens that ``captioner`` reads (:func:`require_captionable`). On ``KeyboardInterrupt``
    the captions so far are committed and the report says ``interrupted``. Raises ``ModelError`` for captions that are
    not as many as the pictures and for vectors that are none.
    """
    return _Filling(collection, encoder, captioner, on_progress).run()


class _Filling:
    def __init__(
        self, collection: Collection, encoder: DualEncoder, captioner: CaptionFunction, on_progress: Progress
    ) -> None:
        self.collection = collection
        self.encoder = encoder
        self.captioner = captioner
        self.on_progress = on_progress
        self.captions: dict[str, str] = {}
        """Captions of this run by content."""
        self.pending: list[tuple[Uncaptioned, str]] = []
        self.captioned = self.without_words = 0
        self.committed_at = time.monotonic()

    def run(self) -> CaptionReport:
        started = time.monotonic()
        waiting = self.collection.catalog.uncaptioned()
        interrupted = False
        try:
            self._show(0, len(waiting))
            for start in range(0, len(waiting), _AT_ONCE):
                part = waiting[start : start + _AT_ONCE]
                self._caption(part)
                if len(self.pending) >= _COMMIT_EVERY or time.monotonic() - self.committed_at > COMMIT_EVERY_S:
                    self._commit()
                self._show(start + len(part), len(waiting))
            self._commit()
            if waiting:
                self.collection.save_index(tuning_queries=caption_queries_of(self.collection, self.encoder))
        except KeyboardInterrupt:
            interrupted = True
            self._commit()
        return CaptionReport(self.captioned, self.without_words, time.monotonic() - started, interrupted)

    def _caption(self, part: Sequence[Uncaptioned]) -> None:
        tokens = self.collection.tokens
        assert tokens is not None  # require_captionable
        new: dict[str, int] = {}
        for one in part:
            if one.content_hash not in self.captions and not self._known(one.content_hash):
                new.setdefault(one.content_hash, one.vector_id)
        if new:
            ids = np.fromiter(new.values(), dtype=np.int64)
            captions = self.captioner(tokens.get(ids), self.collection.vectors.get(ids))
            if len(captions) != len(new):
                raise ModelError(
                    f"model {self.encoder.spec}: wrote {len(captions)} captions for {len(new)} pictures; "
                    "use another --model"
                )
            for content_hash, caption in zip(new, captions, strict=True):
                self.captions[content_hash] = "" if is_unwanted(caption) else " ".join(caption.split())
        for one in part:
            if words := self.captions[one.content_hash]:
                self.pending.append((one, words))
            else:
                self.without_words += 1

    def _known(self, content_hash: str) -> bool:
        """Whether a copy of the picture has been captioned by this model before; then its words are taken."""
        for row in self.collection.catalog.find_hash(content_hash, Modality.IMAGE):
            own = row.caption if row.metadata.get(GENERATED_BY) == self.encoder.spec else None
            if own and not is_unwanted(own):
                self.captions[content_hash] = own
                return True
        return False

    def _commit(self) -> None:
        """Commit all that is pending, with the vectors of the captions."""
        if self.pending:
            vectors = self._vectors([words for _, words in self.pending])
            captions = [
                CaptionEntry(one.item_id, words, self.encoder.spec, vector)
                for (one, words), vector in zip(self.pending, vectors, strict=True)
            ]
            self.collection.commit((), captions)
            self.captioned += len(captions)
            self.pending = []
        self.committed_at = time.monotonic()

    def _vectors(self, captions: Sequence[str]) -> Embeddings:
        """Vectors of captions as passages, ``(n, dim)``; equal captions are encoded once."""
        distinct = list(dict.fromkeys(captions))
        rows = np.asarray(self.encoder.encode_passages(distinct), dtype=np.float32)
        if rows.shape != (len(distinct), self.encoder.dim) or not of_unit_length(rows):
            raise ModelError(
                f"model {self.encoder.spec}: gave no unit vectors of shape ({len(distinct)}, {self.encoder.dim}) for "
                "captions; use another --model"
            )
        place = {caption: number for number, caption in enumerate(distinct)}
        return np.asarray(rows[[place[caption] for caption in captions]])

    def _show(self, done: int, total: int) -> None:
        if total:
            self.on_progress("captioning", done, total)
