"""Measure whether a model chooses the true one of two captions that differ in a relation, a number or a colour.

    python benchmarks/attributes.py [--model SPEC] [--manifest FILE] [--split NAME] [--rerank] [--out DIR]

Writes ``attributes.json`` and ``attributes.md`` into DIR (docs/bench); figures of other models there stay. Data:
``benchmarks/datasets/composites.py``, whose held-out scenes (split ``val``) show held-out concepts only.

A row's first caption is compared with one of its ``metadata.contradictions``, drawn by the row's id. The choice is
right where the caption is nearer to the picture, and a tie is wrong, so chance is 50 %. ``hardest``: right against
every contradiction of the row. ``words``: the same choice by the mean of all pictures in place of the row's own, which
is what the words alone give away. With ``--rerank`` the model's reranker scores both captions, too.
Intervals: 95 % bootstrap.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import provenance
from indexer.corpus.walk import read_manifest
from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import TrimodalError, UsageError
from indexer.items import Modality
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.datasets.benchmark import load_benchmark
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark, encode_captions
from retrieval.evaluation.metrics.statistics import bootstrap_ci95, sign_flip_p_value
from retrieval.rerank.base import Reranker
from retrieval.rerank.stage import match_scores, require_reranker

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("relation", "count", "colour")  # in this order in the tables; others follow

console = Console(stderr=True)


@dataclass(frozen=True)
class Contradicted:
    """A row that has contradictions, by its place among the benchmark's rows, with the drawn one first."""

    place: int
    kind: str
    caption: str
    false: tuple[str, ...]

    @property
    def swapped(self) -> bool:
        """Whether the drawn contradiction has the caption's words in another order."""
        return sorted(_words(self.caption)) == sorted(_words(self.false[0]))


def _words(caption: str) -> list[str]:
    return ["a" if word == "an" else word for word in caption.split()]


def contradicted_rows(encoded: EncodedBenchmark) -> list[Contradicted]:
    """Rows with a readable picture, a caption and contradictions. Raises ``UsageError`` where there are none."""
    benchmark = encoded.benchmark
    metadata = {row.row_id: row.metadata for row in read_manifest(benchmark.path).rows}
    found = []
    for place in encoded.items.get(Modality.IMAGE, {}):
        row = benchmark.rows[place]
        own = metadata[row.row_id]
        false = json.loads(str(own.get("contradictions", "[]")))
        if row.captions and false:
            random.Random(row.row_id).shuffle(false)
            found.append(Contradicted(place, str(own.get("kind", "other")), row.captions[0], tuple(false)))
    if not found:
        raise UsageError(
            f"{benchmark.path}: no row has a picture, a caption and metadata.contradictions; "
            "build one with `python benchmarks/datasets/composites.py`"
        )
    return found


def choices_of_encoder(
    rows: Sequence[Contradicted], encoded: EncodedBenchmark, encoder: DualEncoder
) -> dict[str, NDArray[np.float64]]:
    """1 where the caption is chosen, float64 ``(rows,)``: ``choice``, ``hardest`` and ``words``."""
    vectors = encoded.items[Modality.IMAGE]
    texts = encode_captions(sorted({text for row in rows for text in (row.caption, *row.false)}), encoder)
    middle = np.concatenate([vectors[row.place][:1] for row in rows]).mean(axis=0)
    found: dict[str, list[bool]] = {"choice": [], "hardest": [], "words": []}
    for row in rows:
        own = vectors[row.place][0]
        margins = [float(own @ (texts[row.caption] - texts[text])) for text in row.false]
        found["choice"].append(margins[0] > 0)
        found["hardest"].append(min(margins) > 0)
        found["words"].append(float(middle @ (texts[row.caption] - texts[row.false[0]])) > 0)
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def choices_of_reranker(
    rows: Sequence[Contradicted], encoded: EncodedBenchmark, encoder: DualEncoder, reranker: Reranker
) -> NDArray[np.float64]:
    """1 where the reranker gives the caption the higher score, float64 ``(rows,)``."""
    texts = encode_captions(sorted({text for row in rows for text in (row.caption, row.false[0])}), encoder)
    reranker.read(sorted(texts))
    found = []
    for row in rows:
        two = [row.caption, row.false[0]]
        logits = reranker.score_texts(encoded.tokens[Modality.IMAGE][row.place], two, Modality.IMAGE)
        cosines = np.array([encoded.items[Modality.IMAGE][row.place][0] @ texts[text] for text in two])
        true, false = match_scores(reranker, logits, cosines, Modality.IMAGE)
        found.append(true > false)
    return np.array(found, dtype=np.float64)


def figures(rows: Sequence[Contradicted], right: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """By kind: how many rows, and each share with its interval; with a reranker, what it gains over the encoder."""
    kinds = {row.kind for row in rows}
    document: dict[str, Any] = {}
    for kind in (*(kind for kind in KINDS if kind in kinds), *sorted(kinds - set(KINDS))):
        mine = np.array([row.kind == kind for row in rows])
        own: dict[str, Any] = {"rows": int(mine.sum())}
        for name, values in right.items():
            own[name] = _share(values[mine])
        for name, wanted in (("one_word", False), ("swapped", True)):
            some = mine & np.array([row.swapped == wanted for row in rows])
            if some.any():
                own[name] = {"rows": int(some.sum()), **_share(right["choice"][some])}
        if "reranked" in right:
            change = (right["reranked"] - right["choice"])[mine]
            own["gain"] = {**_share(change), "p": sign_flip_p_value(change)}
        document[kind] = own
    return document


def _share(values: NDArray[np.float64]) -> dict[str, Any]:
    return {"value": float(values.mean()), "ci95": list(bootstrap_ci95(values))}


def measure(
    manifest: Path,
    split: str,
    encoder: DualEncoder,
    *,
    reranker: Reranker | None = None,
    cache: BenchCache | None = None,
) -> dict[str, Any]:
    """All figures of a model on the rows of a manifest's split, fit for JSON."""
    benchmark = load_benchmark(manifest, split)
    encoded = encode_benchmark(benchmark, encoder, with_tokens=reranker is not None, cache=cache)
    rows = contradicted_rows(encoded)
    right = choices_of_encoder(rows, encoded, encoder)
    if reranker is not None:
        right["reranked"] = choices_of_reranker(rows, encoded, encoder, reranker)
    return {
        "manifest": benchmark.name,
        "rows": len(rows),
        "skipped": len(encoded.skipped),
        "kinds": figures(rows, right),
    }


def page(found: Mapping[str, Any]) -> str:
    """``attributes.md``: a table a model."""
    lines = [
        "# Relations, counts and colours",
        "",
        "The share of held-out scenes whose caption is nearer than a contradiction of it, which differs in one word "
        "(another relation, number or colour) or has two nouns swapped. Chance is 50 %; brackets: 95 % bootstrap. "
        "*Hardest*: against every contradiction of the scene (one or two). *Words alone*: the same choice by the mean "
        "of all pictures. Made by `make bench-attributes`.",
    ]
    for name, own in found.items():
        facts = own["provenance"]
        where = f"Commit {str(facts['commit'])[:10]}; {facts['hardware']}, {facts['device']}, {facts['dtype']}."
        lines += ["", f"## {name}", "", f"{own['manifest']}: {own['rows']:,} scenes. {where}", ""]
        reranked = any("reranked" in kind for kind in own["kinds"].values())
        heads = ["kind", "scenes", "choice", "one word", "swapped", "hardest", "words alone"]
        heads += ["reranked", "gain"] if reranked else []
        lines += [_row(heads), _row(["---"] * len(heads))]
        for kind, row in own["kinds"].items():
            cells = [kind, f"{row['rows']:,}"]
            cells += [_percent(row.get(key)) for key in ("choice", "one_word", "swapped", "hardest", "words")]
            if reranked:
                cells += [_percent(row.get("reranked")), _percent(row.get("gain"), sign="+")]
            lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(value: Mapping[str, Any] | None, sign: str = "") -> str:
    if value is None:
        return "–"
    low, high = value["ci95"]
    return f"{100 * value['value']:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def main(arguments: Sequence[str] | None = None, opener: Callable[[str], DualEncoder] = open_encoder) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="starter", help="model spec (default: starter)")
    parser.add_argument("--manifest", type=Path, help="manifest (default: datasets/composites in the per-user cache)")
    parser.add_argument("--split", default="val", help="split of the manifest (default: val)")
    parser.add_argument("--rerank", action="store_true", help="also by the model's reranker")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench", help="folder to write (docs/bench)")
    options = parser.parse_args(arguments)
    manifest = options.manifest or cache_dir() / "datasets" / "composites" / "manifest.jsonl"
    try:
        encoder = opener(options.model)
        reranker = require_reranker(encoder) if options.rerank else None
        with BenchCache.open(cache_dir() / "bench", encoder, encoder.fingerprint) as cache:
            own = measure(manifest, options.split, encoder, reranker=reranker, cache=cache)
    except TrimodalError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    own["provenance"] = provenance.facts(encoder)
    path = options.out / "attributes.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found[options.model] = own
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (options.out / "attributes.md").write_text(page(found), encoding="utf-8")
    for kind, row in own["kinds"].items():
        console.print(f"{kind}: {_percent(row['choice'])} of {row['rows']}", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
