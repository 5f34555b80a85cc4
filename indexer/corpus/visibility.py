"""Whether a file does not exist, or only cannot be seen now. Looks with ``stat`` and lists folders; opens nothing.

A disk that is away leaves an empty folder where it is mounted, or no folder at all; a network share answers with an
error. Only a name that the system does not know (ENOENT), in a folder that can be listed and holds something, does not
exist. Knows nothing of collections.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from indexer.files import one_line

EMPTY = "is empty, as a disk that is away leaves it"
MISSING = "does not exist, as when a disk is away"
NO_FOLDER = "is no folder any more"


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why nothing is known of a file: the folder (or link) at fault."""

    folder: Path
    reason: str
    may_be_lifted: bool
    """Whether the user can say that the files are gone all the same; not when the system failed to answer."""


class Sight:
    """Answers for many files; each folder is listed once. ``is_bare(name)``: names that count as nothing."""

    def __init__(self, is_bare: Callable[[str], bool]) -> None:
        self._is_bare = is_bare
        self._folders: dict[Path, Unseen | None] = {}

    def missing(self, path: Path, inside: Callable[[Path], bool]) -> bool | Unseen:
        """True where ``path`` does not exist, False where it does, else why that is not known.

        ``inside(folder)``: whether a folder belongs to what is being looked through. A folder that is missing there is
        looked for in the one above it; elsewhere (behind a link) only the folder of the file itself counts.
        """
        try:
            os.stat(path)  # noqa: PTH116 - a path may hold what no file name can
        except ValueError:
            return True  # no file can have such a name
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                return self._of_parent(path, inside)
            if error.errno != errno.ENOENT:
                return Unseen(path.parent, _failed(error), may_be_lifted=False)
        else:
            return False
        target = _link_target(path)
        if target is not None:
            return self._of_parent(target, lambda _: False)
        return self._of_parent(path, inside)

    def _of_parent(self, path: Path, inside: Callable[[Path], bool]) -> bool | Unseen:
        """Whether the nearest folder above ``path`` that exists can be listed and holds something."""
        folder = path.parent
        while True:
            if folder not in self._folders:
                self._folders[folder] = self._look(folder)
            found = self._folders[folder]
            if found is None:
                return True
            above = folder.parent
            if found.reason != MISSING or above == folder or not inside(above):
                return found
            folder = above

    def _look(self, folder: Path) -> Unseen | None:
        """What is the matter with a folder; ``None`` where it can be listed and holds something."""
        try:
            if not stat.S_ISDIR(folder.stat().st_mode):
                return Unseen(folder, NO_FOLDER, may_be_lifted=True)
            with os.scandir(folder) as listing:
                for entry in listing:
                    if not self._is_bare(entry.name):
                        return None
        except OSError as error:
            if error.errno == errno.ENOTDIR:  # a folder above it became a file
                return Unseen(folder, NO_FOLDER, may_be_lifted=True)
            if error.errno != errno.ENOENT:
                return Unseen(folder, _failed(error), may_be_lifted=False)
            if _link_target(folder) is not None:
                return Unseen(folder, "is a link that leads nowhere", may_be_lifted=True)
            return Unseen(folder, MISSING, may_be_lifted=True)
        return Unseen(folder, EMPTY, may_be_lifted=True)


def _link_target(path: Path) -> Path | None:
    """Where a link leads in the end; ``None`` for what is no link."""
    try:
        return Path(os.path.realpath(path)) if path.is_symlink() else None
    except OSError:
        return None


def _failed(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "cannot be looked into: permission denied"
    return f"cannot be looked into ({one_line(error.strerror or error)})"
