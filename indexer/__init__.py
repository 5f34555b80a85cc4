"""Media in, collection out: corpus, decoding, encoders, and the collection on disk.

    import indexer

    report = indexer.index(["~/Pictures", "~/Notes"], "my-collection")
    print(report.added, "added,", len(report.skipped), "skipped")

Importing the package is cheap; the names below load their modules when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
