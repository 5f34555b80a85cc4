"""Measure a model's reranker: what it gains, what it costs, whether its probabilities are true, and its captions.

    python benchmarks/reranker.py [--model SPEC] [--out DIR] [--part NAME ...]

Writes ``reranker.json`` and ``reranker.md`` into DIR (docs/bench); parts that are not chosen stay as they were. The
parts: ``tuxpaint`` (evaluation only: no training picture is near one of its), ``heldout`` (the pool's held-out
concepts, which chose the recipe), ``speed``, ``nothing``, ``captions`` and ``demo`` (captions of the demo's pictures,
of concepts that were trained on with other pictures). Data:
``benchmarks/datasets/tuxpaint.py`` and ``pool.py``.

``speed``: pairs a second from stored media tokens against the same pairs from the files (picture read, picture towers
run, then the same scorer), in one run. ``nothing``: of the held-out pictures, those of every second concept are the
collection; captions of its concepts are queries for what it holds, captions of the others for what it does not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import provenance
from indexer.corpus.walk import read_manifest
from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder
from indexer.encoders.tokens.format import token_encoder
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import UsageError
from indexer.items import Modality
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.captioning import caption_benchmark
from retrieval.evaluation.datasets.benchmark import Benchmark, load_benchmark
from retrieval.evaluation.encoding import encode_benchmark, encode_captions
from retrieval.evaluation.runner import run_benchmark
from retrieval.rerank.base import Reranker
from retrieval.rerank.calibration import auroc, false_shows_at_recall
from retrieval.rerank.registry import captioner_of
from retrieval.rerank.stage import RERANK_DEPTH, match_scores, require_reranker

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "data" / "demo" / "manifest.jsonl"
PARTS = ("tuxpaint", "heldout", "speed", "nothing", "captions", "demo")
CAPTIONED = 4  # every fourth held-out picture is captioned
TEXTS = 20  # queries of `speed`
FROM_FILES = 3  # of them also from the files: that takes seconds each
RECALL = 0.9  # of queries for what the collection holds, at which false shows are counted

console = Console(stderr=True)


def main() -> None:
    arguments = _arguments()
    encoder = open_encoder(arguments.model)
    reranker = require_reranker(encoder)
    path = arguments.out / "reranker.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    datasets = cache_dir() / "datasets"
    held = load_benchmark(datasets / "pool" / "manifest.jsonl", "val")
    work: dict[str, Callable[[], Any]] = {
        "tuxpaint": lambda: both_stages(
            load_benchmark(datasets / "tuxpaint" / "manifest.jsonl"), encoder, reranker, cache
        ),
        "heldout": lambda: both_stages(held, encoder, reranker, cache),
        "speed": lambda: speed(held, encoder, reranker),
        "nothing": lambda: nothing_matches(held, encoder, reranker, cache),
        "captions": lambda: captions(held, CAPTIONED, encoder, reranker, cache),
        "demo": lambda: captions(load_benchmark(DEMO), 1, encoder, reranker, cache),
    }
    tokens = reranker.token_spec
    found["model"] = {"spec": encoder.spec, "fingerprint": encoder.fingerprint, "tokens": tokens.fingerprint}
    found["bytes_per_item"] = tokens.row_bytes
    found["depth"] = RERANK_DEPTH
    found["provenance"] = provenance.facts(encoder)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with BenchCache.open(cache_dir() / "bench", encoder, encoder.fingerprint) as cache:
        for part in arguments.part or PARTS:
            started = time.perf_counter()
            found[part] = work[part]()
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (arguments.out / "reranker.md").write_text(page(found), encoding="utf-8")
            console.print(f"{part}: measured in {time.perf_counter() - started:.0f} s", markup=False)


def both_stages(benchmark: Benchmark, encoder: DualEncoder, reranker: Reranker, cache: BenchCache) -> Any:
    """``trimodal bench`` with both stages, in its own words."""
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task(benchmark.name)
        result = run_benchmark(
            benchmark,
            encoder,
            reranker=reranker,
            cache=cache,
            progress=lambda stage, done, total, *_: bars.update(bar, completed=done, total=total, description=stage),
        )
    document = result.to_json()
    document["skipped"] = [one["reason"] for one in document["skipped"]]
    return document


def captions(
    benchmark: Benchmark, each: int, encoder: DualEncoder, reranker: Reranker, cache: BenchCache
) -> dict[str, Any]:
    """Generate captions for one in ``each`` of a benchmark's rows, and compare them with the row's own."""
    some = replace(benchmark, rows=benchmark.rows[::each])
    encoded = encode_benchmark(some, encoder, with_tokens=True, cache=cache)
    return caption_benchmark(encoded, captioner_of(reranker, encoder)).to_json()


def speed(benchmark: Benchmark, encoder: DualEncoder, reranker: Reranker) -> dict[str, Any]:
    """Seconds of scoring a text's candidates: from tokens, and from files."""
    rows = [row for row in benchmark.rows if Modality.IMAGE in row.items and row.captions][:RERANK_DEPTH]
    texts = list(dict.fromkeys(row.captions[0] for row in benchmark.rows if row.captions))
    maker = token_encoder(encoder)
    assert maker is not None
    paths = [row.items[Modality.IMAGE].path for row in rows]
    limits = MediaLimits()

    def make_tokens() -> Any:
        prepared = [encoder.prepare_image(read_picture(path, limits)) for path in paths]
        parts = [maker.encode_images_with_tokens(prepared[at : at + 32])[1] for at in range(0, len(prepared), 32)]
        return np.concatenate(parts)

    tokens = make_tokens()
    reranker.score_media(texts[-1], tokens, Modality.IMAGE)  # everything is loaded by now
    stored, files, reading = [], [], []
    for number, text in enumerate(texts[:TEXTS]):
        started = time.perf_counter()
        from_tokens = reranker.score_media(text, tokens, Modality.IMAGE)
        stored.append(time.perf_counter() - started)
        if number < FROM_FILES:
            started = time.perf_counter()
            fresh = make_tokens()
            again = reranker.score_media(text, fresh, Modality.IMAGE)
            files.append(time.perf_counter() - started)
            assert np.allclose(from_tokens, again, atol=0.5)
    candidates = texts[-RERANK_DEPTH:]
    for at in range(3):
        started = time.perf_counter()
        reranker.score_texts(tokens[at : at + 1], candidates, Modality.IMAGE)
        reading.append(time.perf_counter() - started)
    count = len(rows)
    return {
        "candidates": count,
        "queries": len(stored),
        "seconds_from_tokens": statistics.median(stored),
        "seconds_from_files": statistics.median(files),
        "pairs_per_second": count / statistics.median(stored),
        "ratio": statistics.median(files) / statistics.median(stored),
        "texts_of_a_picture": len(candidates),
        "seconds_of_a_picture_new_texts": reading[0],
        "seconds_of_a_picture_known_texts": reading[-1],
    }


def nothing_matches(
    benchmark: Benchmark, encoder: DualEncoder, reranker: Reranker, cache: BenchCache
) -> dict[str, Any]:
    """How well the best candidate's probability, and cosine, separate queries with a match from those without one."""
    encoded = encode_benchmark(benchmark, encoder, with_tokens=True, cache=cache)
    rows = benchmark.rows
    named = {row.row_id: str(row.metadata["concept"]) for row in read_manifest(benchmark.path).rows}  # made the split
    concepts = sorted({named[rows[row].row_id] for row in encoded.items[Modality.IMAGE]})
    inside = set(concepts[::2])
    held = [row for row in encoded.items[Modality.IMAGE] if named[rows[row].row_id] in inside]
    vectors = np.concatenate([encoded.items[Modality.IMAGE][row] for row in held])
    tokens = np.concatenate([encoded.tokens[Modality.IMAGE][row] for row in held])
    sides_of: dict[str, set[bool]] = {}
    for row in encoded.items[Modality.IMAGE]:
        for text in rows[row].captions[:1]:
            sides_of.setdefault(text, set()).add(named[rows[row].row_id] in inside)
    texts = sorted(text for text, sides in sides_of.items() if len(sides) == 1)
    labels = np.array([sides_of[text] == {True} for text in texts])
    queries = encode_captions(texts, encoder)
    chances, cosines = [], []
    for text in texts:
        similar = vectors @ queries[text]
        top = np.argsort(-similar, kind="stable")[:RERANK_DEPTH]
        logits = reranker.score_media(text, tokens[top], Modality.IMAGE)
        scores = match_scores(reranker, logits, similar[top], Modality.IMAGE)
        chances.append(float(reranker.probability(scores, Modality.IMAGE).max()))
        cosines.append(float(similar.max()))
    by = {"match probability": np.array(chances), "cosine": np.array(cosines)}
    return {
        "pictures": len(held),
        "queries_held": int(labels.sum()),
        "queries_not_held": int((~labels).sum()),
        "recall": RECALL,
        "by": {
            name: {"auroc": auroc(values, labels), "false_shows": false_shows_at_recall(values, labels, RECALL)}
            for name, values in by.items()
        },
        "at_half": {
            "shown_held": float((by["match probability"][labels] >= 0.5).mean()),
            "shown_not_held": float((by["match probability"][~labels] >= 0.5).mean()),
        },
    }


def page(found: dict[str, Any]) -> str:
    """``reranker.md``."""
    model = found["model"]
    lines = [
        f"# The reranker of {model['spec']}",
        "",
        f"Encoder `{model['fingerprint'][:12]}`, tokens `{model['tokens'][:12]}`: {found['bytes_per_item']:,} bytes a "
        f"picture; the {found['depth']} best of a query are judged. " + _where(found["provenance"]),
        "",
    ]
    for part, title in (("tuxpaint", "Tux Paint, never trained on"), ("heldout", "The pool's held-out concepts")):
        if part in found:
            lines += [f"## {title}", "", *gain_table(found[part]), ""]
    for part, title in (("captions", "held-out pictures"), ("demo", "the demo's pictures, of concepts it knows")):
        if part not in found:
            continue
        result = found[part]
        lines += [
            f"## Captions of {title}",
            "",
            f"{result['pictures']} pictures: BLEU-4 {result['bleu4']:.1f}, METEOR {result['meteor']:.3f}, "
            f"CIDEr {result['cider']:.3f}; {result['seconds'] / result['pictures']:.1f} s a picture.",
            "",
            "| generated caption | its captions |",
            "|---|---|",
            *(f"| {one['caption']} | {'; '.join(one['references'])} |" for one in result["examples"]),
            "",
        ]
    if "speed" in found:
        s = found["speed"]
        lines += [
            "## Speed",
            "",
            f"A text against {s['candidates']} pictures: {1000 * s['seconds_from_tokens']:.0f} ms "
            f"({s['pairs_per_second']:.0f} pairs a second) from stored tokens, {s['seconds_from_files']:.1f} s from "
            f"the files: {s['ratio']:.0f} times as long. A picture against {s['texts_of_a_picture']} texts: "
            f"{s['seconds_of_a_picture_new_texts']:.1f} s, {s['seconds_of_a_picture_known_texts']:.1f} s where the "
            "texts were read before.",
            "",
        ]
    if "nothing" in found:
        n = found["nothing"]
        lines += [
            "## Nothing matches",
            "",
            f"{n['pictures']} held-out pictures; {n['queries_held']} queries for what they show, "
            f"{n['queries_not_held']} for what they do not.",
            "",
            f"| shown by the best candidate's | AUROC | false shows at {n['recall']:.0%} recall |",
            "|---|---|---|",
            *(f"| {name} | {one['auroc']:.3f} | {one['false_shows']:.1%} |" for name, one in n["by"].items()),
            "",
            f"With `--min-probability 0.5` {n['at_half']['shown_held']:.1%} of the first and "
            f"{n['at_half']['shown_not_held']:.1%} of the second show something.",
            "",
        ]
    return "\n".join(lines)


def _where(facts: dict[str, Any]) -> str:
    commit = str(facts["commit"] or "unknown")[:10] + (", changed" if facts["changed"] else "")
    where = f"{facts['hardware']}, {facts['device']}, {facts['dtype']}"
    return f"Commit {commit}; {where}; torch {facts['versions']['torch']}."


def gain_table(document: dict[str, Any]) -> list[str]:
    """Both stages of every direction that was judged, with the gain of R@1 and the calibration."""
    lines = [
        "| direction | dual R@1 / 5 / 10 | reranked | gain of R@1 [95 %] | p | ECE before → after |",
        "|---|---|---|---|---|---|",
    ]
    by = {(one["direction"], one["stage"]): one for one in document["results"]}
    for (direction, stage), after in by.items():
        if stage != "rerank":
            continue
        before, gain, ece = by[direction, "dual"], after["gain"]["hit_rate_at_1"], after["calibration"]
        rates = [" / ".join(f"{100 * one[f'hit_rate_at_{k}']:.1f}" for k in (1, 5, 10)) for one in (before, after)]
        low, high = gain["ci95"]
        lines.append(
            f"| {direction} ({after['n_queries']}) | {rates[0]} | {rates[1]} | {100 * gain['gain']:+.1f} "
            f"[{100 * low:+.1f}, {100 * high:+.1f}] | {gain['p_value']:.4f} | "
            f"{ece['before']['ece']:.3f} → {ece['after']['ece']:.3f} |"
        )
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    parser.add_argument("--part", action="append", choices=PARTS)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        raise SystemExit(str(error)) from error
