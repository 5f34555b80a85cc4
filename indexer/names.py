"""Names in either form of Unicode: compared in the composed form (NFC), opened by the name that the disk has.

macOS and many archives write "é" as "e" and an accent (NFD); keyboards and most other systems write one character
(NFC). Both look the same, and on most disks they are two names. Knows nothing of collections.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def nfc(text: str) -> str:
    """``text`` in the form in which names are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


class DiskNames:
    """The names that folders hold, by their composed form; each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, str]] = {}

    def on_disk(self, path: Path) -> Path:
        """``path`` as it is called on the disk, where it is only there in another form; else ``path`` itself.

        A name that is there as it is written is never taken for another one.
        """
        if str(path).isascii() or _is_there(path):
            return path
        found = Path(path.anchor)
        for part in path.parts[1 if path.anchor else 0 :]:
            one = found / part
            if not part.isascii() and not _is_there(one):
                other = self._names(found).get(nfc(part))
                if other is None:
                    return path
                one = found / other
            found = one
        return found if _is_there(found) else path

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._folders:
            try:
                names = sorted((one.name for one in folder.iterdir()), reverse=True)
            except (OSError, ValueError):
                names = []
            self._folders[folder] = {nfc(name): name for name in names if not name.isascii()}
        return self._folders[folder]


def on_disk(path: Path) -> Path:
    """As :meth:`DiskNames.on_disk`, for one path."""
    return path if str(path).isascii() else DiskNames().on_disk(path)


def _is_there(path: Path) -> bool:
    """Whether something has this name, or it can't be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True
