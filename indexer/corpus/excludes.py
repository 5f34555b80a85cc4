"""Which names a walk leaves out: what nobody means by default, ``--exclude`` and ``.trimodalignore``. Lists no folder.

Patterns are those of gitignore: ``*.tmp``, ``drafts/``, ``/only/here``, ``**/deep``, and ``!keep.jpg`` to take back
what an earlier pattern leaves out. Those of ``--exclude`` are relative to each of PATHS and decide before those of
files; those of a deeper ``.trimodalignore`` before those of one above it. A pattern with ``!`` also takes back a
default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.errors import MediaError, UsageError
from indexer.files import display_path, one_line, open_file
from indexer.items import Skipped
from indexer.names import nfc

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".trimodalignore"
#: Patterns, and the folder as seen from where they start: empty, or ``a/b/``.
_From = tuple["GitIgnoreSpec", str]
#: Left out in either case of letters: thumbnails, bins, snapshots and caches of systems, servers and tools.
DEFAULTS = frozenset(
    (
        "thumbs.db",
        "desktop.ini",
        "__macosx",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "found.000",
        "lost.dir",
        "@eadir",
        "@tmp",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "node_modules",
        "bower_components",
        "__pycache__",
        "ipod photo cache",
        "lightroom previews.lrdata",
    )
)
#: A folder with this file is a cache: https://bford.info/cachedir/
CACHE_TAG = "CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
#: A larger ignore file is not one.
_MAX_BYTES = 1_000_000


def by_default(name: str) -> bool:
    """Whether nobody means a file or folder of this name; hidden ones are among them (.git, .cache, .thumbnails)."""
    return name.startswith(".") or name.lower() in DEFAULTS


def is_cache(folder: Path) -> bool:
    """Whether a folder that holds ``CACHEDIR.TAG`` is tagged as a cache."""
    try:
        with open_file(folder / CACHE_TAG) as file:
            return file.read(len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    except (MediaError, OSError):
        return False


@dataclass(frozen=True, slots=True)
class Scope:
    """The patterns that hold in one folder."""

    options: tuple[_From, ...] = ()
    """Of ``--exclude``; they decide first."""
    files: tuple[_From, ...] = ()
    """Of ignore files, the deepest first."""

    def __bool__(self) -> bool:
        return bool(self.options or self.files)

    def below(self, name: str) -> Scope:
        """The same for the folder ``name`` in this one."""
        if not self:
            return self
        return Scope(
            tuple((spec, f"{start}{name}/") for spec, start in self.options),
            tuple((spec, f"{start}{name}/") for spec, start in self.files),
        )

    def says(self, name: str, *, is_folder: bool) -> bool | None:
        """True: leave out; False: take, also what is left out by default; ``None``: no pattern fits."""
        for spec, start in (*self.options, *self.files):
            path = nfc(f"{start}{name}")
            found = spec.check_file(f"{path}/" if is_folder else path).include
            if found is not None:
                return found
        return None

    def with_file(self, path: Path) -> tuple[Scope, list[Skipped]]:
        """The scope of the folder that holds the ignore file ``path``, and what of the file cannot be used."""
        skipped: list[Skipped] = []
        try:
            with open_file(path) as file:
                data = file.read(_MAX_BYTES + 1)
        except MediaError as error:
            return self, [Skipped(display_path(path), f"{error.reason}; nothing is left out because of it")]
        except OSError as error:
            reason = f"cannot be read ({one_line(error.strerror or error)}); nothing is left out because of it"
            return self, [Skipped(display_path(path), reason)]
        if len(data) > _MAX_BYTES:
            reason = f"has more than {_MAX_BYTES:,} bytes; nothing is left out because of it: shorten it"
            return self, [Skipped(display_path(path), reason)]
        lines: list[str] = []
        for number, line in enumerate(data.decode("utf-8-sig", "surrogateescape").splitlines(), start=1):
            try:
                _spec([line])
            except ValueError:
                reason = "is no pattern of gitignore; correct the line"
                skipped.append(Skipped(f"{display_path(path)}:{number}", reason))
            else:
                lines.append(line)
        return Scope(self.options, ((_spec(lines), ""), *self.files)), skipped


def scope_of(patterns: Sequence[str], top: Path) -> Scope:
    """The scope of a folder that is walked: the patterns of ``--exclude``, as a path from ``top`` or from the root."""
    if not patterns:
        return Scope()
    start = f"{top}/"
    lines = []
    for pattern in patterns:
        mark, bare = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
        lines.append(f"{mark}/{bare[len(start) :]}" if bare.startswith(start) else pattern)
    return Scope(options=((_spec(lines), ""),))


def check_patterns(patterns: Sequence[str]) -> None:
    """Raise ``UsageError`` for a pattern of ``--exclude`` that leaves nothing out."""
    for pattern in patterns:
        try:
            usable = any(one.include is not None for one in _spec([pattern]).patterns)
        except ValueError:
            usable = False
        if not usable:
            raise UsageError(
                f"--exclude {display_path(pattern)!r}: is no pattern; write one as in .gitignore, such as '*.tmp' "
                "or 'drafts/'"
            )


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([nfc(line) for line in lines])
