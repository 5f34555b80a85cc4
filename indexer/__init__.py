"""Media in, collection out: corpus, decoding, encoders, and the collection on disk.

    import indexer

    report = indexer.index(["~/Pictures", "~/Notes"], "my-collection")
    print(report.added, "added,", len(report.skipped), "skipped")

Importing the package is cheap; the names below load their modules when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.build.pipeline import CaptionOptions, CorpusOptions, UpdateOptions, index
    from indexer.build.run import BuildReport
    from indexer.collection.collection import Collection
    from indexer.encoders import open_encoder
    from indexer.limits import MediaLimits

__all__ = [
    "BuildReport",
    "CaptionOptions",
    "Collection",
    "CorpusOptions",
    "MediaLimits",
    "UpdateOptions",
    "index",
    "open_encoder",
]

_HOMES = {
    "BuildReport": "indexer.build.run",
    "CaptionOptions": "indexer.build.pipeline",
    "Collection": "indexer.collection.collection",
    "CorpusOptions": "indexer.build.pipeline",
    "MediaLimits": "indexer.limits",
    "UpdateOptions": "indexer.build.pipeline",
    "index": "indexer.build.pipeline",
    "open_encoder": "indexer.encoders",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
