"""Many queries from a file, and their hits as they come: ``search --queries FILE``.

A row is a query: ``{"text": "..."}``, ``{"image": "rel/path.jpg"}``, ``{"audio": ...}``, or several of them together;
``id``, ``plus``, ``minus``, ``k``, ``modality``, ``where``, ``min_score`` and ``min_probability`` as on the command
line. Files are named relative to the table. A row that is no query gives a row with ``error``; the others are searched.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from indexer.corpus.tables import READERS, BadRow
from indexer.durable import storage_errors
from indexer.errors import FilterError, ManifestError, MediaError, ModelError, UsageError
from indexer.files import display_path, one_line, open_file, trouble
from indexer.items import Modality
from retrieval.embed import Embedded, embed_texts
from retrieval.hits import SearchResult
from retrieval.output import CsvFile, json_text, lines_of_results
from retrieval.query import Query, build_query
from retrieval.search import Searcher

#: Texts encoded together.
_AT_ONCE = 64
_KNOWN = frozenset(
    ("id", "text", "image", "audio", "plus", "minus", "k", "modality", "where", "min_score", "min_probability")
)
_CSV = ("line", "id", "rank", "score", "match_probability", "modality", "path", "start_s", "end_s", "caption", "error")


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row of the table: a query, or why it is none."""

    line: int
    row_id: str | None
    query: Query | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RowResult:
    """The hits of a row, or why there are none."""

    row: QueryRow
    result: SearchResult | None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of the results."""
        row: dict[str, Any] = {"line": self.row.line, "id": self.row.row_id}
        if self.result is None:
            return {**row, "error": self.error}
        document = self.result.to_json()
        del document["groups"]  # a line of one ranking, however many queries there are
        return {**row, **document, "hits": self._hits(self.result)}

    @staticmethod
    def _hits(result: SearchResult) -> list[dict[str, Any]]:
        """The ``k`` hits, without the file that is the query itself."""
        return [hit.to_json() for hit in result if not hit.is_query]

    def csv_rows(self) -> list[dict[str, Any]]:
        """One row a hit; one with ``error`` where there is one."""
        row = {"line": self.row.line, "id": self.row.row_id}
        if self.result is None:
            return [{**row, "error": self.error}]
        hits = self._hits(self.result)
        return [{**row, **{name: hit[name] for name in _CSV if name in hit}} for hit in hits]


def read_queries(path: Path, defaults: Mapping[str, Any]) -> Iterator[QueryRow]:
    """The rows of a ``.jsonl``, ``.csv`` or ``.parquet`` table; ``defaults`` are arguments of ``build_query``.

    Raises ``ManifestError`` where the table itself cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ManifestError(f"{display_path(path)}: not a table of queries; one ends in {', '.join(READERS)}")
    try:
        with open_file(path) as file:
            for line, values in reader(file, display_path(path)):
                yield _query_row(line, values, path.parent, defaults)
    except MediaError as error:
        raise ManifestError(f"{display_path(path)}: {error.reason}") from error
    except OSError as error:
        raise ManifestError(f"{display_path(path)}: {trouble(error, path)}") from error


def search_all(
    searcher: Searcher, rows: Iterator[QueryRow], *, rerank: bool | None = None, rerank_depth: int = 64
) -> Iterator[RowResult]:
    """The hits of every row, in order; texts are encoded some at a time."""
    while some := list(islice(rows, _AT_ONCE)):
        embedded = _embedded_texts(searcher, some)
        for place, one in enumerate(some):
            if one.query is None:
                yield RowResult(one, None, one.error)
                continue
            try:
                found = searcher.search(
                    one.query, rerank=rerank, rerank_depth=rerank_depth, embedded=embedded.get(place)
                )
            except (UsageError, FilterError, MediaError, ModelError) as error:
                yield RowResult(one, None, str(error))
            else:
                yield RowResult(one, found)


class ResultFile:
    """JSON lines or a CSV; every row is there as soon as it is written. ``path`` is what an error names."""

    def __init__(self, file: io.TextIOBase, *, as_csv: bool, path: Path = Path("stdout")) -> None:
        self._file = file
        self._path = path
        self._csv = CsvFile(file, _CSV, lineterminator="\r\n") if as_csv else None

    def write(self, one: RowResult) -> None:
        """Append it. Raises ``StorageError`` where that fails."""
        with storage_errors(self._path):
            if self._csv is not None:
                for row in one.csv_rows():
                    self._csv.named(row)
            else:
                encoding = getattr(self._file, "encoding", None)
                self._file.write(json_text(one.to_json(), encoding=encoding) + "\n")
            self._file.flush()


def require_result_path(path: Path, queries: Path) -> None:
    """Raise ``UsageError`` unless results may be written to ``path``: a ``.jsonl`` or ``.csv``, not the queries."""
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise UsageError(f"--out {path}: end it in .jsonl or .csv")
    if path.exists() and queries.exists() and path.samefile(queries):
        raise UsageError(f"--out {path}: is the file of the queries; name another one")


@contextlib.contextmanager
def open_results(path: Path | None) -> Iterator[ResultFile]:
    """A new file of results, ``.jsonl`` or ``.csv`` by its name; without ``path``, JSON lines to stdout."""
    if path is None:
        yield ResultFile(lines_of_results(), as_csv=False)
        return
    with storage_errors(path):
        file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    with file:
        yield ResultFile(file, as_csv=path.suffix.lower() == ".csv", path=path)


def _query_row(line: int, values: Mapping[str, Any] | BadRow, folder: Path, defaults: Mapping[str, Any]) -> QueryRow:
    row_id: str | None = None
    try:
        if isinstance(values, BadRow):
            raise values
        given = {name: value for name, value in values.items() if value not in (None, "", [])}
        row_id = None if given.get("id") is None else str(given["id"])
        if unknown := sorted(set(given) - _KNOWN):
            raise BadRow(f'"{unknown[0]}" is no part of a query; there are {", ".join(sorted(_KNOWN))}')
        arguments: dict[str, Any] = {
            **defaults,
            **{name: _number(given[name], name) for name in ("k", "min_score", "min_probability") if name in given},
            **{name: str(given[name]) for name in ("where",) if name in given},
            **{name: _texts(given[name]) for name in ("plus", "minus") if name in given},
        }
        if "modality" in given:
            arguments["modalities"] = _texts(given["modality"])
        words = given.get("text")
        for text in (words, *_texts(given.get("plus", [])), *_texts(given.get("minus", []))):
            str(text).encode()  # half characters, which no tokenizer takes
        return QueryRow(
            line,
            row_id,
            build_query(
                None if words is None else str(words),
                images=[folder / one for one in _texts(given.get("image", []))],
                sounds=[folder / one for one in _texts(given.get("audio", []))],
                **arguments,
            ),
        )
    except UnicodeEncodeError:
        return QueryRow(line, row_id, None, "holds half characters that are no text; write it in UTF-8")
    except (BadRow, UsageError, FilterError) as error:
        return QueryRow(line, row_id, None, str(error))
    except Exception as error:  # whatever a row is made of, the others are answered
        return QueryRow(line, row_id, None, f"is no query ({one_line(error)}); mend the row")


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _number(value: Any, name: str) -> int | float:
    try:
        return int(value) if name == "k" else float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRow(f'"{name}" is {one_line(repr(value), 60)}; it must be a number') from None


def _embedded_texts(searcher: Searcher, some: Sequence[QueryRow]) -> dict[int, Embedded]:
    """By place, the rows whose query is one text alone, embedded together."""
    texts: dict[int, str] = {}
    for place, one in enumerate(some):
        parts = () if one.query is None else one.query.parts
        if len(parts) == 1 and parts[0].kind is Modality.TEXT and parts[0].weight > 0:
            assert isinstance(parts[0].value, str)
            texts[place] = parts[0].value
    if not texts or Modality.TEXT not in searcher.encoder.modalities:
        return {}
    return dict(zip(texts, embed_texts(list(texts.values()), searcher.encoder), strict=True))
