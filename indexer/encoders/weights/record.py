"""What was installed into a folder of the cache, file by file, and whether it is still that.

``origin.json`` holds sha256, size and times of every file. At each load size and times are compared, which costs
nothing; where they differ (a copied cache, an edit, damage) the file's sha256 decides. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from indexer.durable import replace_text
from indexer.encoders.weights.wheels import sha256_of
from indexer.errors import StorageError, WeightsCorrupt, WeightsMissing

RECORD = "origin.json"


def write_record(directory: Path, facts: Mapping[str, Any]) -> None:
    """Write the record of all files of ``directory``, with ``facts`` of where they came from. Reads every file."""
    files = {
        path.name: {"sha256": sha256_of(path), "stamp": _stamp(path)}
        for path in sorted(directory.iterdir())
        if path.is_file() and path.name != RECORD
    }
    replace_text(directory / RECORD, json.dumps({**facts, "files": files}, indent=1) + "\n")


def is_installed(directory: Path) -> bool:
    """Whether a record is there, and every file that it names, of the size that it names."""
    try:
        document = _read(directory)
        return document is not None and all(
            (directory / name).stat().st_size == one["stamp"][0] for name, one in document.get("files", {}).items()
        )
    except (OSError, TypeError, KeyError, IndexError, AttributeError):
        return False


def check_installed(directory: Path, remedy: str, *, known: Mapping[str, str], whole: bool = False) -> None:
    """Raise :class:`WeightsCorrupt` or :class:`WeightsMissing` naming a file that is not what was installed.

    ``known``: sha256 by name of what a record from before records held files lacks; a file of which nothing is known
    there is taken as it is. ``whole``: compare every sha256, whatever the times say.
    """
    document = _read(directory)
    if document is None:
        raise WeightsMissing(f"{directory / RECORD}: is missing or damaged; {remedy}")
    files = document.get("files")
    if not isinstance(files, dict):
        _adopt(directory, document, known, remedy)
        return
    moved = False
    for name, one in files.items():
        path = directory / name
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            raise WeightsMissing(f"{path}: is missing; {remedy}") from None
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror or error}); check the disk") from error
        same = isinstance(one, dict) and one.get("stamp") == stamp
        if same and not whole:
            continue
        found = require_sha256(path, str(one.get("sha256")) if isinstance(one, dict) else "?", remedy)
        if not same:
            files[name], moved = {"sha256": found, "stamp": stamp}, True
    if moved:
        with contextlib.suppress(StorageError):  # a cache that is read-only is checked again next time
            replace_text(directory / RECORD, json.dumps(document, indent=1) + "\n")


def require_sha256(path: Path, promised: str, remedy: str) -> str:
    """The sha256 of a file, in hexadecimal; raise :class:`WeightsCorrupt` where it is not ``promised``."""
    found = sha256_of(path)
    if found != promised:
        raise WeightsCorrupt(f"{path}: is damaged (sha256 {found[:12]}…, was {promised[:12]}…); {remedy}")
    return found


def _adopt(directory: Path, document: Mapping[str, Any], known: Mapping[str, str], remedy: str) -> None:
    """Give a folder that was installed before records held files its record, where nothing known contradicts."""
    for name, promised in known.items():
        path = directory / name
        if not path.is_file():
            raise WeightsMissing(f"{path}: is missing; {remedy}")
        require_sha256(path, promised, remedy)
    with contextlib.suppress(StorageError):
        write_record(directory, document)


def _read(directory: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise StorageError(
            f"{directory / RECORD}: cannot be read ({error.strerror or error}); check the disk"
        ) from error
    return document if isinstance(document, dict) else None


def _stamp(path: Path) -> list[int]:
    """Size, mtime and ctime: an edit that restores the mtime does not restore the ctime."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
