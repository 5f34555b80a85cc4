"""What the layouts share: reading their files, finding their media, and collecting rows.

A file is looked for by name below the folder that was given and never outside it: a list from elsewhere must not be
able to name the reader's own files. Media are looked at with ``stat`` only. Knows nothing of any one layout.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from indexer.errors import ManifestError, MediaError, UsageError
from indexer.files import absolute, display_path, one_line, open_file
from indexer.items import Item, Modality, Skipped
from retrieval.evaluation.datasets.benchmark import Benchmark, BenchmarkRow

_NOUNS = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds", Modality.TEXT: "texts"}


@dataclass(slots=True)
class Rows:
    """Rows of one modality so far; a file that is not there is skipped with where to get it."""

    path: Path
    """Of the list of captions, absolute."""
    modality: Modality
    source: str
    """Where the media are to be had, for messages: an address."""
    rows: list[BenchmarkRow] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    n_missing: int = 0
    files: set[Path] = field(default_factory=set)

    def add(
        self, row_id: str, shown: str, file: Path | None, captions: Iterable[str], label: int | None = None
    ) -> None:
        """A row with its file, or, where ``file`` is ``None``, a skip that names ``shown``."""
        if file is None:
            self.n_missing += 1
            self.skipped.append(Skipped(display_path(shown), f"does not exist; get it from {self.source}"))
            return
        if file in self.files:
            self.skipped.append(Skipped(display_path(shown), f"is listed twice in {display_path(self.path.name)}"))
            return
        self.files.add(file)
        item = item_of(file, self.modality, self.path, row_id)
        self.rows.append(BenchmarkRow(row_id, {self.modality: item}, stripped(captions), label))

    def benchmark(self, layout: str, sha256: str, split: str | None, **more: Any) -> Benchmark:
        """The rows as a benchmark. Raises ``ManifestError`` naming the first missing file where none is there."""
        noun = _NOUNS[self.modality]
        if not self.rows:
            first = f"the first: {self.skipped[0].path} {self.skipped[0].reason}" if self.skipped else "it lists none"
            raise ManifestError(f"{display_path(self.path)}: none of its {noun} is there; {first}")
        warnings = []
        if self.n_missing:
            total = len(self.rows) + self.n_missing
            warnings.append(
                f"{self.n_missing:,} of {total:,} {noun} are missing, so the pool is smaller than the published one; "
                f"get them from {self.source}"
            )
        return Benchmark(
            self.path, sha256, split, tuple(self.rows), tuple(self.skipped), tuple(warnings), layout=layout, **more
        )


def item_of(file: Path, modality: Modality, manifest: Path, row_id: str) -> Item:
    """A file that is there as the item of a row."""
    return Item(str(file), modality, file, manifest=manifest, row_id=row_id, size_bytes=file.stat().st_size)


def stripped(captions: Iterable[str]) -> tuple[str, ...]:
    """Captions without white space around them, and without empty ones."""
    return tuple(caption.strip() for caption in captions if caption.strip())


def read_bytes(path: Path, source: str) -> bytes:
    """The bytes of a list of captions. Raises ``ManifestError`` saying where to get it."""
    if not path.exists() and not path.is_symlink():
        raise ManifestError(f"{display_path(path)}: does not exist; get it from {source}")
    try:
        with open_file(path) as file:
            return file.read()
    except MediaError as error:
        raise ManifestError(str(error)) from error
    except OSError as error:
        raise ManifestError(f"{display_path(path)}: cannot be read ({one_line(error.strerror or error)})") from error


def read_json(path: Path, source: str) -> tuple[Mapping[str, Any], str]:
    """A JSON object and the sha256 of its bytes."""
    data = read_bytes(path, source)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{display_path(path)}: is not JSON ({one_line(error)}); get it again from {source}"
        ) from error
    if not isinstance(document, dict):
        raise ManifestError(f"{display_path(path)}: is no JSON object; get it again from {source}")
    return document, hashlib.sha256(data).hexdigest()


def read_csv(path: Path, columns: Sequence[str], source: str) -> tuple[list[dict[str, str]], str]:
    """Rows of a CSV that has ``columns``, cells stripped, and the sha256 of its bytes."""
    data = read_bytes(path, source)
    # lines end in \n, \r\n or \r; a separator of Unicode within a caption ends none
    lines = io.StringIO(data.decode("utf-8-sig", "replace"), newline=None).readlines()
    try:
        csv.field_size_limit(max(csv.field_size_limit(), len(data) + 1))
        reader = csv.DictReader(lines, restval="", strict=False)
        names = [name.strip() for name in reader.fieldnames or ()]
        table = list(reader)
    except csv.Error as error:
        raise ManifestError(
            f"{display_path(path)}: is not CSV ({one_line(error)}); get it again from {source}"
        ) from error
    if len(lines) > 1 and any('"' in line for line in lines):
        _refuse_open_quote(path, lines, source)
    missing = [column for column in columns if column not in names]
    if missing:
        raise ManifestError(
            f"{display_path(path)}: has no column {', '.join(missing)} (it has {one_line(', '.join(names), 100)}); "
            f"get it from {source}"
        )
    rows = [
        {name.strip(): (cell or "").strip() for name, cell in row.items() if isinstance(name, str)} for row in table
    ]
    return rows, hashlib.sha256(data).hexdigest()


def _refuse_open_quote(path: Path, lines: Sequence[str], source: str) -> None:
    """Raise where the last quote is never closed: it takes in every row behind it."""
    opened = 0
    try:
        reader = csv.reader(lines, strict=True)
        for _ in reader:
            opened = reader.line_num
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise wrong(path, f"line {opened + 1} opens a quote that is never closed", source) from error


def wrong(path: Path, what: str, source: str) -> ManifestError:
    """The error for a list that is not of its layout."""
    return ManifestError(f"{display_path(path)}: {what}; get it from {source}")


def find_below(folders: Sequence[Path], *names: str) -> Path | None:
    """The first regular file called one of ``names`` (which may hold ``/``) below one of ``folders``; absolute."""
    for folder in folders:
        for name in names:
            pure = PurePosixPath(name)
            if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts:
                continue
            path = folder / name
            try:
                if path.is_file():
                    return absolute(path)
            except OSError:
                continue
    return None


def by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files below ``folder`` with these suffixes, by their name without it; of equal ones the first by path."""
    found: dict[str, Path] = {}
    for path in sorted(walk(folder)):
        if path.suffix.lower() in suffixes:
            found.setdefault(path.stem, absolute(path))
    return found


def walk(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, hidden names passed over."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file():
            yield path


def one_split(path: Path, split: str | None) -> None:
    """Raises ``UsageError`` where a split is given for a list that is one."""
    if split is not None:
        raise UsageError(f"{display_path(path)}: is one split by itself; leave --split out, or give the folder")


def media_folders(media: Path | None, beside: Path, usual: Sequence[str]) -> list[Path]:
    """Where media may lie: the folder that was given, or the list's own and the usual ones in it."""
    if media is None:
        return [beside, *(beside / name for name in usual)]
    if not media.is_dir():
        raise UsageError(f"{display_path(media)}: is no folder; give the folder of the media after @")
    return [media]
