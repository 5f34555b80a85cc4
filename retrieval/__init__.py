"""Query in, ranked hits out.

    from retrieval import Searcher

    searcher = Searcher.open("photos.trimodal")
    for hit in searcher.search("a red door", k=5):
        print(hit.rank, hit.path)

Importing the package is cheap; the names below load their modules when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.lazy_names import lazy_names

if TYPE_CHECKING:
    from retrieval.hits import Hit, SearchResult
    from retrieval.query import Query, QueryPart
    from retrieval.search import Searcher

__all__ = ["Hit", "Query", "QueryPart", "SearchResult", "Searcher"]

_HOMES = {
    "Hit": "retrieval.hits",
    "SearchResult": "retrieval.hits",
    "Query": "retrieval.query",
    "QueryPart": "retrieval.query",
    "Searcher": "retrieval.search",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
