"""``--since``, ``--until`` and ``--folder`` as conditions of ``--where``, joined with the user's own.

Knows nothing of catalogs; what it gives is read by :mod:`indexer.collection.catalog.filters` like any other condition.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from pathlib import Path

from indexer.errors import UsageError
from indexer.files import absolute, one_line

_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}))?)?)?)?", re.ASCII)


def joined(
    where: str | None, *, since: str | None = None, until: str | None = None, folder: Path | None = None
) -> str | None:
    """One condition of all that is given; ``None`` for none. Raises ``UsageError`` for what is no date.

    A picture's date is when it was taken, where it says so; else that of its file. ``until`` includes the whole of
    the day, month or year that it names.
    """
    parts = [] if where is None else [where]
    if since is not None:
        parts.append(_dated(">=", _span("--since", since)[0]))
    if until is not None:
        parts.append(_dated("<", _span("--until", until)[1]))
    if folder is not None:
        place = str(absolute(folder.expanduser()))
        below = place.rstrip(os.sep) + os.sep
        # all that begins with "/a/b/" stands between it and "/a/b0": 0 is the character after the slash
        after = below[:-1] + chr(ord(os.sep) + 1)
        parts.append(f"folder = {_quoted(place)} or (folder >= {_quoted(below)} and folder < {_quoted(after)})")
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts) or None


def _dated(operator: str, moment: datetime) -> str:
    nanoseconds = int(moment.timestamp()) * 10**9
    text = moment.isoformat(timespec="seconds")
    return f"taken_at {operator} '{text}' or (taken_at is null and mtime_ns > 0 and mtime_ns {operator} {nanoseconds})"


def _span(option: str, text: str) -> tuple[datetime, datetime]:
    """The first moment of what ``text`` names, and the first one after it, in local time."""
    found = _DATE.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second = (None if part is None else int(part) for part in found.groups())
        start = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0)
        if month is None:
            end = start.replace(year=start.year + 1)
        elif day is None:
            end = (start + timedelta(days=31)).replace(day=1)
        elif hour is None:
            end = start + timedelta(days=1)
        else:
            end = start + (timedelta(minutes=1) if second is None else timedelta(seconds=1))
        start.timestamp(), end.timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option} {one_line(text, 40)!r} is no date; write 2024, 2024-05, 2024-05-31 or 2024-05-31T18:30"
        ) from None
    return start, end


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
