"""Which items of a collection are gone from the disk, or from the manifest that listed them. Reads no media."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from indexer.corpus import Corpus, read_manifest
from indexer.errors import ManifestError
from indexer.keys import key_apart, row_key
from indexer.kinds import MANIFEST_SUFFIXES
from indexer.rows import Place

#: Of ``stat``: there is no such file, or can be none.
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


class Roots:
    """The folders, files and manifests that were asked for: nothing outside them is ever touched."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = frozenset(roots)
        self._manifests = {root for root in self._roots if root.suffix.lower() in MANIFEST_SUFFIXES}

    def hold(self, place: Place) -> bool:
        """Whether the item's file or manifest is one of the roots, or in one of them."""
        return self._has(place.path) or (place.manifest is not None and self._has(place.manifest))

    def hold_manifest(self, place: Place) -> bool:
        """Whether the item is from a manifest that was asked for itself."""
        return place.manifest in self._manifests

    def _has(self, path: Path) -> bool:
        return path in self._roots or any(parent in self._roots for parent in path.parents)


def is_gone(place: Place) -> bool:
    """Whether the file (of a text row: its manifest) does not exist any more. A dangling link is gone, too.

    What the system does not say (a failing disk, no permission) is not gone.
    """
    try:
        os.stat(place.path)  # noqa: PTH116 - a path may hold what no file name can
    except OSError as error:
        return error.errno in _GONE
    except ValueError:
        return True
    return False


def vanished(places: Iterable[Place], corpus: Corpus) -> list[str]:
    """Keys of the ``places`` under the corpus's roots that are gone, or that their manifest lists no more.

    Something that the corpus leaves out for another reason (another modality was asked for, its row cannot be
    read now) is not gone while its file is there.
    """
    present = {item.key: item.path for item in corpus.items}
    roots = Roots(corpus.roots)
    listed: dict[Path, set[str] | None] = {}
    gone = []
    for place in places:
        # a row may have the key that a file had, which is gone
        if present.get(place.key) == place.path or not roots.hold(place):
            continue
        if is_gone(place):
            gone.append(place.key)
        elif place.manifest is not None and roots.hold_manifest(place):
            if place.manifest not in listed:
                listed[place.manifest] = _listed(place.manifest)
            keys = listed[place.manifest]
            if keys is not None and place.key not in keys:
                gone.append(place.key)
    return gone


def _listed(manifest: Path) -> set[str] | None:
    """The keys of all that ``manifest`` lists; ``None`` when it, or the file of a row, cannot be read."""
    try:
        found = read_manifest(manifest)
    except ManifestError:
        return None
    rows = found.rows
    if any("cannot be" in skipped.reason for skipped in found.skipped):  # see files.trouble: it may be there
        return None
    keys = {str(path) for row in rows for path in (row.image, row.audio) if path is not None}
    texts = [row.row_id for row in rows if row.text is not None]
    return keys | {name(manifest, row_id) for row_id in texts for name in (row_key, key_apart)}
