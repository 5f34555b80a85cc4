"""Which items of a collection are gone from the disk, or from the manifest that listed them. Reads no media."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexer.corpus.excludes import by_default
from indexer.corpus.keys import key_apart, row_key
from indexer.corpus.visibility import EMPTY, MISSING, Sight, Unseen
from indexer.corpus.walk import Corpus, read_manifest
from indexer.errors import ManifestError
from indexer.files import display_path
from indexer.items import Place
from indexer.media.formats import MANIFEST_SUFFIXES


@dataclass(frozen=True, slots=True)
class Kept:
    """Items that may be gone and were not pruned, because the system does not say so."""

    path: str
    """The folder that could not be seen, as a printable line."""
    reason: str
    items: int
    may_be_lifted: bool
    """Whether ``--prune-missing-roots`` removes them."""


@dataclass(slots=True)
class Gone:
    """Keys of what is gone, and what was kept."""

    keys: list[str] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


def kept_line(kept: Sequence[Kept]) -> str:
    """What was kept and why, in a line; empty where nothing was."""
    if not kept:
        return ""
    ordered = sorted(kept, key=lambda one: -one.items)
    n = sum(one.items for one in kept)
    more = f", and {len(kept) - 1:,} more folders" if len(kept) > 1 else ""
    line = f"kept, not pruned: {n:,} items, since {ordered[0].path} {ordered[0].reason}{more}"
    liftable = sum(one.items for one in kept if one.may_be_lifted)
    return f"{line}; if they are gone for good: --prune-missing-roots" if liftable else line


class Roots:
    """The folders, files and manifests that the user named: nothing outside them is ever touched."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = frozenset(roots)
        self._manifests = {root for root in self._roots if root.suffix.lower() in MANIFEST_SUFFIXES}

    def hold(self, place: Place) -> bool:
        """Whether the item's file or manifest is one of the roots, or in one of them."""
        return self.has(place.path) or (place.manifest is not None and self.has(place.manifest))

    def hold_manifest(self, place: Place) -> bool:
        """Whether the item is from a manifest that the user named."""
        return place.manifest in self._manifests

    def of(self, path: Path) -> Path:
        """The root that ``path`` is, or is in; ``path`` itself where there is none."""
        return next((one for one in (path, *path.parents) if one in self._roots), path)

    def name(self, path: Path) -> bool:
        """Whether ``path`` is one of the roots."""
        return path in self._roots

    def has(self, path: Path) -> bool:
        """Whether ``path`` is one of the roots, or in one of them."""
        return path in self._roots or any(parent in self._roots for parent in path.parents)


def is_gone(place: Place, roots: Roots | None = None) -> bool:
    """Whether the file (of a text row: its manifest) does not exist any more: for an item whose content is elsewhere.

    What the system does not say (a failing disk, no permission) is not gone, nor is what was in a folder that is
    missing now, or in one of the ``roots`` that is empty. Another folder may be empty because all its files were moved.
    """
    found = Sight(by_default).missing(place.path, roots.has if roots is not None else lambda _: False)
    if isinstance(found, Unseen):
        return found.reason == EMPTY and (roots is None or not roots.name(found.folder))
    return found


def find_gone(places: Iterable[Place], corpus: Corpus, *, missing_roots: bool = False) -> Gone:
    """Of the ``places`` under the corpus's roots those that are gone, or that their manifest lists no more.

    Something that the corpus leaves out for another reason (its modality is not wanted, its row cannot be
    read now) is not gone while its file is there; one that the user's own words exclude is. With ``missing_roots``
    what was in a folder that is missing, empty or no folder any more is gone, too.
    """
    return _Pruning(corpus, missing_roots).sort(places)


class _Pruning:
    def __init__(self, corpus: Corpus, missing_roots: bool) -> None:
        self.corpus = corpus
        self.missing_roots = missing_roots
        self.roots = Roots((*corpus.roots, *corpus.absent))
        self.absent = Roots(corpus.absent)
        self.sight = Sight(by_default)
        self.listed: dict[Path, set[str] | None] = {}
        self.kept: dict[Unseen, int] = {}

    def sort(self, places: Iterable[Place]) -> Gone:
        present = {item.key: item.path for item in self.corpus.items}
        gone = Gone()
        for place in places:
            # a row may have the key that a file had, which is gone
            if present.get(place.key) != place.path and self.roots.hold(place) and self._is_gone(place):
                gone.keys.append(place.key)
        for unseen, items in self.kept.items():
            gone.kept.append(Kept(display_path(unseen.folder), unseen.reason, items, unseen.may_be_lifted))
        return gone

    def _is_gone(self, place: Place) -> bool:
        if self.corpus.excludes(place.path):
            return True
        found = self.sight.missing(place.path, self.roots.has)
        if found is True and self.absent.has(place.path):
            found = Unseen(self.absent.of(place.path), MISSING, may_be_lifted=True)
        if isinstance(found, Unseen):
            if self.missing_roots and found.may_be_lifted:
                return True
            self.kept[found] = self.kept.get(found, 0) + 1
            return False
        if found or place.manifest is None or not self.roots.hold_manifest(place):
            return found
        if place.manifest not in self.listed:
            self.listed[place.manifest] = self._listed(place.manifest)
        keys = self.listed[place.manifest]
        return keys is not None and place.key not in keys

    def _listed(self, manifest: Path) -> set[str] | None:
        """The keys of all that ``manifest`` lists; ``None`` when it, or the file of a row, cannot be seen."""
        try:
            found = read_manifest(manifest)
        except ManifestError:
            return None
        rows = found.rows
        # see files.trouble: it may be there; the row of a file that cannot be seen holds other things, too
        if any("cannot be" in skipped.reason for skipped in found.skipped):
            return None
        if any(self.sight.missing(path, lambda _: False) is not True for path in found.missing):
            return None
        keys = {str(path) for row in rows for path in (row.image, row.audio) if path is not None}
        texts = [row.row_id for row in rows if row.text is not None]
        return keys | {name(manifest, row_id) for row_id in texts for name in (row_key, key_apart)}
