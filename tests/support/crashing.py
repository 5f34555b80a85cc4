"""A program that kills itself, for test_crash.py. Run as: crashing.py {steps|index} ARGUMENTS...

``steps WORK FROM PICTURES [EVERY]`` does one piece of work on copies of the collection FROM, again and again, killing
itself with SIGKILL just before or just after the n-th call that reaches the disk, for every n (or every
EVERY-th), each time in a forked child. After each death other children check what is left, and do the work to
its end. Prints a line of JSON for each.

``index COLLECTION PICTURES`` indexes slowly, in small commits, until somebody kills it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from small_media import index, new_collection, snapshot  # noqa: E402

from indexer.collection.collection import Collection  # noqa: E402
from indexer.collection.rebuild import rebuild  # noqa: E402
from indexer.encoders.fake import FakeEncoder  # noqa: E402
from indexer.encoders.identity import EncoderIdentity  # noqa: E402
from indexer.items import Embeddings  # noqa: E402

#: C functions that change what is on the disk.
REACH_THE_DISK = frozenset(
    ("write", "fsync", "commit", "replace", "rename", "unlink", "mkdir", "rmdir", "executescript", "truncate")
)


def work(name: str, collection: Path, pictures: Path) -> None:
    """The pieces of work that may be interrupted; each brings the collection from FROM to the same end."""
    if name == "create":
        with Collection.open_or_create(
            collection, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)
        ) as made:
            index(made, pictures, commit_every=5, batch_size=3, workers=1)
    elif name == "update":
        with Collection.open(collection, writable=True) as made:
            index(made, pictures, commit_every=5, batch_size=3, workers=1, prune=True)
    elif name == "compact":
        with Collection.open(collection, writable=True) as made:
            made.compact()
    elif name == "rebuild":
        rebuild(
            collection,
            EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec),
            lambda made: _close_after(made, lambda: index(made, pictures, commit_every=5)),
        )
    else:
        raise ValueError(name)


def die_at(step: int, run: Callable[[], object]) -> int:
    """Run, and die at the disk's ``step``-th call; returns how many there were, if it comes to that."""
    seen = 0

    def count(frame: FrameType, event: str, function: Any) -> None:
        nonlocal seen
        named = event in ("c_call", "c_return") and function.__name__ in REACH_THE_DISK
        if named and not isinstance(getattr(function, "__self__", None), str):  # "".replace is another one
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return seen


def steps(name: str, source: Path, pictures: Path, every: int) -> None:
    scratch = source.with_name("scratch")
    _warm_up(source.with_name("warm"), pictures)
    step, died = 1, True
    while died:
        for left in (scratch, *(scratch.with_name(scratch.name + end) for end in (".rebuilding", ".replaced"))):
            shutil.rmtree(left, ignore_errors=True)
        if source.exists():
            shutil.copytree(source, scratch)
        status = _in_a_child(lambda at=step: die_at(at, lambda: work(name, scratch, pictures)))  # type: ignore[misc]
        died = os.WIFSIGNALED(status)
        if not died and os.WEXITSTATUS(status) != 0:
            sys.exit(f"{name}: failed by itself")
        for check in (lambda: _tell(step, died, scratch), lambda: _finish(name, scratch, pictures)):  # noqa: B023
            if _in_a_child(check) != 0:
                sys.exit(f"{name}: step {step}: could not be opened or continued")
        step += every


def _warm_up(place: Path, pictures: Path) -> None:
    """Import all that is imported on the way, here and once. With OMP_NUM_THREADS=1 FAISS starts no threads."""
    with new_collection(place, tokens=FakeEncoder.token_spec) as made:
        index(made, pictures)
        made.compact()
        snapshot(made)
        made.index("cpu")
        made.verify()
    shutil.rmtree(place)


def _tell(step: int, died: bool, collection: Path) -> None:
    """What a reader finds after the death."""
    told: dict[str, Any] = {"step": step, "died": died, "exists": Collection.exists(collection)}
    if told["exists"]:
        with Collection.open(collection) as opened:
            told["problems"] = [problem.what for problem in opened.verify()]
            told["warnings"] = [str(warning) for warning in opened.warnings]
            told["held"] = _digest(opened)
            opened.index("cpu")
    _say(json.dumps(told))


def _finish(name: str, collection: Path, pictures: Path) -> None:
    """Do the work again, to its end."""
    work(name, collection, pictures)
    with Collection.open(collection) as opened:
        problems = [problem.what for problem in opened.verify()]
        vectors = opened.vectors.count - opened.count
        told = {"end": _digest(opened), "problems": problems, "dead": vectors, "index": opened.index("cpu").ntotal}
    left = sorted(path.name for path in [*collection.parent.glob("scratch*"), *collection.rglob("*.tmp")])
    _say(json.dumps({**told, "left": left}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _digest(collection: Collection) -> dict[str, int]:
    return {Path(key).name: hash(held) % 2**32 for key, held in snapshot(collection).items()}


def _in_a_child(run: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return os.waitpid(child, 0)[1]


def _close_after(made: Collection, run: Callable[[], Any]) -> Any:
    with made:
        return run()


class SlowEncoder(FakeEncoder):
    """Takes its time, so that a kill finds it at work."""

    def encode_images(self, prepared: Sequence[Any]) -> Embeddings:
        time.sleep(0.004)
        return super().encode_images(prepared)


def index_slowly(collection: Path, pictures: Path) -> None:
    from indexer.build.run import build
    from indexer.corpus.walk import find_items

    _say("started")
    with Collection.open_or_create(collection, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)) as made:
        build(made, find_items([pictures]), SlowEncoder(), batch_size=4, commit_every=8)
    _say("done")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "steps":
        steps(arguments[0], Path(arguments[1]), Path(arguments[2]), int(arguments[3]))
    else:
        index_slowly(Path(arguments[0]), Path(arguments[1]))
