"""Works on copies of a collection while calls that reach its files fail. ``faults.py`` runs it with ``io_faults.c``.

``fault_program.py WORK SOURCE PICTURES FAULTS SEED``: so many times a child does the work (``crashing.py`` in tests, or
``search``, ``verify``) on a fresh copy of SOURCE, and a random call fails. Another child, without a fault, then looks
at what is left, and a third does the work again to its end. A line of JSON for each.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np  # noqa: E402
from crashing import _in_a_child, _warm_up, work  # noqa: E402
from small_media import snapshot  # noqa: E402

from indexer.collection.collection import Collection  # noqa: E402
from indexer.errors import TrimodalError  # noqa: E402

OPEN, READ, WRITE, SYNC, NAME, MAP = 1, 2, 4, 8, 16, 32
#: (what, kinds of calls, errno; -1: half of what was wanted, lasting)
FAULTS = (
    ("EIO once while reading", READ | OPEN, errno.EIO, 0),
    ("EIO from then on while reading", READ, errno.EIO, 1),
    ("EIO once while writing", WRITE | SYNC, errno.EIO, 0),
    ("full disk from then on", WRITE, errno.ENOSPC, 1),
    ("half a write", WRITE, -1, 0),
    ("half a read", READ, -1, 0),
    ("EACCES once", OPEN | NAME, errno.EACCES, 0),
    ("EMFILE once", OPEN, errno.EMFILE, 0),
    ("EINTR once", READ | WRITE, errno.EINTR, 0),
    ("no memory to map", MAP, errno.ENOMEM, 0),
    ("EIO once while renaming", NAME, errno.EIO, 0),
    ("EROFS from then on", OPEN | WRITE | NAME, errno.EROFS, 1),
)

_LIBRARY = ctypes.CDLL(None)


def arm(folder: Path, at: int, kinds: int, error: int, lasting: int) -> None:
    """From now on the ``at``-th call fails."""
    where = os.fsencode(folder)
    _LIBRARY.attack_arm(ctypes.c_char_p(where), ctypes.c_long(at), kinds, error, lasting)


def run(name: str, scratch: Path, pictures: Path, expected: Any) -> None:
    """The work, in this process. Raises what it raises; ``AssertionError`` for a wrong result."""
    if name == "search":
        found = search(scratch)
        assert found == expected, f"a search finds {found[:3]} and not {expected[:3]}"
    elif name == "verify":
        with Collection.open(scratch) as opened:
            opened.verify()
    else:
        work(name, scratch, pictures)


def search(place: Path) -> list[str]:
    """Keys of the ten best for a fixed query."""
    query = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    query /= np.linalg.norm(query)
    with Collection.open(place) as opened:
        _, ids = opened.index("cpu").search(query, 10, opened.catalog.vector_ids())
        rows = opened.catalog.lookup([int(one) for one in ids[0] if one >= 0])
        return [Path(rows[int(one)].key).name for one in ids[0] if int(one) in rows]


def attempt(name: str, scratch: Path, pictures: Path, fault: tuple[str, int, int, int], at: int, expected: Any) -> int:
    """In a child: 0 it ended well, 3 a stated error, 4 another, 5 a wrong result; negative: the signal."""

    def armed() -> None:
        status, words = 0, ""
        arm(scratch, at, *fault[1:])
        try:
            run(name, scratch, pictures, expected)
        except TrimodalError as error:
            status, words = 3, str(error)
        except AssertionError as error:
            status, words = 5, str(error)
        except BaseException as error:
            status, words = 4, f"{type(error).__name__}: {error} | {traceback.format_exc()[-600:]}"
        arm(Path("/nowhere"), 0, 0, 0, 0)
        NOTE.write_text(words)
        os._exit(status)

    ended = _in_a_child(armed)
    return -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)


def held(place: Path) -> dict[str, int]:
    """What the collection holds, by name."""
    with Collection.open(place) as opened:
        return {Path(key).name: hash(value) for key, value in snapshot(opened).items()}


def look(place: Path) -> dict[str, Any]:
    """What another process finds afterwards."""
    if not Collection.exists(place):
        return {"exists": False, "held": {}, "problems": []}
    try:
        with Collection.open(place) as opened:
            problems = [problem.what for problem in opened.verify()]
            opened.index("cpu")
            warnings = [str(warning) for warning in opened.warnings]
        return {"exists": True, "held": held(place), "problems": problems + warnings}
    except Exception as error:
        return {"exists": True, "held": {}, "problems": [f"{type(error).__name__}: {error}"]}


def in_a_child(run: Callable[[], Any]) -> Any:
    """What ``run`` returns, in a child of its own."""

    def told() -> None:
        ANSWER.write_text(json.dumps(run()))

    ANSWER.unlink(missing_ok=True)
    if _in_a_child(told) or not ANSWER.is_file():
        return None
    return json.loads(ANSWER.read_text())


def main() -> None:
    """See the module's docstring."""
    name, source, pictures, count, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:6])
    global ANSWER, NOTE
    scratch = source.with_name(f"scratch-{name}")
    ANSWER, NOTE = source.with_name("answer"), source.with_name("note")
    _warm_up(source.with_name(f"warm-{name}"), pictures)
    chance = random.Random(f"{name}:{seed}")

    def fresh() -> None:
        for left in scratch.parent.glob(f"{scratch.name}*"):
            if left.is_dir():
                shutil.rmtree(left)
        if source.exists():
            shutil.copytree(source, scratch)

    fresh()
    before = in_a_child(lambda: look(scratch)["held"])
    expected: Any = in_a_child(lambda: search(scratch)) if name == "search" else None
    fresh()
    in_a_child(lambda: run(name, scratch, pictures, expected))
    after = in_a_child(lambda: look(scratch)["held"])
    counts = {}
    for fault in FAULTS:

        def counted(fault: tuple[str, int, int, int] = fault) -> int:
            arm(scratch, 0, fault[1], fault[2], fault[3])
            run(name, scratch, pictures, expected)
            calls: int = _LIBRARY.attack_count()
            arm(Path("/nowhere"), 0, 0, 0, 0)
            return calls

        fresh()
        counts[fault[0]] = in_a_child(counted) or 0

    def ended() -> dict[str, Any]:
        run(name, scratch, pictures, expected)
        return look(scratch)

    kinds = [fault for fault in FAULTS if counts[fault[0]]]
    for number in range(count if kinds else 0):
        fault = kinds[number % len(kinds)]
        at = chance.randrange(1, counts[fault[0]] + 1)
        fresh()
        NOTE.unlink(missing_ok=True)
        status = attempt(name, scratch, pictures, fault, at, expected)
        said = NOTE.read_text() if NOTE.is_file() else ""
        problems = []
        if status not in (0, 3):
            what = {4: "another error", 5: "a wrong result"}.get(status, f"signal {-status}")
            problems.append(f"{what}: {said[:900]}")
        found = in_a_child(lambda: look(scratch))
        if found is None:
            problems.append("it could not be looked at afterwards")
        else:
            problems += [f"afterwards: {one}" for one in found["problems"]]
            if before and not found["exists"]:
                problems.append("the collection is gone")
            lost = [one for one, value in before.items() if after.get(one) == value and found["held"].get(one) != value]
            other = [one for one, value in found["held"].items() if value not in (before.get(one), after.get(one))]
            problems += [f"lost: {lost[:3]}"] * bool(lost and not found["problems"])
            problems += [f"other values: {other[:3]}"] * bool(other)
        if name not in ("search", "verify") and not any(one.startswith("afterwards") for one in problems):
            done = in_a_child(ended)
            if done is None or done["problems"] or done["held"] != after:
                problems.append(f"the work could not be ended: {done and (done['problems'] or 'another end')}")
        print(
            json.dumps(
                {
                    "work": name,
                    "fault": fault[0],
                    "at": at,
                    "of": counts[fault[0]],
                    "status": status,
                    "said": said[:200],
                    "problems": problems,
                }
            ),
            flush=True,
        )
    fresh()


ANSWER = NOTE = Path()

if __name__ == "__main__":
    main()
