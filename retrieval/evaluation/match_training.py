"""Calibrate a model's searches on a manifest's held-out rows: which probability a candidate list stands for.

Encodes the rows (what the benchmark's cache holds is not encoded again), draws collections of them, has the model's
reranker judge some, fits, and writes ``match.json`` into the model's directory. The rows must be of concepts that the
model was not trained on. Knows nothing of the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.corpus.walk import read_manifest
from indexer.encoders.base import DualEncoder
from indexer.encoders.registry import model_directory
from indexer.errors import ManifestError, UsageError
from indexer.files import display_path
from indexer.items import Item, Modality
from indexer.progress import Progress, silent
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.datasets.benchmark import Benchmark, BenchmarkRow, load_benchmark
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark
from retrieval.evaluation.match_pools import (
    SIZES,
    HeldItems,
    HeldQuery,
    Ints,
    Judge,
    draw_examples,
    some_queries,
    words_of,
)
from retrieval.matching.file import NAME, write_match
from retrieval.matching.fitting import Example, fit_matches
from retrieval.matching.model import MatchModel
from retrieval.rerank.base import Reranker
from retrieval.rerank.stage import match_scores

#: Letters of a definition; shorter ones, such as "an animal", say what many things are.
_LEAST_LETTERS = 25
_REPORT_EVERY = 50


def train_match(
    encoder: DualEncoder,
    manifest: Path,
    *,
    split: str | None = "val",
    paraphrases: Sequence[Path] = (),
    reranker: Reranker | None = None,
    cache: BenchCache | None = None,
    progress: Progress = silent,
) -> tuple[MatchModel, list[dict[str, Any]]]:
    """The calibration of ``encoder``, and with ``reranker`` of what that judges; and its figures, see ``fit_matches``.

    ``paraphrases``: files of ``{"text": ..., "also": [...]}``, whose longer texts are the collections' texts, of the
    concept of the rows that carry ``text`` as their first caption. Rows of one ``"concept"`` (metadata) belong
    together; a row without one stands alone. Raises ``UsageError`` where the rows give no lists.
    """
    benchmark = load_benchmark(manifest, split)
    named = {row.row_id: str(row.metadata.get("concept", row.row_id)) for row in read_manifest(benchmark.path).rows}
    notes = _notes(benchmark, named, paraphrases)
    named |= {row.row_id: concept for row, concept in notes}
    benchmark = replace(benchmark, rows=(*benchmark.rows, *(row for row, _ in notes)))
    encoded = encode_benchmark(benchmark, encoder, with_tokens=reranker is not None, cache=cache, progress=progress)
    items = {modality: _held(encoded, modality, named) for modality in Modality if encoded.items.get(modality)}
    queries = some_queries(_queries(encoded, items, named))
    judge = None if reranker is None else _judge(reranker, encoded)
    examples: list[Example] = []
    for found in draw_examples(items, queries, judge=judge):
        examples.append(found)
        if len(examples) % _REPORT_EVERY == 0:
            progress("lists", found.number // len(SIZES), len(queries))
    progress("lists", len(queries), len(queries))
    if not examples:
        raise UsageError(f"{display_path(manifest)}: gives no candidate lists; it takes rows with captions or concepts")
    config = getattr(encoder, "reranker_config", None)
    known = None if reranker is None or config is None else str(config.sha256)
    return fit_matches(examples, encoder=encoder.fingerprint, reranker=known)


def figure_lines(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures of ``train_match`` for people, a line each."""
    lines = []
    for one in figures:
        line = f"{one['query']} -> {one['target']}{', reranked' if one['judged'] else ''}: {one['lists']:,} lists"
        if one.get("auroc") is not None:
            line += (
                f", AUROC {one['auroc']:.3f} (best cosine {one['cosine_auroc']:.3f}), false shows at 90% "
                f"{one['false_shows']:.1%} ({one['cosine_false_shows']:.1%})"
            )
        lines.append(line)
    return lines


def keep_match(spec: str, model: MatchModel) -> Path:
    """Write the calibration into the directory of the model ``spec``; gives the file."""
    path = model_directory(spec) / NAME
    write_match(path, model)
    return path


def _notes(
    benchmark: Benchmark, named: Mapping[str, str], paraphrases: Sequence[Path]
) -> list[tuple[BenchmarkRow, str]]:
    """Rows that are texts, each with its concept: what ``paraphrases`` say at length of first captions."""
    rows_of: dict[str, list[str]] = {}
    for row in benchmark.rows:
        for caption in row.captions[:1]:
            rows_of.setdefault(caption, []).append(row.row_id)
    found: dict[tuple[str, str], None] = {}
    for path in paraphrases:
        for document in _documents(path):
            own = [one for one in rows_of.get(document["text"], []) if one in document.get("ids", [one])]
            longer = max(document["also"], key=len, default="")
            if own and len(longer) >= _LEAST_LETTERS:
                found |= {(named[one], longer): None for one in own}
    notes = []
    for number, (concept, text) in enumerate(found):
        key = f"note-{number}"
        item = Item(key=key, modality=Modality.TEXT, path=benchmark.path, text=text)
        notes.append((BenchmarkRow(key, {Modality.TEXT: item}, ()), concept))
    return notes


def _documents(path: Path) -> Iterable[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                document = json.loads(line)
                if isinstance(document["text"], str) and all(isinstance(one, str) for one in document["also"]):
                    yield document
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f'{display_path(path)}: a line is not {{"text": ..., "also": [...]}} ({error})') from error


def _held(encoded: EncodedBenchmark, modality: Modality, named: Mapping[str, str]) -> HeldItems:
    rows = encoded.items[modality]
    sizes = [len(own) for own in rows.values()]
    own = [encoded.benchmark.rows[row] for row in rows]
    return HeldItems(
        modality,
        np.concatenate(list(rows.values())),
        np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        np.array([named[row.row_id] for row in own]),
        [frozenset(words_of(caption) for caption in row.captions) for row in own],
    )


def _queries(
    encoded: EncodedBenchmark, items: Mapping[Modality, HeldItems], named: Mapping[str, str]
) -> list[HeldQuery]:
    """Every distinct caption of a concept, and every picture and sound."""
    captions = dict.fromkeys((caption, named[row.row_id]) for row in encoded.benchmark.rows for caption in row.captions)
    found = [
        HeldQuery(Modality.TEXT, concept, encoded.captions[text], frozenset([words_of(text)]), text=text)
        for text, concept in captions
        if text in encoded.captions
    ]
    for modality, own in items.items():
        if modality is not Modality.TEXT:
            found += [
                HeldQuery(modality, str(own.concepts[n]), own.vectors[own.starts[n]], own.words[n], n)
                for n in range(len(own.starts))
            ]
    return found


def _judge(reranker: Reranker, encoded: EncodedBenchmark) -> Judge:
    """What a search's second stage does: see :func:`retrieval.rerank.stage.judge`."""
    tokens = {modality: list(own.values()) for modality, own in encoded.tokens.items()}
    texts = [
        encoded.benchmark.rows[row].items[Modality.TEXT].text or "" for row in encoded.items.get(Modality.TEXT, {})
    ]

    def scores(
        query: HeldQuery, target: Modality, top: Ints, cosines: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        if (query.kind is Modality.TEXT) == (target is Modality.TEXT) or not reranker.supports(query.kind, target):
            return None
        media = target if query.kind is Modality.TEXT else query.kind
        if not tokens.get(media):
            return None
        if query.kind is Modality.TEXT:
            logits = reranker.score_media(query.text, np.concatenate([tokens[media][n] for n in top.tolist()]), media)
        else:
            assert query.item is not None
            logits = reranker.score_texts(tokens[media][query.item], [texts[n] for n in top.tolist()], media)
        return match_scores(reranker, logits, cosines, media).astype(np.float64)

    return scores
