"""The queries of a benchmark's directions by their numbers, without encoding anything.

A report keeps a rank for every query, not the query: this names them again, from the dataset. Its order is that of
``directions.comparisons``; where a run skipped files the numbers shift, so ``fingerprint`` is to be compared first.
"""

from __future__ import annotations

from indexer.items import Modality
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.shown_items import ShownItem, shown_item


def queries_of(benchmark: Benchmark, direction: str) -> list[tuple[ShownItem, ShownItem]]:
    """Every query of ``direction`` where nothing was skipped, each with one candidate that is relevant to it."""
    query_kind, _, candidate_kind = direction.partition("->")
    found: list[tuple[ShownItem, ShownItem]] = []
    for row, there in enumerate(benchmark.rows):
        items = {modality.value: modality for modality in there.items}
        words = [ShownItem(there.row_id, Modality.TEXT, text=text) for text in there.captions]
        if candidate_kind == "any":
            found += _of_any(benchmark, row, query_kind, words)
        elif candidate_kind == "class":
            if query_kind in items and there.label is not None:
                name = benchmark.classes[there.label]
                found.append((shown_item(benchmark, row, items[query_kind]), ShownItem(name, Modality.TEXT, text=name)))
        elif query_kind == "text":
            if candidate_kind in items:
                found += [(text, shown_item(benchmark, row, items[candidate_kind])) for text in words]
        elif candidate_kind == "text":
            if query_kind in items and words:
                found.append((shown_item(benchmark, row, items[query_kind]), words[0]))
        elif query_kind in items and candidate_kind in items:
            found.append(
                (shown_item(benchmark, row, items[query_kind]), shown_item(benchmark, row, items[candidate_kind]))
            )
    return found


def _of_any(
    benchmark: Benchmark, row: int, query_kind: str, words: list[ShownItem]
) -> list[tuple[ShownItem, ShownItem]]:
    """A row's queries where the items of every modality are candidates together."""
    held = [modality for modality in Modality if modality in benchmark.rows[row].items]
    if query_kind == "text":
        return [(text, shown_item(benchmark, row, held[0])) for text in words if held]
    others = [modality for modality in held if modality.value != query_kind]
    if not others or len(others) == len(held):
        return []
    return [(shown_item(benchmark, row, Modality(query_kind)), shown_item(benchmark, row, others[0]))]
