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

Fault = tuple[str, int, int, int]

OPEN, READ, WRITE, SYNC, NAME, MAP = 1, 2, 4, 8, 16, 32
#: (what, kinds of calls, errno; -1: half of what was wanted, lasting)
FAULTS: tuple[Fault, ...] = (
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


class Trials:
    """One work on copies of a collection: what it does without a fault, and with one."""

    def __init__(self, name: str, source: Path, pictures: Path) -> None:
        self.name, self.source, self.pictures = name, source, pictures
        self.scratch = source.with_name(f"scratch-{name}")
        self._answer, self._note = source.with_name("answer"), source.with_name("note")
        _warm_up(source.with_name(f"warm-{name}"), pictures)
        self.expected: Any = None
        self.fresh()
        self.before = self._in_a_child(lambda: look(self.scratch)["held"])
        if name == "search":
            self.expected = self._in_a_child(lambda: search(self.scratch))
        self.fresh()
        self._in_a_child(self._run)
        self.after = self._in_a_child(lambda: look(self.scratch)["held"])
        self.counts = {fault[0]: self._count(fault) for fault in FAULTS}
        """Of each fault, how many calls of the work may have it."""

    def fresh(self) -> None:
        """Put a new copy of the collection in place of the old one, and of what lies beside it."""
        for left in self.scratch.parent.glob(f"{self.scratch.name}*"):
            if left.is_dir():
                shutil.rmtree(left)
        if self.source.exists():
            shutil.copytree(self.source, self.scratch)

    def trial(self, fault: Fault, at: int) -> dict[str, Any]:
        """The work while the ``at``-th call fails: its status, its message, and the problems that it leaves."""
        self.fresh()
        self._note.unlink(missing_ok=True)
        status = self._attempt(fault, at)
        message = self._note.read_text() if self._note.is_file() else ""
        problems = []
        if status not in (0, 3):
            what = {4: "another error", 5: "a wrong result"}.get(status, f"signal {-status}")
            problems.append(f"{what}: {message[:900]}")
        left = self._left()
        problems += left
        if self.name not in ("search", "verify") and not any(one.startswith("afterwards") for one in left):
            problems += self._continued()
        return {
            "work": self.name,
            "fault": fault[0],
            "at": at,
            "of": self.counts[fault[0]],
            "status": status,
            "message": message[:200],
            "problems": problems,
        }

    def _left(self) -> list[str]:
        """Problems that another process finds after a fault."""
        found = self._in_a_child(lambda: look(self.scratch))
        if found is None:
            return ["it could not be looked at afterwards"]
        before, after, held = self.before, self.after, found["held"]
        problems = [f"afterwards: {one}" for one in found["problems"]]
        if before and not found["exists"]:
            problems.append("the collection is gone")
        lost = [one for one, value in before.items() if after.get(one) == value and held.get(one) != value]
        other = [one for one, value in held.items() if value not in (before.get(one), after.get(one))]
        problems += [f"lost: {lost[:3]}"] * bool(lost and not found["problems"])
        problems += [f"other values: {other[:3]}"] * bool(other)
        return problems

    def _continued(self) -> list[str]:
        """Do the work again, to its end; the problem where it cannot be."""

        def ended() -> dict[str, Any]:
            self._run()
            return look(self.scratch)

        done = self._in_a_child(ended)
        if done is None or done["problems"] or done["held"] != self.after:
            return [f"the work could not be ended: {done and (done['problems'] or 'another end')}"]
        return []

    def _run(self) -> None:
        run(self.name, self.scratch, self.pictures, self.expected)

    def _count(self, fault: Fault) -> int:
        def counted() -> int:
            arm(self.scratch, 0, *fault[1:])
            self._run()
            calls: int = _LIBRARY.attack_count()
            arm(Path("/nowhere"), 0, 0, 0, 0)
            return calls

        self.fresh()
        return self._in_a_child(counted) or 0

    def _attempt(self, fault: Fault, at: int) -> int:
        """In a child: 0 it ended well, 3 a stated error, 4 another, 5 a wrong result; negative: the signal."""

        def armed() -> None:
            status, message = 0, ""
            arm(self.scratch, at, *fault[1:])
            try:
                self._run()
            except TrimodalError as error:
                status, message = 3, str(error)
            except AssertionError as error:
                status, message = 5, str(error)
            except BaseException as error:
                status, message = 4, f"{type(error).__name__}: {error} | {traceback.format_exc()[-600:]}"
            arm(Path("/nowhere"), 0, 0, 0, 0)
            self._note.write_text(message)
            os._exit(status)

        ended = _in_a_child(armed)
        return -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)

    def _in_a_child(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns, in a child of its own; ``None`` where it fails."""

        def write() -> None:
            self._answer.write_text(json.dumps(work()))

        self._answer.unlink(missing_ok=True)
        if _in_a_child(write) or not self._answer.is_file():
            return None
        return json.loads(self._answer.read_text())


def main() -> None:
    """See the module's docstring."""
    name, source, pictures, count, seed = sys.argv[1:6]
    trials = Trials(name, Path(source), Path(pictures))
    chance = random.Random(f"{name}:{seed}")
    kinds = [fault for fault in FAULTS if trials.counts[fault[0]]]
    for number in range(int(count) if kinds else 0):
        fault = kinds[number % len(kinds)]
        at = chance.randrange(1, trials.counts[fault[0]] + 1)
        print(json.dumps(trials.trial(fault, at)), flush=True)
    trials.fresh()


if __name__ == "__main__":
    main()
