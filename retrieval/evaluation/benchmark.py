"""Recall@k of a dual encoder on a benchmark: encode its items and captions, compare them both ways.

The protocol is the usual one of image-text and sound-text retrieval (CLIP_benchmark, open_clip, LAVIS):

- ``text->image``: every caption is a query, every picture a candidate; relevant are the pictures that carry
  the caption (after strip, letter by letter), so captions that several items share have several.
- ``image->text``: every picture with captions is a query, every caption of a picture a candidate; relevant
  is every caption that equals one of its own, whichever picture it stands with.
- ``text->audio``, ``audio->text``: the same with sounds.
- ``image->audio``, ``audio->image``: over the rows that hold both; a row's own partner is relevant.
- ``text->text``: captions of rows with a text are queries, those texts are candidates.
- ``image->class``: every picture of a class is a query, every class a candidate (see ``zero_shot.py``).

Items without captions are candidates that nobody asks for. A caption is a caption on either side: it goes
through ``encode_queries``, once for each distinct wording; the texts of ``text->text`` are documents and go
through ``encode_passages``. An item is one candidate: a sound longer than a window is the normalised mean of
its windows' embeddings (a caption tells of the whole clip), a text of several passages counts by its best
passage, as in searching. Ties: the lower index first, in the order of the manifest.

A file that cannot be read is skipped with its reason and left out of both pools, with its captions; every
other item keeps its own vector. Knows nothing of collections, FAISS or the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from indexer.encoders.base import DualEncoder, require_tower
from indexer.errors import MediaError
from indexer.files import display_path
from indexer.items import Embeddings, Modality, Skipped
from indexer.limits import MediaLimits
from retrieval.evaluation import metrics
from retrieval.evaluation.ann import AnnResult, measure_ann
from retrieval.evaluation.cache import BenchCache, CachedReranker
from retrieval.evaluation.captioning import CaptionResult, caption_benchmark
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.details import DirectionDetails, Entry, examples_of, fingerprint, similarities_of
from retrieval.evaluation.encoding import EncodedBenchmark, OnProgress, encode_benchmark, silent
from retrieval.evaluation.provenance import short_spec
from retrieval.evaluation.ranks import Floats, Ints, Relevance, RelevantRanks, ranks_of_embeddings
from retrieval.evaluation.reranking import Gain, Pairs, calibration_of, gains, judge_direction
from retrieval.evaluation.statistics import bootstrap_ci95
from retrieval.evaluation.zero_shot import ZeroShot, class_vectors, classification
from retrieval.rerank.reranker import Reranker
from retrieval.rerank.stage import RERANK_DEPTH

_AT = (1, 5, 10)
_CHANCE_AT = (1, 10)
_NOUNS = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds", Modality.TEXT: "texts"}


@dataclass(frozen=True, slots=True)
class DirectionResult:
    """What one direction gave."""

    direction: str
    stage: str
    queries: str
    """What asks and what is found, in words: captions, pictures, sounds, texts."""
    candidates: str
    n_queries: int
    n_candidates: int
    captions_per_item: float | None
    """Mean over the items with captions; ``None`` where captions play no part."""
    hit_rate_at: Mapping[int, float]
    recall_at: Mapping[int, float]
    mrr: float
    chance: Mapping[str, float]
    """What a random order gives."""
    ci95: Mapping[str, tuple[float, float]]
    """Bootstrap interval over queries of each metric, under its JSON name."""
    gain: Mapping[str, Gain] | None = None
    """Of a second stage: of each hit rate, over the first stage's."""
    calibration: Mapping[str, Any] | None = None
    """Of a second stage: see ``reranking.calibration_of``."""
    zero_shot: ZeroShot | None = None
    """Of ``image->class``."""
    details: DirectionDetails | None = None
    """Where they were asked for; in ``report.json`` only."""

    def to_json(self, *, details: bool = False) -> dict[str, Any]:
        """One of ``"results"`` of ``bench --json``, in ``report.json`` with its ``details``."""
        document: dict[str, Any] = {
            "direction": self.direction,
            "queries": self.queries,
            "candidates": self.candidates,
            "n_queries": self.n_queries,
            "n_candidates": self.n_candidates,
            "captions_per_item": self.captions_per_item,
            "stage": self.stage,
            **{f"hit_rate_at_{k}": value for k, value in self.hit_rate_at.items()},
            **{f"recall_at_{k}": value for k, value in self.recall_at.items()},
            "mrr": self.mrr,
            "chance": dict(self.chance),
            "ci95": {name: list(interval) for name, interval in self.ci95.items()},
        }
        if self.gain is not None:
            document["gain"] = {name: gain.to_json() for name, gain in self.gain.items()}
        if self.calibration is not None:
            document["calibration"] = dict(self.calibration)
        if self.zero_shot is not None:
            document.update(self.zero_shot.to_json())
        if details and self.details is not None:
            document["details"] = self.details.to_json()
        return document


@dataclass(frozen=True, slots=True)
class RerankerFacts:
    """Which reranker ran, and how."""

    fingerprint: str
    """Of its media tokens, which depend on its weights."""
    rerank_depth: int
    seconds: float
    pairs_per_s: float

    def to_json(self) -> dict[str, Any]:
        """``"reranker"`` of ``bench --json``."""
        return {
            "fingerprint": self.fingerprint,
            "rerank_depth": self.rerank_depth,
            "seconds": round(self.seconds, 3),
            "pairs_per_s": round(self.pairs_per_s, 1),
        }


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What a benchmark gave, with what is needed to give it again."""

    dataset: str
    manifest_name: str
    manifest_sha256: str
    split: str | None
    encoder: str
    encoder_fingerprint: str
    dim: int
    items: Mapping[str, int]
    """Items measured of each modality, and ``captions``: their captions, repeated ones counted."""
    captions_per_item: float
    """Mean over the rows with captions."""
    results: tuple[DirectionResult, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    seconds: float
    seconds_by_stage: Mapping[str, float]
    reranker: RerankerFacts | None = None
    """``None`` where no direction was reranked."""
    captions: CaptionResult | None = None
    """Of the pictures; ``None`` where it was not asked for."""
    layout: str = "manifest"
    ann: tuple[AnnResult, ...] = ()
    """The approximate index beside exact search, where that was asked for."""
    cache: Mapping[str, Mapping[str, int]] | None = None
    """How much of each kind was found in the cache; ``None`` without one."""

    def more_notes(self) -> list[str]:
        """Lines for people: zero-shot accuracies, the approximate index, what came from the cache."""
        lines = [one.zero_shot.note() for one in self.results if one.zero_shot is not None]
        lines += [f"index, {one.note()}" for one in self.ann]
        found = {kind: counts for kind, counts in (self.cache or {}).items() if counts["found"]}
        if found:
            told = ", ".join(f"{c['found']:,} of {c['found'] + c['computed']:,} {kind}" for kind, c in found.items())
            lines.append(f"from the cache: {told} (--no-cache computes them anew)")
        return lines

    def to_json(self, *, details: bool = False) -> dict[str, Any]:
        """The document of ``bench --json``, with ``details`` that of ``report.json``."""
        return {
            "dataset": self.dataset,
            "manifest": {"name": self.manifest_name, "sha256": self.manifest_sha256, "layout": self.layout},
            "split": self.split,
            "items": dict(self.items),
            "captions_per_item": self.captions_per_item,
            "encoder": self.encoder,
            "encoder_fingerprint": self.encoder_fingerprint,
            "dim": self.dim,
            "reranker": None if self.reranker is None else self.reranker.to_json(),
            "results": [result.to_json(details=details) for result in self.results],
            "captions": None if self.captions is None else self.captions.to_json(),
            "ann": [one.to_json() for one in self.ann],
            "cache": None if self.cache is None else {kind: dict(counts) for kind, counts in self.cache.items()},
            "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in self.skipped],
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            "seconds_by_stage": {stage: round(s, 3) for stage, s in self.seconds_by_stage.items()},
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """One direction, ready to be ranked: two pools and who belongs to whom."""

    direction: str
    queries: str
    candidates: str
    query_vectors: Embeddings  # (q, dim)
    candidate_vectors: Embeddings  # (n, dim)
    relevance: Relevance
    candidate_starts: Ints | None = None
    """First vector of each candidate where one has several; ``None``: a vector each."""
    captions_per_item: float | None = None
    pairs: Pairs | None = None
    """What a reranker reads, where the media tokens were made."""
    asked: Sequence[Entry] = ()
    """What the queries are; as ``pool`` empty where nobody will look."""
    pool: Sequence[Entry] = ()
    labels: Sequence[int] | None = None
    """Of ``image->class``: the class of each query."""


def run_benchmark(
    benchmark: Benchmark,
    encoder: DualEncoder,
    *,
    progress: OnProgress | None = None,
    limits: MediaLimits | None = None,
    batch_size: int = 32,
    workers: int = 2,
    seed: int = 0,
    reranker: Reranker | None = None,
    rerank_depth: int = RERANK_DEPTH,
    captioner: Reranker | None = None,
    caption_beams: int = 3,
    details: bool = False,
    ann: bool = False,
    cache: BenchCache | None = None,
) -> BenchmarkResult:
    """Measure ``encoder`` on ``benchmark``, every direction that both allow (stage ``"dual"``).

    With a ``reranker`` that reads the encoder's media tokens, also those that it supports, the ``rerank_depth`` best
    candidates of each query judged anew (stage ``"rerank"``). With a ``captioner``, which reads them too, every picture
    with captions is told, by a search of ``caption_beams`` beams, and that is compared with them. With ``details``
    every direction has its ranks, similarities and examples. Decoding runs in ``workers`` threads beside the encoding;
    ``seed`` is that of the bootstrap and of the randomisation. Directions whose tower the encoder lacks are left out
    with a warning. Raises ``ModelError`` when none is left, and ``MediaError`` naming the manifest when nothing of it
    could be read. With ``ann`` a collection's index is compared with exact search; what a ``cache`` holds is not
    computed again.
    """
    report = progress or silent
    started = time.perf_counter()
    encoded = encode_benchmark(
        benchmark, encoder, progress=report, limits=limits, batch_size=batch_size, workers=workers,
        with_tokens=reranker is not None or captioner is not None, cache=cache,
    )  # fmt: skip
    encoded_at = time.perf_counter()
    pairs = comparisons(encoded)
    if not pairs:
        _explain_nothing(encoded, encoder)
    results: list[DirectionResult] = []
    compared: list[AnnResult] = []
    judge = cache.reranker(reranker) if cache is not None and reranker is not None else reranker
    reranking = None if judge is None else _Reranking(judge, rerank_depth, report, pairs)
    report(0, len(pairs), "scores")
    for done, comparison in enumerate(pairs, start=1):
        ranks = dual_ranks(comparison)
        if ann and comparison.candidate_starts is None:
            queries, candidates = comparison.query_vectors, comparison.candidate_vectors
            compared.append(measure_ann(comparison.direction, queries, candidates, comparison.relevance, ranks))
        measured_here = summarise(comparison, ranks, stage="dual", seed=seed)
        if details:
            mirrored = "->".join(reversed(comparison.direction.split("->")))
            new = mirrored == comparison.direction or all(one.direction != mirrored for one in results)
            measured_here = replace(measured_here, details=detail(comparison, ranks, similarities=new))
        results.append(measured_here)
        if reranking is not None and reranking.judges(comparison):
            results.append(reranking.measure(comparison, ranks, seed, details=details))
        report(done, len(pairs), "scores")
    ended = time.perf_counter()
    told: CaptionResult | None = None
    if captioner is not None:
        told = caption_benchmark(encoded, captioner, beams=caption_beams, progress=report)
    captioned_at = time.perf_counter()
    measured = sorted({row for found in encoded.items.values() for row in found})
    captioned = [captions for row in measured if (captions := benchmark.rows[row].captions)]
    return BenchmarkResult(
        dataset=benchmark.name,
        manifest_name=benchmark.path.name,
        manifest_sha256=benchmark.sha256,
        split=benchmark.split,
        encoder=short_spec(encoder.spec),
        encoder_fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        items={
            **{modality.value: len(encoded.items.get(modality, {})) for modality in Modality},
            "captions": sum(len(benchmark.rows[row].captions) for row in measured),
        },
        captions_per_item=sum(map(len, captioned)) / max(1, len(captioned)),
        results=tuple(results),
        skipped=(*benchmark.skipped, *encoded.skipped),
        warnings=(*benchmark.warnings, *_left_out(encoded, encoder)),
        seconds=captioned_at - started,
        seconds_by_stage={
            **_stages(encoded_at - started, ended - encoded_at, reranking),
            **({"captions": captioned_at - ended} if told is not None else {}),
        },
        reranker=None if reranking is None else reranking.facts(),
        captions=told,
        layout=benchmark.layout,
        ann=tuple(compared),
        cache=None if cache is None else cache.to_json(),
    )


def comparisons(encoded: EncodedBenchmark) -> list[Comparison]:
    """Every direction that the encoded rows allow, in a fixed order."""
    found: list[Comparison] = []
    for modality in (Modality.IMAGE, Modality.AUDIO):
        found += _with_captions(encoded, modality)
    found += _pictures_with_sounds(encoded)
    found += _captions_to_texts(encoded)
    found += _pictures_with_classes(encoded)
    return found


def measure(comparison: Comparison, *, stage: str = "dual", seed: int = 0) -> DirectionResult:
    """Rank one direction by cosine and take its metrics."""
    return summarise(comparison, dual_ranks(comparison), stage=stage, seed=seed)


def dual_ranks(comparison: Comparison) -> RelevantRanks:
    """Ranks of one direction by cosine."""
    return ranks_of_embeddings(
        comparison.query_vectors,
        comparison.candidate_vectors,
        comparison.relevance,
        candidate_starts=comparison.candidate_starts,
    )


def summarise(comparison: Comparison, ranks: RelevantRanks, *, stage: str, seed: int = 0) -> DirectionResult:
    """The metrics of one direction from the ranks that ``stage`` gave."""
    per_query: dict[str, Floats] = {}
    for k in _AT:
        per_query[f"hit_rate_at_{k}"] = metrics.hits_at_k(ranks, k)
        per_query[f"recall_at_{k}"] = metrics.recalls_at_k(ranks, k)
    per_query["mrr"] = metrics.reciprocal_ranks(ranks)
    chance: dict[str, float] = {}
    for k in _CHANCE_AT:
        chance[f"hit_rate_at_{k}"] = metrics.chance_hit_rate_at_k(comparison.relevance, k)
        chance[f"recall_at_{k}"] = metrics.chance_recall_at_k(comparison.relevance, k)
    return DirectionResult(
        direction=comparison.direction,
        stage=stage,
        queries=comparison.queries,
        candidates=comparison.candidates,
        n_queries=comparison.relevance.n_queries,
        n_candidates=comparison.relevance.n_candidates,
        captions_per_item=comparison.captions_per_item,
        hit_rate_at={k: metrics.hit_rate_at_k(ranks, k) for k in _AT},
        recall_at={k: metrics.recall_at_k(ranks, k) for k in _AT},
        mrr=metrics.mrr(ranks),
        chance=chance,
        ci95={name: bootstrap_ci95(values, seed=seed) for name, values in per_query.items()},
        zero_shot=None
        if comparison.labels is None
        else classification(ranks, comparison.labels, comparison.relevance.n_candidates),
    )


def detail(
    comparison: Comparison, ranks: RelevantRanks, *, similarities: bool = False, best: Ints | None = None
) -> DirectionDetails:
    """What a report shows of one direction; ``best`` is the order of a second stage, see ``details.examples_of``."""
    queries, candidates, relevance = comparison.query_vectors, comparison.candidate_vectors, comparison.relevance
    starts = comparison.candidate_starts
    misses, hits = examples_of(
        queries, candidates, relevance, ranks, comparison.asked, comparison.pool, candidate_starts=starts, best=best
    )
    return DirectionDetails(
        fingerprint(comparison.asked),
        fingerprint(comparison.pool),
        ranks,
        similarities_of(queries, candidates, relevance, starts) if similarities else None,
        misses,
        hits,
    )


def entry_of(benchmark: Benchmark, row: int, modality: Modality) -> Entry:
    """A row's item as an example names it."""
    there = benchmark.rows[row]
    item = there.items[modality]
    if item.text is not None:
        return Entry(there.row_id, modality, text=item.text)
    folder = benchmark.path.parent
    # of a file elsewhere only the end: a report is shown to people whom the rest does not concern
    inside = item.path.is_relative_to(folder)
    path = item.path.relative_to(folder) if inside else Path("…", *item.path.parts[-3:])
    return Entry(there.row_id, modality, display_path(path), there.captions[0] if there.captions else None)


# --------------------------------------------------------------------------------------- the second stage


class _Reranking:
    """The second stage over all directions, with one bar of progress and one count of pairs."""

    def __init__(self, reranker: Reranker, depth: int, report: OnProgress, found: Sequence[Comparison]) -> None:
        self._reranker = reranker
        self._depth = depth
        self._report = report
        self._total = sum(one.relevance.n_queries for one in found if self.judges(one))
        self._queries = 0
        self._n_scored = 0
        self.seconds = 0.0

    def judges(self, comparison: Comparison) -> bool:
        pairs = comparison.pairs
        return pairs is not None and self._reranker.supports(pairs.query, pairs.candidate)

    def measure(
        self, comparison: Comparison, before: RelevantRanks, seed: int, *, details: bool = False
    ) -> DirectionResult:
        assert comparison.pairs is not None
        earlier = self._queries
        self._report(earlier, self._total, "rerank")
        judgement = judge_direction(
            comparison.query_vectors, comparison.candidate_vectors, comparison.relevance, comparison.pairs,
            self._reranker, depth=self._depth,
            on_queries=lambda done, _: self._report(earlier + done, self._total, "rerank"),
        )  # fmt: skip
        self._queries += comparison.relevance.n_queries
        self._n_scored += judgement.n_scored
        self.seconds += judgement.seconds
        return replace(
            summarise(comparison, judgement.ranks, stage="rerank", seed=seed),
            gain=gains(before, judgement.ranks, _AT, seed),
            calibration=calibration_of(judgement, self._reranker, comparison.pairs.told_of),
            details=detail(comparison, judgement.ranks, best=judgement.best) if details else None,
        )

    def facts(self) -> RerankerFacts | None:
        if not self._queries:
            return None
        found = self._reranker.counts.found if isinstance(self._reranker, CachedReranker) else 0
        rate = (self._n_scored - found) / self.seconds if self.seconds > 0 else 0.0
        return RerankerFacts(self._reranker.token_spec.fingerprint, self._depth, self.seconds, rate)


def _stages(encode_s: float, score_s: float, reranking: _Reranking | None) -> dict[str, float]:
    if reranking is None:
        return {"encode": encode_s, "score": score_s}
    return {"encode": encode_s, "score": score_s - reranking.seconds, "rerank": reranking.seconds}


# ------------------------------------------------------------------------------------------ the pools


@dataclass(frozen=True, slots=True)
class _Captions:
    """The captions of a pool of rows, in order: of which place in the pool each is, and its words."""

    places: list[int]
    texts: list[str]
    carriers: dict[str, list[int]]
    """Places in the pool of the rows that carry a text."""
    occurrences: dict[str, list[int]]
    """Places in ``texts`` where a text stands."""

    @classmethod
    def of(cls, encoded: EncodedBenchmark, rows: Sequence[int]) -> _Captions:
        captions = cls([], [], {}, {})
        for place, row in enumerate(rows):
            for text in encoded.benchmark.rows[row].captions:
                captions.carriers.setdefault(text, []).append(place)
                captions.occurrences.setdefault(text, []).append(len(captions.texts))
                captions.places.append(place)
                captions.texts.append(text)
        return captions

    def vectors(self, encoded: EncodedBenchmark) -> Embeddings:
        return np.stack([encoded.captions[text] for text in self.texts])

    def relevant_items(self, n_items: int) -> Relevance:
        """Captions ask: relevant are all carriers of the same words."""
        return Relevance.from_lists([self.carriers[text] for text in self.texts], n_items)

    def entries(self, encoded: EncodedBenchmark, rows: Sequence[int]) -> list[Entry]:
        ids = [encoded.benchmark.rows[rows[place]].row_id for place in self.places]
        return [Entry(row_id, Modality.TEXT, text=text) for row_id, text in zip(ids, self.texts, strict=True)]

    def per_item(self) -> float:
        return len(self.places) / len(set(self.places))


def _with_captions(encoded: EncodedBenchmark, modality: Modality) -> Iterator[Comparison]:
    items = encoded.items.get(modality, {})
    rows = list(items)
    captions = _Captions.of(encoded, rows)
    if not captions.texts or not encoded.captions:
        return
    item_vectors, text_vectors = np.concatenate(list(items.values())), captions.vectors(encoded)
    made = encoded.tokens.get(modality, {})
    tokens = np.concatenate([made[row] for row in rows]) if all(row in made for row in rows) else None
    yield Comparison(
        f"text->{modality}",
        "captions",
        _NOUNS[modality],
        text_vectors,
        item_vectors,
        captions.relevant_items(len(rows)),
        captions_per_item=captions.per_item(),
        pairs=None if tokens is None else Pairs(Modality.TEXT, modality, captions.texts, tokens),
        asked=captions.entries(encoded, rows),
        pool=_entries(encoded, rows, modality),
    )
    asking = sorted(set(captions.places))
    relevant = [
        [at for text in set(encoded.benchmark.rows[rows[place]].captions) for at in captions.occurrences[text]]
        for place in asking
    ]
    yield Comparison(
        f"{modality}->text",
        _NOUNS[modality],
        "captions",
        item_vectors[asking],
        text_vectors,
        Relevance.from_lists(relevant, len(captions.texts)),
        captions_per_item=captions.per_item(),
        pairs=None if tokens is None else Pairs(modality, Modality.TEXT, captions.texts, tokens[asking]),
        asked=_entries(encoded, [rows[place] for place in asking], modality),
        pool=captions.entries(encoded, rows),
    )


def _pictures_with_sounds(encoded: EncodedBenchmark) -> Iterator[Comparison]:
    pictures, sounds = (encoded.items.get(modality, {}) for modality in (Modality.IMAGE, Modality.AUDIO))
    rows = [row for row in pictures if row in sounds]
    if not rows:
        return
    here = np.concatenate([pictures[row] for row in rows])
    there = np.concatenate([sounds[row] for row in rows])
    own = Relevance.from_lists([[place] for place in range(len(rows))], len(rows))
    seen, heard = (_entries(encoded, rows, modality) for modality in (Modality.IMAGE, Modality.AUDIO))
    yield Comparison("image->audio", "pictures", "sounds", here, there, own, asked=seen, pool=heard)
    yield Comparison("audio->image", "sounds", "pictures", there, here, own, asked=heard, pool=seen)


def _captions_to_texts(encoded: EncodedBenchmark) -> Iterator[Comparison]:
    texts = encoded.items.get(Modality.TEXT, {})
    captions = _Captions.of(encoded, list(texts))
    if not captions.texts:
        return
    sizes = [len(passages) for passages in texts.values()]
    yield Comparison(
        "text->text",
        "captions",
        "texts",
        captions.vectors(encoded),
        np.concatenate(list(texts.values())),
        captions.relevant_items(len(texts)),
        candidate_starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        captions_per_item=captions.per_item(),
        asked=captions.entries(encoded, list(texts)),
        pool=_entries(encoded, list(texts), Modality.TEXT),
    )


def _pictures_with_classes(encoded: EncodedBenchmark) -> Iterator[Comparison]:
    benchmark, pictures = encoded.benchmark, encoded.items.get(Modality.IMAGE, {})
    labels = {row: label for row in pictures if (label := benchmark.rows[row].label) is not None}
    if not labels or not encoded.captions:
        return
    yield Comparison(
        "image->class",
        "pictures",
        "classes",
        np.concatenate([pictures[row] for row in labels]),
        class_vectors(benchmark.classes, benchmark.templates, encoded.captions),
        Relevance.from_lists([[label] for label in labels.values()], len(benchmark.classes)),
        asked=_entries(encoded, list(labels), Modality.IMAGE),
        pool=[Entry(name, Modality.TEXT, text=name) for name in benchmark.classes],
        labels=list(labels.values()),
    )


def _entries(encoded: EncodedBenchmark, rows: Sequence[int], modality: Modality) -> list[Entry]:
    """The items of the rows, in order."""
    return [entry_of(encoded.benchmark, row, modality) for row in rows]


# ------------------------------------------------------------------------------------------- helpers


def _left_out(encoded: EncodedBenchmark, encoder: DualEncoder) -> Iterator[str]:
    """A line for each modality that the benchmark holds and that could not be measured."""
    rows = encoded.benchmark.rows
    held = {modality for row in rows for modality in row.items}
    if encoded.benchmark.classes or any(row.captions for row in rows):
        held.add(Modality.TEXT)
    for modality in Modality:
        if modality in held and modality not in encoder.modalities:
            yield f"model {encoder.spec} has no {modality} tower; directions with {modality} are left out"
        elif modality in encoded.items and not encoded.items[modality]:
            yield f"none of the {_NOUNS[modality]} could be read; their directions are left out"


def _explain_nothing(encoded: EncodedBenchmark, encoder: DualEncoder) -> None:
    """Raise what stood in the way of every direction."""
    benchmark = encoded.benchmark
    for modality in Modality:
        if any(modality in row.items for row in benchmark.rows):
            require_tower(encoder, modality)
    if benchmark.classes or any(row.captions for row in benchmark.rows):
        require_tower(encoder, Modality.TEXT)
    first = f"; the first: {encoded.skipped[0].path}: {encoded.skipped[0].reason}" if encoded.skipped else ""
    raise MediaError(
        display_path(benchmark.path),
        f"nothing is left to compare, {len(encoded.skipped)} of its items could not be read{first}",
    )
