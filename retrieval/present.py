"""Hits for people and for pipes: a table that fits its terminal, lines of tab-separated values, and bare paths.

File names and captions come from anywhere, so what could steer a terminal is shown, not sent: control
characters are escaped and nothing is read as markup. Knows nothing of searching.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.collection.catalog.records import FilterColumn, ItemRow
from indexer.files import one_line, printable
from indexer.items import Modality
from retrieval.columns import GAP, cut_end, cut_middle, ellipsis_of, encodable_in, joined, widest
from retrieval.fitted import FittedTable, Version
from retrieval.hits import Hit, SearchResult
from retrieval.listing import Listed, Listing, date_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

#: Characters of a caption or passage that :func:`snippet` gives by default.
SNIPPET_CHARS = 100
#: The columns of :func:`plain_rows`, and of a table, which leaves out the empty ones and those it has no room for.
COLUMNS = ("rank", "kind", "match", "path", "time", "words")
#: Of how far a hit stands out among its own kind (``Hit.standard_score``), from the best down; below: "weak".
#: On the demo collection the right picture of a caption is at 3.5 to 4.9 (the middle half), the first picture for a
#: sound's caption, where none is right, at 2.8 to 3.6.
MATCH_WORDS = ((4.0, "strong"), (3.3, "good"), (2.5, "fair"))
_WEAK = "weak"
#: Above hits of which none is taken to match.
NEAREST = "nothing matches well; nearest:"
#: In place of a match: the picture or sound that is the query.
SAME_FILE = "same file"
#: Cells of a path beside words, and beside other columns where there are none; words with fewer have no column.
_LEAST_PATH = 24
_LEAST_PATH_ALONE = 16
_LEAST_WORDS = 12
#: The share of a path where both it and the words have to be cut.
_PATH_SHARE = 0.55
_HEADERS = {"rank": "#"}
_TO_THE_RIGHT = ("rank", "match")
#: What a table too narrow for everything goes without, in this order.
_SPARED = ("words", "time", "match", "kind")


@dataclass(frozen=True, slots=True)
class _Row:
    cells: dict[str, str]
    name: str
    """The end of the path that is kept: ``/door.jpg``, ``/notes.jsonl#12``."""

    def encodable_in(self, encoding: str) -> _Row:
        cells = {name: encodable_in(cell, encoding) for name, cell in self.cells.items()}
        return _Row(cells, encodable_in(self.name, encoding))


class HitsTable:
    """Hits as lines of at most the terminal's width, for rich to print: rank, kind, match, path, time and words.

    Whatever the width, every hit has its rank and the end of its path: words are cut first, then left out, and a
    path is cut in its middle.
    """

    def __init__(self, *groups: Sequence[Hit | Listed], cwd: Path | None = None) -> None:
        """A blank line stands between ``groups``."""
        self._rows = [_row(hit, cwd) for hits in groups for hit in hits]
        starts = itertools.accumulate(len(hits) for hits in groups)
        self._last = frozenset(list(starts)[:-1])

    def lines(self, width: int, encoding: str = "utf-8") -> list[str]:
        """A line of headers and one a hit; none is wider than ``width`` cells."""
        rows = [row.encodable_in(encoding) for row in self._rows]
        ellipsis = ellipsis_of(encoding)
        widths = _widths(rows, width)
        right = [name in _TO_THE_RIGHT for name in widths]
        lines = [joined([_HEADERS.get(name, name) for name in widths], list(widths.values()), right)]
        for number, row in enumerate(rows):
            if number in self._last:
                lines.append("")
            cells = dict(row.cells)
            cells["path"] = cut_middle(cells["path"], widths["path"], row.name, ellipsis)
            if "words" in widths:
                cells["words"] = cut_end(cells["words"], widths["words"], ellipsis)
            lines.append(joined([cells[name] for name in widths], list(widths.values()), right))
        return [cut_end(line, width, ellipsis) for line in lines]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        for number, line in enumerate(self.lines(options.max_width, options.encoding)):
            yield Text(line, style="" if number else "bold", no_wrap=True, overflow="ignore", end="\n")


def hits_table(found: SearchResult | Listing, *, cwd: Path | None = None, mixed: bool = False) -> RenderableType:
    """The hits of each kind as a table for rich to print, or a line that there are none; ``mixed``: one ranking.

    A list without a query is one group; its time is that of the picture or file, and its match is empty.
    """
    from rich.text import Text

    groups = _shown(found, mixed)
    return HitsTable(*groups, cwd=cwd) if any(groups) else Text(_nothing(found))


def nearest_line(found: SearchResult | Listing) -> str | None:
    """The line above hits of which none is taken to match; ``None`` where one is, or the model is not calibrated."""
    if isinstance(found, Listing) or found.matches is not False or not found.hits:
        return None
    return NEAREST


def plain_rows(found: SearchResult | Listing, *, cwd: Path | None = None, mixed: bool = False) -> list[list[str]]:
    """For a pipe: :data:`COLUMNS`, then a row a hit, in the order of the table; nothing cut and nothing padded.

    The first row is never a hit: without any it says so.
    """
    rows = [_row(one, cwd) for group in _shown(found, mixed) for one in group]
    if not rows:
        return [[_nothing(found)]]
    return [list(COLUMNS), *([row.cells[name] for name in COLUMNS] for row in rows)]


def columns_table(columns: Iterable[FilterColumn]) -> FittedTable:
    """What a filter may name, for rich to print: how many items have it, and an example."""
    rows = [
        [column.where, f"{column.count:,}", "" if column.example is None else one_line(str(column.example), 40)]
        for column in columns
    ]
    return FittedTable(Version(["column", "items", "example"], rows, frozenset(("column", "example"))))


def match_in_words(hit: Hit) -> str:
    """``97%`` where there is a match probability, else how far the hit stands out among its own kind.

    ``same file`` for the picture or sound that is the query itself; ``strong``, ``good``, ``fair`` or ``weak`` by
    :data:`MATCH_WORDS`; empty where there is nothing to stand out from.
    """
    if hit.is_query:
        return SAME_FILE
    if hit.match_probability is not None:
        percent = 100 * hit.match_probability
        return "<1%" if 0 < percent < 0.5 else f"{percent:.0f}%"
    if hit.standard_score is None:
        return ""
    score = hit.standard_score
    return next((word for least, word in MATCH_WORDS if score >= least), _WEAK)


def path_lines(result: SearchResult | Listing, *, cwd: Path | None = None) -> list[str]:
    """A line a hit, for ``--paths``: the path to open, relative to ``cwd`` where that is shorter.

    Not escaped, so that the next program can open it. Of texts that stand in a manifest the manifest comes
    once, at its best hit.
    """
    paths = [one.row.path for one in result.items] if isinstance(result, Listing) else [hit.path for hit in result]
    return list(dict.fromkeys(_shorter(path, cwd or Path.cwd()) for path in paths))


def shown_path(hit: Hit | ItemRow, cwd: Path | None = None) -> str:
    """The path as one printable line, relative to ``cwd`` where that is shorter; ``manifest#row`` for a row."""
    return printable(_shorter(hit.path, cwd or Path.cwd()) + _row_of_a_manifest(hit))


def time_range(hit: Hit) -> str:
    """``0:08-0:18``, or ``1:02:03-1:02:13`` past the first hour; empty for what has no times."""
    if hit.start_s is None or hit.end_s is None:
        return ""
    # the end is rounded up: a sound of 0.3 s does not end where it begins
    return f"{_clock(hit.start_s)}-{_clock(math.ceil(hit.end_s))}"


def snippet(hit: Hit, limit_chars: int = SNIPPET_CHARS) -> str:
    """The passage of a text, else the caption, on one line."""
    line = _words(hit)
    return line if len(line) <= limit_chars else line[: limit_chars - 1].rstrip() + "…"


def _shorter(path: Path, cwd: Path) -> str:
    whole = str(path)
    try:
        # Lexical, and only where both are absolute: "../" through a link would lead elsewhere.
        relative = str(path.relative_to(cwd))
    except ValueError:
        return whole
    # A name that starts with "-" would be an option to the next program.
    relative = f"./{relative}" if relative.startswith("-") else relative
    return relative if len(relative) < len(whole) else whole


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _nothing(found: SearchResult | Listing) -> str:
    if isinstance(found, Listing):
        return "nothing found"
    judged = found.query.min_probability is not None and (
        found.matches is not None or found.timings_ms.get("rerank") is not None
    )
    return "nothing matches" if judged else "nothing found"


def _shown(found: SearchResult | Listing, mixed: bool) -> Sequence[Sequence[Hit | Listed]]:
    """The lists that people see: one a kind, or one."""
    if isinstance(found, Listing):
        return [found.items]
    return [found.hits] if mixed or not found.groups else [group.hits for group in found.groups]


def _row(one: Hit | Listed, cwd: Path | None) -> _Row:
    of = one if isinstance(one, Hit) else one.row
    time = time_range(one) if isinstance(one, Hit) else (date_of(one.row) or "")[:16].replace("T", " ")
    cells = {
        "rank": "=" if isinstance(one, Hit) and one.is_query else str(one.rank),
        "kind": of.modality.value,
        "match": match_in_words(one) if isinstance(one, Hit) else "",
        "path": shown_path(of, cwd),
        "time": time,
        "words": _words(of),
    }
    return _Row(cells, printable(os.sep + of.path.name + _row_of_a_manifest(of)))


def _row_of_a_manifest(hit: Hit | ItemRow) -> str:
    """``#12`` of a text that stands in a manifest, else nothing."""
    of_a_row = hit.modality is Modality.TEXT and hit.key.startswith((f"{hit.path}#", f"{hit.path}//#"))
    return hit.key.removeprefix(str(hit.path)) if of_a_row else ""


def _words(hit: Hit | ItemRow) -> str:
    words = hit.text if hit.modality is Modality.TEXT and hit.text else hit.caption
    return printable(" ".join((words or "").split()))


def _widths(rows: Sequence[_Row], width: int) -> dict[str, int]:
    """Cells of each column that there is room for and something in, in the order of :data:`COLUMNS`."""
    natural = {name: widest([row.cells[name] for row in rows]) for name in COLUMNS}
    widths = {name: max(cells, len(_HEADERS.get(name, name))) for name, cells in natural.items() if cells}
    widths.setdefault("path", len("path"))
    widths = {name: widths[name] for name in COLUMNS if name in widths}
    for spared in (None, *_SPARED):
        if spared is not None:
            widths.pop(spared, None)
        fixed = sum(cells + GAP for name, cells in widths.items() if name not in ("path", "words"))
        room = width - fixed
        path, words = widths["path"], widths.get("words", 0)
        if "words" in widths:
            beside = room - GAP - path
            if beside < words:
                # both are cut: the path keeps what makes it known, the words get what is left
                path = min(path, max(_LEAST_PATH, int(room * _PATH_SHARE), room - GAP - words))
                beside = room - GAP - path
            if path >= min(widths["path"], _LEAST_PATH) and beside >= min(words, _LEAST_WORDS):
                return {**widths, "path": path, "words": min(words, beside)}
        elif room >= min(path, _LEAST_PATH if "time" in widths else _LEAST_PATH_ALONE) or "kind" not in widths:
            return {**widths, "path": max(1, min(path, room))}
    return widths
