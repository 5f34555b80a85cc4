"""A query -> one unit vector, and the media tokens of a picture or sound where a reranker reads them.

Each part goes through its tower; the vectors are weighted, added and normalised.

Pictures and sounds are read as the indexer reads them, with its limits and its errors. Knows nothing of
collections, indexes or hits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.base import DualEncoder, media_limits, require_tower
from indexer.encoders.tokens.format import TokenEncoder, TokenRows, token_encoder
from indexer.errors import ModelError, UsageError
from indexer.files import one_line
from indexer.items import Embeddings, Modality, Samples
from indexer.limits import MediaLimits
from indexer.media.text.measure import MeasuresTexts
from indexer.media.text.token_passages import PassageRule, token_passages
from retrieval.query import Query, QueryPart

#: A sum of unit vectors shorter than this share of its weights has no direction to speak of.
_LEAST_SHARE = 1e-3

#: Windows of a long sound that are prepared and encoded together.
_WINDOWS_AT_ONCE = 32

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A query, or one part of it, as the model sees it."""

    vector: Vector
    """Unit vector float32 ``(dim,)``."""
    tokens: TokenRows | None = None
    """Packed media tokens ``(1, row_bytes)`` of a picture or of a sound's first window; ``None`` where not made."""
    warnings: tuple[str, ...] = ()
    """A line for each text that is longer than the model reads at once."""


def embed_query(
    query: Query, encoder: DualEncoder, limits: MediaLimits | None = None, *, with_tokens: bool = False
) -> Embedded:
    """The unit vector ``(dim,)`` of ``sum(weight * unit vector of part)``.

    A sound longer than one window is the mean of its windows, a text that is longer than the model reads at once that
    of its parts. ``with_tokens``: also the media tokens of the first part, from the same pass, where that is a picture
    or a sound and the model makes tokens. Raises ``MediaError`` for a file that cannot be read, ``ModelError`` for a
    missing tower, and ``UsageError`` when the parts cancel each other out.
    """
    limits = media_limits(encoder, limits)
    total = np.zeros(encoder.dim, dtype=np.float64)
    parts = _embed_parts(query.parts, encoder, limits, token_encoder(encoder) if with_tokens else None)
    for part, embedded in zip(query.parts, parts, strict=True):
        total += part.weight * embedded.vector.astype(np.float64)
    norm = float(np.linalg.norm(total))
    if norm <= _LEAST_SHARE * sum(abs(part.weight) for part in query.parts):
        shown = " and ".join(repr(one_line(part.described(), 40)) for part in query.parts)
        raise UsageError(f"the parts of the query cancel each other out: {shown}; change a part or a weight")
    warnings = tuple(warning for part in parts for warning in part.warnings)
    return Embedded(np.asarray(total / norm, dtype=np.float32), parts[0].tokens, warnings)


def embed_texts(texts: Sequence[str], encoder: DualEncoder) -> list[Embedded]:
    """Texts that are queries, each with a unit vector ``(dim,)``, in one batch.

    A text that is longer than the model reads at once is the mean of its parts, each counting by its length, and a
    warning says so.
    """
    parts = text_parts(texts, encoder)
    rows = iter(encoder.encode_queries([part for some in parts for part in some]) if texts else ())
    found: list[Embedded] = []
    for text, some in zip(texts, parts, strict=True):
        own: Embeddings = np.stack([next(rows) for _ in some])
        vector = mean_vector(own, [len(part) for part in some])
        warning = (
            f"{one_line(text, 40)!r}: {len(text):,} characters are more than the model reads at once; "
            f"the query is the mean of {len(some)} parts of it"
        )
        # parts that cancel each other out: the first of them
        found.append(Embedded(own[0] if vector is None else vector, warnings=(warning,) if len(some) > 1 else ()))
    return found


def text_parts(texts: Sequence[str], encoder: DualEncoder) -> list[list[str]]:
    """Of each text what the model reads at once: the text itself, or the parts of a longer one."""
    if not texts or not isinstance(encoder, MeasuresTexts):
        return [[text] for text in texts]
    measure = encoder.open_text_measure()
    rule = PassageRule(measure.max_tokens, overlap=0.0)
    cut = [token_passages(text, rule, measure) for text in texts]
    return [parts if len(parts) > 1 else [text] for text, parts in zip(texts, cut, strict=True)]


def mean_vector(rows: Embeddings, weights: Sequence[float] | None = None) -> Vector | None:
    """The unit vector of the mean of unit rows ``(n, dim)``, each counting by its weight if there are any.

    ``None`` where they cancel each other out. One row is given back as it is.
    """
    if len(rows) == 1:
        return np.asarray(rows[0], dtype=np.float32)
    mean = np.average(rows.astype(np.float64), axis=0, weights=weights)
    norm = float(np.linalg.norm(mean))
    return None if norm <= _LEAST_SHARE else np.asarray(mean / norm, dtype=np.float32)


def _embed_parts(
    parts: Sequence[QueryPart], encoder: DualEncoder, limits: MediaLimits, maker: TokenEncoder | None
) -> list[Embedded]:
    """The parts in their order, with media tokens where there is a ``maker``; all texts in one batch."""
    for part in parts:
        require_tower(encoder, part.kind)
    texts = [part.value for part in parts if isinstance(part.value, str)]
    encoded = iter(embed_texts(texts, encoder))
    found: list[Embedded] = []
    for part in parts:
        if part.kind is Modality.TEXT:
            embedded = next(encoded)
        elif part.kind is Modality.IMAGE:
            embedded = _embed_picture(part, encoder, limits, maker)
        else:
            embedded = _embed_sound(part, encoder, limits, maker)
        if not np.isfinite(embedded.vector).all():
            what = one_line(part.described(), 60)
            raise ModelError(f"model {encoder.spec}: its vector of {what!r} is not finite; check the model's weights")
        found.append(embedded)
    return found


def _embed_picture(part: QueryPart, encoder: DualEncoder, limits: MediaLimits, maker: TokenEncoder | None) -> Embedded:
    prepared = [encoder.prepare_image(_picture(part, limits))]
    if maker is None:
        return Embedded(encoder.encode_images(prepared)[0])
    rows, tokens = maker.encode_images_with_tokens(prepared)
    return Embedded(rows[0], tokens[:1])


def _picture(part: QueryPart, limits: MediaLimits) -> Image.Image:
    if isinstance(part.value, Image.Image):
        return part.value.convert("RGB")
    assert isinstance(part.value, Path)
    from indexer.media.decode import read_picture

    return read_picture(part.value, limits)


def _embed_sound(part: QueryPart, encoder: DualEncoder, limits: MediaLimits, maker: TokenEncoder | None) -> Embedded:
    from indexer.media.decode import open_sound, sound_windows

    found: Iterable[tuple[float, float, Samples]]
    if isinstance(part.value, Path):
        found = open_sound(part.value, limits).windows
    else:
        found = sound_windows(np.asarray(part.value, dtype=np.float32), limits)
    prepared = (encoder.prepare_audio(window) for _, _, window in found)
    vectors: list[Embeddings] = []
    first: TokenRows | None = None
    while some := list(islice(prepared, _WINDOWS_AT_ONCE)):
        if maker is None:
            rows = encoder.encode_audio(some)
        else:
            rows, tokens = maker.encode_audio_with_tokens(some)
            first = tokens[:1] if first is None else first
        vectors.append(rows)
    vector = mean_vector(np.concatenate(vectors))
    if vector is None:
        raise UsageError(f"{one_line(part.described(), 60)}: its windows cancel each other out; cut the sound shorter")
    return Embedded(vector, first)
