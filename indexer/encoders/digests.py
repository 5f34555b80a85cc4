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

from indexer.encoders.weights import cache_dir, sha256_of


def cached_sha256(path: Path) -> str:
    """Hex sha256 of a file's content; ``OSError`` where it can't be read.

    A file is taken to be unchanged while its place, inode, size, mtime and ctime are.
    """
    facts = path.stat()
    stamp = [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    note = cache_dir() / "digests" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == stamp and isinstance(known["sha256"], str):
            return known["sha256"]
    digest = sha256_of(path)
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False, encoding="utf-8") as file:
            json.dump({"file": str(path.absolute()), "stamp": stamp, "sha256": digest}, file)
        Path(file.name).replace(note)  # whole or not there
    return digest
