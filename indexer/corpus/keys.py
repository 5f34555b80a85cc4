"""Keys of texts that stand in a manifest, apart from those of files and of other manifests.

    /data/m.jsonl#1.txt      row 1.txt of m.jsonl: the usual key
    /data/m.jsonl//#1.txt    the same, where a file is called m.jsonl#1.txt, or another manifest has a row of that key

No path holds ``//``, and what follows is quoted, so two rows never share the second form and no file has it.
Knows nothing of what is in a manifest.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.parse import quote

#: Of keys of the second form.
APART = "//#"


def row_key(manifest: Path, row_id: str) -> str:
    """The usual key of a row's text; ``manifest`` is absolute."""
    return f"{manifest}#{row_id}"


def key_apart(manifest: Path, row_id: str) -> str:
    """The key of a row's text where something else has the usual one."""
    return f"{manifest}{APART}{quote(row_id, safe='', errors='surrogatepass')}"


def is_apart(key: str) -> bool:
    """Whether a key may be of the second form."""
    return APART in key


class FilesBeside:
    """Which keys of a manifest's rows are names of files, too."""

    def __init__(self, manifest: Path) -> None:
        start = f"{manifest.name}#"
        try:
            with os.scandir(manifest.parent) as listing:
                self._some = any(entry.name.startswith(start) for entry in listing)
        except OSError:
            self._some = True  # not known: each is looked at

    def __contains__(self, key: str) -> bool:
        """Whether something on the disk has this name."""
        if not self._some:
            return False
        try:
            os.lstat(key)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        except ValueError:
            return False
        return True
