"""A library's tokenizer as two files of a graph's folder: ``tokenizer.json`` and what stands around a text.

Read by ``tokenizers`` alone; written where the library's own tokenizer is at hand, and compared with it. Imports
neither torch nor transformers nor open_clip. Knows nothing of towers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.cleaning import cleaning
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.text_reading import around_of
from indexer.media.text.measure import CountMeasure, TextMeasure

_TOKENIZER, _READING = "tokenizer.json", "reading.json"
#: Texts whose tokens are compared: plain, odd, empty and long ones.
TEXTS = (
    "a photo of a red bicycle in the snow",
    "dog",
    "Zwölf Boxkämpfer jagen Viktor's Sylter Deich, 2019!",
    "",
    "思い出の写真 & caf\u00e9 &amp; naïve “quotes” …",
    "I'm sure they'd've seen it: it's 3,141.59_ok? <b>no</b>",
    "two\nlines\t and  spaces ",
    "the sound of rain on a tin roof while somebody plays the piano next door, and a child laughs " * 12,
)


@dataclass(frozen=True)
class Reading:
    """What is done to a text and to its tokens."""

    clean: str
    """Of :func:`cleaning`."""
    before: list[int]
    after: list[int]
    most: int
    """Tokens that are kept of a text, without those around it."""
    length: int = 0
    """What all are padded to; 0: they are not."""
    pad: int = 0
    zeroed: int | None = None
    """A token that becomes 0."""
    unread: tuple[str, ...] = ()
    """A text with one of these in it is for the library itself."""


class GraphTexts:
    """The tokenizer whose files lie in ``folder``. Thread-safe after the first call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def reads(self, text: str) -> bool:
        """Whether the tokens of a text are the library's: not of one that spells special tokens."""
        return not any(one in text.lower() for one in self._reading.unread)

    def ids(self, text: str) -> NDArray[np.int64]:
        """Token ids ``(1, length)``."""
        reading = self._reading
        found = [*reading.before, *self._own(text)[: reading.most], *reading.after]
        found += [reading.pad] * (reading.length - len(found))
        ids = np.array([found], dtype=np.int64)
        return ids if reading.zeroed is None else np.where(ids == reading.zeroed, 0, ids)

    def measure(self) -> TextMeasure:
        """What is left of a text; its tokens are counted."""
        return CountMeasure(lambda text: len(self._own(text)), max(1, self._reading.most))

    def _own(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(cleaning(self._reading.clean)(text), add_special_tokens=False).ids
        return found

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._folder / _TOKENIZER))

    @cached_property
    def _reading(self) -> Reading:
        document = json.loads((self._folder / _READING).read_text(encoding="utf-8"))
        return Reading(**{**document, "unread": tuple(document["unread"])})


def write_texts(folder: Path, tokenizer: Any, reading: Reading, theirs: Callable[[str], Sequence[int]]) -> GraphTexts:
    """Write a tokenizer of ``tokenizers`` and compare its tokens with ``theirs``, text by text.

    Raises :class:`NoOnnxForm` where one differs.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / _TOKENIZER))
    (folder / _READING).write_text(json.dumps(asdict(reading)), encoding="utf-8")
    texts = GraphTexts(folder)
    for text in TEXTS:
        if texts.ids(text)[0].tolist() != list(theirs(text)):
            raise NoOnnxForm(f"its tokenizer reads {text[:40]!r} otherwise than its tokenizer.json says")
    return texts


def backend_of(tokenizer: Any) -> tuple[Any, list[int], list[int]]:
    """Of a tokenizer of transformers a copy of the one of ``tokenizers`` in it, and the tokens around a text.

    Raises :class:`NoOnnxForm` where it has none.
    """
    from tokenizers import Tokenizer

    if not getattr(tokenizer, "is_fast", False):
        raise NoOnnxForm(f"a {type(tokenizer).__name__} is none of tokenizers")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return (backend, *around_of(backend))
