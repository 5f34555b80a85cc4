"""Recall@k of a dual encoder on a benchmark: encode its items and captions, compare them both ways.

A file that cannot be read is skipped with its reason and left out of both pools, with its captions; every other item
keeps its own vector. Knows nothing of collections, FAISS or the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from indexer.encoders.base import DualEncoder, require_tower
from indexer.errors import MediaError
from indexer.files import display_path
from indexer.items import Modality
from indexer.limits import MediaLimits
from indexer.progress import Progress, silent
from retrieval.evaluation.ann import AnnResult, measure_ann
from retrieval.evaluation.any_modality import Pool, any_directions, detail_any
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.captioning import CaptionResult, caption_benchmark
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.directions import NOUNS, Comparison, comparisons
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark
from retrieval.evaluation.known_items import CollectionItems
from retrieval.evaluation.measure import detail, dual_ranks, summarise
from retrieval.evaluation.provenance import short_spec
from retrieval.evaluation.results import BenchmarkResult, DirectionResult
from retrieval.evaluation.second_stage import SecondStage
from retrieval.matching.model import MatchModel
from retrieval.rerank.base import Captioner, Reranker
from retrieval.rerank.stage import RERANK_DEPTH


def run_benchmark(
    benchmark: Benchmark,
    encoder: DualEncoder,
    *,
    progress: Progress = silent,
    limits: MediaLimits | None = None,
    batch_size: int = 32,
    workers: int = 2,
    seed: int = 0,
    reranker: Reranker | None = None,
    rerank_depth: int = RERANK_DEPTH,
    captioner: Captioner | None = None,
    caption_beams: int = 3,
    details: bool = False,
    ann: bool = False,
    cache: BenchCache | None = None,
    collection: CollectionItems | None = None,
    match: MatchModel | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> BenchmarkResult:
    """Measure ``encoder`` on ``benchmark``, every direction that both allow (stage ``"dual"``).

    ``reranker``: it reads the encoder's media tokens; the directions that it supports are measured a second time, with
    the ``rerank_depth`` best candidates of each query reranked (stage ``"rerank"``). ``captioner``: reads them too;
    every picture with captions is captioned by a search of ``caption_beams`` beams, and its caption is compared with
    them. ``details``: every direction has its ranks, similarities and examples. ``ann``: a collection's index is
    compared with exact search. ``workers``: threads that decode beside the encoding. ``seed``: of the bootstrap and of
    the randomisation test. ``cache`` and ``collection``: what they hold is not computed again. ``match``: the encoder's
    calibration, by which the directions over all modalities are ranked. ``notify``: gets a line
    that says how long reranking will take, before it begins.

    Directions whose tower the encoder lacks are left out with a warning. Raises ``ModelError`` when none is left, and
    ``MediaError`` naming the manifest when nothing of it could be read.
    """
    started = time.perf_counter()
    encoded = encode_benchmark(
        benchmark,
        encoder,
        progress=progress,
        limits=limits,
        batch_size=batch_size,
        workers=workers,
        with_tokens=reranker is not None or captioner is not None,
        cache=cache,
        collection=collection,
    )
    encoded_at = time.perf_counter()
    pairs = comparisons(encoded)
    if not pairs:
        _explain_nothing(encoded, encoder)
    if cache is not None and reranker is not None:
        reranker = cache.reranker(reranker)
    second = None if reranker is None else SecondStage(reranker, rerank_depth, progress, pairs)
    line = None if second is None else second.forecast()
    if line is not None:
        notify(line)
    results, compared = _measure_all(pairs, second, progress, seed=seed, details=details, ann=ann)
    results += _measure_any(encoded, seed, match, details=details)
    scored_at = time.perf_counter()
    captions: CaptionResult | None = None
    if captioner is not None:
        captions = caption_benchmark(encoded, captioner, beams=caption_beams, progress=progress)
    ended = time.perf_counter()
    items, captions_per_item = _counts(encoded)
    return BenchmarkResult(
        dataset=benchmark.name,
        manifest_name=benchmark.path.name,
        manifest_sha256=benchmark.sha256,
        split=benchmark.split,
        encoder=short_spec(encoder.spec),
        encoder_fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        items=items,
        captions_per_item=captions_per_item,
        results=tuple(results),
        skipped=(*benchmark.skipped, *encoded.skipped),
        warnings=(*benchmark.warnings, *_left_out(encoded, encoder)),
        seconds=ended - started,
        seconds_by_stage={
            **_score_seconds(encoded_at - started, scored_at - encoded_at, second),
            **({"captions": ended - scored_at} if captions is not None else {}),
        },
        reranker=None if second is None else second.facts(_cached_pairs(cache)),
        captions=captions,
        layout=benchmark.layout,
        ann=tuple(compared),
        cache=None if cache is None else cache.to_json(),
        from_collection=encoded.from_collection,
    )


def _measure_all(
    pairs: Sequence[Comparison],
    second: SecondStage | None,
    progress: Progress,
    *,
    seed: int,
    details: bool,
    ann: bool,
) -> tuple[list[DirectionResult], list[AnnResult]]:
    """Every direction in both stages, and the index of those whose candidates have one vector each."""
    results: list[DirectionResult] = []
    compared: list[AnnResult] = []
    progress("scores", 0, len(pairs))
    for done, comparison in enumerate(pairs, start=1):
        ranks = dual_ranks(comparison)
        if ann and comparison.candidate_starts is None:
            queries, candidates = comparison.query_vectors, comparison.candidate_vectors
            compared.append(measure_ann(comparison.direction, queries, candidates, comparison.relevance, ranks))
        result = summarise(comparison, ranks, stage="dual", seed=seed)
        if details:
            # the similarities of the mirrored direction are the same ones
            mirrored = "->".join(reversed(comparison.direction.split("->")))
            new = mirrored == comparison.direction or all(one.direction != mirrored for one in results)
            result = replace(result, details=detail(comparison, ranks, similarities=new))
        results.append(result)
        if second is not None and second.supports(comparison):
            results.append(second.measure(comparison, ranks, seed, details=details))
        progress("scores", done, len(pairs))
    return results, compared


def _measure_any(
    encoded: EncodedBenchmark, seed: int, match: MatchModel | None, *, details: bool
) -> Iterator[DirectionResult]:
    """The directions whose candidates are the items of every modality together, where there are several."""
    pool = Pool.of(encoded)
    if pool is not None:
        for one in any_directions(encoded, pool, NOUNS):
            ranks, best = pool.ranked(one.vectors, one.relevance, one.own, one.kind, match)
            result = summarise(one, ranks, stage="dual", seed=seed)
            shown = detail_any(encoded, pool, one, ranks, best) if details else None
            yield replace(result, details=shown)


def _counts(encoded: EncodedBenchmark) -> tuple[dict[str, int], float]:
    """``(items of each modality and "captions", mean number of captions of the rows that have some)``."""
    measured = sorted({row for found in encoded.items.values() for row in found})
    captions = [len(encoded.benchmark.rows[row].captions) for row in measured]
    items = {modality.value: len(encoded.items.get(modality, {})) for modality in Modality}
    return {**items, "captions": sum(captions)}, sum(captions) / max(1, sum(n > 0 for n in captions))


def _cached_pairs(cache: BenchCache | None) -> int:
    """RerankInput whose logits the cache held."""
    counts = None if cache is None else cache.counts.get("logits")
    return 0 if counts is None else counts.found


def _score_seconds(encode_s: float, score_s: float, second: SecondStage | None) -> dict[str, float]:
    if second is None:
        return {"encode": encode_s, "score": score_s}
    return {"encode": encode_s, "score": score_s - second.seconds, "rerank": second.seconds}


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
            yield f"none of the {NOUNS[modality]} could be read; their directions are left out"


def _explain_nothing(encoded: EncodedBenchmark, encoder: DualEncoder) -> None:
    """Raise the reason why no direction can be measured."""
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
