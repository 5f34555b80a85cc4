"""Hits for people: a table for the terminal, and bare paths for a pipe.

File names and captions come from anywhere, so what could steer a terminal is shown, not sent: control
characters are escaped and nothing is read as markup. Knows nothing of searching.
"""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from indexer.files import display_path
from indexer.items import Modality
from retrieval.hits import Hit, SearchResult

#: Characters of a caption or passage that a table shows.
SNIPPET_CHARS = 100
#: Characters of a path that a table keeps on one line, where the words beside it would leave it fewer.
PATH_CHARS = 48


def hits_table(result: SearchResult, *, cwd: Path | None = None) -> Table | Group:
    """Rank, score, modality, path (with the time range of a sound) and words of every hit, for rich to print."""
    if not result.hits:
        judged = result.query.min_probability is not None and result.timings_ms.get("rerank") is not None
        return Group(Text("nothing matches" if judged else "nothing found"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    probable = any(hit.match_probability is not None for hit in result.hits)
    if probable:
        table.add_column("match", justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    places = [shown_path(hit, cwd) + (f"  {time_range(hit)}" if hit.start_s is not None else "") for hit in result.hits]
    # rich shrinks a column that may wrap to nothing before it cuts one that may not
    table.add_column("path", overflow="fold", min_width=min(max(map(len, places)), PATH_CHARS))
    table.add_column("words", overflow="ellipsis", no_wrap=True)
    for hit, where in zip(result.hits, places, strict=True):
        match = [] if not probable else [_probability(hit.match_probability)]
        cells = [str(hit.rank), f"{hit.score:.3f}", *match, hit.modality.value, where, snippet(hit)]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def path_lines(result: SearchResult, *, cwd: Path | None = None) -> list[str]:
    """A line a hit, for ``--paths``: the path to open, relative to ``cwd`` where that is shorter.

    Not escaped, so that the next program can open it. Of texts that stand in a manifest the manifest comes
    once, at its best hit.
    """
    return list(dict.fromkeys(_shorter(hit.path, cwd or Path.cwd()) for hit in result.hits))


def shown_path(hit: Hit, cwd: Path | None = None) -> str:
    """The path as one printable line, relative to ``cwd`` where that is shorter; ``manifest#row`` for a row."""
    shown = _shorter(hit.path, cwd or Path.cwd())
    if hit.modality is Modality.TEXT and hit.key.startswith(f"{hit.path}#"):
        shown += hit.key.removeprefix(str(hit.path))
    return display_path(shown)


def time_range(hit: Hit) -> str:
    """``0:08-0:18``, or ``1:02:03-1:02:13`` past the first hour; empty for what has no times."""
    if hit.start_s is None or hit.end_s is None:
        return ""
    # the end is rounded up: a sound of 0.3 s does not end where it begins
    return f"{_clock(hit.start_s)}-{_clock(math.ceil(hit.end_s))}"


def snippet(hit: Hit, limit_chars: int = SNIPPET_CHARS) -> str:
    """The passage of a text, else the caption, on one line."""
    words = hit.text if hit.modality is Modality.TEXT and hit.text else hit.caption
    line = display_path(" ".join((words or "").split()))
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


def _probability(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"
