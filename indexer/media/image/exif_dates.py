"""When a picture was taken, from the dates that cameras and programs really write. Knows nothing of picture formats.

EXIF 2.32 has one form, ``2020:01:02 03:04:05``, with the offset from UTC and the fraction of a second in tags of their
own. Files also hold dashes or slashes, a ``T``, the offset behind the time with or without a colon, fractions, hour 24,
and only the date of digitisation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

_DATE_TIME, _OFFSET_TIME = 0x0132, 0x9010
_ORIGINAL, _OFFSET_ORIGINAL = 0x9003, 0x9011
_DIGITIZED, _OFFSET_DIGITIZED = 0x9004, 0x9012
#: The tag of a date and those of its offset, the truest first: taken, made digital, changed.
_TAGS = (
    (_ORIGINAL, (_OFFSET_ORIGINAL, _OFFSET_TIME)),
    (_DIGITIZED, (_OFFSET_DIGITIZED, _OFFSET_TIME)),
    (_DATE_TIME, (_OFFSET_TIME,)),
)
#: No date tag is longer; what is behind it is not read.
_MAX_CHARS = 64
_DATE = re.compile(
    r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})"
    r"(?:[ T]{1,2}(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,]\d{1,9})?)? ?(AM|PM)?)?"
    r" ?(Z|[+-]\d{1,2}:?\d{2})?"
)
_OFFSET = re.compile(r"(Z)|([+-])(\d{1,2}):?(\d{2})")


def taken_at(tags: Mapping[int, object], details: Mapping[int, object]) -> str | None:
    """``2020-01-02T03:04:05``, local time of the camera, with ``+01:00`` where the file says it; None without a date.

    ``tags``: of the picture's first directory; ``details``: of its EXIF directory. Fractions of a second are cut.
    """
    for tag, offsets in _TAGS:
        text = _text(tags.get(tag) if tag == _DATE_TIME else details.get(tag))
        found = _DATE.fullmatch(text)
        moment = None if found is None else _moment(found)
        if found is None or moment is None:
            continue
        offset = _offset(found[8] or "") or next(
            (one for one in (_offset(_text(details.get(o))) for o in offsets) if one), ""
        )
        return moment.isoformat(timespec="seconds") + offset
    return None


def _moment(found: re.Match[str]) -> datetime | None:
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    half = found[7]
    if half is not None:
        hour = hour % 12 + (12 if half == "PM" else 0)
    if hour > 24 or minute > 59 or second > 60:  # midnight at the day's end, and a leap second
        return None
    try:
        return datetime(year, month, day) + timedelta(hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):  # zeros, or a day that is not
        return None


def _offset(text: str) -> str:
    found = _OFFSET.fullmatch(text)
    if found is None:
        return ""
    if found[1]:
        return "+00:00"
    hours, minutes = int(found[3]), int(found[4])
    return f"{found[2]}{hours:02}:{minutes:02}" if hours <= 14 and minutes <= 59 else ""


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return str(value or "")[:_MAX_CHARS].split("\0")[0].strip()
