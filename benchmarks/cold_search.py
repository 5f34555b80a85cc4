"""A search from Enter to hits, against ``import torch``; and whether ONNX Runtime finds what torch finds.

    python benchmarks/cold_search.py COLLECTION [--items MANIFEST] [--openclip]      -> docs/bench/cold-search.{json,md}

``COLLECTION`` was indexed with a model that has graphs (``trimodal models pull starter``). Processes of their own, in
turn, so that a busy machine is busy for all of them: ``python -c "import torch"``; ``trimodal search --no-rerank`` with
words, with a picture and with a sound of ``--items``, in ONNX Runtime and in torch; with words and ``--rerank`` in ONNX
Runtime, where the model's reranker is on this machine; with ``--openclip`` also with words
and a picture over a collection of an open_clip ViT-B-32 of random weights, made for this. Medians of the processor's
seconds, of wall time and of the most memory, and the ratio to ``import torch``. Then the first caption, the picture or
the sound of every row of ``--items`` is embedded by both: the worst cosine, and how many top tens among the
collection's vectors are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import provenance  # noqa: E402
from benchmarks.processes import measured  # noqa: E402
from indexer.collection.collection import Collection  # noqa: E402
from indexer.encoders import open_encoder  # noqa: E402
from indexer.encoders.base import media_limits  # noqa: E402
from indexer.media.decode import open_sound, read_picture  # noqa: E402
from retrieval.rerank import open_reranker  # noqa: E402

OUT = ROOT / "docs" / "bench"
RERANKED = "search and rerank"
RUNTIMES = (("auto", "ONNX Runtime"), ("torch", "torch"))
WORDS = ("a red tool", "an animal in the water", "a musical instrument")
ARCH = "ViT-B-32"
#: Of each kind this many are embedded together: what runs in ONNX Runtime.
_TEXTS_AT_ONCE, _MEDIA_AT_ONCE = 32, 8
_TRIMODAL = "import sys; from trimodal.cli import app; sys.argv[0] = 'trimodal'; app()"


def run(command: list[str], runtime: str, cache: Path | None = None) -> dict[str, float]:
    """CPU and wall seconds and the most memory (MB) of one process."""
    environment = {"TRIMODAL_RUNTIME": runtime, **({} if cache is None else {"TRIMODAL_CACHE": str(cache)})}
    return asdict(measured(command, environment))


def cold(searches: dict[str, tuple[list[str], Path | None]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians by what was run: ``import torch``, and each search in ONNX Runtime and in torch.

    ``searches``: by name the arguments of ``trimodal search``, the first perhaps empty (then it is words), and a cache.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        found.setdefault("import torch", []).append(run([sys.executable, "-c", "import torch"], "auto"))
        for name, (arguments, cache) in searches.items():
            query = [one or WORDS[number % len(WORDS)] for one in arguments]
            is_reranked = name == RERANKED
            command = [sys.executable, "-c", _TRIMODAL, "search", *query, "--rerank" if is_reranked else "--no-rerank"]
            for runtime, shown in RUNTIMES[: 1 if is_reranked else 2]:
                found.setdefault(f"{name}, {shown}", []).append(run(command, runtime, cache))
    return {
        name: {key: round(statistics.median(one[key] for one in runs), 2) for key in runs[0]}
        for name, runs in found.items()
    }


def parity(collection: Path, rows: dict[str, list[NDArray[np.float32]]]) -> dict[str, Any]:
    """How near embeddings are in ONNX Runtime (``rows["auto"]``) and in torch, and how many top tens are equal."""
    ours, torchs = (np.concatenate(rows[runtime]) for runtime in ("auto", "torch"))
    with Collection.open(collection) as opened:
        vectors = opened.vectors.get(opened.catalog.vector_ids())
    tens, others = (np.argsort(-(found @ vectors.T), axis=1, kind="stable")[:, :10] for found in (ours, torchs))
    return {
        "count": len(ours),
        "vectors": len(vectors),
        "worst_cosine": round(float((ours * torchs).sum(axis=1).min()), 6),
        "equal_top_tens": int((tens == others).all(axis=1).sum()),
        "same_of_ten": round(float(np.mean([len(set(a) & set(b)) for a, b in zip(tens, others, strict=True)])), 3),
        "first_equal": int((tens[:, 0] == others[:, 0]).sum()),
    }


def embedded(collection: Path, items: Path) -> dict[str, dict[str, list[NDArray[np.float32]]]]:
    """Rows of all captions, pictures and sounds of a manifest, by kind and runtime."""
    with Collection.open(collection) as opened:
        spec = opened.encoder_spec
    found: dict[str, dict[str, list[NDArray[np.float32]]]] = {}
    for runtime in ("auto", "torch"):
        os.environ["TRIMODAL_RUNTIME"] = runtime
        for kind, parts in _embedded(open_encoder(spec, device="cpu"), items):
            found.setdefault(kind, {})[runtime] = parts
    os.environ.pop("TRIMODAL_RUNTIME")
    return found


def _embedded(encoder: Any, items: Path) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    """A few at once, as queries are; of a sound its first window."""
    limits = media_limits(encoder)

    def picture(path: str) -> Any:
        return encoder.prepare_image(read_picture(items.parent / path, limits))

    def sound(path: str) -> Any:
        return encoder.prepare_audio(next(iter(open_sound(items.parent / path, limits).windows))[2])

    kinds: tuple[tuple[str, str, Callable[[str], Any], Callable[[list[Any]], Any], int], ...] = (
        ("captions", "captions", str, encoder.encode_queries, _TEXTS_AT_ONCE),
        ("pictures", "image", picture, encoder.encode_images, _MEDIA_AT_ONCE),
        ("sounds", "audio", sound, encoder.encode_audio, _MEDIA_AT_ONCE),
    )
    for kind, column, prepare, encode, at_once in kinds:
        values = _column(items, column)
        chunks = [values[start : start + at_once] for start in range(0, len(values), at_once)]
        if chunks:
            yield kind, [encode([prepare(one) for one in some]) for some in chunks]


def _column(items: Path, column: str) -> list[str]:
    rows = [json.loads(line) for line in items.read_text(encoding="utf-8").splitlines()]
    values = [row[column] for row in rows if row.get(column)]
    return [value[0] if isinstance(value, list) else value for value in values]


def random_openclip(work: Path, items: Path) -> tuple[Path, Path, str]:
    """A collection of 64 pictures of a ViT-B-32 of random weights, with its graphs; its cache; and one picture."""
    from safetensors.torch import save_file

    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    import open_clip

    model = work / "model"
    model.mkdir()
    config = {"model_cfg": open_clip.get_model_config(ARCH), "preprocess_cfg": {}}
    (model / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(open_clip.create_model(ARCH).state_dict(), model / "open_clip_model.safetensors")
    pictures = [str(items.parent / path) for path in _column(items, "image")[:64]]
    spec, collection, cache = f"openclip:{model}", work / "collection", work / "cache"
    for command in (["models", "pull", spec], ["index", *pictures, "-c", str(collection), "--model", spec]):
        run([sys.executable, "-c", _TRIMODAL, *command], "auto", cache)
    return collection, cache, pictures[0]


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
        lines += [
            "",
            "Queries in both runtimes, among all vectors of the collection:",
            "",
            "| queries | worst cosine | equal top tens | equal first hits | of ten in common |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
    for kind, both in found.get("parity", {}).items():
        lines.append(
            f"| {both['count']} {kind} | {both['worst_cosine']} | {both['equal_top_tens']} | {both['first_equal']} | "
            f"{both['same_of_ten']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--items", "--captions", type=Path, help="a manifest whose rows are queries")
    parser.add_argument("--openclip", action="store_true", help="also with an open_clip model of random weights")
    parser.add_argument(
        "--part", action="append", choices=("cold", "parity"), help="the other stays as it was measured"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.openclip and options.items is None:
        parser.error("--openclip takes its pictures from --items MANIFEST")
    parts = options.part or ("cold", "parity")
    file = options.out / "cold-search.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if len(parts) == 1 and file.is_file() else {}
    if "cold" in parts:
        found |= {"rounds": options.rounds, "cold": measured_searches(options), "facts": facts_of(options.collection)}
    if "parity" in parts and options.items is not None:
        rows = embedded(options.collection, options.items)
        found["parity"] = {kind: parity(options.collection, both) for kind, both in rows.items()}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.out / "cold-search.md").write_text(page(found), encoding="utf-8")
    sys.stdout.write(page(found))


def facts_of(collection: Path) -> dict[str, Any]:
    """Where and with what the collection's model runs."""
    with Collection.open(collection) as opened:
        return provenance.facts(open_encoder(opened.encoder_spec, device="cpu"))


def measured_searches(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """What :func:`cold` gives for the searches that the options name."""
    with Collection.open(options.collection) as opened:
        reranker = open_reranker(open_encoder(opened.encoder_spec, device="cpu"))
    place = ["-c", str(options.collection)]
    searches: dict[str, tuple[list[str], Path | None]] = {"search": (["", *place], None)}
    if reranker is not None and reranker.missing() is None:
        searches[RERANKED] = (["", *place], None)
    with tempfile.TemporaryDirectory() as work:
        if options.items is not None:
            picture, sound = (str(options.items.parent / _column(options.items, one)[0]) for one in ("image", "audio"))
            searches["search by picture"] = (["--image", picture, *place], None)
            searches["search by sound"] = (["--audio", sound, *place], None)
        if options.openclip:
            made, cache, one = random_openclip(Path(work), options.items)
            searches[f"search, {ARCH}"] = (["", "-c", str(made)], cache)
            searches[f"search by picture, {ARCH}"] = (["--image", one, "-c", str(made)], cache)
        return cold(searches, options.rounds)


if __name__ == "__main__":
    main()
