"""Whether two things that a model finds equal are: by a small form of what is decoded from their files.

A model sees a sheet of one colour in every picture that lost its content on the way, and one silence in every sound:
their vectors are equal and say nothing of them. Two texts of the same beginning are near to each other, whatever their
ends say. Knows nothing of vectors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.collection.catalog.records import ItemRow
from indexer.errors import TrimodalError
from indexer.items import Modality
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits
from indexer.media.audio.decode import open_sound
from indexer.media.image.decode import read_picture
from indexer.media.image.ground import is_blank

#: From this cosine on two pictures or sounds are called the same only if what is decoded is like each other; texts are
#: always compared.
ALL_BUT_EQUAL = 0.999
#: Correlation of the small forms. Of the demo's pictures all changed copies are as like, but for 7 % of those cut by a
#: twentieth at every side, and 0.9 % of two others (benchmarks/duplicates.py).
LEAST_LIKENESS = 0.6
#: Of two texts, the share of words that each pair of passages has in common.
LEAST_COMMON_WORDS = 0.9
#: A sound that stays below this (of full scale) beside its mean is silence.
SILENCE = 1e-3

_SIDE = 32
_SOUND_S = 60.0

#: Scripts without spaces: Chinese and Japanese, Thai and Lao, Burmese, Khmer.
_NO_SPACES = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
#: A character of these is a word of its own; punctuation is none.
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")

#: The passages of an item of text.
TextsOf = Callable[[ItemRow], Sequence[str]]


@dataclass(slots=True)
class LeftOut:
    """Counts of what ``duplicates`` does not call the same, though its vectors are."""

    blank: set[str] = field(default_factory=set)
    """Keys of pictures of one colour and of silent sounds."""
    unlike: int = 0
    """Pairs whose contents differ."""

    def lines(self) -> list[str]:
        """A sentence for each kind that there is."""
        found = []
        if self.blank:
            found.append(
                f"{len(self.blank):,} not compared: a picture of one colour or a silent sound has no content of its own"
            )
        if self.unlike:
            found.append(f"{self.unlike:,} pairs left out: the model finds them alike, but their contents differ")
        return found

    def to_json(self) -> dict[str, Any]:
        """``left_out`` of ``duplicates --json``."""
        return {"blank": sorted(self.blank), "unlike_pairs": self.unlike}


@dataclass(frozen=True, slots=True)
class _Form:
    """``values`` float32 ``(n,)`` of zero mean and length 1, or the words of each passage of a text."""

    values: NDArray[np.float32] | None = None
    words: tuple[Counter[str], ...] | None = None
    is_blank: bool = False


class Contents:
    """The small forms of items; each file is read once. A file that cannot be read is like everything."""

    def __init__(self, texts_of: TextsOf, left_out: LeftOut) -> None:
        self._texts_of = texts_of
        self._left_out = left_out
        self._forms: dict[str, _Form | None] = {}

    def may_be_same(self, one: ItemRow, other: ItemRow, cosine: float) -> bool:
        """False where a file has no content to compare, and where two have different ones; it is counted."""
        ours, theirs = self._form(one), self._form(other)
        blank = [row.key for row, form in ((one, ours), (other, theirs)) if form is not None and form.is_blank]
        self._left_out.blank.update(blank)
        if blank:
            return False
        is_compared = cosine >= ALL_BUT_EQUAL or one.modality is Modality.TEXT
        if not is_compared or ours is None or theirs is None or _alike(ours, theirs):
            return True
        self._left_out.unlike += 1
        return False

    def _form(self, row: ItemRow) -> _Form | None:
        if row.key not in self._forms:
            try:
                self._forms[row.key] = self._read(row)
            except TrimodalError:
                self._forms[row.key] = None
        return self._forms[row.key]

    def _read(self, row: ItemRow) -> _Form:
        if row.modality is Modality.IMAGE:
            picture = read_picture(row.path, MediaLimits())
            return _Form(picture_form(picture), is_blank=is_blank(picture))
        if row.modality is Modality.AUDIO:
            return _sound_form(row)
        return _Form(words=tuple(_words(text.casefold()) for text in self._texts_of(row)))


def picture_form(picture: Image.Image) -> NDArray[np.float32]:
    """An RGB picture, small: float32 ``(3072,)`` of mean 0 and length 1; two correlate by their product."""
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return _normal(np.asarray(small, dtype=np.float32))


def _alike(one: _Form, other: _Form) -> bool:
    if one.words is not None and other.words is not None:
        return len(one.words) == len(other.words) and all(map(_have_common_words, one.words, other.words))
    if one.values is None or other.values is None:
        return True
    return float(one.values @ other.values) >= LEAST_LIKENESS


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text) or text.split())  # a text may be a row of signs


def _have_common_words(ours: Counter[str], theirs: Counter[str]) -> bool:
    return (ours & theirs).total() >= LEAST_COMMON_WORDS * max(ours.total(), theirs.total())


def _sound_form(row: ItemRow) -> _Form:
    """Loudness by time and pitch, of the first minute."""
    samples = np.zeros(round(_SOUND_S * SAMPLE_RATE_HZ), np.float32)
    count = 0
    for start_s, end_s, window in open_sound(row.path, MediaLimits()).windows:
        start = round(start_s * SAMPLE_RATE_HZ)
        kept = window[: max(0, len(samples) - start)]
        samples[start : start + len(kept)] = kept
        count = min(len(samples), round(end_s * SAMPLE_RATE_HZ))
        if count == len(samples):
            break
    heard = samples[:count] - samples[:count].mean()
    is_silent = bool(np.abs(heard).max() < SILENCE)
    bands = []
    for piece in np.array_split(heard, _SIDE):
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        bands.append([part.sum() if len(part) else 0.0 for part in np.array_split(power, _SIDE)])
    loudness = np.log10(np.asarray(bands) / max(float(np.max(bands)), 1e-30) + 1e-4)
    return _Form(_normal(loudness.astype(np.float32)), is_blank=is_silent)


def _normal(values: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = values.ravel() - values.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-12), dtype=np.float32)
