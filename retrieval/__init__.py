"""Query in, ranked hits out.

    from retrieval import Searcher

    searcher = Searcher.open("photos.trimodal")
    for hit in searcher.search("a red door", k=5):
        print(hit.rank, hit.path)

Importing the package is cheap; the names below load their modules when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
