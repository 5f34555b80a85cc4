"""Tables of rows: the lines of ``.jsonl``, ``.csv`` and ``.parquet`` as dictionaries, bad lines marked.

Knows how a row is written down, not what it must hold: that is ``manifest.py``.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from indexer.corpus.parquet_cells import BadRow as BadRow
from indexer.corpus.parquet_cells import rows_of
from indexer.corpus.parquet_process import read_batches
from indexer.errors import ManifestError
from indexer.files import one_line

#: A line longer than this is not a row anyone wrote; it is skipped without being kept in memory.
MAX_LINE_BYTES = 16_000_000
#: A bad row of up to so many lines is read again line by line; the time to read stays linear.
_MOST_SWALLOWED = 1_000
_CHUNK_BYTES = 1 << 20
#: Of a CSV. Every row has a value of each, be it nothing.
MAX_COLUMNS = 10_000
#: Of one integer.
MAX_DIGITS = 1_000

#: What a row may be about; a table needs a column of at least one.
CONTENT = ("image", "audio", "text")
CAPTION_KEY = re.compile(r"captions?(?:_\d+)?")
#: With the captions, the keys that mean something; all others are metadata.
NAMED_KEYS = frozenset((*CONTENT, "id", "split", "metadata"))

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?")


#: (line from 1, the row or why it is none)
Numbered = tuple[int, Mapping[str, Any] | BadRow]


def _jsonl(file: BinaryIO, shown: str) -> Iterator[Numbered]:
    for line, raw in enumerate(_any_lines(file, shown), 1):
        if raw is None:
            yield line, BadRow(f"is longer than {MAX_LINE_BYTES // 1_000_000} MB; a row is one line")
            continue
        if not raw.strip():
            continue
        try:
            values = json.loads(raw.decode("utf-8"), parse_constant=lambda _: None, parse_int=_integer)
        except UnicodeDecodeError as error:
            yield line, BadRow(f"is not UTF-8 (byte {error.start} of the line); save the manifest as UTF-8")
        except BadRow as bad:
            yield line, bad
        except RecursionError:
            yield line, BadRow("is not JSON (it is nested too deeply); flatten it or leave the line out")
        except ValueError as error:
            yield line, BadRow(f"is not JSON ({one_line(error)}); a row is one JSON object on one line")
        else:
            if isinstance(values, dict):
                yield line, values
            else:
                yield line, BadRow(f'is {type_name(values)}, not an object; write {{"image": "a.jpg"}}')


def _refuse_utf16(start: bytes, shown: str) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError(f"{shown}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")


def _csv(file: BinaryIO, shown: str) -> Iterator[Numbered]:
    lines = _CsvLines(file, shown)
    heading = next(lines, "")
    # Spreadsheets write what the country uses between columns.
    delimiter = max(",;\t", key=heading.count) if heading.strip() else ","
    # Python's ceiling of 128 kB a field is for the whole process; texts in a manifest are longer.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    names = _column_names(heading, delimiter, shown)
    yield from _csv_rows(lines, names, delimiter)


def _column_names(heading: str, delimiter: str, shown: str) -> list[str]:
    names = [name.strip() for name in next(csv.reader([heading], delimiter=delimiter), [])]
    if not set(names) & set(CONTENT):
        raise ManifestError(f"{shown}: no column is called image, audio or text; the first line names the columns")
    if len(names) > MAX_COLUMNS:
        raise ManifestError(f"{shown}: has {len(names):,} columns, over the limit of {MAX_COLUMNS:,}; leave some out")
    return names


def _csv_rows(lines: _CsvLines, names: list[str], delimiter: str) -> Iterator[Numbered]:
    """The rows below the heading; blank ones are left out. A row with a wrong quote costs that row alone."""
    reader, before = csv.reader(lines, delimiter=delimiter), 1
    while True:
        lines.begin_row()
        line = before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, BadRow(f"is not CSV ({one_line(error)}); check the quotes")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        wrong = _shape_wrong(cells, names, lines, delimiter)
        if wrong is None:
            yield line, _values(names, cells)
            continue
        yield line, BadRow(wrong)
        swallowed = len(lines.row) - 1
        if 0 < swallowed <= _MOST_SWALLOWED:  # the lines behind the quote may be rows of their own
            before += reader.line_num - swallowed
            lines.give_back(lines.row[1:])
            reader = csv.reader(lines, delimiter=delimiter)
        elif swallowed:
            yield line, BadRow(f"and {swallowed:,} lines after it are not read: they stand in its quotes")


def _values(names: list[str], cells: list[str]) -> dict[str, Any] | BadRow:
    """A row's values by column; columns without a name are left out."""
    if not _is_unicode("".join(cells)):
        return BadRow("is not UTF-8; save the manifest as UTF-8")
    return {name: _cell(name, cell) for name, cell in zip(names, cells, strict=True) if name}


def _shape_wrong(cells: list[str], names: list[str], lines: _CsvLines, delimiter: str) -> str | None:
    """Why the fields of a row cannot be those that the writer meant; ``None`` where they can."""
    if len(cells) != len(names):
        return f"has {len(cells)} fields where the first line names {len(names)}; check the quotes"
    if lines.ended or len(lines.row) > 1:
        return _quotes_wrong(lines.row, delimiter)
    return None


def _quotes_wrong(row: list[str], delimiter: str) -> str | None:
    """What is wrong with the quotes of a row that has several lines: Python's reader says so when it is strict."""
    try:
        for _ in csv.reader(row, delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return "opens a quote that is never closed; close it, or write it twice"
        return "has quotes that do not match over its lines; close them, or write them twice"
    return None


def _is_unicode(text: str) -> bool:
    """Whether no byte of it had to be escaped."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _CsvLines:
    r"""The lines of a CSV, which end in ``\n``, ``\r\n`` or ``\r``; a row of it may have several, in quotes."""

    def __init__(self, file: BinaryIO, shown: str) -> None:
        self._lines = _any_lines(file, shown)
        self._again: deque[str] = deque()
        self._chars = 0
        self.row: list[str] = []
        """The lines of the row that is being read."""
        self.ended = False
        """Whether there are no more lines."""

    def begin_row(self) -> None:
        """To be called before a row is read: what a row may have is counted from here."""
        self.row, self._chars = [], 0

    def give_back(self, lines: list[str]) -> None:
        """Lines to be read again, as other rows."""
        self._again.extendleft(reversed(lines))
        self.ended = False

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._fresh()
        if self._chars + len(line) > MAX_LINE_BYTES:
            raise csv.Error(f"a row of over {MAX_LINE_BYTES // 1_000_000} MB")
        self._chars += len(line)
        self.row.append(line)
        return line

    def _fresh(self) -> str:
        try:
            raw = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        if raw is None:
            raise csv.Error(f"a row of over {MAX_LINE_BYTES // 1_000_000} MB")
        return raw.decode("utf-8", "surrogateescape")


def _any_lines(file: BinaryIO, shown: str) -> Iterator[bytes | None]:
    """Lines with any of the three ends, without a byte order mark; None for one that is too long."""
    rest, first, too_long = b"", True, False
    while chunk := file.read(_CHUNK_BYTES):
        if first:
            _refuse_utf16(chunk, shown)
            chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        parts = (rest + chunk).splitlines(keepends=True)
        # the last may continue in the next chunk, and a carriage return at the end may have its line feed there
        rest = b"" if parts[-1].endswith(b"\n") else parts.pop()
        for part in parts:
            if not too_long:
                yield part if len(part) <= MAX_LINE_BYTES else None
            too_long = False
        if len(rest) > MAX_LINE_BYTES:
            if not too_long:
                yield None
            rest, too_long = rest[-1:], True
    if rest and not too_long:
        yield from rest.splitlines(keepends=True)


def _cell(name: str, cell: str) -> Any:
    """CSV has no types: a number in a free column becomes one, so that filters can compare it."""
    if not cell.strip():
        return None
    if name == "captions" or name == "metadata":
        try:
            value = json.loads(cell, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return cell
        return value if isinstance(value, list | dict) else cell
    if name in NAMED_KEYS or CAPTION_KEY.fullmatch(name):
        return cell
    if _INTEGER.fullmatch(cell):
        return int(cell)
    return float(cell) if _DECIMAL.fullmatch(cell) and math.isfinite(float(cell)) else cell


def _parquet(file: BinaryIO, shown: str) -> Iterator[Numbered]:
    line = 0
    for batch in read_batches(file, shown, _check_schema):
        for values in rows_of(batch, MAX_LINE_BYTES):
            line += 1
            yield line, values


def _check_schema(schema: Any, shown: str) -> None:
    import pyarrow as pa

    if not set(schema.names) & set(CONTENT):
        raise ManifestError(f"{shown}: no column is called image, audio or text")
    for name in set(schema.names) & set(CONTENT):
        kind = schema.field(name).type
        words = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_kind(kind) for is_kind in words):
            what = "the text itself" if name == "text" else "paths relative to the manifest"
            raise ManifestError(f'{shown}: column "{name}" holds {kind}; it must hold {what}')


def _integer(digits: str) -> int:
    """Python converts 4,300 digits at most: beyond that the time grows with their square."""
    if len(digits) > MAX_DIGITS:
        raise BadRow(
            f"holds a number of {len(digits):,} digits, over the limit of {MAX_DIGITS:,}; write it as a string"
        )
    return int(digits)


def type_name(value: object) -> str:
    """What a value is, as JSON calls it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


#: By suffix: reads an open table, named by the second argument in its errors.
READERS: Mapping[str, Callable[[BinaryIO, str], Iterator[Numbered]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
