"""sha256 of big files, computed once: remembered in the user's cache by the file's place, size and times.

A checkpoint of gigabytes is then not read again for every search. A cache that can't be read or written costs time and
nothing else. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path

from indexer.encoders.weights.base_weights import cache_dir, sha256_of


def cached_sha256(path: Path) -> str:
    """Hex sha256 of a file's content; ``OSError`` where it can't be read.

    A file is taken to be unchanged while its place, inode, size, mtime and ctime are.
    """
    return known_sha256(path) or remember_sha256(path)


def known_sha256(path: Path) -> str | None:
    """What is remembered of a file whose times are still those; ``None`` where nothing is."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(_note(path).read_text(encoding="utf-8"))
        if known["stamp"] == _stamp(path) and isinstance(known["sha256"], str):
            return str(known["sha256"])
    return None


def remember_sha256(path: Path) -> str:
    """Read the file and remember its sha256. Raises ``OSError``."""
    stamp, digest, note = _stamp(path), sha256_of(path), _note(path)
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False, encoding="utf-8") as file:
            json.dump({"file": str(path.absolute()), "stamp": stamp, "sha256": digest}, file)
        Path(file.name).replace(note)  # whole or not there
    return digest


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _note(path: Path) -> Path:
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    return cache_dir() / "digests" / f"{name}.json"
