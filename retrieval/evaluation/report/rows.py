"""A benchmark's result in words: the cells of its tables and the lines below them, for the terminal and for Markdown.

Knows nothing of how the numbers were made, of widths or of markup.
"""

from __future__ import annotations

from collections.abc import Iterator

from indexer.files import display_path, one_line
from retrieval.evaluation.captioning import CaptionResult
from retrieval.evaluation.metrics.caption_metrics import TOKENS
from retrieval.evaluation.results import BenchmarkResult, DirectionResult

_HIT_NOTE = "R@k: share of the queries with a relevant one in the top k (hit rate), % [95% interval]"
_RECALL_NOTE = "recall@k: mean share of a query's relevant ones in the top k, %"
_SHOWN_SKIPS = 10
CAPTION_COLUMNS = ["BLEU-4", "METEOR", "CIDEr", "pictures", "references", "beams"]
NO_CAPTION = "(nothing)"


def report_title(result: BenchmarkResult) -> str:
    """The data set and the model."""
    return f"{result.dataset}, model {one_line(result.encoder)}"


def table_columns(result: BenchmarkResult) -> list[str]:
    """Headers of the table.

    recall@k only where it differs from R@k: with one relevant candidate a query, they are one number.
    """
    columns = ["direction", "queries", "pool", "R@1", "R@5", "R@10", "MRR", "chance R@1"]
    if any(dict(direction.hit_rate_at) != dict(direction.recall_at) for direction in result.results):
        columns += ["recall@1", "recall@5", "recall@10"]
    return columns


def table_cells(direction: DirectionResult, columns: list[str]) -> list[str]:
    """One direction and stage, a cell for each of ``columns``."""
    interval = direction.ci95["hit_rate_at_1"]
    cells = {
        "direction": direction.direction + ("" if direction.stage == "dual" else f" ({direction.stage})"),
        "queries": f"{direction.n_queries:,} {direction.queries}",
        "pool": f"{direction.n_candidates:,} {direction.candidates}",
        "R@1": f"{_percent(direction.hit_rate_at[1])} [{_percent(interval[0])}, {_percent(interval[1])}]",
        "R@5": _percent(direction.hit_rate_at[5]),
        "R@10": _percent(direction.hit_rate_at[10]),
        "MRR": f"{direction.mrr:.3f}",
        "chance R@1": f"{100 * direction.chance['hit_rate_at_1']:.2f}",
        "recall@1": _percent(direction.recall_at[1]),
        "recall@5": _percent(direction.recall_at[5]),
        "recall@10": _percent(direction.recall_at[10]),
    }
    return [cells[column] for column in columns]


def notes(result: BenchmarkResult, columns: list[str]) -> Iterator[str]:
    """Lines below the table: what the columns mean, how much was measured, and what was skipped."""
    yield _HIT_NOTE
    if "recall@1" in columns:
        yield _RECALL_NOTE
    counted = [f"{count:,} {name}" for name, count in result.items.items() if count]
    yield f"items: {', '.join(counted)}; {result.captions_per_item:.2g} captions an item, {result.seconds:.1f} s"
    yield from _rerank_notes(result)
    yield from more_notes(result)
    yield f"manifest {display_path(result.manifest_name)} sha256 {result.manifest_sha256[:12]}"
    yield from (f"warning: {warning}" for warning in result.warnings)
    if result.skipped:
        yield f"skipped: {len(result.skipped):,}"
    yield from (f"  {skipped.path}: {skipped.reason}" for skipped in result.skipped[:_SHOWN_SKIPS])
    if len(result.skipped) > _SHOWN_SKIPS:
        yield f"  and {len(result.skipped) - _SHOWN_SKIPS:,} more; --json lists them all"


def more_notes(result: BenchmarkResult) -> list[str]:
    """Lines on zero-shot accuracies, the approximate index, and what was there already."""
    lines = [one.zero_shot.note() for one in result.results if one.zero_shot is not None]
    lines += [f"index, {one.note()}" for one in result.ann]
    if result.from_collection:
        taken = ", ".join(f"{count:,} {kind}" for kind, count in result.from_collection.items())
        lines.append(f"from the collection: {taken}")
    found = {kind: counts for kind, counts in (result.cache or {}).items() if counts["found"]}
    if found:
        shares = ", ".join(f"{c['found']:,} of {c['found'] + c['computed']:,} {kind}" for kind, c in found.items())
        lines.append(f"from the cache: {shares} (--no-cache computes them anew)")
    return lines


def _rerank_notes(result: BenchmarkResult) -> Iterator[str]:
    """What the second stage gave, whether its probabilities mean what they say, and what it cost."""
    for one in result.results:
        if one.gain is not None:
            changes = []
            for name, gain in one.gain.items():
                low, high = (f"{100 * end:+.1f}" for end in gain.ci95)
                chance = "p < 0.001" if gain.p_value < 0.001 else f"p = {gain.p_value:.3f}"
                changes.append(f"R@{name.rpartition('_')[2]} {100 * gain.gain:+.1f} [{low}, {high}], {chance}")
            yield f"{one.direction}, gain by reranking: {'; '.join(changes)}"
        if one.calibration is not None:
            auroc = one.calibration["auroc"]
            yield (
                f"{one.direction}, match probability: ECE {one.calibration['after']['ece']:.3f} (sigmoid of the logit: "
                f"{one.calibration['before']['ece']:.3f}), AUROC {'-' if auroc is None else f'{auroc:.3f}'}, "
                f"{one.calibration['pairs']:,} pairs"
            )
    if result.reranker is not None:
        facts = result.reranker
        yield (
            f"reranker {facts.fingerprint[:12]}: the {facts.rerank_depth:,} best of each query, "
            f"{facts.pairs_per_s:,.0f} pairs/s, {facts.seconds:.1f} s"
        )


def caption_cells(captions: CaptionResult) -> list[str]:
    """The captions' metrics, a cell for each of ``CAPTION_COLUMNS``."""
    scores = captions.scores
    counts = [f"{number:,}" for number in (captions.pictures, captions.references, captions.beams)]
    return [f"{scores.bleu4:.1f}", f"{scores.meteor:.3f}", f"{scores.cider:.3f}", *counts]


def caption_notes(captions: CaptionResult) -> Iterator[str]:
    """Lines below the captions' table."""
    yield "BLEU-4 of 100 (sacrebleu, corpus), METEOR of 1 (nltk), CIDEr of 10 (pycocoevalcap, CIDEr-D)"
    yield f"words: {TOKENS}; METEOR matches: {captions.scores.meteor_matches}"
    if captions.unsure:
        yield f"unsure of {captions.unsure:,} pictures, which get no caption; the metrics are those of the others"
    yield f"{captions.pictures:,} pictures captioned in {captions.seconds:.1f} s; some of them, with their references:"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
