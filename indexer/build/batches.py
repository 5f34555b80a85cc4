"""Prepared items -> embeddings and media tokens, a batch of segments of one modality at a time.

An item may have one segment or thousands (a long sound, which comes in parts); batches count segments, and a batch
may hold parts of several items. What the tower has read is let go at once: of a long item only the vectors and tokens
are kept. One item that the model cannot take fails alone. Knows nothing of files, SQL or FAISS.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.collection.entries import UNIT_TOLERANCE
from indexer.encoders.base import DualEncoder
from indexer.encoders.tokens.format import TokenRows, token_encoder
from indexer.errors import ModelError, TrimodalError
from indexer.items import DecodedItem, Embeddings, Item, Modality, Scalar, Segment

#: Texts of equal length go through a tower together: of four times as many more are equally long.
_TEXT_FACTOR = 4
#: Of a segment without its text, and its places in lists.
_SEGMENT_BYTES = 200


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item or a part of it, read: ``inputs[i]`` is what the tower takes for ``segments[i]``."""

    item: Item
    content_hash: str
    facts: Mapping[str, Scalar]
    segments: tuple[Segment, ...]
    inputs: tuple[NDArray[Any] | str, ...]
    """Empty once the tower has read them."""
    is_last: bool = True
    """False where more parts of the item follow."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        total = 0
        for one in self.inputs:
            total += one.nbytes if isinstance(one, np.ndarray) else sys.getsizeof(one)
        return total + _SEGMENT_BYTES * len(self.segments)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item with its embeddings, float32 ``(segments, dim)``."""

    prepared: Prepared
    vectors: Embeddings
    tokens: TokenRows | None = None
    """Packed media tokens ``(segments, row_bytes)``, where the collection keeps them and the modality has them."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that the model could not encode."""

    prepared: Prepared
    reason: str


@dataclass(eq=False, slots=True)
class _Open:
    """An item whose segments are not all encoded, or not all there."""

    item: Item
    parts: list[Prepared] = field(default_factory=list)
    """Without their inputs."""
    vectors: list[Embeddings] = field(default_factory=list)
    """Of each part, float32 ``(segments, dim)``."""
    tokens: list[TokenRows] = field(default_factory=list)
    left: int = 0
    """Segments that wait."""
    reason: str | None = None

    def whole(self) -> Prepared:
        """The parts as one."""
        segments = tuple(segment for part in self.parts for segment in part.segments)
        facts = {name: value for part in self.parts for name, value in part.facts.items()}
        return replace(self.parts[-1], facts=facts, segments=segments)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One segment."""

    of: _Open
    part: int
    position: int
    input: NDArray[Any] | str


@dataclass(slots=True)
class _Line:
    """The segments of one modality that wait for a batch."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    worked: bool = False


#: A vector with its media tokens, or why there is none.
_Row = tuple[NDArray[np.float32], Any] | str


class Batches:
    """Collects prepared items and encodes full batches; items come out when all their segments are done."""

    def __init__(self, encoder: DualEncoder, batch_size: int, *, with_tokens: bool = False) -> None:
        """``with_tokens``: also the media tokens of pictures and sounds, of an encoder that makes them."""
        self._encoder = encoder
        self._tokens = token_encoder(encoder) if with_tokens else None
        self._batch_size = max(1, batch_size)
        self._lines = {modality: _Line() for modality in Modality}
        self._done: list[Encoded | Refused] = []
        self._open: _Open | None = None
        """The item of which more parts follow."""

    def add(self, prepared: Prepared) -> list[Encoded | Refused]:
        """Take an item or its next part; returns the items that are finished by the batches that are full now.

        The parts of an item follow each other; after a part that is not the last comes another of the same item, or
        :meth:`drop`.
        """
        n = len(prepared.inputs)
        one = self._open or _Open(prepared.item)
        self._open = None if prepared.is_last else one
        one.parts.append(replace(prepared, inputs=()))
        one.vectors.append(np.empty((n, self._encoder.dim), dtype=np.float32))
        one.left += n
        spec = self._tokens.token_spec if self._tokens and prepared.item.modality is not Modality.TEXT else None
        if spec is not None:
            one.tokens.append(np.zeros((n, spec.row_bytes), dtype=np.uint8))
        line = self._lines[prepared.item.modality]
        part = len(one.parts) - 1
        line.waiting.extend(_Waiting(one, part, position, taken) for position, taken in enumerate(prepared.inputs))
        self._finish(one)  # of a last part without segments
        while len(line.waiting) >= self._size_of(prepared.item.modality):
            self._encode(prepared.item.modality)
        return self._take()

    def _size_of(self, modality: Modality) -> int:
        return self._batch_size * (_TEXT_FACTOR if modality is Modality.TEXT else 1)

    def drop(self) -> None:
        """Forget the item of which more parts were to follow: the rest of it can't be read."""
        dropped, self._open = self._open, None
        if dropped is not None:
            line = self._lines[dropped.item.modality]
            line.waiting = deque(waiting for waiting in line.waiting if waiting.of is not dropped)

    def flush(self) -> list[Encoded | Refused]:
        """Encode what is left, in batches that are not full."""
        for modality, line in self._lines.items():
            while line.waiting:
                self._encode(modality)
        return self._take()

    def _take(self) -> list[Encoded | Refused]:
        done, self._done = self._done, []
        return done

    def _encode(self, modality: Modality) -> None:
        line = self._lines[modality]
        batch = [line.waiting.popleft() for _ in range(min(self._size_of(modality), len(line.waiting)))]
        inputs = [one.input for one in batch]
        try:
            rows: Sequence[_Row] = list(self._run(modality, inputs))
            line.worked = True
        except TrimodalError:
            raise
        except Exception as error:
            rows = self._one_by_one(modality, inputs, error)
        for waited, row in zip(batch, rows, strict=True):
            one = waited.of
            if isinstance(row, str):
                one.reason = one.reason or row
            elif not np.isfinite(row[0]).all():
                one.reason = one.reason or "the model gives no finite vector for it; leave it out"
            else:
                one.vectors[waited.part][waited.position], tokens = row
                if one.tokens and tokens is not None:
                    one.tokens[waited.part][waited.position] = tokens
            one.left -= 1
            self._finish(one)

    def _finish(self, one: _Open) -> None:
        """Give the item out if nothing of it is missing."""
        if one.left or one is self._open:
            return
        if one.reason is not None:
            self._done.append(Refused(one.whole(), one.reason))
            return
        vectors = one.vectors[0] if len(one.vectors) == 1 else np.concatenate(one.vectors)
        tokens = None if not one.tokens else one.tokens[0] if len(one.tokens) == 1 else np.concatenate(one.tokens)
        self._done.append(Encoded(one.whole(), vectors, tokens))

    def _one_by_one(self, modality: Modality, inputs: Sequence[Any], error: Exception) -> list[_Row]:
        """The batch failed as a whole: a row for each input that works alone, the reason for each that does not."""
        rows: list[_Row] = []
        line = self._lines[modality]
        for one in inputs:
            try:
                rows.append(self._run(modality, [one])[0])
                line.worked = True
            except TrimodalError:
                raise
            except Exception as alone:
                rows.append(f"the model cannot encode it ({_first_words(alone)}); leave it out")
        if len(rows) > 1 and not line.worked:
            raise ModelError(
                f"model {self._encoder.spec}: encodes no {modality} at all ({_first_words(error)}); use another --model"
            ) from error
        return rows

    def _run(self, modality: Modality, inputs: Sequence[Any]) -> list[tuple[NDArray[np.float32], Any]]:
        """A vector for each input, with its media tokens or ``None``."""
        tokens: Sequence[Any] = [None] * len(inputs)
        encode: Callable[[Sequence[Any]], Embeddings]
        if modality is Modality.IMAGE:
            encode = self._encoder.encode_images
        elif modality is Modality.AUDIO:
            encode = self._encoder.encode_audio
        else:
            encode = self._encoder.encode_passages
        if self._tokens is not None and modality is not Modality.TEXT:
            both = self._tokens.encode_images_with_tokens
            if modality is Modality.AUDIO:
                both = self._tokens.encode_audio_with_tokens
            found, packed = both(inputs)
            self._check_tokens(packed, len(inputs), modality)
            rows, tokens = np.asarray(found, dtype=np.float32), list(packed)
        else:
            rows = np.asarray(encode(inputs), dtype=np.float32)
        if rows.shape != (len(inputs), self._encoder.dim):
            raise ModelError(
                f"model {self._encoder.spec}: gave vectors of shape {rows.shape} for {len(inputs)} segments of "
                f"{modality}, not ({len(inputs)}, {self._encoder.dim}); use another --model"
            )
        lengths = np.linalg.norm(rows, axis=1)
        off = np.abs(lengths - 1.0) > UNIT_TOLERANCE  # false for NaN: that row fails alone
        if off.any():
            raise ModelError(
                f"model {self._encoder.spec}: gave a vector of length {lengths[off][0]:.3f}, not 1; use another --model"
            )
        return list(zip(rows, tokens, strict=True))

    def _check_tokens(self, packed: TokenRows, n: int, modality: Modality) -> None:
        spec = self._tokens.token_spec if self._tokens is not None else None
        wanted = (n, spec.row_bytes if spec is not None else 0)
        if packed.shape != wanted or packed.dtype != np.uint8:
            raise ModelError(
                f"model {self._encoder.spec}: gave media tokens of {packed.dtype} and shape {packed.shape} for {n} "
                f"segments of {modality}, not uint8 {wanted}; use another --model"
            )


def prepare(decoded: DecodedItem, content_hash: str, encoder: DualEncoder) -> Prepared:
    """Run the encoder's own preparation on every segment of an item or of a part of it."""
    inputs: list[NDArray[Any] | str] = []
    for one in decoded.segments:
        payload: Any = one.payload
        if decoded.item.modality is Modality.IMAGE:
            payload = encoder.prepare_image(payload)
        elif decoded.item.modality is Modality.AUDIO:
            payload = encoder.prepare_audio(payload)
        inputs.append(payload)
    segments = tuple(one.segment for one in decoded.segments)
    return Prepared(decoded.item, content_hash, decoded.facts, segments, tuple(inputs), decoded.is_last)


def _first_words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
