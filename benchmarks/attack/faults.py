"""Kills at random moments, flipped bits, and I/O errors at a random call, while a collection is made, read and changed.

Kills and flips are those of ``benchmarks/unkillable.py``. Errors are injected below Python and SQLite by a library of
ours (``io_faults.c``) that fails the n-th call for a file of the collection; it needs a C compiler and Linux.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKS = ("create", "update", "compact", "rebuild", "search", "verify")

OnLine = Callable[[str], None]


def inject(count: int, work: Path, *, seed: int = 0, on_line: OnLine = lambda line: None) -> dict[str, Any]:
    """``count`` injected faults over all works; ``{"skipped": why}`` where there is no compiler."""
    library = _library(work)
    if library is None:
        return {"skipped": "no C compiler (cc), or not Linux"}
    results: list[dict[str, Any]] = []
    for name in WORKS:
        place = work / name
        source, pictures = _source(name, place)
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            str(Path(__file__).with_name("fault_program.py")),
            name,
            str(source),
            str(pictures),
            str(-(-count // len(WORKS))),
            str(seed),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"work"')]
        results += lines
        bad = sum(bool(line["problems"]) for line in lines)
        on_line(f"{name}: {len(lines)} faults, {bad} with problems")
        if done.returncode:
            results.append({"work": name, "fault": "-", "problems": [f"it ended early: {done.stderr[-600:]}"]})
    problems = [line for line in results if line["problems"]]
    by_fault: dict[str, Counter[str]] = {}
    for line in results:
        counts = by_fault.setdefault(line["fault"], Counter())
        counts["n"] += 1
        counts["stated"] += line.get("status") == 3
        counts["problems"] += bool(line["problems"])
    return {
        "n": len(results),
        "stated": sum(line.get("status") == 3 for line in results),
        "by_fault": {name: dict(counts) for name, counts in by_fault.items()},
        "n_problems": len(problems),
        "problems": problems[:20],
    }


def _library(work: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    work.mkdir(parents=True, exist_ok=True)
    made = work / "io_faults.so"
    source = Path(__file__).with_name("io_faults.c")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"]
    return made if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def _source(name: str, place: Path) -> tuple[Path, Path]:
    """The collection to be worked on (for ``create`` none), and the pictures that it is of."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from small_media import index, new_collection, picture, pictures

    from indexer.collection.collection import Collection
    from indexer.encoders.fake import FakeEncoder

    media, collection = place / "media", place / "c"
    pictures(media, 11)
    if name == "create":
        return place / "none", media
    with new_collection(collection, tokens=FakeEncoder.token_spec) as made:
        index(made, media)
    if name in ("update", "compact"):
        (media / "0000.png").rename(media / "moved.png")
        picture(media / "0002.png", 1_002)
        (media / "0004.png").unlink()
        picture(media / "new.png", 50)
    if name == "compact":
        with Collection.open(collection, writable=True) as opened:
            index(opened, media, prune=True)
    return collection, media


def kills_and_flips(
    kills: int, flips: int, work: Path, *, seed: int = 0, on_line: OnLine = lambda line: None
) -> dict[str, Any]:
    """Those of ``benchmarks/unkillable.py``, in its own process: it forks from a server that has run nothing."""
    out = work / "unkillable.json"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "unkillable.py"),
        "--part",
        "kills",
        "--part",
        "flips",
        "--kills",
        str(kills),
        "--flips",
        str(flips),
        "--seed",
        str(seed),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    on_line(f"unkillable.py ended with {done.returncode}")
    if not out.is_file():
        return {"n_problems": 1, "problems": [done.stderr[-600:]]}
    found: dict[str, Any] = json.loads(out.read_text())
    kills_found, flips_found = found["kills"], found["flips"]
    problems = [*kills_found["problems"], *flips_found["unseen"]]
    return {"kills": kills_found, "flips": flips_found, "n_problems": len(problems), "problems": problems[:20]}


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        chance = random.SystemRandom().randrange(2**31) if len(sys.argv) < 3 else int(sys.argv[2])
        print(json.dumps(inject(int(sys.argv[1]), Path(folder), seed=chance, on_line=print), indent=1))
