"""Measure the starter on everything that README.md and its card print, in one run.

    python benchmarks/starter.py [--model SPEC] [--out DIR] [--write | --check] [--reuse]

Writes ``starter.json`` and ``starter.md`` into DIR (docs/bench). ``--write`` also renews the blocks of README.md and
of the model card from the JSON, ``--check`` measures nothing and fails where a block differs from it, ``--reuse`` takes
the JSON that is there instead of measuring. A data set that is not built is left out, and its recipe named.

The protocol is that of ``trimodal bench`` (retrieval/evaluation/runner.py), file by file the same batches. Beside it
stands, from the same vectors, the same with equal captions counted once: there a wrong caption that two pictures carry
is one candidate, not two.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID

sys.path.insert(0, str(Path(__file__).resolve().parent / "datasets"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from splits import TRAIN, head, normalise

from benchmarks import figures, provenance
from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import ManifestError, MediaError, TrimodalError, UsageError
from indexer.items import Modality
from indexer.progress import Progress, silent
from retrieval.evaluation.datasets.benchmark import Benchmark, load_benchmark
from retrieval.evaluation.directions import Comparison, comparisons
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark, encode_captions
from retrieval.evaluation.measure import measure
from retrieval.evaluation.metrics.ranks import Relevance

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE = 32  # of `trimodal bench`: with bfloat16, other batches move a vector by a rounding
TOP = 5
QUERIES = (
    "something to cut wood",
    "clothes for cold weather",
    "a bird that cannot fly",
    "something hot to drink",
    "a big cat",
    "a vehicle that flies",
    "a musical instrument with strings",
    "a yellow fruit",
    "an insect",
    "something to sit on",
)
CAPTIONS_OF = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds"}

console = Console(stderr=True)

T = TypeVar("T")


class NotMeasured(TrimodalError):
    """A data set that is not there, or that this model cannot be measured on."""


# ----------------------------------------------------------------------------------------- the data sets


@dataclass(slots=True)
class Measurement:
    """Data sets -> their part of starter.json. Files and captions of each are encoded once."""

    encoder: DualEncoder
    datasets: Path
    """Folder that the recipes write into: ``tuxpaint/``, ``pool/``."""
    demo: Path
    progress: Progress = silent
    done: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Of each data set that was left out, why."""

    def run(self) -> None:
        """Measure all that is there."""
        stamps = self.datasets / "tuxpaint"
        pool = self.datasets / "pool" / "manifest.jsonl"
        english = self._try("tuxpaint", lambda: self._encoded(_load(stamps / "manifest.jsonl", "tuxpaint.py")))
        if english is None:
            self.missing |= dict.fromkeys(("sounds", "languages", "queries"), self.missing["tuxpaint"])
        else:
            self._keep("tuxpaint", lambda: report(english))
            self._keep("sounds", lambda: sounds_apart(english, pool, self.encoder))
            self.done["languages"] = {}
            for language in figures.LANGUAGES:
                manifest = stamps / f"manifest.{language}.jsonl"
                found = self._try(f"languages/{language}", partial(self._spoken, english, manifest))
                if found is not None:
                    self.done["languages"][language] = found
            if not self.done["languages"]:
                self.missing["languages"] = self.missing["languages/de"]
            self._keep("queries", lambda: first_five(english, self.encoder))
        self._keep("heldout", lambda: report(self._encoded(_load(pool, "pool.py", "val"))))
        self._keep("demo", lambda: report(self._encoded(load_benchmark(self.demo / "manifest.jsonl"))))

    def _keep(self, name: str, work: Callable[[], Any]) -> None:
        found = self._try(name, work)
        if found is not None:
            self.done[name] = found

    def _try(self, name: str, work: Callable[[], T]) -> T | None:
        """What ``work`` gives; ``None``, with the reason kept, where the data set is at fault."""
        try:
            return work()
        except (NotMeasured, UsageError, ManifestError, MediaError) as error:
            self.missing[name] = without_place(str(error), self.datasets)
            console.print(f"{name}: left out: {self.missing[name]}", markup=False, highlight=False)
            return None

    def _encoded(self, benchmark: Benchmark) -> EncodedBenchmark:
        started = time.perf_counter()
        encoded = encode_benchmark(benchmark, self.encoder, progress=self.progress, batch_size=BATCH_SIZE)
        line = f"{benchmark.name}: encoded in {time.perf_counter() - started:.0f} s"
        console.print(line, markup=False, highlight=False)
        return encoded

    def _spoken(self, english: EncodedBenchmark, manifest: Path) -> dict[str, Any]:
        return report(in_language(english, _load(manifest, "tuxpaint.py"), self.encoder))


def report(encoded: EncodedBenchmark) -> dict[str, Any]:
    """Every direction of an encoded data set, also with equal captions counted once where some are equal."""
    benchmark = encoded.benchmark
    pairs = [pair for pair in comparisons(encoded) if pair.relevance.n_candidates > 1]  # one of one is no finding
    if not pairs:
        raise NotMeasured("the model has no tower for two of its modalities, or nothing could be read")
    for modality in CAPTIONS_OF:
        at = next((i for i, pair in enumerate(pairs) if pair.direction == f"{modality}->text"), None)
        if at is not None and (once := captions_once(encoded, modality)) is not None:
            pairs.insert(at + 1, once)
    folder = benchmark.path.parent
    return {
        "manifest": {"name": f"{folder.name}/{benchmark.path.name}", "sha256": benchmark.sha256},
        "split": benchmark.split,
        "items": {modality.value: len(encoded.items.get(modality, {})) for modality in Modality},
        "results": [measure(pair).to_json() for pair in pairs],
        "skipped": [
            {"path": without_place(one.path, folder), "reason": without_place(one.reason, folder)}
            for one in (*benchmark.skipped, *encoded.skipped)
        ],
    }


def captions_once(encoded: EncodedBenchmark, modality: Modality) -> Comparison | None:
    """Items are queries for captions, of which equal ones are one candidate; ``None`` where none are equal.

    Relevant are the item's own captions, as before; only the wrong ones that are repeated count once.
    """
    rows, items = encoded.benchmark.rows, encoded.items.get(modality, {})
    captioned = [row for row in items if rows[row].captions]
    place: dict[str, int] = {}
    for row in captioned:
        for text in rows[row].captions:
            place.setdefault(text, len(place))
    count = sum(len(rows[row].captions) for row in captioned)
    if len(place) == count:
        return None
    return Comparison(
        f"{modality}->text",
        CAPTIONS_OF[modality],
        "distinct captions",
        np.concatenate([items[row] for row in captioned]),
        np.stack([encoded.captions[text] for text in place]),
        Relevance.from_lists([{place[text] for text in rows[row].captions} for row in captioned], len(place)),
        captions_per_item=count / len(captioned),
    )


# ------------------------------------------------------------------------------- sounds, seen and unseen


def heard(pool: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Concepts of the training rows with a sound, and every word of their captions. ``pool``: rows of its manifest."""
    sounding = [row for row in pool if "audio" in row and row.get("split") == TRAIN]
    concepts = {row["metadata"]["concept"] for row in sounding}
    return frozenset(
        concepts | {word for row in sounding for text in row["captions"] for word in normalise(text).split()}
    )


def is_seen(caption: str, known: frozenset[str]) -> bool:
    """Whether a training sound is of the caption's head noun, or a caption of one names it as a whole word."""
    return head(caption) in known


def sounds_apart(english: EncodedBenchmark, pool: Path, encoder: DualEncoder) -> dict[str, Any]:
    """The directions with sounds, for queries of seen and of unseen concepts; all are candidates either way."""
    if Modality.AUDIO not in encoder.modalities:
        raise NotMeasured("the model has no audio tower")
    if not pool.is_file():
        raise NotMeasured(f"{pool.parent.name}/{pool.name} is not built; run `python benchmarks/datasets/pool.py`")
    with pool.open(encoding="utf-8") as lines:
        known = heard(json.loads(line) for line in lines if line.strip())
    rows = english.benchmark.rows
    sounds = [row for row in english.items[Modality.AUDIO] if rows[row].captions]
    seen = {row for row in sounds if is_seen(rows[row].captions[0], known)}
    pairs = [pair for pair in comparisons(english) if Modality.AUDIO in pair.direction.split("->")]
    found: dict[str, Any] = {}
    for name, mine in (("seen", seen), ("unseen", set(sounds) - seen)):
        parts = [
            only(pair, [at for at, row in enumerate(query_rows(english, pair.direction)) if row in mine])
            for pair in pairs
        ]
        found[name] = {
            "sounds": len(mine),
            "captions": sorted(rows[row].captions[0] for row in mine),
            "results": [measure(part).to_json() for part in parts if part.relevance.n_queries],
        }
    return found


def query_rows(encoded: EncodedBenchmark, direction: str) -> list[int]:
    """The row that each query of a direction of ``comparisons`` stands for."""
    source, target = direction.split("->")
    rows = encoded.benchmark.rows
    if source == Modality.TEXT:
        return [row for row in encoded.items[Modality(target)] for _ in rows[row].captions]
    sources = encoded.items[Modality(source)]
    if target == Modality.TEXT:
        return [row for row in sources if rows[row].captions]
    # a picture or a sound and its own partner, in the order of the pictures
    return [row for row in encoded.items[Modality.IMAGE] if row in encoded.items[Modality.AUDIO]]


def only(comparison: Comparison, queries: Sequence[int]) -> Comparison:
    """The same comparison with some of its queries, and all candidates."""
    relevance = comparison.relevance
    lists = [relevance.candidates[relevance.offsets[at] : relevance.offsets[at + 1]].tolist() for at in queries]
    return replace(
        comparison,
        query_vectors=comparison.query_vectors[np.asarray(queries, dtype=np.int64)],
        relevance=Relevance.from_lists(lists, relevance.n_candidates),
    )


# ------------------------------------------------------------------------------ languages and free words


def in_language(english: EncodedBenchmark, spoken: Benchmark, encoder: DualEncoder) -> EncodedBenchmark:
    """The pictures of ``english``, not encoded again, with the captions of another manifest of the same files."""
    if Modality.TEXT not in encoder.modalities:
        raise NotMeasured("the model has no text tower")
    known = english.items.get(Modality.IMAGE, {})
    vectors = {english.benchmark.rows[row].items[Modality.IMAGE].path: vector for row, vector in known.items()}
    pictures = {}
    for at, row in enumerate(spoken.rows):
        if Modality.IMAGE in row.items and (path := row.items[Modality.IMAGE].path) in vectors:
            pictures[at] = vectors[path]
    texts = list(dict.fromkeys(text for at in pictures for text in spoken.rows[at].captions))
    return EncodedBenchmark(spoken, {Modality.IMAGE: pictures}, encode_captions(texts, encoder), ())


def first_five(english: EncodedBenchmark, encoder: DualEncoder) -> list[dict[str, Any]]:
    """For each of ``QUERIES`` the nearest pictures, best first; ties: the lower row first."""
    pictures = english.items.get(Modality.IMAGE, {})
    if not pictures or Modality.TEXT not in encoder.modalities:
        raise NotMeasured("the model has no picture or no text tower")
    rows, folder = list(pictures), english.benchmark.path.parent
    cosines = encoder.encode_queries(QUERIES) @ np.concatenate(list(pictures.values())).T  # (q, d) @ (d, n) -> (q, n)
    found = []
    for query, row in zip(QUERIES, cosines, strict=True):
        best = np.argsort(-row, kind="stable")[:TOP]
        paths = [english.benchmark.rows[rows[at]].items[Modality.IMAGE].path.relative_to(folder) for at in best]
        top = [
            {"image": path.as_posix(), "cosine": round(float(row[at]), 4)} for path, at in zip(paths, best, strict=True)
        ]
        found.append({"query": query, "top": top})
    return found


# ------------------------------------------------------------------------------------------- the command


def document(measurement: Measurement, name: str, command: str, seconds: float) -> dict[str, Any]:
    """starter.json."""
    encoder = measurement.encoder
    return {
        "model": {
            "name": name,
            "dim": encoder.dim,
            "modalities": [modality.value for modality in Modality if modality in encoder.modalities],
        },
        "fingerprint": encoder.fingerprint,
        "run": {
            "command": command,
            **provenance.facts(encoder),
            "batch_size": BATCH_SIZE,
            "bootstrap_seed": 0,
            "seconds": round(seconds, 1),
        },
        "datasets": measurement.done,
        "missing": measurement.missing,
    }


def without_place(text: str, folder: Path) -> str:
    """``text`` without the machine's own folders before a file's name."""
    for place in (folder, ROOT, Path.home()):
        text = text.replace(f"{place}/", "")
    return text


def _load(manifest: Path, recipe: str, split: str | None = None) -> Benchmark:
    if not manifest.is_file():
        raise NotMeasured(
            f"{manifest.parent.name}/{manifest.name} is not built; run `python benchmarks/datasets/{recipe}`"
        )
    return load_benchmark(manifest, split)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar a stage on stderr, gone when it is over."""
    with Bars(console=console, transient=True) as bars:
        tasks: dict[tuple[str, int], TaskID] = {}

        def show(stage: str, done: int, total: int, skipped: int = 0, /) -> None:
            if (stage, total) not in tasks:
                tasks[stage, total] = bars.add_task(stage)
            bars.update(tasks[stage, total], completed=done, total=total)

        yield show


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Open a model and measure it on everything that is built."""
    started = time.perf_counter()
    encoder = open_encoder(options.model, device=options.device)
    with _progress() as progress:
        measurement = Measurement(encoder, cache_dir() / "datasets", ROOT / "data" / "demo", progress)
        measurement.run()
    name = Path(options.model).name if Path(options.model).is_dir() else options.model
    choice = "--write" if options.write else f"--model {name}"
    device = "" if options.device == "auto" else f" --device {options.device}"
    command = f"python benchmarks/starter.py {choice}{device}"
    return document(measurement, name, command, time.perf_counter() - started)


def check(out: Path, pages: Sequence[Path]) -> None:
    """Raise :class:`UsageError` naming the blocks that differ from ``out``/starter.json."""
    document = read(out)
    for page in pages:
        if names := figures.differing(page.read_text(encoding="utf-8"), document):
            raise UsageError(
                f"{without_place(str(page), ROOT)}: figures {', '.join(names)} are not those of starter.json; "
                f"run `make bench`"
            )


def read(out: Path) -> dict[str, Any]:
    """The JSON of an earlier run."""
    try:
        found: dict[str, Any] = json.loads((out / "starter.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("there is no starter.json to take figures from; run `make bench`") from error
    return found


def main(arguments: Sequence[str] | None = None, pages: Sequence[Path] = figures.PAGES) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter", help="starter, or a directory that `trimodal train` wrote")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench", help="folder to write (docs/bench)")
    parser.add_argument("--reuse", action="store_true", help="measure nothing: take the starter.json that is there")
    parser.add_argument("--write", action="store_true", help="renew the blocks of README.md and of the model card")
    parser.add_argument("--check", action="store_true", help="measure nothing; fail where a block differs")
    options = parser.parse_args(given)
    try:
        if options.check:
            check(options.out, pages)
            return 0
        if options.write and options.model != "starter":
            raise UsageError("--write: README.md and the card print the starter's figures; leave --model out")
        found = read(options.out) if options.reuse else measured(options)
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        (options.out / "starter.json").write_text(text, encoding="utf-8")
        (options.out / "starter.md").write_text(figures.page(found), encoding="utf-8")
        for page in pages if options.write else ():
            page.write_text(figures.renewed(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    except TrimodalError as error:
        console.print(f"benchmarks/starter.py: {error}", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
