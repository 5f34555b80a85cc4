"""Manifests: a file with a row an item (.jsonl, .csv, .parquet) read into rows with files and captions.

A row of ``.jsonl``::

    {"image": "rel/a.jpg", "audio": "rel/a.ogg", "text": "...", "captions": ["...", "..."],
     "id": "a", "split": "test", "metadata": {"year": 2020}}

At least one of image, audio and text; the rest may be left out. ``captions`` (or ``caption``) may be a
single string. Keys that are none of these go into the metadata. Metadata is flat: an object inside it
becomes dotted keys, one level deep; lists and deeper objects become JSON text, up to 100 levels deep. A value that
no column holds is kept as text (an integer of more than 64 bits, a date, bytes) or as nothing (NaN, infinity).

``.csv`` has the same as columns, several captions as ``caption, caption_2, ...`` or as a JSON list in
``captions``; ``.parquet`` the same with typed columns. Paths are relative to the manifest and stay in
its folder: a manifest from elsewhere must not be able to name the reader's own files.

A row that cannot be used is skipped with its reason and harms no other row. Media files are looked at
with ``stat`` only. Knows nothing of decoding, SQL or models.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from indexer.corpus.tables import CAPTION_KEY, MAX_LINE_BYTES, NAMED_KEYS, READERS, BadRow, type_name
from indexer.errors import ManifestError, MediaError
from indexer.files import absolute, display_path, not_a_file, one_line, open_file, trouble
from indexer.integers import fits
from indexer.items import Scalar, Skipped
from indexer.limits import TABLE_BYTES, TABLE_FACTOR
from indexer.names import DiskNames
from indexer.nesting import is_deeper

_FILES = ("image", "audio")
#: A row with its paths and its item; each value; a row that is skipped.
_ROW_BYTES, _VALUE_BYTES, _SKIPPED_BYTES = 1_500, 150, 500
#: Levels of lists and objects in one value of the metadata.
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row that can be used: at least one of ``image``, ``audio`` and ``text`` is there."""

    row_id: str
    """``id`` of the row, or its line number as text. Unique in the manifest."""
    line: int
    """From 1; of a parquet file, the number of the row."""
    image: Path | None
    """Absolute, an existing regular file, as is ``audio``."""
    audio: Path | None
    text: str | None
    captions: tuple[str, ...]
    split: str | None
    metadata: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest holds, rows in its own order."""

    path: Path
    """Absolute."""
    rows: list[ManifestRow]
    skipped: list[Skipped]
    """A row that cannot be used each, with ``manifest.jsonl:12`` for its path."""
    missing: tuple[Path, ...] = ()
    """Files of those rows that do not exist where they are listed, absolute."""


def read_manifest(path: Path) -> Manifest:
    """Read a ``.jsonl``, ``.csv`` or ``.parquet`` manifest. Raises ``ManifestError`` if none of it can be."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ManifestError(f"{display_path(path)}: not a manifest; one ends in {', '.join(READERS)}")
    collected = _Rows(shown=display_path(path), folder=absolute(path).parent)
    try:
        with open_file(path) as file:
            collected.allowed_bytes = max(TABLE_BYTES, TABLE_FACTOR * os.fstat(file.fileno()).st_size)
            for line, values in reader(file, collected.shown):
                collected.add(line, values)
    except MediaError as error:
        raise ManifestError(f"{collected.shown}: {error.reason}") from error
    except OSError as error:
        raise ManifestError(f"{collected.shown}: {trouble(error, path)}") from error
    except ManifestError:
        raise
    except Exception as error:  # of a library that reads the table
        raise ManifestError(
            f"{collected.shown}: cannot be read ({one_line(error)}); write it again, as .jsonl"
        ) from error
    if not collected.rows and not collected.skipped:
        raise ManifestError(f'{collected.shown}: holds no rows; write one a line: {{"image": "a.jpg"}}')
    return Manifest(absolute(path), collected.rows, collected.skipped, tuple(collected.missing))


@dataclass(slots=True)
class _Rows:
    """The rows so far, and what no later row may repeat."""

    shown: str
    folder: Path
    rows: list[ManifestRow] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    files: dict[Path, int] = field(default_factory=dict)
    parents: dict[Path, bool] = field(default_factory=dict)
    """Folders of files, and whether they lie in the manifest's folder."""
    missing: list[Path] = field(default_factory=list)
    names: DiskNames = field(default_factory=DiskNames)
    real_folder: Path = field(init=False)
    held_bytes: int = 0
    allowed_bytes: int = TABLE_BYTES

    def __post_init__(self) -> None:
        self.real_folder = self.folder.resolve()

    def add(self, line: int, values: Mapping[str, Any] | BadRow) -> None:
        try:
            if isinstance(values, BadRow):
                raise values
            row = self._row(line, values)
        except BadRow as bad:
            self._skip(line, str(bad))
            return
        except Exception as error:  # whatever a stranger's row is made of, it harms no other row
            self._skip(line, f"cannot be used ({one_line(error)}); leave it out")
            return
        self._hold(line, _held_bytes(row))
        self.rows.append(row)
        self.ids[row.row_id] = line
        self.files.update((file, line) for file in (row.image, row.audio) if file is not None)

    def _skip(self, line: int, reason: str) -> None:
        self._hold(line, _SKIPPED_BYTES)
        self.skipped.append(Skipped(f"{self.shown}:{line}", reason))

    def _hold(self, line: int, n_bytes: int) -> None:
        """Raises ``ManifestError`` where the rows so far take more memory than a table may."""
        self.held_bytes += n_bytes
        if self.held_bytes > self.allowed_bytes:
            raise ManifestError(
                f"{self.shown}: its rows up to {line:,} take over {self.allowed_bytes / 1e9:,.1f} GB of memory, the"
                f" limit of a table; split it into several"
            )

    def _row(self, line: int, values: Mapping[str, Any]) -> ManifestRow:
        text = _words(values, "text")
        image, audio = (self._file(name, _string(values, name)) for name in _FILES)
        if image is None and audio is None and text is None:
            raise BadRow('has none of "image", "audio" and "text"; give it one')
        row_id = _words(values, "id", also=int) or str(line)
        if row_id in self.ids:
            raise BadRow(
                f'its id "{display_path(row_id)}" is that of line {self.ids[row_id]};'
                ' give every row its own "id" (without one, the line number is it)'
            )
        for file in (image, audio):
            if file in self.files:
                raise BadRow(
                    f"{display_path(file)} is listed on line {self.files[file]} already;"
                    ' put all its captions into the one row, as "captions": ["...", "..."]'
                )
        return ManifestRow(
            row_id, line, image, audio, text, _captions(values), _words(values, "split"), _metadata(values)
        )

    def _is_inside(self, path: Path) -> bool:
        if path.is_symlink():
            return path.resolve().is_relative_to(self.real_folder)
        if path.parent not in self.parents:  # resolved once a folder: a manifest may have a million rows
            self.parents[path.parent] = path.parent.resolve().is_relative_to(self.real_folder)
        return self.parents[path.parent]

    def _file(self, name: str, value: str | None) -> Path | None:
        """The absolute path of a row's file, which must be there and inside the manifest's folder."""
        if value is None:
            return None
        shown = display_path(value)
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value):
            raise BadRow(f'"{name}" is the address {shown}; nothing is fetched: download it, give its path')
        try:
            path = self.names.on_disk(absolute(self.folder / value))
            # resolve() sees through links and "..": a manifest names only what lies beside it
            inside = self._is_inside(path)
            mode = path.stat().st_mode if inside else 0
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before 3.13
            if isinstance(error, RuntimeError):
                raise BadRow(f"{shown} is a link that leads back to itself; mend or remove it") from error
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                self.missing.append(absolute(self.folder / value))
            hint = "; write / for \\ in paths" if "\\" in value else ""
            raise BadRow(f"{shown} {trouble(error, self.folder / value)}{hint}") from error
        if not inside:
            raise BadRow(
                f"{shown} lies outside the manifest's folder; copy the file beside the manifest,"
                " or move the manifest up"
            )
        reason = not_a_file(mode)
        if reason is not None:
            raise BadRow(f"{shown} {reason}")
        return path


def _held_bytes(row: ManifestRow) -> int:
    """About what a row takes with its item: texts, and some objects for each value."""
    metadata = sum(len(name) + (len(value) if isinstance(value, str) else 0) for name, value in row.metadata.items())
    values = len(row.metadata) + len(row.captions)
    return _ROW_BYTES + len(row.text or "") + sum(map(len, row.captions)) + metadata + _VALUE_BYTES * values


def _string(values: Mapping[str, Any], name: str, *, also: type[int] | None = None) -> str | None:
    value = values.get(name)
    if value is None:
        return None
    if also is int and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadRow(f'"{name}" is {type_name(value)}; it must be a string')
    return value if value.strip() else None


def _words(values: Mapping[str, Any], name: str, *, also: type[int] | None = None) -> str | None:
    value = _string(values, name, also=also)
    return None if value is None else _storable(value)


def _captions(values: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for name in sorted((name for name in values if CAPTION_KEY.fullmatch(name)), key=_caption_order):
        value = values[name]
        for caption in value if isinstance(value, list | tuple) else [value]:
            if caption is not None and not isinstance(caption, str):
                raise BadRow(f'"{name}" holds {type_name(caption)}; it must be a string or a list of strings')
            if caption and caption.strip():
                found.append(_storable(caption.strip()))
    return tuple(found)


def _caption_order(name: str) -> tuple[int, str]:
    """caption, captions, caption_2, ..., caption_10; numbers as digits, since a key may have thousands of them."""
    number = name.rpartition("_")[2].lstrip("0")
    return (len(number), number) if number.isdigit() else (0, name)


def _metadata(values: Mapping[str, Any]) -> dict[str, Scalar]:
    given = values.get("metadata")
    if given is None:
        given = {}
    if isinstance(given, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in given):
        given = dict(given)  # a parquet map
    if not isinstance(given, Mapping):
        raise BadRow(f'"metadata" is {type_name(given)}; it must be an object')
    others = (
        (name, value) for name, value in values.items() if name not in NAMED_KEYS and not CAPTION_KEY.fullmatch(name)
    )
    flat = dict(_flat(others))
    flat.update(_flat(given.items()))
    size = sum(len(name) + (len(value) if isinstance(value, str) else 0) for name, value in flat.items())
    if size > MAX_LINE_BYTES:
        raise BadRow(
            f"its metadata has {size:,} characters, over the limit of {MAX_LINE_BYTES:,}; "
            "leave out what no filter needs"
        )
    return flat


def _flat(pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Scalar]]:
    for name, value in pairs:
        if isinstance(value, Mapping):
            for inner, deeper in value.items():
                yield _storable(f"{_key(name)}.{_key(inner)}"), _scalar(deeper, name)
        else:
            yield _storable(_key(name)), _scalar(value, name)


def _key(name: Any) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def _scalar(value: Any, name: Any) -> Scalar:
    """As SQLite can keep it: NaN and infinity are nothing; integers beyond 64 bits, dates and lists are text.

    Bytes are their text where they are UTF-8, else their hexadecimal digits.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if fits(value) else str(value)
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return _bytes_as_text(value)
    if is_deeper(value, MAX_DEPTH):
        raise BadRow(
            f'the value of "{one_line(_key(name), 60)}" is nested more than {MAX_DEPTH} levels deep; '
            "flatten it or leave it out"
        )
    return _storable(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> str:
    """What JSON has no word for, inside a list or a deeper object."""
    return _bytes_as_text(value) if isinstance(value, bytes) else str(value)


def _bytes_as_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()


def _storable(text: str) -> str:
    r"""Without the half characters that JSON's ``"\ud800"`` can make and that no database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
