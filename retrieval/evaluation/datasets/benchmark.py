"""A benchmark: its rows, their files as items, and their captions; and how a manifest becomes one.

Reads the manifest through ``indexer.corpus.walk`` (the rows that ``trimodal index`` takes too) and opens no media;
other layouts are read beside it. Knows nothing of encoders or metrics; which pairs are compared is decided in
``benchmark.py``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.corpus.walk import ManifestRow, read_manifest
from indexer.errors import UsageError
from indexer.files import display_path
from indexer.items import Item, Modality, Skipped

_SUFFIXES = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One row of the manifest: what it holds of each modality, and its captions, stripped, none empty.

    A caption that stands twice in a row counts twice: each occurrence is a query.
    """

    row_id: str
    items: Mapping[Modality, Item]
    captions: tuple[str, ...]
    label: int | None = None
    """Which of the benchmark's classes it is of; ``None`` where it has none."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The rows that are compared with each other."""

    path: Path
    """Of the manifest, absolute; of some layouts a folder."""
    sha256: str
    """Of the manifest's bytes (of class folders: of class names, file names and sizes): which captions, ids and
    splits a number was measured on."""
    split: str | None
    rows: tuple[BenchmarkRow, ...]
    skipped: tuple[Skipped, ...]
    """Rows of the manifest that cannot be used."""
    warnings: tuple[str, ...] = ()
    layout: str = "manifest"
    """How it lay on disk: a name of ``LAYOUTS``."""
    classes: tuple[str, ...] = ()
    """What the classes are called, by label; none: no zero-shot classification."""
    templates: tuple[str, ...] = ()
    """The sentences that a class is put into, at ``{}``."""

    def warned(self, warning: str) -> Benchmark:
        """The same with one warning more."""
        return replace(self, warnings=(*self.warnings, warning))

    @property
    def name(self) -> str:
        """Folder and file name of the manifest, with the split after ``@``: the ``dataset`` of a report."""
        name = display_path("/".join(self.path.parts[-2:]))
        return f"{name}@{self.split}" if self.split is not None else name


def load_benchmark(manifest: Path, split: str | None = None) -> Benchmark:
    """The rows of a manifest, or those whose ``"split"`` is ``split``.

    Raises :class:`UsageError` for a folder, an unknown split (naming those there are), and rows between which
    there is nothing to compare; ``ManifestError`` for a file that is no manifest.
    """
    manifest = Path(manifest)
    shown = display_path(manifest)
    if manifest.is_dir():
        inside = sorted(path.name for path in manifest.iterdir() if path.suffix.lower() in _SUFFIXES)
        remedy = f"for example {display_path(manifest / inside[0])}" if inside else "a .jsonl with captions"
        raise UsageError(f"{shown}: is a folder; give the manifest to measure on, {remedy}")
    read = read_manifest(manifest)
    splits = Counter(row.split for row in read.rows)
    named = sorted(name for name in splits if name is not None)
    warnings = []
    if split is not None and split not in splits:
        there = f"it has {', '.join(named)}" if named else 'its rows have no "split"; leave --split out'
        raise UsageError(f"{shown}: has no split {split!r}; {there}")
    if split is None and len(named) > 1:
        warnings.append(
            f"{shown}: rows of the splits {', '.join(named)} are measured as one pool; "
            f"published numbers use one: give --split"
        )
    rows = tuple(_row(read.path, row) for row in read.rows if split is None or row.split == split)
    if not any(row.captions for row in rows) and not any(
        {Modality.IMAGE, Modality.AUDIO} <= set(row.items) for row in rows
    ):
        raise UsageError(f'{shown}: nothing to compare; give rows "captions", or both an "image" and an "audio"')
    return Benchmark(read.path, _sha256(read.path), split, rows, tuple(read.skipped), tuple(warnings))


def _row(manifest: Path, row: ManifestRow) -> BenchmarkRow:
    items: dict[Modality, Item] = {}
    for modality, path in ((Modality.IMAGE, row.image), (Modality.AUDIO, row.audio)):
        if path is not None:
            size_bytes = path.stat().st_size if path.exists() else 0
            items[modality] = Item(
                str(path), modality, path, manifest=manifest, row_id=row.row_id, size_bytes=size_bytes
            )
    if row.text is not None:
        items[Modality.TEXT] = Item(
            f"{manifest}#{row.row_id}",
            Modality.TEXT,
            manifest,
            text=row.text,
            manifest=manifest,
            row_id=row.row_id,
        )
    captions = tuple(caption.strip() for caption in row.captions if caption.strip())
    return BenchmarkRow(row.row_id, items, captions)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
