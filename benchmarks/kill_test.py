"""Kill ``trimodal index`` with SIGKILL at random moments, look at what is left, go on; then compare with the disk.

    python benchmarks/kill_test.py COLLECTION CORPUS --kills 20 --model fake

Every round starts ``trimodal index CORPUS`` as a process group of its own, kills all of it at a random moment,
then runs ``trimodal verify --json``. After the last round the index is run to its end, and the keys in the
collection are compared with a fresh walk of the corpus. Exits with 1 when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items

TRIMODAL = [sys.executable, "-c", "from trimodal.cli import app; app()"]


@dataclass(frozen=True, slots=True)
class Round:
    """One start of the indexer, and what it left."""

    killed_after_s: float | None
    """``None``: it had ended before."""
    items: int
    new_items: int
    well: bool
    problems: list[str]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*TRIMODAL, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def verify(collection: Path) -> tuple[bool, list[str]]:
    """Whether all is well, and what is not."""
    command = [*TRIMODAL, "verify", "--json", "--collection", str(collection)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return False, [done.stderr.strip() or f"verify ended with {done.returncode} and printed no JSON"]
    problems = [f"{problem['what']}; {problem['remedy']}" for problem in document["problems"]]
    return bool(document["ok"]) and done.returncode == 0, problems


def keys_of(collection: Path) -> list[str]:
    if not Collection.exists(collection):
        return []
    with Collection.open(collection) as opened:
        return opened.catalog.keys()


def one_round(index: list[str], collection: Path, after_s: float, before: set[str]) -> Round:
    worker = start(index)
    killed_after_s: float | None = after_s
    try:
        worker.wait(after_s)
        killed_after_s = None
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    problems = []
    if killed_after_s is None and worker.returncode != 0:
        assert worker.stderr is not None
        problems.append(f"index ended with {worker.returncode}: {worker.stderr.read().decode(errors='replace')[-500:]}")
    if not Collection.exists(collection):  # killed before there was one
        return Round(killed_after_s, 0, 0, not problems and not before, problems)
    well, found = verify(collection)
    keys = keys_of(collection)
    problems += found
    if len(keys) != len(set(keys)):
        problems.append("an item is there twice")
    if before - set(keys):
        problems.append(f"{len(before - set(keys)):,} committed items are lost")
    return Round(killed_after_s, len(keys), len(set(keys) - before), well and not problems, problems)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="the collection to make; must not exist yet")
    parser.add_argument("corpus", type=Path, help="the folder or manifest to index")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--min-s", type=float, default=0.5, help="earliest kill after the start")
    parser.add_argument("--max-s", type=float, default=8.0, help="latest kill after the start")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    collection, corpus = arguments.collection.absolute(), arguments.corpus.absolute()
    if Collection.exists(collection):
        parser.error(f"{collection} exists; name a new folder")
    index = ["index", str(corpus), "--collection", str(collection), "--model", arguments.model]
    chance = random.Random(arguments.seed)
    console = Console(width=120)

    table = Table(
        "round", "killed after", "items", "new", "verify", title=f"kill -9 of trimodal index, seed {arguments.seed}"
    )
    problems: list[str] = []
    before: set[str] = set()
    rounds = [chance.uniform(arguments.min_s, arguments.max_s) for _ in range(arguments.kills)]
    kills = 0
    for number, after_s in enumerate([*rounds, None], start=1):
        done = one_round(index, collection, after_s if after_s is not None else 1e6, before)
        kills += done.killed_after_s is not None
        before = set(keys_of(collection))
        shown = "ran to its end" if done.killed_after_s is None else f"{done.killed_after_s:.2f} s"
        table.add_row(str(number), shown, f"{done.items:,}", f"{done.new_items:,}", "well" if done.well else "NOT WELL")
        problems += [f"round {number}: {problem}" for problem in done.problems]
        if not done.well and not done.problems:
            problems.append(f"round {number}: not well")
        console.print(f"round {number}: {shown}, {done.items:,} items", highlight=False, style="dim")

    started = time.monotonic()
    found = find_items([corpus])
    with Collection.open(collection) as opened:
        told = {bad.key for bad in opened.catalog.bad_files().values()}
    expected = {item.key for item in found.items} - told
    missing, strange = expected - before, before - expected
    if missing:
        problems.append(f"{len(missing):,} files of the corpus are not in the collection, such as {min(missing)}")
    if strange:
        problems.append(f"{len(strange):,} items of the collection are not in the corpus, such as {min(strange)}")
    console.print(table)
    console.print(
        f"{kills} kills; {len(before):,} items, {len(expected):,} files in a fresh walk "
        f"({time.monotonic() - started:.1f} s), {len(told):,} unreadable",
        highlight=False,
    )
    for problem in problems:
        console.print(f"PROBLEM {problem}", highlight=False, soft_wrap=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
