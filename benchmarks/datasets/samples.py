"""The value that a source of the training pool yields: where a picture or sound lies, and its words.

Knows nothing of packages or of how files are written.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Blob:
    """Bytes of one file: on disk, in a zip archive (`member`), or already at hand (`data`)."""

    path: Path | None = None
    member: str | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ValueError("a Blob needs a path or data")
        if self.member is not None:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.member)
        return self.path.read_bytes()


@dataclass(frozen=True)
class Sample:
    """One picture, sound or both, with captions, best first. `name` is unique within `source`.

    `concept` is the phrase whose head noun decides the split; `split` overrides that where a source is kept
    apart as a whole.
    """

    source: str
    name: str
    concept: str
    captions: tuple[str, ...]
    license: str
    image: Blob | None = None
    audio: Blob | None = None
    split: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
