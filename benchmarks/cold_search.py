"""A search from Enter to hits, against ``import torch``; and whether ONNX Runtime finds what torch finds.

    python benchmarks/cold_search.py COLLECTION [--captions MANIFEST]      -> docs/bench/cold-search.{json,md}

``COLLECTION`` was indexed with a model that has graphs (``trimodal models pull starter``). Processes of their own, in
turn, so that a busy machine is busy for all of them: ``python -c "import torch"``; ``trimodal search WORDS
--no-rerank`` in ONNX Runtime; the same in torch; and, where the model's reranker is on this machine, ``trimodal search
WORDS --rerank`` in ONNX Runtime. Medians of the processor's seconds, of wall time and of the most
memory, and the ratio to ``import torch``. Then every row's first caption of ``--captions`` is embedded by both: the
worst cosine, and how many top tens among the collection's vectors are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import provenance  # noqa: E402
from indexer.collection.collection import Collection  # noqa: E402
from indexer.encoders import open_encoder  # noqa: E402
from retrieval.rerank import open_reranker  # noqa: E402

OUT = ROOT / "docs" / "bench"
RERANKED = "search and rerank, ONNX Runtime"
WORDS = ("a red tool", "an animal in the water", "a musical instrument")
_SEARCH = "import sys; from trimodal.cli import app; sys.argv[0] = 'trimodal'; app()"


def measured(command: list[str], runtime: str) -> dict[str, float]:
    """CPU and wall seconds and the most memory (MB) of one process."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "TRIMODAL_RUNTIME": runtime}
    ) as process:
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: {errors.decode()[-400:]}")
    seconds = time.perf_counter() - started
    return {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": seconds, "peak_mb": used.ru_maxrss / 1024}


def cold(collection: Path, rounds: int, *, rerank: bool) -> dict[str, Any]:
    """Medians by what was run; ``rerank``: also of a search whose hits are reranked."""
    found: dict[str, list[dict[str, float]]] = {"import torch": [], "search, ONNX Runtime": [], "search, torch": []}
    if rerank:
        found[RERANKED] = []
    for number in range(rounds):
        words = WORDS[number % len(WORDS)]
        search = [sys.executable, "-c", _SEARCH, "search", words, "-c", str(collection)]
        found["import torch"].append(measured([sys.executable, "-c", "import torch"], "auto"))
        found["search, ONNX Runtime"].append(measured([*search, "--no-rerank"], "auto"))
        found["search, torch"].append(measured([*search, "--no-rerank"], "torch"))
        if rerank:
            found[RERANKED].append(measured([*search, "--rerank"], "auto"))
    return {
        name: {key: round(statistics.median(one[key] for one in runs), 2) for key in runs[0]}
        for name, runs in found.items()
    }


def parity(collection: Path, captions: list[str]) -> dict[str, Any]:
    """How near embeddings of both runtimes are, and how many of their top tens are equal."""
    with Collection.open(collection) as opened:
        spec, vectors = opened.encoder_spec, opened.vectors.get(opened.catalog.vector_ids())
    rows = {}
    for runtime in ("auto", "torch"):
        os.environ["TRIMODAL_RUNTIME"] = runtime
        encoder = open_encoder(spec, device="cpu")
        rows[runtime] = np.concatenate(
            [encoder.encode_queries(captions[at : at + 32]) for at in range(0, len(captions), 32)]
        )
    tens = {runtime: np.argsort(-(found @ vectors.T), axis=1, kind="stable")[:, :10] for runtime, found in rows.items()}
    equal = (tens["auto"] == tens["torch"]).all(axis=1)
    same = [len(set(a) & set(b)) for a, b in zip(tens["auto"], tens["torch"], strict=True)]
    return {
        "captions": len(captions),
        "vectors": len(vectors),
        "worst_cosine": round(float((rows["auto"] * rows["torch"]).sum(axis=1).min()), 6),
        "equal_top_tens": int(equal.sum()),
        "same_of_ten": round(float(np.mean(same)), 3),
        "first_equal": int((tens["auto"][:, 0] == tens["torch"][:, 0]).sum()),
    }


def page(found: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    torch, rows = found["cold"]["import torch"], found["cold"].items()
    lines = [
        "# A search from Enter to hits",
        "",
        f"Medians of {found['rounds']} rounds in turn. Written by `python benchmarks/cold_search.py`.",
        "",
        "| process | CPU s | wall s | peak MB | CPU, import torch = 1 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in rows:
        ratio = one["cpu_s"] / torch["cpu_s"]
        lines.append(f"| {name} | {one['cpu_s']:.2f} | {one['wall_s']:.2f} | {one['peak_mb']:.0f} | {ratio:.2f} |")
    if "parity" in found:
        both = found["parity"]
        lines += [
            "",
            f"Of {both['captions']} captions and {both['vectors']} vectors: worst cosine of both runtimes "
            f"{both['worst_cosine']}, {both['equal_top_tens']} equal top tens, {both['first_equal']} equal first hits, "
            f"{both['same_of_ten']} of ten hits in common.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with Collection.open(options.collection) as opened:
        encoder = open_encoder(opened.encoder_spec, device="cpu")
    reranker = open_reranker(encoder)
    rerank = reranker is not None and reranker.missing() is None
    figures = cold(options.collection, options.rounds, rerank=rerank)
    found: dict[str, Any] = {"rounds": options.rounds, "cold": figures, "facts": provenance.facts(encoder)}
    if options.captions is not None:
        rows = [json.loads(line) for line in options.captions.read_text(encoding="utf-8").splitlines()]
        found["parity"] = parity(options.collection, [row["captions"][0] for row in rows if row.get("captions")])
    (options.out / "cold-search.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.out / "cold-search.md").write_text(page(found), encoding="utf-8")
    sys.stdout.write(page(found))


if __name__ == "__main__":
    main()
