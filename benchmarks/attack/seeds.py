"""What the fuzzer starts from: a valid input of every format that the product accepts, made here.

A seed is a small tree of files of which one is damaged. Nothing is fetched; the makers are ``media_seeds.py``,
``table_seeds.py``, ``model_seeds.py`` and ``collection_seeds.py``. Knows nothing of mutations and readers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seed:
    """A valid input, and who reads it."""

    name: str
    """Unique, such as ``jpg-progressive``."""
    reader: str
    """A name of :data:`benchmarks.attack.readers.READERS`."""
    target: str
    """The file that is damaged, a key of ``files``."""
    files: Mapping[str, bytes]
    """Relative paths and contents of the whole tree."""
    format: str
    """What :mod:`benchmarks.attack.mutate` knows of the target's inside: ``png``, ``json``; empty: nothing."""
    weight: float = 1.0
    """How often it is drawn, relative to the others."""

    @property
    def content(self) -> bytes:
        """Of the target."""
        return self.files[self.target]


def make_seeds(work: Path, *, groups: frozenset[str] | None = None) -> list[Seed]:
    """All seeds, or those of the named groups (``GROUPS``). ``work``: an empty folder for what is made on the way."""
    found: list[Seed] = []
    for name, maker in makers().items():
        if groups is None or name in groups:
            place = work / name
            place.mkdir(parents=True, exist_ok=True)
            found += maker(place)
    return found


def makers() -> dict[str, Callable[[Path], list[Seed]]]:
    """The maker of every group."""
    from benchmarks.attack import collection_seeds, media_seeds, model_seeds, table_seeds

    return {
        "media": media_seeds.make,
        "tables": table_seeds.make,
        "models": model_seeds.make,
        "collections": collection_seeds.make,
    }


GROUPS = ("media", "tables", "models", "collections")


def save_seeds(seeds: list[Seed], path: Path) -> None:
    """For the workers, which are processes of their own."""
    path.write_bytes(pickle.dumps(seeds))


def load_seeds(path: Path) -> list[Seed]:
    """The reverse."""
    seeds: list[Seed] = pickle.loads(path.read_bytes())
    return seeds


def files_below(folder: Path) -> dict[str, bytes]:
    """Contents of all regular files below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
