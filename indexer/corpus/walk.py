"""Folders, files and manifests -> items. Looks at names and ``stat`` only; opens no media, knows no format.

Each real folder is walked once and each real file listed once, however many links lead to it: real names are taken
first, so what an item is called does not change when a link is added. What nobody means and what the user leaves out is
passed over and counted (see :mod:`indexer.corpus.excludes`). In a folder only files with a known suffix become items,
the others are counted; a path that the user named and that cannot be used is always reported.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from indexer.corpus.excludes import (
    CACHE_TAG,
    DEFAULTS,
    IGNORE_FILE,
    Scope,
    by_default,
    check_patterns,
    is_cache,
    scope_of,
)
from indexer.corpus.keys import FilesBeside, key_apart, row_key
from indexer.corpus.manifest import Manifest, ManifestRow, read_manifest
from indexer.corpus.not_indexed import NO_SUFFIX, unread_kind
from indexer.errors import ManifestError
from indexer.files import absolute, display_path, file_id, mtime_ns, not_a_file, trouble
from indexer.items import Item, Modality, Skipped
from indexer.media.formats import MANIFEST_SUFFIXES, NOUN, known_suffixes, modality_of
from indexer.names import on_disk

__all__ = ["Corpus", "Manifest", "ManifestRow", "find_items", "modality_of", "read_manifest"]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was found, items in a fixed order: as the paths were given, and within a folder by name."""

    items: list[Item]
    skipped: list[Skipped]
    roots: tuple[Path, ...]
    """The folders, manifests and files that the user named, absolute: what ``--prune`` may look under. One that
    is not there or cannot be read is left out, so that an unplugged disk is never taken for an empty one."""
    absent: tuple[Path, ...] = ()
    """Those, absolute."""
    excluded: frozenset[Path] = frozenset()
    """Files and folders that the user's own patterns leave out, absolute."""
    n_excluded: int = 0
    """Names left out, by the user's patterns or by default: files, and folders with all that is in them."""
    not_indexed: Mapping[str, int] = field(default_factory=dict)
    """Files met in folders that no modality reads, by suffix in small letters (``(none)`` without one), most first."""
    links_not_followed: int = 0

    def excludes(self, path: Path) -> bool:
        """Whether the user's own patterns leave out ``path``, or a folder that it is in."""
        return bool(self.excluded) and (path in self.excluded or not self.excluded.isdisjoint(path.parents))


def find_items(
    paths: Sequence[Path],
    *,
    modalities: frozenset[Modality] = frozenset(Modality),
    follow_links: bool = True,
    exclude: Sequence[str] = (),
    default_excludes: bool = True,
) -> Corpus:
    """Everything to be indexed under ``paths``. Never raises for a path that cannot be used: it is skipped.

    A file that a manifest lists and a folder holds is one item, the manifest's. With ``follow_links``
    false, links found in folders are passed over; a path that is given is always followed.

    ``exclude``: patterns as in .gitignore, of names in folders, of the files of manifests and of files that are given;
    a folder that is given is always walked. Raises ``UsageError`` for one that is none. ``default_excludes``: leave out
    hidden names, and what nobody means, in folders.
    """
    check_patterns(exclude)
    search = _Search(modalities, exclude, default_excludes)
    numbered = [(position, Path(path)) for position, path in enumerate(paths)]
    # Manifests first: their rows say more of a file than its name does. Then real names, then links.
    for position, path in sorted(numbered, key=lambda pair: not _is_manifest(pair[1])):
        search.take(position, path)
    if follow_links:
        search.take_links()
    else:
        search.count_links()
    search.report_empty_folders()
    items = [item for position, _ in numbered for item in search.items.get(position, ())]
    roots = tuple(search.roots[position] for position, _ in numbered if position in search.roots)
    absent = (search.absent[position] for position, _ in numbered if position in search.absent)
    return Corpus(
        items,
        search.skipped,
        tuple(dict.fromkeys(roots)),
        absent=tuple(dict.fromkeys(absent)),
        excluded=frozenset(search.excluded),
        n_excluded=search.n_excluded,
        not_indexed=dict(sorted(search.unread.items(), key=lambda pair: (-pair[1], pair[0]))),
        links_not_followed=search.links_not_followed,
    )


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() in MANIFEST_SUFFIXES and not path.is_dir()


@dataclass(slots=True)
class _Search:
    """What has been found so far, under the position of the argument that led to it."""

    modalities: frozenset[Modality]
    exclude: Sequence[str]
    default_excludes: bool
    items: dict[int, list[Item]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    roots: dict[int, Path] = field(default_factory=dict)
    absent: dict[int, Path] = field(default_factory=dict)
    """Arguments that are not there, or cannot be used."""
    keys: dict[str, Path | None] = field(default_factory=dict)
    """Of every item, with the manifest that listed it."""
    folders: set[tuple[int, int]] = field(default_factory=set)
    """Device and inode of the folders walked: a link back to one ends there."""
    files: set[tuple[int, int]] = field(default_factory=set)
    links: list[tuple[int, Path, Scope]] = field(default_factory=list)
    """Met in folders and left until every real name is known."""
    links_not_followed: int = 0
    excluded: set[Path] = field(default_factory=set)
    n_excluded: int = 0
    unread: dict[str, int] = field(default_factory=dict)
    walked: dict[int, Path] = field(default_factory=dict)
    """Folders that the user named, as they were written."""
    not_empty: set[int] = field(default_factory=set)

    def take(self, position: int, path: Path) -> None:
        """One path of the user's: a manifest, a folder or a file."""
        path = on_disk(path)
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            self._skip(path, trouble(error, path))
            self.absent[position] = absolute(path)
            return
        if stat.S_ISDIR(status.st_mode):
            self.walked[position] = path
            listed = self._walk(position, path, scope_of(self.exclude, absolute(path)))
            (self.roots if listed else self.absent)[position] = absolute(path)
        elif scope_of(self.exclude, absolute(path).parent).says(path.name, is_folder=False):
            self._leave_out(absolute(path))
            self.roots[position] = absolute(path)
        elif _is_manifest(path):
            self._manifest(position, path)
        elif (reason := not_a_file(status.st_mode) or self._not_media(path)) is not None:
            self._skip(path, reason)
            self.absent[position] = absolute(path)
        else:
            modality = modality_of(path)
            assert modality is not None
            self._file(position, path, modality, status)
            self.roots[position] = absolute(path)

    def _not_media(self, path: Path) -> str | None:
        """Why a file that the user named is not indexed, by its name; ``None`` where it is."""
        modality = modality_of(path)
        if modality is None:
            kind = unread_kind(path.suffix)
            if kind is not None:
                return f"is {kind.name} ({path.suffix}), which is not indexed; {kind.remedy}"
            return (
                f"the suffix {display_path(path.suffix) or '(none)'} is not known; known are"
                f" {known_suffixes()} and, for manifests, {' '.join(sorted(MANIFEST_SUFFIXES))}"
            )
        if modality not in self.modalities:
            return f"is {NOUN[modality]}, and only {_named(self.modalities)} is wanted"
        return None

    def take_links(self) -> None:
        """The links met in folders, in order; a folder behind one may hold more of them."""
        while self.links:
            met, self.links = self.links, []
            for position, path, scope in met:
                try:
                    status = path.stat()
                except (OSError, ValueError) as error:
                    if modality_of(path) in self.modalities and not scope.says(path.name, is_folder=False):
                        self.not_empty.add(position)
                        self._skip(path, trouble(error, path))
                    continue
                is_folder = stat.S_ISDIR(status.st_mode)
                if scope.says(path.name, is_folder=is_folder):
                    self._leave_out(absolute(path))
                elif is_folder:
                    self._walk(position, path, scope.below(path.name))
                else:
                    self._found(position, path, status, link=True)

    def count_links(self) -> None:
        """Of the links met in folders those that would have led to folders or media."""
        self.links_not_followed = sum(
            modality_of(path) in self.modalities or path.is_dir() for _, path, _ in self.links
        )

    def report_empty_folders(self) -> None:
        for position, path in self.walked.items():
            if position in self.roots and position not in self.not_empty:
                self._skip(
                    path,
                    f"holds nothing readable as {_named(self.modalities)};"
                    f" known suffixes: {known_suffixes(self.modalities)}",
                )

    def _walk(self, position: int, top: Path, scope: Scope) -> bool:
        """A folder and all below it, names in order. False when ``top`` itself cannot be listed."""
        # A list of what is still to do, not recursion: folders nest deeper than Python's stack.
        to_do = [(top, scope)]
        while to_do:
            folder, scope = to_do.pop()
            try:
                entries = self._listed(position, folder)
            except OSError as error:
                self._skip(folder, f"folder {trouble(error, folder)}")
                self.not_empty.add(position)
                if folder is top:
                    return False
                continue
            names = {entry.name for entry in entries}
            if CACHE_TAG in names and self.default_excludes and folder is not top and is_cache(folder):
                self.n_excluded += 1
                continue
            if IGNORE_FILE in names:
                scope, skipped = scope.with_file(folder / IGNORE_FILE)
                self.skipped.extend(skipped)
            to_do.extend(reversed(self._take_entries(position, folder, entries, scope)))
        return True

    def _listed(self, position: int, folder: Path) -> list[os.DirEntry[str]]:
        """What is in a folder, by name; nothing where it was listed before, under another name."""
        status = folder.stat()
        if (status.st_dev, status.st_ino) in self.folders:
            self.not_empty.add(position)
            return []
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        self.folders.add((status.st_dev, status.st_ino))
        return entries

    def _take_entries(
        self, position: int, folder: Path, entries: Sequence[os.DirEntry[str]], scope: Scope
    ) -> list[tuple[Path, Scope]]:
        """Take the files of a folder and keep its links for later. Returns the folders in it, to be walked next."""
        below: list[tuple[Path, Scope]] = []
        has_patterns = bool(scope)
        for entry in entries:
            default = self.default_excludes and by_default(entry.name)
            if (default or has_patterns) and self._is_left_out(folder, entry, scope, default=default):
                continue
            path = folder / entry.name
            if entry.is_symlink():
                self.links.append((position, path, scope))
            elif entry.is_dir(follow_symlinks=False):
                below.append((path, scope.below(entry.name)))
            else:
                self._take_file(position, path, entry)
        return below

    def _take_file(self, position: int, path: Path, entry: os.DirEntry[str]) -> None:
        """Something in a folder that is neither a folder nor a link."""
        modality = modality_of(path)
        if modality is None:
            if entry.is_file(follow_symlinks=False):
                self._count_unread(path, stat.S_IFREG)
        elif modality in self.modalities:
            try:
                self._found(position, path, path.lstat())
            except OSError as error:
                self._skip(path, trouble(error, path))

    def _is_left_out(self, folder: Path, entry: os.DirEntry[str], scope: Scope, *, default: bool) -> bool:
        """Whether something in a folder is passed over, and counted where it may have been meant."""
        if entry.is_symlink():  # what a pattern says of a link depends on what it leads to
            return default and scope.says(entry.name, is_folder=False) is not False
        is_folder = entry.is_dir(follow_symlinks=False)
        says = scope.says(entry.name, is_folder=is_folder)
        if says:
            self._leave_out(absolute(folder / entry.name))
        elif says is None and default:
            self.n_excluded += is_folder or modality_of(Path(entry.name)) in self.modalities
        else:
            return False
        return True

    def _leave_out(self, path: Path) -> None:
        """Count what the user's own patterns leave out, ``path`` from the root."""
        if path not in self.excluded:
            self.excluded.add(path)
            self.n_excluded += 1

    def _count_unread(self, path: Path, mode: int) -> None:
        """Count a regular file that no modality reads, if the user can have meant it."""
        if path.suffix.lower() in MANIFEST_SUFFIXES and absolute(path) in self.roots.values():
            return  # given by name, and read
        if stat.S_ISREG(mode) and path.name != IGNORE_FILE and path.name.lower() not in DEFAULTS:
            suffix = path.suffix.lower() or NO_SUFFIX
            self.unread[suffix] = self.unread.get(suffix, 0) + 1

    def _found(self, position: int, path: Path, status: os.stat_result, *, link: bool = False) -> None:
        """Something in a folder that is no folder: taken if it is a file of a known kind."""
        modality = modality_of(path)
        if modality is None:
            self._count_unread(path, status.st_mode)
        if modality is None or modality not in self.modalities:
            return
        self.not_empty.add(position)
        if link and (status.st_dev, status.st_ino) in self.files:
            return
        reason = not_a_file(status.st_mode)
        if reason is None:
            self._file(position, path, modality, status)
        else:
            self._skip(path, reason)

    def _file(self, position: int, path: Path, modality: Modality, status: os.stat_result) -> None:
        whole = absolute(path)
        self.not_empty.add(position)
        self.files.add((status.st_dev, status.st_ino))
        if str(whole) not in self.keys:
            self._add(
                position,
                Item(
                    str(whole),
                    modality,
                    whole,
                    size_bytes=status.st_size,
                    mtime_ns=mtime_ns(status),
                    file_id=file_id(status),
                ),
            )

    def _manifest(self, position: int, path: Path) -> None:
        whole = absolute(path)
        if whole in self.roots.values():
            return
        try:
            manifest = read_manifest(path)
        except ManifestError as error:
            name, _, reason = str(error).partition(": ")
            self.skipped.append(Skipped(name, reason))
            self.absent[position] = whole
            return
        self.roots[position] = whole
        self.skipped.extend(manifest.skipped)
        beside = FilesBeside(whole)
        scope = scope_of(self.exclude, whole.parent)
        for row in manifest.rows:
            self._row(position, manifest, row, f"{display_path(path)}:{row.line}", beside, scope)

    def _row(
        self, position: int, manifest: Manifest, row: ManifestRow, shown: str, beside: FilesBeside, scope: Scope
    ) -> None:
        """Each of the row's picture, sound and text becomes an item with the row's words."""
        common = Item(
            "",
            Modality.TEXT,
            manifest.path,
            captions=row.captions,
            metadata=row.metadata,
            row_id=row.row_id,
            split=row.split,
            manifest=manifest.path,
        )
        for modality, path in ((Modality.IMAGE, row.image), (Modality.AUDIO, row.audio)):
            if path is None or modality not in self.modalities:
                continue
            if scope and scope.says(os.path.relpath(path, manifest.path.parent), is_folder=False):
                self._leave_out(path)
                continue
            if str(path) in self.keys:
                other = self.keys[str(path)]
                by = f"in {display_path(other)}" if other else "otherwise"
                self.skipped.append(Skipped(shown, f"{display_path(path)} is listed {by} already; list it once"))
                continue
            try:
                status = path.stat()
            except OSError as error:
                self.skipped.append(Skipped(shown, f"{display_path(path)} {trouble(error, path)}"))
                continue
            self.files.add((status.st_dev, status.st_ino))
            self._add(
                position,
                replace(
                    common,
                    key=str(path),
                    modality=modality,
                    path=path,
                    size_bytes=status.st_size,
                    mtime_ns=mtime_ns(status),
                    file_id=file_id(status),
                ),
            )
        if row.text is not None and Modality.TEXT in self.modalities:
            key = row_key(manifest.path, row.row_id)
            if key in self.keys or key in beside:
                key = key_apart(manifest.path, row.row_id)
            size_bytes = len(row.text.encode())
            self._add(position, replace(common, key=key, text=row.text, size_bytes=size_bytes))

    def _add(self, position: int, item: Item) -> None:
        self.keys[item.key] = item.manifest
        self.items.setdefault(position, []).append(item)

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(display_path(path), reason))


def _named(modalities: frozenset[Modality]) -> str:
    return " or ".join(modality for modality in Modality if modality in modalities)
