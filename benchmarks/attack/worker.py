"""One process of the fuzzer: mutant numbers on stdin, a line of JSON on stdout for each.

Run as ``python -m benchmarks.attack.worker SEEDS.pickle WORK RUN_SEED``. The address space may grow by
``ADDRESS_SPACE_BYTES`` during one mutant; what was really used is the kernel's high-water mark, which is reset before
each. Dies where a mutant kills it: the parent notices, and starts another.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attack.mutate import mutate
from benchmarks.attack.seeds import Seed, load_seeds

ADDRESS_SPACE_BYTES = 4 << 30


def mutant(seeds: Sequence[Seed], number: int, run_seed: int) -> tuple[Seed, bytes]:
    """The mutant with this number: which seed it is of, and the damaged content."""
    chance = random.Random(f"{run_seed}:{number}")
    (seed,) = chance.choices(seeds, [one.weight for one in seeds])
    other = chance.choice([one for one in seeds if one.reader == seed.reader])
    return seed, mutate(seed.content, seed.format, chance, other.content)


def write_tree(folder: Path, seed: Seed, damaged: bytes) -> None:
    """The seed's files in a fresh folder, the target damaged."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in seed.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged if name == seed.target else content)


def attempt(seed: Seed, damaged: bytes, folder: Path) -> dict[str, Any]:
    """Read the mutant; ``outcome`` is ``read``, ``refused`` or ``foreign``, ``message`` the words, with the costs."""
    from benchmarks.attack.readers import Wrong, read
    from indexer.errors import MediaError, TrimodalError

    write_tree(folder, seed, damaged)
    with measured() as cost:
        try:
            outcome, words = "read", read(seed.reader, folder, seed.target)
        except TrimodalError as error:
            stated = isinstance(error, MediaError) or seed.reader != "media"
            outcome, words = "refused" if stated else "foreign", f"{type(error).__name__}: {error}"
        except Wrong as error:
            outcome, words = "wrong", str(error)
        except Exception as error:
            outcome, words = "foreign", f"{type(error).__name__}: {error} at {_place(error)}"
    return {"outcome": outcome, "message": words[:500], **cost}


def _place(error: BaseException) -> str:
    """File and line of the innermost frame of the product."""
    found, trace = "?", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "/indexer/" in name or "/retrieval/" in name:
            found = f"{'/'.join(Path(name).parts[-2:])}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


@contextlib.contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Wall and processor seconds, and the growth of the resident set in MB at its highest, children's too."""
    cost: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, children = status_bytes("VmRSS"), resource.getrusage(resource.RUSAGE_CHILDREN)
    size = status_bytes("VmSize")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE_BYTES, hard))
    started, cpu = time.monotonic(), time.process_time()
    try:
        yield cost
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() - cpu
        theirs = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
        # a child's highest counts from the fork on, where it is this process's
        child_mb = max(0.0, after.ru_maxrss / 1e3 - before / 1e6) if after.ru_maxrss > children.ru_maxrss else 0.0
        cost.update(
            wall_s=round(time.monotonic() - started, 3),
            cpu_s=round(own + theirs, 3),
            memory_mb=round(max(0, status_bytes("VmHWM") - before) / 1e6 + child_mb, 1),
        )


def status_bytes(name: str) -> int:
    """Bytes, of /proc/self/status; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Serve until stdin ends."""
    seeds_file, work, run_seed = sys.argv[1:4]
    seeds = load_seeds(Path(seeds_file))
    folder = Path(work) / "in"
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    os.environ["TRIMODAL_CACHE"] = str(Path(work) / "cache")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        seed, damaged = mutant(seeds, int(line), int(run_seed))
        answers.write(json.dumps({"number": int(line), "seed": seed.name, **attempt(seed, damaged, folder)}) + "\n")


if __name__ == "__main__":
    main()
