"""A query: weighted text, picture and sound parts, a filter and how many hits.

Checks everything that can be checked without opening a file, a model or a collection, and reads the small
language of ``--plus`` and ``--minus``. Knows nothing of encoders, catalogs or how hits are found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.errors import UsageError
from indexer.files import printable
from indexer.items import Modality
from indexer.names import nfc

#: Largest size of a part's weight. More would silence every other part, and is a slip of the keyboard.
MAX_WEIGHT = 100.0

#: ``0.5:`` and ``2:`` are weights; a whole number directly before a digit (``9:30``, ``16:9``) is words.
_WEIGHT = re.compile(r"^\s*(?P<weight>\d*\.\d+:|\d+\.?:(?!\d))(?P<rest>.*)$", re.DOTALL)
_KIND = re.compile(r"^\s*(?P<kind>text|image|audio):(?P<rest>.*)$", re.DOTALL)


@dataclass(frozen=True, eq=False)
class QueryPart:
    """One part of a query and how much it counts.

    ``value``: the words for a text; a path or a PIL picture for an image; a path or mono float samples at
    16 kHz, ``(n,)``, for audio. ``weight``: above 0 draws towards it, below 0 away from it. Raises
    :class:`UsageError` for an empty text, a value of the wrong type, or a weight of 0, NaN or over 100.
    """

    kind: Modality
    value: str | Path | Image.Image | NDArray[Any]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in frozenset(Modality):
            raise UsageError(f"a query part is text, image or audio, not {self.kind!r}")
        object.__setattr__(self, "kind", Modality(self.kind))
        if not math.isfinite(self.weight) or self.weight == 0 or abs(self.weight) > MAX_WEIGHT:
            raise UsageError(
                f"the weight {self.weight:g} of {self.described()!r} is not usable; "
                f"give one above 0 and up to {MAX_WEIGHT:g}"
            )
        value = self._text(self.value) if self.kind is Modality.TEXT else self._media(self.value)
        object.__setattr__(self, "value", value)

    def _text(self, words: object) -> str:
        """The words of a text part, in NFC."""
        if not isinstance(words, str):
            raise UsageError(f"a text part is words, not {type(words).__name__}")
        if not words.strip():
            raise UsageError("the query is empty; give words, --image FILE or --audio FILE")
        if not _is_text(words):
            raise UsageError(
                f"the query {printable(words)!r} is no text: it holds bytes that are no UTF-8, or half "
                "characters; type the words again, in a terminal whose locale is UTF-8"
            )
        return nfc(words)

    def _media(self, value: Any) -> Any:
        """The picture or sound of a part; a name of a file as a path."""
        if isinstance(value, str):
            if not value.strip():
                raise UsageError(f"the {self.kind} part names no file; write {self.kind}:FILE")
            return Path(value)
        if isinstance(value, np.ndarray):
            self._check_samples(value)
        elif not isinstance(value, Path) and not (self.kind is Modality.IMAGE and isinstance(value, Image.Image)):
            raise UsageError(f"{self.kind} part: cannot use {type(value).__name__}; give a path")
        return value

    def _check_samples(self, samples: NDArray[Any]) -> None:
        if self.kind is not Modality.AUDIO:
            raise UsageError("a picture part is a path or a PIL picture, not an array; use Image.fromarray")
        if samples.ndim != 1 or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
            raise UsageError(
                f"samples are {samples.dtype} {samples.shape}; give mono float32 (n,) at 16 kHz, in [-1, 1]"
            )
        if not np.isfinite(samples).all():
            raise UsageError("the samples of the audio part are not all finite numbers")

    def described(self) -> str:
        """The part in words: the text, the path, or the size of what is in memory."""
        if isinstance(self.value, Image.Image):
            return f"<picture {self.value.width}x{self.value.height}>"
        if isinstance(self.value, np.ndarray):
            return f"<sound of {self.value.size} samples>"
        return str(self.value)

    def to_json(self) -> dict[str, Any]:
        """``kind``, ``value`` in words, ``weight``."""
        return {"kind": self.kind.value, "value": self.described(), "weight": self.weight}


@dataclass(frozen=True, eq=False)
class Query:
    """A query of a collection. Raises :class:`UsageError` when it makes no sense.

    ``modalities``: what hits may be; ``None`` for all. ``where``: a filter as ``--where`` takes it, read by
    the catalog. ``min_score``: hits with a lower score are not given (the score of the result: a cosine when
    one modality is searched, a standard score when several are, a match score when one is reranked).
    ``min_probability``: hits that a reranker gives a lower match probability, or has not judged, are not given.
    """

    parts: tuple[QueryPart, ...]
    k: int = 10
    modalities: frozenset[Modality] | None = None
    where: str | None = None
    min_score: float | None = None
    min_probability: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise UsageError("the query is empty; give words, --image FILE or --audio FILE")
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise UsageError(f"-k is {self.k}; it is a whole number, at least 1")
        object.__setattr__(self, "k", int(self.k))
        if self.modalities is not None:
            object.__setattr__(self, "modalities", parse_modalities(self.modalities))
        if self.where is not None and not _is_text(self.where):
            raise UsageError(
                f"--where {printable(self.where)!r} is no text: it holds bytes that are no UTF-8, or half characters; "
                "for a name with such bytes compare its beginning or end with `like`"
            )
        if self.where is not None and not self.where.strip():
            raise UsageError('--where is empty; give a condition such as "duration_s > 5", or leave it out')
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise UsageError(f"--min-score is {self.min_score}; it is a finite number")
        if self.min_probability is not None and not 0.0 <= self.min_probability <= 1.0:
            raise UsageError(f"--min-probability is {self.min_probability}; it is a number from 0 to 1")

    @classmethod
    def text(
        cls,
        words: str,
        *,
        k: int = 10,
        modalities: Iterable[str] | None = None,
        where: str | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
    ) -> Query:
        """A query of one text."""
        chosen = None if modalities is None else parse_modalities(modalities)
        return cls((QueryPart(Modality.TEXT, words),), k, chosen, where, min_score, min_probability)

    def to_json(self) -> dict[str, Any]:
        """The query as ``search --json`` repeats it."""
        return {
            "parts": [part.to_json() for part in self.parts],
            "k": self.k,
            "modalities": None if self.modalities is None else sorted(m.value for m in self.modalities),
            "where": self.where,
            "min_score": self.min_score,
            "min_probability": self.min_probability,
        }


def _is_text(text: str) -> bool:
    """Whether it has no half characters, such as ``os.fsdecode`` makes of bytes that are no UTF-8."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def parse_modalities(names: Iterable[str]) -> frozenset[Modality]:
    """Names -> modalities. ``UsageError`` for none, or for a name that is none of image, audio, text."""
    names = [names] if isinstance(names, str) else list(names)
    known = {modality.value for modality in Modality}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no modality {name!r}; there are {', '.join(Modality)}")
    if not names:
        raise UsageError(f"no modality to search in; give one or more of {', '.join(Modality)}")
    return frozenset(Modality(name) for name in names)


def parse_part(spec: str, *, minus: bool = False) -> QueryPart:
    """A value of ``--plus`` (or, with ``minus``, of ``--minus``): ``[WEIGHT:][text:|image:|audio:]VALUE``.

    ``snow``, ``0.5:snow``, ``image:beach.jpg``, ``0.3:audio:rain.ogg``. Without a weight, 1; without a
    kind, text. ``9:30 train`` and ``16:9`` are words, because a whole number directly before a digit is a
    clock time or a ratio; to be sure, put ``text:`` before the words: what follows it is taken as it stands.

    >>> part = parse_part("0.5:image:beach.jpg", minus=True)
    >>> part.kind.value, str(part.value), part.weight
    ('image', 'beach.jpg', -0.5)
    """
    flag = "--minus" if minus else "--plus"
    weight, rest = 1.0, spec
    if found := _WEIGHT.match(rest):
        weight, rest = float(found["weight"].rstrip(":")), found["rest"]
    elif re.match(r"^\s*-(?:\d+(?:\.\d+)?|\.\d+):", rest):
        raise UsageError(f"{flag} {spec!r}: weights are above 0; use {'--plus' if minus else '--minus'} instead")
    kind = Modality.TEXT
    if named := _KIND.match(rest):
        kind, rest = Modality(named["kind"]), named["rest"]
    rest = rest.strip()
    if not rest:
        raise UsageError(f"{flag} {spec!r} holds nothing to look for; write [WEIGHT:]words or image:FILE")
    if not 0 < weight <= MAX_WEIGHT:
        raise UsageError(
            f"{flag} {spec!r}: the weight {weight:g} is not above 0 and up to {MAX_WEIGHT:g}; "
            f"if it is not a weight, write {flag} {'text:' + spec!r}"
        )
    return QueryPart(kind, rest, -weight if minus else weight)


def build_query(
    words: str | None = None,
    *,
    images: Sequence[str | Path] = (),
    sounds: Sequence[str | Path] = (),
    plus: Sequence[str] = (),
    minus: Sequence[str] = (),
    k: int = 10,
    modalities: Iterable[str] | None = None,
    where: str | None = None,
    min_score: float | None = None,
    min_probability: float | None = None,
) -> Query:
    """The query of a command line: words as they stand, files, ``--plus`` and ``--minus`` parts, in order."""
    parts = [QueryPart(Modality.TEXT, words)] if words is not None else []
    parts += [QueryPart(Modality.IMAGE, Path(path)) for path in images]
    parts += [QueryPart(Modality.AUDIO, Path(path)) for path in sounds]
    parts += [parse_part(spec) for spec in plus]
    parts += [parse_part(spec, minus=True) for spec in minus]
    chosen = parse_modalities(modalities) if modalities else None
    return Query(
        tuple(parts), k=k, modalities=chosen, where=where, min_score=min_score, min_probability=min_probability
    )
