"""The user's cache of models, features and data, and folders in it that appear only when they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from indexer.errors import StorageError

#: A pull that has written nothing for this long is dead.
_OLD_S = 86_400.0


def cache_dir() -> Path:
    """The user's cache of models, features and data: ``TRIMODAL_CACHE`` or the platform's place."""
    import platformdirs

    named = os.environ.get("TRIMODAL_CACHE")
    return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("trimodal")


def install(
    directory: Path,
    make: Callable[[Path, Path], None],
    is_whole: Callable[[], bool],
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Path:
    """Let ``make(work, target)`` fill a directory, which appears in its place only when it is whole.

    Nothing is done where it ``is_whole``, perhaps because another process has just made it so.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _alone(directory, on_stage):
            if is_whole():
                return directory
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=_leavings(directory)) as work:
                target = Path(work) / "whole"
                make(Path(work), target)
                if directory.exists():
                    shutil.rmtree(directory)
                target.rename(directory)
    except OSError as error:
        raise StorageError(
            f"{directory}: can't be written ({error.strerror or error}); free some space (1 GB) or set TRIMODAL_CACHE"
        ) from error
    return directory


@contextlib.contextmanager
def _alone(directory: Path, on_stage: Callable[[str], None]) -> Iterator[None]:
    """As the only process that fills ``directory``; what a killed one left of it is removed."""
    import filelock  # brings asyncio: for who fetches

    locks = cache_dir() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(locks / f"{directory.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        on_stage(f"waiting for another trimodal that fetches {directory.name}")
        lock.acquire()
    try:
        for left in directory.parent.glob(f"{_leavings(directory)}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in directory.parent.glob(".pull-*"):  # of versions that had no lock: long dead, if they are old
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _OLD_S:
                    shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _leavings(directory: Path) -> str:
    return f".pull-{directory.name}-"
