"""Mutants by the thousand, read in processes of their own: what was read, refused, or came to something else.

Mutant ``n`` of a run is always the same; the lines of ``fuzz.jsonl`` are kept, and an interrupted run continues.
Inputs that came to anything but "read" or "refused" are kept in ``bad/``.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.attack.seeds import Seed, load_seeds, make_seeds, save_seeds
from benchmarks.attack.worker import mutant

ROOT = Path(__file__).resolve().parents[2]

#: A mutant that takes longer by the clock is a hang. A file's own limit is far below (``indexer.limits``).
HANG_S = 90.0
#: What one mutant may add to the resident set, children included.
MEMORY_MB = 1_000.0

OnDone = Callable[[int], None]


def fuzz(
    count: int,
    work: Path,
    *,
    run_seed: int = 0,
    pool: int = 2,
    groups: frozenset[str] | None = None,
    numbers: Iterable[int] | None = None,
    seconds: float | None = None,
    on_done: OnDone = lambda n: None,
) -> dict[str, Any]:
    """Read ``count`` mutants, or those with the given ``numbers``; returns the figures of all that are in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    seeds_file = work / "seeds.pickle"
    if not seeds_file.is_file():
        save_seeds(make_seeds(work / "made", groups=groups), seeds_file)
    seeds = load_seeds(seeds_file)
    results = work / "fuzz.jsonl"
    done = {line["number"] for line in read_results(results)} if numbers is None else set()
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers if numbers is not None else range(count):
        if number not in done:
            todo.put(number)
    until = None if seconds is None else time.monotonic() + seconds
    on_done(len(done))
    lock = threading.Lock()
    with results.open("a") as file:

        def keep(line: dict[str, Any]) -> None:
            with lock:
                file.write(json.dumps(line) + "\n")
                file.flush()
                on_done(1)
                if line["outcome"] not in ("read", "refused"):
                    _keep_input(work / "bad", seeds, line, run_seed)

        threads = [
            threading.Thread(target=_serve, args=(todo, seeds, seeds_file, work / f"worker{n}", run_seed, until, keep))
            for n in range(pool)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    return summary(read_results(results), seeds)


def _serve(
    todo: queue.SimpleQueue[int],
    seeds: list[Seed],
    seeds_file: Path,
    work: Path,
    run_seed: int,
    until: float | None,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """One worker at a time, a new one for each that died."""
    worker: _Worker | None = None
    try:
        while until is None or time.monotonic() < until:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            worker = worker or _Worker(seeds_file, work, run_seed)
            line = worker.read(number)
            if line is None:
                seed, _ = mutant(seeds, number, run_seed)
                line = {"number": number, "seed": seed.name, **worker.death()}
                worker = None
            if line.get("memory_mb", 0) > MEMORY_MB:
                line["outcome"] = "memory"
            keep(line)
    finally:
        if worker is not None:
            worker.stop()


class _Worker:
    """A process that reads mutants; see ``worker.py``."""

    def __init__(self, seeds_file: Path, work: Path, run_seed: int) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._stderr = (work / "stderr").open("w+b")
        # offline, and one thread: two of these share the machine with other work
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
            "HF_HOME": str(work / "hub"),
            "TMPDIR": str(work),
        }
        command = [sys.executable, "-m", "benchmarks.attack.worker", str(seeds_file), str(work), str(run_seed)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment
        )
        self._hung = False

    def read(self, number: int) -> dict[str, Any] | None:
        """The answer for a mutant; ``None`` where there will be none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stderr.seek(0)
        self._stderr.truncate()
        try:
            self._process.stdin.write(f"{number}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        ready, _, _ = select.select([self._process.stdout], [], [], HANG_S)
        if not ready:
            self._hung = True
            self._process.kill()
            return None
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer.endswith(b"\n") else None

    def death(self) -> dict[str, Any]:
        """How it ended."""
        status = self._process.wait()
        self._stderr.seek(0)
        last = self._stderr.read()[-2000:].decode("utf-8", "replace")
        self.stop()
        if self._hung:
            return {"outcome": "hang", "message": f"no answer in {HANG_S:g} s"}
        return {"outcome": "died", "message": f"exit status {status}: {last}"}

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()


def _keep_input(folder: Path, seeds: list[Seed], line: dict[str, Any], run_seed: int) -> None:
    """The damaged file, and beside it what came of it."""
    seed, damaged = mutant(seeds, line["number"], run_seed)
    folder.mkdir(exist_ok=True)
    name = f"{line['number']:06d}-{seed.name}".replace("/", "_")
    (folder / f"{name}{Path(seed.target).suffix}").write_bytes(damaged)
    (folder / f"{name}.what.json").write_text(json.dumps({**line, "reader": seed.reader, "target": seed.target}))


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines so far; a last one that was cut is left out."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def summary(lines: list[dict[str, Any]], seeds: list[Seed]) -> dict[str, Any]:
    """Counts by reader, the most memory, the slowest, and what was foreign."""
    reader_of = {seed.name: seed.reader.partition(":")[0] for seed in seeds}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in lines:
        counts[reader_of[line["seed"]]][line["outcome"]] += 1
    costs = [line for line in lines if "cpu_s" in line]
    foreign = [line for line in lines if line["outcome"] not in ("read", "refused")]
    keep = ("number", "seed", "outcome", "message", "cpu_s", "memory_mb")
    return {
        "mutants": len(lines),
        "seeds": len(seeds),
        "by_reader": {name: dict(sorted(found.items())) for name, found in sorted(counts.items())},
        "foreign": len(foreign),
        "slowest": _short(max(costs, key=lambda line: line["cpu_s"], default={}), keep),
        "most_memory": _short(max(costs, key=lambda line: line["memory_mb"], default={}), keep),
        "examples": [_short(line, keep) for line in foreign[:20]],
    }


def _short(line: dict[str, Any], keep: tuple[str, ...]) -> dict[str, Any]:
    return {name: line[name] for name in keep if name in line}
