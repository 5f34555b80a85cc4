"""The product's public readers, each called on a folder as a user's command would.

A reader returns a few words on what it read; a stated error (``TrimodalError``) is an answer as well. Everything else
that comes out of it is *foreign*. Where a reader can see that what came out is wrong (a sample that is not finite, a
neighbour's vector that changed), it raises :class:`Wrong`. Knows nothing of mutations and processes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from indexer.encoders.identity import EncoderIdentity
from indexer.errors import MediaError, TrimodalError
from indexer.items import Modality


class Wrong(Exception):
    """What was read without an error, and is wrong."""


Reader = Callable[[Path, str, str], str]
"""(folder, file in it that was damaged, what follows the colon in the seed's reader) -> words."""


def read(reader: str, folder: Path, target: str) -> str:
    """Call a reader by its name, ``manifest`` or ``dataset:coco``."""
    name, _, detail = reader.partition(":")
    return READERS[name](folder, target, detail)


def _media(folder: Path, target: str, detail: str) -> str:
    """``decode`` with the default limits. It may raise ``MediaError`` and nothing else, in one printable line."""
    from indexer.corpus.walk import find_items
    from indexer.media.content_hash import content_hash
    from indexer.media.decode import decode

    corpus = find_items([folder / target])
    if not corpus.items:
        return "skipped"
    (item,) = corpus.items
    content_hash(item)
    try:
        decoded = decode(item)
    except MediaError as error:
        if not error.reason.isprintable() or len(error.reason) > 600:
            raise Wrong(f"a reason that is not one short printable line: {error.reason[:300]!r}") from error
        raise
    if not decoded.segments:
        raise Wrong("no segments and no error")
    for segment in decoded.segments:
        _check_payload(item.modality, segment.payload)
    return f"{len(decoded.segments)} segments"


def _check_payload(modality: Modality, payload: Any) -> None:
    if modality is Modality.IMAGE:
        if payload.mode != "RGB" or min(payload.size) < 1:
            raise Wrong(f"a picture of mode {payload.mode} and size {payload.size}")
    elif modality is Modality.AUDIO:
        if payload.dtype != np.float32 or payload.ndim != 1 or not len(payload) or not np.isfinite(payload).all():
            raise Wrong(f"samples {payload.dtype} {payload.shape}, not all finite or none")
    elif not payload.strip() or "\0" in payload:
        raise Wrong("a passage without words, or with NUL")


def _manifest(folder: Path, target: str, detail: str) -> str:
    from indexer.corpus.walk import find_items, read_manifest

    find_items([folder / target])  # never raises for what is in a file
    found = read_manifest(folder / target)
    for row in found.rows:
        for path in (row.image, row.audio):
            if path is not None and not path.resolve().is_relative_to(folder.resolve()):
                raise Wrong(f"a file outside the folder: {path}")
    return f"{len(found.rows)} rows, {len(found.skipped)} skipped"


def _run(folder: Path, target: str, detail: str) -> str:
    """Index the folder, or the manifest; the good files must be stored with the vectors that they have alone."""
    from indexer.build.run import build
    from indexer.collection.collection import Collection
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder

    path = folder / "good" if target.startswith("good/") else folder / target
    encoder = FakeEncoder()
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        with Collection.open_or_create(
            Path(place) / "c", EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)
        ) as made:
            report = build(made, find_items([path]), encoder, batch_size=3, commit_every=4)
            stored = _rows(made)
            problems = made.verify()
        if problems:
            raise Wrong(f"verify: {problems[0].what}")
        if target.startswith("good/"):
            for name, row in expected_rows(folder / "good", target.removeprefix("good/")).items():
                if stored.get(name) != row:
                    raise Wrong(f"{name} has {'another vector' if name in stored else 'no vector'}")
    return f"{report.added} added, {len(report.skipped)} skipped"


def _rows(collection: Any) -> dict[str, bytes]:
    found = {}
    for row in collection.catalog.items():
        ids = np.array([one.vector_id for one in collection.catalog.segments_of(row.item_id)], np.int64)
        found[Path(row.key).name] = collection.vectors.get(ids).tobytes()
    return found


def expected_rows(folder: Path, damaged: str) -> Mapping[str, bytes]:
    """Vectors of the good files of a folder, encoded without the damaged one."""
    contents = tuple((path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.name != damaged)
    return _expected_rows(contents)


@functools.lru_cache(maxsize=8)
def _expected_rows(contents: tuple[tuple[str, bytes], ...]) -> Mapping[str, bytes]:
    from indexer.build.run import build
    from indexer.collection.collection import Collection
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder

    with contextlib.ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory())
        for name, content in contents:
            (Path(work) / name).write_bytes(content)
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = stack.enter_context(
            Collection.open_or_create(place / "c", EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec))
        )
        build(made, find_items([Path(work)]), FakeEncoder())
        return _rows(made)


def _queries(folder: Path, target: str, detail: str) -> str:
    """Read the table, and search with every row."""
    from indexer.encoders.fake import FakeEncoder
    from retrieval.batch import ResultFile, read_queries, search_all
    from retrieval.search import Searcher

    defaults = {
        "k": 3,
        "modalities": None,
        "where": None,
        "min_score": None,
        "min_probability": None,
        "plus": (),
        "minus": (),
    }
    with Searcher(small_collection(), FakeEncoder()) as searcher:
        answers = list(search_all(searcher, read_queries(folder / target, defaults)))
    for name in ("out.jsonl", "out.csv"):
        with (folder / name).open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            results = ResultFile(file, as_csv=name.endswith("csv"))
            for one in answers:
                results.write(one)
    return f"{sum(one.error is None for one in answers)} of {len(answers)} answered"


def _dataset(folder: Path, target: str, detail: str) -> str:
    from retrieval.evaluation.datasets import open_dataset

    path = folder / "c" if detail == "classes" else folder / target
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        found = open_dataset(f"{detail}:{path}", cache=Path(cache))
        for row in found.rows:
            for item in row.items.values():
                inside = (folder.resolve(), Path(cache).resolve())
                if not any(item.path.resolve().is_relative_to(one) for one in inside):
                    raise Wrong(f"a file outside the folder: {item.path}")
    return f"{len(found.rows)} rows"


def _recipe(folder: Path, target: str, detail: str) -> str:
    """Read and check it; models that it names are not looked up."""
    if detail == "rerank":
        from retrieval.rerank.training.recipe import load_rerank_recipe

        load_rerank_recipe(folder / target)
    else:
        from indexer.training.recipe import read_recipe

        read_recipe(folder / target)
    return "read"


def _where(folder: Path, target: str, detail: str) -> str:
    """Compile the condition, and run it."""
    text = (folder / target).read_text("utf-8", "surrogateescape")
    with small_collection() as opened:
        return f"{len(opened.catalog.vector_ids(where=opened.catalog.compile_filter(text)))} found"


@functools.lru_cache(maxsize=1)
def _small_collection() -> Path:
    from benchmarks.attack.collection_seeds import make_collection

    place = Path(tempfile.mkdtemp(prefix="small-"))
    return make_collection(place)


def small_collection() -> Any:
    """A collection of a few pictures, sounds and texts, opened for reading; made once a process."""
    from indexer.collection.collection import Collection

    return Collection.open(_small_collection())


def _collection(folder: Path, target: str, detail: str) -> str:
    """Open, verify, search; then repair and verify again, each of which may be refused."""
    from indexer.ann.brute_force import exact_top
    from indexer.collection.collection import Collection

    place = folder / "c"
    query = np.eye(1, 64, dtype=np.float32)
    try:
        with Collection.open(place) as opened:
            problems = opened.verify()
            live = opened.catalog.vector_ids()
            _, ids = opened.index("cpu").search(query, 5, live)
            opened.catalog.lookup([int(one) for one in ids[0] if one >= 0])
            exact_top(query, opened.vectors, 5, live)
            opened.stats()
    except TrimodalError:
        problems = None
    with Collection.open(place, writable=True) as opened:
        if problems or problems is None:
            opened.repair()
        left = opened.verify()
        _run_again(opened, folder)
    return "well" if problems == [] else f"{'refused' if problems is None else len(problems)}, {len(left)} left"


def _run_again(opened: Any, folder: Path) -> None:
    """What a user does next: index something more."""
    from indexer.build.run import build
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder

    more = folder / "more"
    more.mkdir(exist_ok=True)
    (more / "more.txt").write_text("a green word")
    build(opened, find_items([more]), FakeEncoder())


def _model(folder: Path, target: str, detail: str) -> str:
    """Describe the model, open it, encode with every tower; ``detail`` is the prefix of the spec, if any."""
    from PIL import Image

    from indexer.encoders import open_encoder
    from indexer.encoders.registry import describe_model

    spec = f"{detail}:{folder / 'm'}" if detail else str(folder / "m")
    with contextlib.suppress(TrimodalError):
        describe_model(spec)
    encoder = open_encoder(spec, device="cpu")
    rows = [encoder.encode_queries(["a dog"])]
    if Modality.IMAGE in encoder.modalities:
        rows.append(encoder.encode_images([encoder.prepare_image(Image.new("RGB", (40, 30), "red"))]))
    if Modality.AUDIO in encoder.modalities:
        tone = np.sin(np.arange(16_000, dtype=np.float32) / 9)
        rows.append(encoder.encode_audio([encoder.prepare_audio(tone)]))
    for one in rows:
        if one.shape != (1, encoder.dim) or one.dtype != np.float32:
            raise Wrong(f"rows {one.dtype} {one.shape} of a model of {encoder.dim}")
    return "encoded"


def _reranker(folder: Path, target: str, detail: str) -> str:
    from indexer.encoders.tokens.config import read_reranker

    found = read_reranker(folder / "m", "0" * 32)
    if found is None:
        return "none"
    found.token_spec  # noqa: B018
    return "read"


def _tensors(folder: Path, target: str, detail: str) -> str:
    from indexer.encoders.weights.tensor_files import read_tensors

    return f"{len(read_tensors(folder / target))} tensors"


def _gguf(folder: Path, target: str, detail: str) -> str:
    """Convert it to transformers' layout."""
    from indexer.encoders.weights.gguf_files import check_gguf, convert_gguf

    check_gguf(folder / target)
    out = folder.parent / f"gguf-{hashlib.sha256(target.encode()).hexdigest()[:6]}"
    try:
        convert_gguf(folder / target, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return "converted"


def _odd(folder: Path, target: str, detail: str) -> str:
    """Does what no reader should, so that the fuzzer itself can be tried."""
    import os

    if detail == "abort":
        os.abort()
    if detail == "error":
        raise KeyError("not a stated error")
    return "well"


READERS: Mapping[str, Reader] = {
    "media": _media,
    "run": _run,
    "manifest": _manifest,
    "queries": _queries,
    "dataset": _dataset,
    "recipe": _recipe,
    "where": _where,
    "collection": _collection,
    "model": _model,
    "reranker": _reranker,
    "tensors": _tensors,
    "gguf": _gguf,
    "odd": _odd,
}
