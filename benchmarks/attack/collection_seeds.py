"""A small collection of the fake encoder, of which one file is damaged: by bytes, or by a value in the catalog."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.attack.media_seeds import pictures, samples
from benchmarks.attack.seeds import Seed, files_below
from indexer.encoders.identity import EncoderIdentity

_FORMATS = {"collection.json": "json", "catalog.sqlite": "sqlite"}


def make_collection(folder: Path) -> Path:
    """``folder/c``: pictures, a sound and texts in three commits, with tokens and a saved index."""
    import soundfile

    from indexer.build.run import build
    from indexer.collection.collection import Collection
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder

    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    made = pictures()
    for name in ("png", "jpg", "png-alpha", "gif"):
        (media / f"{name}.{name.partition('-')[0]}").write_bytes(made[name])
    soundfile.write(media / "long.wav", samples(12.0)[:, 0], 16_000)
    for word in ("red", "green", "blue"):
        (media / f"{word}.txt").write_text(f"A {word} text.\n\n" + f"{word} words. " * 90)
    row = {"image": "png.png", "captions": ["one"], "id": "x", "year": 2020, "flag": True, "gps": {"lat": 1.5}}
    (media / "m.jsonl").write_text(json.dumps(row) + "\n")
    with Collection.open_or_create(
        folder / "c", EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)
    ) as opened:
        build(opened, find_items([media / "m.jsonl", media]), FakeEncoder(), batch_size=2, commit_every=3)
    return folder / "c"


def make(work: Path) -> list[Seed]:
    """A seed for each file of it; the lock is left out."""
    make_collection(work)
    files = {f"c/{name}": content for name, content in files_below(work / "c").items() if name != "write.lock"}
    found = []
    for name, content in files.items():
        if not content:
            continue
        format = _FORMATS.get(name.removeprefix("c/"), "")
        found.append(Seed(f"collection-{name.removeprefix('c/')}", "collection", name, files, format, 1.0))
        if format == "sqlite":
            found.append(Seed("collection-pages", "collection", name, files, "", 1.0))
    return found
