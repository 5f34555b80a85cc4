"""``make attack``: everything that a stranger's files, a failing disk and a kill can do, and what came of it.

    python -m benchmarks.attack.run [--part fuzz|bombs|strangers|faults ...] [--mutants N] [--seconds S] [--only N]

Writes ``docs/bench/attack.json`` and the tables of ``docs/reliability.md``. Exits with 1 where anything did not hold. A
run that was interrupted continues with the mutants and bombs that are missing, if ``--work`` names its folder. Mutant N
of a run is always the same: ``--only N`` reads it again and shows what came of it. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.attack import bombs, faults, fuzz, report, strangers

PARTS = ("fuzz", "bombs", "strangers", "faults")

OnDone = Callable[[int], None]
OnLine = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 1 where one found anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="only these; all by default")
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, help="of the fuzzer at most")
    parser.add_argument("--only", type=int, help="read this one mutant again")
    parser.add_argument("--like", default="", metavar="TEXT", help="only bombs and strangers with TEXT in their name")
    parser.add_argument("--faults", type=int, default=360, help="injected I/O errors")
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--flips", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=2, help="processes at a time")
    parser.add_argument("--work", type=Path, help="folder for seeds, results and bad inputs; kept")
    parser.add_argument(
        "--out", type=Path, default=report.RESULTS, help="another file leaves docs/reliability.md alone"
    )
    given = parser.parse_args(arguments)
    if given.work is not None:
        given.work = given.work.absolute()
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="attack-") as temporary:
        work = given.work or Path(temporary)
        if given.only is not None:
            return _again(given, work)
        found: dict[str, Any] = json.loads(given.out.read_text()) if given.out.is_file() else {}
        bad = False
        if given.like and given.out == report.RESULTS:
            parser.error("--like is for a look at some; name another --out, the published results are of all")
        for part in given.part or PARTS:
            started = time.monotonic()
            done = _with_bar(part, given, work)
            found[part] = {**done, "took_s": round(time.monotonic() - started), "commit": _commit(), "seed": given.seed}
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            bad |= not report.held(part, found[part])
            print("\n".join(report.lines(part, found[part])), flush=True)
    if given.out == report.RESULTS:
        report.write_page(found)
    return 1 if bad else 0


def _with_bar(part: str, given: argparse.Namespace, work: Path) -> dict[str, Any]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(part, total=None)

        def total(count: int) -> None:
            progress.update(task, total=count)

        def done(count: int) -> None:
            progress.advance(task, count)

        def line(text: str) -> None:
            progress.console.print(text, style="dim", highlight=False, markup=False)

        return _PARTS[part](given, work, total, done, line)


def _fuzz(given: argparse.Namespace, work: Path, total: OnDone, done: OnDone, line: OnLine) -> dict[str, Any]:
    total(given.mutants)
    return fuzz.fuzz(
        given.mutants, work / "fuzz", run_seed=given.seed, pool=given.pool, seconds=given.seconds, on_done=done
    )


def _bombs(given: argparse.Namespace, work: Path, total: OnDone, done: OnDone, line: OnLine) -> dict[str, Any]:
    every = [bomb for bomb in bombs.bombs() if given.like in bomb.name]
    total(len(every))
    with tempfile.TemporaryDirectory(prefix="base-") as place:
        base = bombs.baseline(Path(place))
    kept, commit = work / "bombs.jsonl", _commit()
    lines = [json.loads(text) for text in kept.read_text().splitlines()] if kept.is_file() else []
    known = {one["bomb"]: one for one in lines if one["commit"] == commit}

    def one(bomb: bombs.Bomb) -> dict[str, Any]:
        found = known.get(bomb.name)
        if found is None:
            found = {**bombs.run_bomb(bomb, base), "commit": commit}
            with kept.open("a") as file:
                file.write(json.dumps(found) + "\n")
        done(1)
        if not found["held"]:
            line(f"{bomb.name}: {'; '.join(found['problems'])}")
        return {name: value for name, value in found.items() if name != "commit"}

    with ThreadPoolExecutor(given.pool) as pool:
        return {"base": base, "bombs": list(pool.map(one, every))}


def _strangers(given: argparse.Namespace, work: Path, total: OnDone, done: OnDone, line: OnLine) -> dict[str, Any]:
    every = [case for case in strangers.cases() if given.like in case.name]
    total(len(every))
    strangers.prepare()

    def one(case: strangers.Case) -> dict[str, Any]:
        found = strangers.run_case(case)
        done(1)
        if not found["held"]:
            line(f"{case.name}: {'; '.join(found['notes'])}")
        return found

    with ThreadPoolExecutor(given.pool) as pool:
        return {"cases": list(pool.map(one, every))}


def _faults(given: argparse.Namespace, work: Path, total: OnDone, done: OnDone, line: OnLine) -> dict[str, Any]:
    total(len(faults.WORKS) + 1)

    def step(text: str) -> None:
        line(text)
        done(1)

    place = work / "faults"
    place.mkdir(exist_ok=True)
    injected = faults.inject(given.faults, place, seed=given.seed, on_line=step)
    return {
        "injected": injected,
        **faults.kills_and_flips(given.kills, given.flips, place, seed=given.seed, on_line=step),
    }


_PARTS: dict[str, Callable[[argparse.Namespace, Path, OnDone, OnDone, OnLine], dict[str, Any]]] = {
    "fuzz": _fuzz,
    "bombs": _bombs,
    "strangers": _strangers,
    "faults": _faults,
}


def _again(given: argparse.Namespace, work: Path) -> int:
    found = fuzz.fuzz(0, work / "fuzz", run_seed=given.seed, pool=1, numbers=[given.only])
    line = fuzz.read_results(work / "fuzz" / "fuzz.jsonl")[-1]
    print(json.dumps(line, indent=1))
    return 1 if found["foreign"] else 0


def _commit() -> str:
    """Of the tree that was attacked; ``+`` where it has changes."""
    git = ["git", "-C", str(fuzz.ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", ".", ":!docs"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


if __name__ == "__main__":
    sys.exit(main())
