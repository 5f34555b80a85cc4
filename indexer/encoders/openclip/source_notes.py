"""What an ``openclip:`` spec was found to name, remembered: finding it anew takes open_clip, and so torch.

A note in the cache holds a source that open_clip's own lists have checked, with the names, sizes and times of the files
around it; where one of them differs, or open_clip is of another version, the note counts for nothing. The weights
themselves are known by their sha256 (the encoder's fingerprint), not by this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from indexer.durable import replace_text
from indexer.encoders.openclip.source import OpenClipSource
from indexer.encoders.weights.cache import cache_dir
from indexer.errors import StorageError

#: Raised with every change of what a spec may name.
_VERSION = 1
_SUFFIXES = (".json", ".safetensors", ".bin", ".pth", ".pt", ".npz", ".model", ".txt")


def noted_source(spec: str) -> OpenClipSource | None:
    """The source that ``spec`` named before, while nothing around it has changed; ``None`` without such a note."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = json.loads(_place(spec).read_text(encoding="utf-8"))
        if note["version"] != _version() or not note["folders"]:
            return None
        if all(_files(Path(folder)) == files for folder, files in note["folders"].items()):
            return _source(note["source"])
    return None


def write_note(source: OpenClipSource) -> None:
    """Remember what ``source.spec`` names. A cache that can't be written costs time and nothing else."""
    folders = {source.checkpoint.parent, *(file.parent for file in source.vocabulary)}
    for folder in list(folders):
        repository = folder.parent.parent  # of the hub's cache: .../models--NAME/snapshots/COMMIT
        if folder.parent.name == "snapshots":
            folders.add(repository / "refs")
    paths = {"checkpoint": str(source.checkpoint), "vocabulary": [str(file) for file in source.vocabulary]}
    tokenizer = None if source.tokenizer is None else str(source.tokenizer)
    note = {
        "version": _version(),
        "folders": {str(folder): _files(folder) for folder in sorted(folders) if folder.is_dir()},
        "source": {**asdict(source), **paths, "tokenizer": tokenizer},
    }
    with contextlib.suppress(OSError, StorageError, TypeError):
        _place(source.spec).parent.mkdir(parents=True, exist_ok=True)
        replace_text(_place(source.spec), json.dumps(note, indent=1) + "\n")


def _source(document: dict[str, Any]) -> OpenClipSource:
    tokenizer = document["tokenizer"]
    return OpenClipSource(
        **{
            **document,
            "checkpoint": Path(document["checkpoint"]),
            "tokenizer": None if tokenizer is None else Path(tokenizer),
            "vocabulary": tuple(Path(file) for file in document["vocabulary"]),
        }
    )


def _files(folder: Path) -> list[list[Any]]:
    """Name, size and times of the files that a model could be read from, and in ``refs`` of all files."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in _SUFFIXES or folder.name == "refs"):
            facts = path.stat()
            found.append([path.name, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns])
    return found


def _version() -> list[Any]:
    try:
        return [_VERSION, version("open_clip_torch")]
    except PackageNotFoundError:
        return [_VERSION, "?"]


def _place(spec: str) -> Path:
    return cache_dir() / "sources" / f"{hashlib.sha256(spec.encode()).hexdigest()[:32]}.json"
