"""Prepared items -> embeddings and media tokens, a batch of segments of one modality at a time.

An item may have one segment or thousands (a long sound); batches count segments, and a batch may hold parts of
several items. One item that the model cannot take fails alone. Knows nothing of files, SQL or FAISS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.dual import DualEncoder
from indexer.encoders.media_tokens import TokenRows, token_encoder
from indexer.errors import ModelError, TrimodalError
from indexer.items import DecodedItem, Embeddings, Item, Modality, Scalar, Segment

#: Beyond this a vector is not meant to be of unit length.
_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item, read: ``inputs[i]`` is what the tower takes for ``segments[i]``."""

    item: Item
    content_hash: str
    facts: Mapping[str, Scalar]
    segments: tuple[Segment, ...]
    inputs: tuple[NDArray[Any] | str, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item with its embeddings, float32 ``(segments, dim)``."""

    prepared: Prepared
    vectors: Embeddings
    tokens: TokenRows | None = None
    """Packed media tokens ``(segments, row_bytes)``, where they were asked for and the modality has them."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that the model could not encode."""

    prepared: Prepared
    reason: str


@dataclass(slots=True)
class _Open:
    prepared: Prepared
    vectors: Embeddings
    left: int
    reason: str | None = None
    tokens: TokenRows | None = None


@dataclass(slots=True)
class _Line:
    """The segments of one modality that wait for a batch."""

    waiting: deque[tuple[_Open, int]] = field(default_factory=deque)
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

    def add(self, prepared: Prepared) -> list[Encoded | Refused]:
        """Take an item; returns the items that are finished by the batches that are full now."""
        n = len(prepared.inputs)
        one = _Open(prepared, np.empty((n, self._encoder.dim), dtype=np.float32), n)
        spec = self._tokens.token_spec if self._tokens and prepared.item.modality is not Modality.TEXT else None
        if spec is not None:
            one.tokens = np.zeros((n, spec.row_bytes), dtype=np.uint8)
        line = self._lines[prepared.item.modality]
        line.waiting.extend((one, position) for position in range(n))
        while len(line.waiting) >= self._batch_size:
            self._encode(prepared.item.modality)
        return self._take()

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
        batch = [line.waiting.popleft() for _ in range(min(self._batch_size, len(line.waiting)))]
        inputs = [one.prepared.inputs[position] for one, position in batch]
        try:
            rows: Sequence[_Row] = list(self._run(modality, inputs))
            line.worked = True
        except TrimodalError:
            raise
        except Exception as error:
            rows = self._one_by_one(modality, inputs, error)
        for (one, position), row in zip(batch, rows, strict=True):
            if isinstance(row, str):
                one.reason = one.reason or row
            elif not np.isfinite(row[0]).all():
                one.reason = one.reason or "the model gives no finite vector for it; leave it out"
            else:
                one.vectors[position], tokens = row
                if one.tokens is not None and tokens is not None:
                    one.tokens[position] = tokens
            one.left -= 1
            if one.left == 0:
                encoded = Encoded(one.prepared, one.vectors, one.tokens)
                self._done.append(Refused(one.prepared, one.reason) if one.reason else encoded)

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
                rows.append(f"the model cannot encode it ({_said(alone)}); leave it out")
        if len(rows) > 1 and not line.worked:
            raise ModelError(
                f"model {self._encoder.spec}: encodes no {modality} at all ({_said(error)}); use another --model"
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
        off = np.abs(lengths - 1.0) > _UNIT_TOLERANCE  # false for NaN: that row fails alone
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
    """Run the encoder's own preparation on every segment."""
    inputs: list[NDArray[Any] | str] = []
    for one in decoded.segments:
        payload: Any = one.payload
        if decoded.item.modality is Modality.IMAGE:
            payload = encoder.prepare_image(payload)
        elif decoded.item.modality is Modality.AUDIO:
            payload = encoder.prepare_audio(payload)
        inputs.append(payload)
    segments = tuple(one.segment for one in decoded.segments)
    return Prepared(decoded.item, content_hash, decoded.facts, segments, tuple(inputs))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
