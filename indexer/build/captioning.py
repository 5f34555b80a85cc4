"""Captions for the pictures of a collection that have none, from the media tokens that it keeps: no file is opened.

Who tells is passed in. A generated caption becomes the caption of the item, marked in its metadata
(:data:`indexer.collection.records.GENERATED_BY`), and a second segment of it, a text with a vector of its own, by which it is found
as text. A caption that is empty, for the model is unsure, or has a word that none may say
(:mod:`indexer.unwanted_words`) is not stored. Pictures of one content get one telling. Every commit leaves the
collection whole, so a killed run is continued by running it again. Knows nothing of rerankers or of how words are
found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from indexer.build.run import COMMIT_EVERY_S, CaptionReport
from indexer.collection.collection import UNIT_TOLERANCE, Collection
from indexer.encoders.base import DualEncoder, require_tower
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.errors import CollectionError, ModelError
from indexer.build.tuning_queries import captions_asking
from indexer.items import Embeddings, Modality
from indexer.collection.records import GENERATED_BY, GeneratedCaption, Uncaptioned
from indexer.unwanted_words import is_unwanted
from indexer.progress import Progress, silent

#: Packed media tokens ``(n, row_bytes)`` and vectors ``(n, dim)`` of the same pictures -> ``n`` captions.
Captioner = Callable[[TokenRows, Embeddings], Sequence[str]]

#: Pictures that are told together, and the most that wait for a commit.
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
    captioner: Captioner,
    *,
    on_progress: Progress = silent,
) -> CaptionReport:
    """Caption every picture of ``collection`` (open for writing) that has no caption.

    The collection keeps media tokens that ``captioner`` reads (:func:`require_captionable`). On ``KeyboardInterrupt``
    what is told is committed and the report says ``interrupted``. Raises ``ModelError`` for captions that are not as
    many as the pictures and for vectors that are none.
    """
    return _Filling(collection, encoder, captioner, on_progress).run()


class _Filling:
    def __init__(
        self, collection: Collection, encoder: DualEncoder, captioner: Captioner, on_progress: Progress
    ) -> None:
        self.collection = collection
        self.encoder = encoder
        self.captioner = captioner
        self.on_progress = on_progress
        self.told: dict[str, str] = {}
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
                self._tell(part)
                if len(self.pending) >= _COMMIT_EVERY or time.monotonic() - self.committed_at > COMMIT_EVERY_S:
                    self._commit()
                self._show(start + len(part), len(waiting))
            self._commit()
            if waiting:
                self.collection.save_index(asking=captions_asking(self.collection, self.encoder))
        except KeyboardInterrupt:
            interrupted = True
            self._commit()
        return CaptionReport(self.captioned, self.without_words, time.monotonic() - started, interrupted)

    def _tell(self, part: Sequence[Uncaptioned]) -> None:
        tokens = self.collection.tokens
        assert tokens is not None  # require_captionable
        new: dict[str, int] = {}
        for one in part:
            if one.content_hash not in self.told and not self._known(one.content_hash):
                new.setdefault(one.content_hash, one.vector_id)
        if new:
            ids = np.fromiter(new.values(), dtype=np.int64)
            captions = self.captioner(tokens.get(ids), self.collection.vectors.get(ids))
            if len(captions) != len(new):
                raise ModelError(
                    f"model {self.encoder.spec}: told {len(captions)} captions for {len(new)} pictures; "
                    "use another --model"
                )
            for content_hash, caption in zip(new, captions, strict=True):
                self.told[content_hash] = "" if is_unwanted(caption) else " ".join(caption.split())
        for one in part:
            if words := self.told[one.content_hash]:
                self.pending.append((one, words))
            else:
                self.without_words += 1

    def _known(self, content_hash: str) -> bool:
        """Whether a copy of the picture has been captioned by this model before; then its words are taken."""
        for row in self.collection.catalog.find_hash(content_hash, Modality.IMAGE):
            own = row.caption if row.metadata.get(GENERATED_BY) == self.encoder.spec else None
            if own and not is_unwanted(own):
                self.told[content_hash] = own
                return True
        return False

    def _commit(self) -> None:
        """Write all that is pending in one commit; vectors and the empty rows of their tokens first."""
        pending, collection = self.pending, self.collection
        if pending:
            vectors = self._vectors([words for _, words in pending])
            with collection.transaction():
                at = collection.catalog.vector_count
                collection.vectors.append(vectors, at=at)
                if collection.tokens is not None:
                    collection.tokens.append(np.zeros((len(pending), collection.tokens.dim), dtype=np.uint8), at=at)
                collection.catalog.put_generated(
                    [
                        GeneratedCaption(one.item_id, words, self.encoder.spec, at + place)
                        for place, (one, words) in enumerate(pending)
                    ]
                )
                collection.catalog.set_meta(vector_count=at + len(pending))
            self.captioned += len(pending)
            self.pending = []
        self.committed_at = time.monotonic()

    def _vectors(self, captions: Sequence[str]) -> Embeddings:
        """Vectors of captions as passages, ``(n, dim)``; equal captions are encoded once."""
        distinct = list(dict.fromkeys(captions))
        rows = np.asarray(self.encoder.encode_passages(distinct), dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=-1)
        if rows.shape != (len(distinct), self.encoder.dim) or not np.all(np.abs(lengths - 1.0) <= UNIT_TOLERANCE):
            raise ModelError(
                f"model {self.encoder.spec}: gave no unit vectors of shape ({len(distinct)}, {self.encoder.dim}) for "
                "captions; use another --model"
            )
        place = {caption: number for number, caption in enumerate(distinct)}
        return np.asarray(rows[[place[caption] for caption in captions]])

    def _show(self, done: int, total: int) -> None:
        if total:
            self.on_progress("captioning", done, total)
