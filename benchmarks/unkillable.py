"""Kill, corrupt and crowd a collection; count what was lost. ``docs/bench/unkillable.json``.

    python benchmarks/unkillable.py --part kills --part commands --part flips --part readers

``kills``: 1,000 workers index, remove and compact a collection whose folder changes all the time, and each is killed
with SIGKILL at a random moment. After each the collection must open and verify; every item that was committed before,
and that the worker was not to remove or to read anew, must still be there with the same vector. ``commands``: the same
with ``trimodal index`` and all of its processes, 20 times. ``flips``: 500 collections with one random bit of one random
file changed; ``verify`` must find it, and ``verify --repair`` mend it or name what is lost. ``readers``: ten processes
search while one adds, removes and compacts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TRIMODAL = [sys.executable, "-c", "from trimodal.cli import app; app()"]

#: Children are forked from a server that has imported everything and run nothing.
_SERVER = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "numpy",
    "PIL.Image",
    "indexer.build.run",
    "indexer.corpus.walk",
    "indexer.collection.collection",
    "indexer.encoders.fake",
]


def index(place: str, media: str) -> None:
    """Bring the collection up to date with its folder, in small commits."""
    from indexer.build.run import build
    from indexer.collection.collection import Collection
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder
    from indexer.encoders.identity import EncoderIdentity

    with Collection.open_or_create(Path(place), EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)) as made:
        build(made, find_items([Path(media)]), FakeEncoder(), commit_every=3, batch_size=2, workers=1, prune=True)


def remove(place: str, keys: list[str]) -> None:
    """Remove items."""
    from indexer.collection.collection import Collection

    with Collection.open(Path(place), writable=True) as opened:
        for key in keys:
            opened.remove([key])


def compact(place: str) -> None:
    """Give the space of dead vectors back."""
    from indexer.collection.collection import Collection

    with Collection.open(Path(place), writable=True) as opened:
        opened.compact()


def search(place: str, seconds: float, seed: int, results: Any) -> None:
    """Search again and again; each search must be of one commit: its ten best must be those of an exact search."""
    from indexer.ann.brute_force import exact_top
    from indexer.collection.collection import Collection

    rng = np.random.default_rng(seed)
    done, wrong, commits, until = 0, [], set(), time.monotonic() + seconds
    try:
        with Collection.open(Path(place)) as opened:
            while time.monotonic() < until:
                opened.refresh()
                live = opened.catalog.vector_ids()
                query = rng.normal(size=(1, 64)).astype(np.float32)
                query /= np.linalg.norm(query)
                _, ids = opened.index("cpu").search(query, 10, live)
                found = [int(one) for one in ids[0] if one >= 0]
                rows = opened.catalog.lookup(found)
                _, truth = exact_top(query, opened.vectors, 10, live)
                best = opened.vectors.get(np.array(found, np.int64)) @ query[0]
                exact = opened.vectors.get(truth[0]) @ query[0]
                if len(rows) != len(found) or not np.allclose(np.sort(best), np.sort(exact), atol=1e-5):
                    wrong.append(f"{len(rows)} of {len(found)} found in the catalog, scores {best} instead of {exact}")
                wrong += [str(warning) for warning in opened.warnings]
                commits.add((opened.vectors.generation, opened.vectors.count, len(live)))
                done += 1
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {error}")
    results.put({"searches": done, "commits": len(commits), "wrong": wrong[:5]})


def state(place: Path) -> tuple[dict[str, tuple[str, bytes]], list[str]]:
    """Every item's hash and the bytes of its vectors, and what ``verify`` says."""
    from indexer.collection.collection import Collection

    if not Collection.exists(place):
        return {}, []
    with Collection.open(place) as opened:
        held = {}
        for row in opened.catalog.items():
            ids = np.array([one.vector_id for one in opened.catalog.segments_of(row.item_id)], np.int64)
            held[row.key] = (row.content_hash, opened.vectors.get(ids).tobytes())
        return held, [f"{problem.what}; {problem.remedy}" for problem in opened.verify()]


class Folder:
    """Pictures and texts that change."""

    def __init__(self, place: Path, chance: random.Random, n: int) -> None:
        self.place, self.chance, self.made = place, chance, 0
        place.mkdir(parents=True)
        for _ in range(n):
            self.add()

    def add(self) -> None:
        """A new file of random content."""
        self._write(self.place / f"{self.made:05d}.{self.chance.choice(('png', 'txt'))}")
        self.made += 1

    def change(self) -> set[str]:
        """Some files come, go and change; returns the keys of those that may go or change."""
        touched = set()
        for path in self.chance.sample(sorted(self.place.iterdir()), 3):
            touched.add(str(path))
            if self.chance.random() < 0.5:
                path.unlink()
            else:
                self._write(path)
        for _ in range(3):
            self.add()
        return touched

    def _write(self, path: Path) -> None:
        if path.suffix == ".txt":
            path.write_text(" ".join(self.chance.choice(("red", "blue", "green", str(self.made))) for _ in range(9)))
            return
        from PIL import Image

        pixels = np.frombuffer(self.chance.randbytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
        Image.fromarray(pixels).save(path)


class Check:
    """What a collection must hold: every committed item but those that an interrupted worker may have changed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.held, _ = state(place)
        self.free: set[str] = set()
        """Keys that a worker may have removed or changed already."""
        self.problems: list[str] = []

    def look(self, number: int, name: str) -> None:
        """After worker ``number``, which did ``name``."""
        after, found = state(self.place)
        self.problems += [f"{number}: after {name}: {problem}" for problem in found]
        lost = [key for key, value in self.held.items() if key not in self.free and after.get(key) != value]
        if lost:
            self.problems.append(f"{number}: {name} lost {len(lost)} committed items, such as {lost[0]}")
        self.held = after

    def end(self, folder: Folder) -> None:
        """After an uninterrupted run: the collection holds the files of the folder, no more and no less."""
        self.held, found = state(self.place)
        self.problems += [f"at the end: {problem}" for problem in found]
        there = {str(path) for path in folder.place.iterdir()}
        self.problems += [f"at the end: {key} is not right" for key in there ^ set(self.held)]

    def to_json(self) -> dict[str, Any]:
        """The number of items, and the problems."""
        return {"items": len(self.held), "problems": self.problems[:20], "n_problems": len(self.problems)}


def kills(n: int, work: Path, chance: random.Random, report: Callable[[str], None]) -> dict[str, Any]:
    """See the module's docstring."""
    folder, place = Folder(work / "media", chance, 60), work / "collection"
    index(str(place), str(folder.place))
    lasts = {"index": 0.4, "remove": 0.2, "compact": 0.2}
    counts = {f"{name} {how}": 0 for name in lasts for how in ("killed", "ended")}
    check = Check(place)
    for number in range(n):
        name = chance.choice(("index", "index", "remove", "compact"))
        if name == "index":
            check.free |= folder.change()
            worker = _SERVER.Process(target=index, args=(str(place), str(folder.place)))
        elif name == "remove":
            keys = chance.sample(sorted(check.held), min(4, len(check.held)))
            check.free |= set(keys)
            worker = _SERVER.Process(target=remove, args=(str(place), keys))
        else:
            worker = _SERVER.Process(target=compact, args=(str(place),))
        started = time.monotonic()
        worker.start()
        worker.join(chance.uniform(0, 1.3 * lasts[name]))
        if worker.exitcode is None:
            worker.kill()
            worker.join()
            counts[f"{name} killed"] += 1
        else:
            lasts[name] = 0.7 * lasts[name] + 0.3 * (time.monotonic() - started)
            counts[f"{name} ended"] += 1
            if worker.exitcode:
                check.problems.append(f"{number}: {name} ended with {worker.exitcode}")
        check.look(number, name)
        if number % 50 == 49:
            report(f"{number + 1} of {n}: {len(check.held)} items, {len(check.problems)} problems")
    index(str(place), str(folder.place))
    check.end(folder)
    return {"n": n, **counts, **check.to_json()}


def commands(n: int, work: Path, chance: random.Random, report: Callable[[str], None]) -> dict[str, Any]:
    """See the module's docstring."""
    folder, place = Folder(work / "command-media", chance, 300), work / "commands"
    command = [*TRIMODAL, "index", str(folder.place), "--collection", str(place), "--model", "fake", "--prune"]
    counts = {"killed": 0, "ended": 0}
    check, lasts = Check(place), 8.0
    for number in range(n + 1):  # the last one runs to its end
        check.free |= folder.change()
        started = time.monotonic()
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            _, errors = worker.communicate(timeout=chance.uniform(0.3 * lasts, 1.1 * lasts) if number < n else None)
            lasts = 0.7 * lasts + 0.3 * (time.monotonic() - started)
            counts["ended"] += 1
            if worker.returncode:
                check.problems.append(f"{number}: index ended with {worker.returncode}: {errors.decode()[-500:]}")
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.communicate()
            counts["killed"] += 1
        check.look(number, "index")
        report(f"{number + 1} of {n + 1}: {len(check.held)} items, {len(check.problems)} problems")
    check.end(folder)
    return {"n": n, **counts, **check.to_json()}


def flips(n: int, work: Path, chance: random.Random, report: Callable[[str], None]) -> dict[str, Any]:
    """See the module's docstring."""
    from indexer.collection.collection import Collection
    from indexer.errors import TrimodalError

    folder, place = Folder(work / "flip-media", chance, 200), work / "flip"
    index(str(place), str(folder.place))
    counts = {"found by verify": 0, "refused when opened": 0, "not found": 0}
    mended = {"repaired": 0, "named, made anew with index --rebuild": 0}
    by_file: dict[str, int] = {}
    unseen: list[str] = []
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    for number in range(n):
        copy = work / "flipped"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(place, copy)
        # half of them anywhere, by size; half in a file of its own, so that small ones have their share
        at = files[chance.randrange(len(files))] if number % 2 else chance.choices(files, sizes)[0]
        target = copy / at.relative_to(place)
        data = bytearray(target.read_bytes())
        where = chance.randrange(len(data))
        data[where] ^= 1 << chance.randrange(8)
        target.write_bytes(data)
        by_file[str(at.relative_to(place))] = by_file.get(str(at.relative_to(place)), 0) + 1
        try:
            with Collection.open(copy) as opened:
                problems = opened.verify()
        except TrimodalError as error:
            counts["refused when opened"] += 1
            mended["named, made anew with index --rebuild"] += "--rebuild" in str(error)
            continue
        if not problems:
            counts["not found"] += 1
            unseen.append(f"{at.relative_to(place)} byte {where}")
            continue
        counts["found by verify"] += 1
        try:
            with Collection.open(copy, writable=True) as opened:
                opened.repair()
                left = opened.verify()
        except TrimodalError as error:
            mended["named, made anew with index --rebuild"] += "--rebuild" in str(error)
            continue
        mended["repaired"] += not left
        mended["named, made anew with index --rebuild"] += bool(left) and all("rebuild" in one.remedy for one in left)
        if number % 100 == 99:
            report(f"{number + 1} of {n}: {counts}")
    return {"n": n, **counts, **mended, "by_file": by_file, "unseen": unseen[:20]}


def readers(seconds: float, work: Path, chance: random.Random, report: Callable[[str], None]) -> dict[str, Any]:
    """See the module's docstring."""
    folder, place = Folder(work / "read-media", chance, 100), work / "read"
    index(str(place), str(folder.place))
    results = _SERVER.Queue()
    crowd = [_SERVER.Process(target=search, args=(str(place), seconds, seed, results)) for seed in range(10)]
    for one in crowd:
        one.start()
    until, writes = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        folder.change()
        worker = _SERVER.Process(target=index, args=(str(place), str(folder.place)))
        if writes % 3 == 2:
            worker = _SERVER.Process(target=compact, args=(str(place),))
        worker.start()
        worker.join()
        writes += 1
    searched = [results.get(timeout=60) for _ in crowd]
    _, found = state(place)
    report(f"{sum(one['searches'] for one in searched)} searches beside {writes} writers")
    return {
        "seconds": seconds,
        "readers": len(crowd),
        "writers": writes,
        "searches": sum(one["searches"] for one in searched),
        "commits_seen": [one["commits"] for one in searched],
        "wrong": [line for one in searched for line in one["wrong"]],
        "problems": found,
    }


PARTS: dict[str, Callable[[Any, Path, random.Random, Callable[[str], None]], dict[str, Any]]] = {
    "kills": kills,
    "commands": commands,
    "flips": flips,
    "readers": readers,
}


def main() -> int:
    """Run the chosen parts; 1 where anything was lost or not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--commands", type=int, default=20)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0, dest="readers", help="of searching, in `readers`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench" / "unkillable.json")
    options = parser.parse_args()
    _SERVER.set_forkserver_preload(_PRELOADED)
    console = Console(width=120, stderr=True)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        for part in options.part or PARTS:
            started = time.monotonic()
            done = PARTS[part](
                getattr(options, part),
                Path(work),
                random.Random(options.seed),
                lambda line: console.print(line, style="dim"),
            )
            found[part] = {**done, "seed": options.seed, "took_s": round(time.monotonic() - started, 1)}
            Console(width=120).print_json(json.dumps(found[part]))
            bad += bool(done.get("n_problems") or done.get("not found") or done.get("wrong") or done.get("problems"))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
