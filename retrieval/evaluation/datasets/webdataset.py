"""WebDataset tars: ``0001.jpg`` with ``0001.txt`` (a caption a line) or ``0001.json`` (``caption`` or ``captions``).

Media are unpacked once, by content, into a cache folder, because the indexer reads files. Names in the tar are never
used as paths: members are written under numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from indexer.durable import storage_errors
from indexer.errors import ManifestError, UsageError
from indexer.files import display_path, one_line
from indexer.items import Modality
from indexer.media.formats import modality_of
from retrieval.evaluation.datasets.benchmark import Benchmark, BenchmarkRow
from retrieval.evaluation.datasets.rows import item_of, one_split, stripped

_CAPTION_FILE_BYTES = 1_000_000
_DONE = "whole"


@dataclass(slots=True)
class _Sample:
    """The members of one key."""

    key: str
    captions: list[str] = field(default_factory=list)
    media: dict[Modality, Path] = field(default_factory=dict)


def load_webdataset(path: Path, unpacked: Path, split: str | None = None) -> Benchmark:
    """The samples of a tar, or of all ``.tar`` in a folder by name. ``unpacked``: the folder to unpack into."""
    one_split(path, split)
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not shards:
        raise UsageError(f"{display_path(path)}: holds no .tar; give the folder of the shards, or one shard")
    digest = hashlib.sha256()
    for shard in shards:
        try:
            with shard.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ManifestError(
                f"{display_path(shard)}: cannot be read ({one_line(error.strerror or error)}); check the path"
            ) from error
    folder = unpacked / digest.hexdigest()[:24]
    samples = [sample for number, shard in enumerate(shards) for sample in _samples(shard, folder / str(number))]
    if not samples:
        raise ManifestError(f"{display_path(path)}: holds no pictures or sounds; a sample is 0001.jpg with 0001.txt")
    if not any(sample.captions for sample in samples) and not any(len(sample.media) > 1 for sample in samples):
        raise UsageError(f"{display_path(path)}: nothing to compare; give samples a .txt or .json with their captions")
    rows = []
    for sample in samples:
        items = {kind: item_of(file, kind, path.absolute(), sample.key) for kind, file in sample.media.items()}
        rows.append(BenchmarkRow(sample.key, items, stripped(sample.captions)))
    return Benchmark(path.absolute(), digest.hexdigest(), None, tuple(rows), (), layout="webdataset")


def _samples(shard: Path, folder: Path) -> list[_Sample]:
    """The samples of one tar; media are written to ``folder`` unless they are there whole."""
    there = (folder / _DONE).is_file()
    try:
        if there:
            return list(_read(shard, folder, write=False))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with storage_errors(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tar-") as work:
            made = Path(work) / "made"
            made.mkdir()
            list(_read(shard, made, write=True))
            (made / _DONE).touch()
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        return list(_read(shard, folder, write=False))
    except tarfile.TarError as error:
        raise ManifestError(f"{display_path(shard)}: is no whole tar ({one_line(error)}); copy it again") from error


def _read(shard: Path, folder: Path, *, write: bool) -> Iterator[_Sample]:
    """Samples in the order of their first member."""
    samples: dict[str, _Sample] = {}
    with tarfile.open(shard) as tar:
        for number, member in enumerate(tar):
            name = PurePosixPath(member.name)
            if not member.isfile() or name.name.startswith("."):
                continue
            stem, _, suffix = name.name.partition(".")  # webdataset: the key ends at the first dot
            sample = samples.setdefault(str(name.with_name(stem)), _Sample(str(name.with_name(stem))))
            content = tar.extractfile(member)
            if content is None:
                continue
            if suffix.lower() in ("txt", "json"):
                sample.captions += _captions(content.read(_CAPTION_FILE_BYTES), suffix.lower())
                continue
            modality = modality_of(Path(f"x.{suffix}"))
            if modality not in (Modality.IMAGE, Modality.AUDIO) or modality in sample.media:
                continue
            file = folder / f"{number:07d}_{re.sub(r'[^A-Za-z0-9-]', '_', stem)[:60]}.{suffix.lower()}"
            if write:
                with file.open("wb") as out:
                    shutil.copyfileobj(content, out)
            sample.media[modality] = file
    yield from (sample for sample in samples.values() if sample.media)


def _captions(data: bytes, suffix: str) -> list[str]:
    """Lines of a .txt; of a .json what ``caption`` or ``captions`` says. Nothing where it cannot be read."""
    text = data.decode("utf-8", "replace")
    if suffix == "txt":
        return [line for line in text.splitlines() if line.strip()]
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return []
    captions = document.get("captions", document.get("caption", [])) if isinstance(document, dict) else []
    return [one for one in (captions if isinstance(captions, list) else [captions]) if isinstance(one, str)]
