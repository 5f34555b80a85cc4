"""Bombs: small files that want to become large or slow. Each in a process of its own, memory and time measured.

First the file alone through ``decode`` (or the reader of its kind), then in a folder with good neighbours through
``trimodal index --model fake``. Memory is the resident set of the process and its children at its highest, above what
the same program takes for good files alone. The makers are in ``bomb_pictures.py``, ``bomb_sounds.py`` and
``bomb_words.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.attack.worker import status_bytes
from indexer.limits import RUN_BYTES, TABLE_BYTES, TABLE_S, MediaLimits
from indexer.media.text.decode import Cut

ROOT = Path(__file__).resolve().parents[2]

#: What one decoded file may take, and a whole run, above the program itself (:mod:`indexer.limits`; docs/reliability.md
#: promises both). A tenth more for what the allocator keeps.
FILE_MB = 1.1 * MediaLimits().max_decoded_mb
RUN_MB = FILE_MB + 1.1 * RUN_BYTES / 1e6
#: The same where a table is read: with its rows.
TABLE_MB = RUN_MB + 1.1 * TABLE_BYTES / 1e6
#: Processor seconds that one file may take: its limit, and the start of the program. Long sounds may take it for every
#: ten minutes of them, and a table of a million rows is more than a file.
FILE_S = MediaLimits().max_seconds + 10
TABLE_LIMIT_S = TABLE_S + FILE_S
SOUND_S = FILE_S * 6 * MediaLimits().max_audio_hours
#: A text of 50 MB that is cut by tokens.
TEXT_S = FILE_S + 50 * MediaLimits().max_seconds
#: Of a text of 50 MB a run stores some 80,000 passages, whose vectors take time that reading does not.
TEXT_RUN_S = FILE_S + 60
#: A bomb that is not defused shall not harm the machine it is tried on.
_ADDRESS_SPACE_BYTES = 12 << 30
_WALL_S = 300


@dataclass(frozen=True, slots=True)
class Bomb:
    """``make`` writes files into a folder, each of them bad or large; the first by name is read alone."""

    name: str
    make: Callable[[Path], None]
    alone: bool = True
    """Whether it is media, so that ``decode`` is tried on the first file as well."""
    seconds: float = FILE_S
    """Processor time that each file may take."""
    run_mb: float = RUN_MB
    run_s: float = 0.0
    """Processor time that a run may take; 0: ``seconds`` for each file."""


def bombs() -> list[Bomb]:
    """All of them."""
    from benchmarks.attack import bomb_pictures, bomb_sounds, bomb_words

    return [*bomb_pictures.bombs(), *bomb_sounds.bombs(), *bomb_words.bombs()]


def run_all(names: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    """One after another; ``names``: only those."""
    wanted = None if names is None else set(names)
    with tempfile.TemporaryDirectory(prefix="bombs-") as work:
        base = baseline(Path(work))
        for bomb in bombs():
            if wanted is None or bomb.name in wanted:
                yield run_bomb(bomb, base)


def run_bomb(bomb: Bomb, base: dict[str, float]) -> dict[str, Any]:
    """Both measurements of a bomb, and whether the bounds held."""
    with tempfile.TemporaryDirectory(prefix="bomb-") as work:
        folder = Path(work) / "files"
        folder.mkdir()
        _made_apart(bomb.name, folder)  # making one may take memory, too
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("dep"))
        size = sum(path.stat().st_blocks * 512 for path in files)
        found: dict[str, Any] = {"bomb": bomb.name, "files": len(files), "size_mb": round(size / 1e6, 2)}
        problems = []
        if bomb.alone:
            one = _measured(["decode", str(files[0])], Path(work))
            one["memory_mb"] = round(max(0.0, one["memory_mb"] - base["decode"]))
            found["decode"] = one
            if one["memory_mb"] > FILE_MB:
                problems.append(f"decode takes {one['memory_mb']:,} MB")
            if one["cpu_s"] > bomb.seconds:
                problems.append(f"decode takes {one['cpu_s']:.0f} s")
            problems += _foreign(one)
        good = Path(work) / "good"
        _good(good)
        run = _measured(["index", str(folder), str(good), str(Path(work) / "c")], Path(work))
        run["memory_mb"] = round(max(0.0, run["memory_mb"] - base["index"]))
        found["run"] = run
        if run["memory_mb"] > bomb.run_mb:
            problems.append(f"a run takes {run['memory_mb']:,} MB")
        if run["cpu_s"] > (bomb.run_s or bomb.seconds * max(1, len(files))):
            problems.append(f"a run takes {run['cpu_s']:.0f} s")
        problems += _foreign(run)
        if run.get("good_missing"):
            problems.append(f"good neighbours are not stored: {run['good_missing']}")
        return {**found, "held": not problems, "problems": problems}


def _foreign(found: dict[str, Any]) -> list[str]:
    return [] if found["outcome"] in ("read", "refused") else [f"{found['outcome']}: {found.get('message', '')[:200]}"]


def baseline(work: Path) -> dict[str, float]:
    """MB that the same programs take for good files."""
    _good(work / "good")
    (work / "none").mkdir()
    return {
        "decode": _measured(["decode", str(work / "good" / "a.png")], work)["memory_mb"],
        "index": _measured(["index", str(work / "none"), str(work / "good"), str(work / "c")], work)["memory_mb"],
    }


def _good(folder: Path) -> None:
    from benchmarks.attack.media_seeds import pictures, sound

    folder.mkdir()
    (folder / "a.png").write_bytes(pictures()["png"])
    (folder / "b.wav").write_bytes(sound("WAV", "PCM_16"))
    (folder / "zz.txt").write_text("a good text")


def _made_apart(name: str, folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.attack.bombs", "make", name, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)


# -- measuring -------------------------------------------------------------------------------------------------------


def _measured(arguments: list[str], work: Path) -> dict[str, Any]:
    """Run this module with ``arguments``; its answer with peak MB of the process tree and processor seconds."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(work),
        "PYTHONFAULTHANDLER": "1",
        "TRIMODAL_CACHE": str(work / "cache"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.attack.bombs", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    watch = _Watch(process.pid)
    watch.start()
    started = time.monotonic()
    try:
        out, err = process.communicate(timeout=_WALL_S)
        hung = False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        hung = True
    watch.stop()
    lines = out.strip().splitlines()
    answer: dict[str, Any] = {"outcome": "died", "message": f"exit status {process.returncode}: {err[-300:]}"}
    if hung:
        answer = {"outcome": "hang", "message": f"no end in {_WALL_S} s"}
    elif process.returncode == 0 and lines:
        answer = json.loads(lines[-1])
    return {
        "cpu_s": round(watch.cpu_s, 1),
        **answer,
        "wall_s": round(time.monotonic() - started, 1),
        "memory_mb": round(max(watch.peak_mb, answer.get("own_mb", 0.0))),
    }


class _Watch(threading.Thread):
    """Adds up the resident sets of a process and its descendants, every 20 ms."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak_mb = 0.0
        self.cpu_s = 0.0

    def run(self) -> None:
        while not self._ended.wait(0.02):
            resident, cpu = 0.0, 0.0
            for pid in _tree(self._pid):
                memory, seconds = _usage(pid)
                resident, cpu = resident + memory, cpu + seconds
            self.peak_mb, self.cpu_s = max(self.peak_mb, resident), max(self.cpu_s, cpu)

    def stop(self) -> None:
        """Wait for the last sample."""
        self._ended.set()
        self.join()


def _tree(pid: int) -> list[int]:
    found, at = [pid], 0
    while at < len(found):
        with contextlib.suppress(OSError):  # a process that has just ended has no tasks
            for task in list(Path(f"/proc/{found[at]}/task").glob("*/children")):
                with contextlib.suppress(OSError):
                    found += [int(one) for one in task.read_text().split()]
        at += 1
    return found


def _usage(pid: int) -> tuple[float, float]:
    """Resident MB, and processor seconds of it and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[21]) * os.sysconf("SC_PAGESIZE") / 1e6, sum(int(fields[n]) for n in (11, 12, 13, 14)) / ticks


# -- in the child ----------------------------------------------------------------------------------------------------


def _decode(path: Path) -> dict[str, Any]:
    from indexer.corpus.walk import find_items
    from indexer.errors import MediaError
    from indexer.items import Modality
    from indexer.media.content_hash import content_hash
    from indexer.media.decode import decode
    from indexer.media.text.decode import passages

    items = find_items([path]).items
    if not items:
        return {"outcome": "refused", "message": "not listed"}
    try:
        content_hash(items[0])
        cut = _by_tokens() if items[0].modality is Modality.TEXT else passages
        return {"outcome": "read", "message": f"{len(decode(items[0], cut=cut).segments)} segments"}
    except MediaError as error:
        return {"outcome": "refused", "message": error.reason}
    except Exception as error:
        return {"outcome": "foreign", "message": f"{type(error).__name__}: {error}"}


def _by_tokens() -> Cut:
    """Passages by a tokenizer whose tokens are bytes: the most tokens that a text can have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from indexer.media.text.measure import TokenizerMeasure
    from indexer.media.text.token_passages import PassageRule, token_passages

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: n for n, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]
    measure = TokenizerMeasure(fast, 512)
    return lambda text, limits, watch: token_passages(text, PassageRule(), measure, watch)


def _index(folder: Path, good: Path, place: Path) -> dict[str, Any]:
    """As the command line does; manifests in the folder are named themselves."""
    from indexer.collection.collection import Collection

    manifests = [str(path) for path in folder.iterdir() if path.suffix in (".jsonl", ".csv", ".parquet")]
    sys.argv = ["trimodal", "index", *manifests, str(folder), str(good), "-c", str(place), "--model", "fake", "--json"]
    import contextlib
    import io

    from trimodal.cli import app

    _slower()
    out, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out):
            app()
    except SystemExit as ended:
        status = int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    except BaseException as error:
        return {"outcome": "foreign", "message": f"{type(error).__name__}: {error}"}
    if status not in (0, 1):
        return {"outcome": "foreign", "message": f"exit status {status}: {out.getvalue()[:200]}"}
    document = json.loads(out.getvalue())
    with Collection.open(place) as opened:
        names = {Path(key).name for key in list(opened.catalog.keys())}
    reasons = [skip["reason"] for skip in document["skipped"]]
    return {
        "outcome": "read",
        "message": f"{document['added']} added, {len(reasons)} skipped{': ' if reasons else ''}"
        + "; ".join(reasons[:2])[:300],
        "good_missing": sorted({path.name for path in good.iterdir()} - names),
    }


def _slower() -> None:
    """The fake encoder takes 2 ms a sound window, as real ones do at least: files are read while it is at work."""
    from indexer.encoders.fake import FakeEncoder

    encode = FakeEncoder.encode_audio

    def slowly(self: FakeEncoder, prepared: Any) -> Any:
        time.sleep(0.002 * len(prepared))
        return encode(self, prepared)

    FakeEncoder.encode_audio = slowly  # type: ignore[method-assign]


def main() -> None:
    """``decode FILE``, ``index FOLDER GOOD COLLECTION``, ``make BOMB FOLDER``, or names of bombs."""
    if sys.argv[1:2] == ["make"]:
        next(bomb for bomb in bombs() if bomb.name == sys.argv[2]).make(Path(sys.argv[3]))
        return
    if sys.argv[1:2] not in (["decode"], ["index"]):
        for found in run_all(sys.argv[1:] or None):
            print(json.dumps(found), flush=True)
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    command, *places = sys.argv[1:]
    answer = _decode(Path(places[0])) if command == "decode" else _index(*(Path(one) for one in places))
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    answer["cpu_s"] = round(sum(one.ru_utime + one.ru_stime for one in usage), 1)
    answer["own_mb"] = status_bytes("VmHWM") / 1e6  # ru_maxrss would be that of the parent at the fork, too
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
