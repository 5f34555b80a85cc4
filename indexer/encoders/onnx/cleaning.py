"""What open_clip does to a text before its tokenizer reads it, without open_clip: the same steps, by the same names.

ftfy mends what is not plain ASCII, as there; of plain ASCII without a ``&`` it leaves everything, and is not imported.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cleaning(name: str) -> Callable[[str], str]:
    """``lower``, ``canonicalize`` and ``whitespace`` of open_clip; an empty name leaves a text as it is.

    Raises ``KeyError`` for another name.
    """
    return _STEPS[name]


def _basic(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or "&" in text:
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return text.strip()


def _whitespace(text: str) -> str:
    return " ".join(_basic(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    plain = _basic(text).replace("_", " ").translate(_NO_PUNCTUATION).lower()
    return " ".join(plain.split())


_STEPS: dict[str, Callable[[str], str]] = {
    "": lambda text: text,
    "lower": _lower,
    "canonicalize": _canonicalize,
    "whitespace": _whitespace,
}
