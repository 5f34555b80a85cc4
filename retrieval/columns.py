"""Text in columns of a terminal: how many cells it takes, cut at its end or in its middle, and padded.

A character of Chinese or an emoji takes two cells, a combining mark none, so nothing here counts characters; what
belongs together (a letter and its accents) is never cut apart. Knows nothing of hits or of what prints.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

ELLIPSIS = "…"
#: Cells between two columns.
GAP = 2


def clusters(text: str) -> Iterator[str]:
    """Each character with the marks that belong to it: accents, forms of emoji, skin tones, the halves of a flag."""
    cluster = ""
    for char in text:
        flag = cluster != "" and _is_flag_half(char) and len(cluster) == 1 and _is_flag_half(cluster)
        if cluster and not flag and not _is_mark(char):
            yield cluster
            cluster = ""
        cluster += char
    if cluster:
        yield cluster


def cut_end(text: str, width: int, ellipsis: str = ELLIPSIS) -> str:
    """``text`` in at most ``width`` cells; what is cut ends in an ellipsis.

    >>> cut_end("a red door", 7), cut_end("日本語", 5)
    ('a red…', '日本…')
    """
    if cell_len(text) <= width:
        return text
    return _head(text, width - len(ellipsis)).rstrip() + ellipsis if width >= len(ellipsis) else "." * max(0, width)


def cut_middle(text: str, width: int, kept: str = "", ellipsis: str = ELLIPSIS) -> str:
    """``text`` in at most ``width`` cells, cut in its middle; its end ``kept`` stays whole where there is room for it.

    >>> cut_middle("/home/me/photos/2019/door.jpg", 18, "/door.jpg")
    '/home/me…/door.jpg'
    >>> cut_middle("/home/me/a very long name.jpg", 13, "/a very long name.jpg")
    'a very…me.jpg'
    """
    if cell_len(text) <= width:
        return text
    if width <= len(ellipsis):
        return "." * max(0, width)
    room = width - len(ellipsis)
    need = cell_len(kept)
    if kept and need > room:  # the name alone is longer: its own middle goes
        name = kept.lstrip("/\\") or kept
        if cell_len(name) <= width:
            return name
        text, need = name, 0
    tail = _tail(text, max(need, room // 2))
    return _head(text, room - cell_len(tail)).rstrip() + ellipsis + tail


def padded(text: str, width: int, *, right: bool = False) -> str:
    """``text`` with spaces up to ``width`` cells; ``right``: before it."""
    spaces = " " * max(0, width - cell_len(text))
    return spaces + text if right else text + spaces


def widest(texts: Sequence[str]) -> int:
    """Cells of the widest text; 0 for none."""
    return max(map(cell_len, texts), default=0)


def joined(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    """Cells under each other's columns as one line, without spaces at its end."""
    padded_cells = [padded(cell, width, right=to) for cell, width, to in zip(cells, widths, right, strict=True)]
    return (" " * GAP).join(padded_cells).rstrip()


def encodable_in(text: str, encoding: str) -> str:
    r"""``text`` with ``\u65e5`` for what ``encoding`` lacks: the width of that is what the terminal shows."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def ellipsis_of(encoding: str) -> str:
    """An ellipsis of one cell, or three dots where the encoding has none."""
    try:
        ELLIPSIS.encode(encoding)
    except UnicodeEncodeError:
        return "..."
    return ELLIPSIS


def _head(text: str, width: int) -> str:
    return "".join(_fitting(clusters(text), width))


def _tail(text: str, width: int) -> str:
    return "".join(reversed(_fitting(reversed(list(clusters(text))), width)))


def _fitting(found: Iterator[str], width: int) -> list[str]:
    """The first of ``found`` that take at most ``width`` cells together."""
    taken: list[str] = []
    used = 0
    for cluster in found:
        used += cell_len(cluster)
        if used > width:
            break
        taken.append(cluster)
    return taken


def _is_mark(char: str) -> bool:
    return char > "\u02ff" and (
        unicodedata.category(char) in ("Mn", "Me", "Mc") or "\U0001f3fb" <= char <= "\U0001f3ff"
    )


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
