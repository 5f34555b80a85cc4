"""A table of figures that fits its terminal: in shorter words where it must, then in two tables under each other.

No figure is ever cut. Knows nothing of what the figures are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval.columns import GAP, joined, widest

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


@dataclass(frozen=True, slots=True)
class Version:
    """Columns and rows in one wording; a row that is a text stands alone on its line, above those it is about."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str] | str]
    to_the_left: frozenset[str] = frozenset()
    """Columns of words; the others are figures and stand to the right."""

    def widths(self) -> list[int]:
        """Cells of every column."""
        rows = [row for row in self.rows if not isinstance(row, str)]
        return [max(widest([name]), widest([row[place] for row in rows])) for place, name in enumerate(self.columns)]


class FittedTable:
    """The first of some versions that fits; else the last, its columns in several tables that share the first one."""

    def __init__(self, *versions: Version) -> None:
        self._versions = versions

    def lines(self, width: int) -> list[tuple[str, bool]]:
        """Lines, and whether each is one of headers; at most ``width`` cells where one column beside the first fits."""
        for version in self._versions:
            if _whole(version.widths()) <= width:
                return _lines(version, range(len(version.columns)))
        version, widths = self._versions[-1], self._versions[-1].widths()
        blocks: list[list[int]] = [[0]]
        for place in range(1, len(widths)):
            if len(blocks[-1]) > 1 and _whole([widths[one] for one in (*blocks[-1], place)]) > width:
                blocks.append([0])
            blocks[-1].append(place)
        return [line for block in blocks for line in _lines(version, block)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        for line, heads in self.lines(options.max_width):
            yield Text(line, style="bold" if heads else "")


def _lines(version: Version, places: Sequence[int]) -> list[tuple[str, bool]]:
    widths = [version.widths()[place] for place in places]
    right = [version.columns[place] not in version.to_the_left for place in places]
    lines = [(joined([version.columns[place] for place in places], widths, right), True)]
    for row in version.rows:
        text = row if isinstance(row, str) else joined([row[place] for place in places], widths, right)
        lines.append((text, False))
    return lines


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)
