"""The reports of a build and of filling in captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from indexer.corpus.pruning import Kept
from indexer.items import Skipped


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did, counted in items (``segments``: vectors written)."""

    added: int
    changed: int
    """New content, or new words of the manifest for the same content."""
    unchanged: int
    moved: int
    """Reused by content hash: moved or copied."""
    pruned: int
    segments: int
    skipped: list[Skipped]
    seconds: float
    interrupted: bool
    captions: CaptionReport | None = None
    """Of :mod:`indexer.build.captioning`, where it ran after the build."""
    warnings: list[str] = field(default_factory=list)
    """What was wrong with files that were indexed all the same: a line for each kind, with a count and a file."""
    not_pruned: tuple[Kept, ...] = ()
    """What ``prune`` kept, because the system does not say that it is gone."""
    excluded: int = 0
    """Names that the walk left out; a folder counts as one."""
    not_indexed: Mapping[str, int] = field(default_factory=dict)
    """Files in folders that no modality reads, by suffix."""
    links_not_followed: int = 0
    found: int = 0
    """Items that the paths named; without what is skipped before it is one."""

    def then(self, captions: CaptionReport) -> BuildReport:
        """The report of the build and of the captions that were written after it."""
        return replace(self, captions=captions, interrupted=captions.interrupted)


@dataclass(frozen=True, slots=True)
class CaptionReport:
    """What filling in captions did, counted in pictures."""

    captioned: int
    without_words: int
    """The model is unsure of them, or their captions have an unwanted word; the next run tries again."""
    seconds: float
    interrupted: bool
