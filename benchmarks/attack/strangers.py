"""Models, collections and recipes of a stranger that try to run code, to reach the net or to read other files.

Each case is a folder of files and a command of the command line. The command runs in a process of its own that
``watch/sitecustomize.py`` watches; the payloads also write a file. A case *held* where nothing of the stranger's ran,
no address was looked up, and the bait beside it was not opened; what the command answered is kept. The cases are in
``stranger_models.py`` and ``stranger_files.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WATCH = Path(__file__).with_name("watch")
TRIMODAL = [sys.executable, "-c", "from trimodal.cli import app; app()"]

#: The file that no case may open, beside the stranger's folder.
BAIT = "bait.safetensors"
_LIMIT_S = 120
#: Runs the file of its first argument, and does what a case must not; the watch is tried with it.
WATCHED_PROGRAM = [
    sys.executable,
    "-c",
    "import contextlib, runpy, socket, subprocess, sys, pathlib\n"
    "with contextlib.suppress(OSError): socket.create_connection(('example.invalid', 80))\n"
    "subprocess.run(['true'])\n"
    f"pathlib.Path({BAIT!r}).read_bytes()\n"
    "runpy.run_path(sys.argv[1])",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case is made: everything below one temporary folder."""

    root: Path

    @property
    def stranger(self) -> Path:
        """The stranger's files."""
        return self.root / "stranger"

    @property
    def hub(self) -> Path:
        """The hub's cache, as if repositories were fetched before."""
        return self.root / "hub"

    @property
    def canary(self) -> Path:
        """What a payload writes."""
        return self.root / "canary"

    @property
    def media(self) -> Path:
        """The user's own files."""
        return self.root / "media"

    @property
    def collection(self) -> Path:
        """Of the user, or a stranger's."""
        return self.root / "collection"


@dataclass(frozen=True, slots=True)
class Case:
    """``make`` writes the files and returns the arguments of ``trimodal``."""

    name: str
    make: Callable[[Place], list[str]]


def run_case(case: Case, *, command: Sequence[str] = TRIMODAL) -> dict[str, Any]:
    """What came of a case: ``held``, the notes of what it must not do, exit status and last line."""
    with tempfile.TemporaryDirectory(prefix="stranger-") as work:
        place = Place(Path(work))
        for folder in (place.stranger, place.hub, place.media):
            folder.mkdir()
        bait = place.root / BAIT
        bait.write_bytes(b"\0" * 16)
        _media(place.media)
        arguments = case.make(place)
        os.utime(bait, (0, time.time()))  # libraries in Rust and C open files unseen by Python; reading sets the time
        notes = place.root / "notes"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(WATCH), str(ROOT))),
            "ATTACK_NOTES": str(notes),
            "STRANGER": str(place.stranger),
            "BAIT": BAIT,
            "HOME": work,
            "TRIMODAL_CACHE": str(place.root / "cache"),
            "HF_HOME": str(place.root / "hf"),
            "HF_HUB_CACHE": str(place.hub),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "300",
        }
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            environment.pop(name, None)
        try:
            done = subprocess.run(
                [*command, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                cwd=work,
                timeout=_LIMIT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            status, output = done.returncode, f"{done.stdout}\n{done.stderr}"
        except subprocess.TimeoutExpired:
            status, output = -1, f"no end in {_LIMIT_S} s"
        read = bait.stat().st_atime > 0
        found = list(dict.fromkeys(notes.read_text().splitlines())) if notes.is_file() else []
        if place.canary.exists():
            found.insert(0, "the payload ran")
        if read and not any(note.startswith("opened") for note in found):
            found.append(f"opened: {BAIT}")
        if "`kernels`" in output:
            found.append("requests a kernel of the hub")
        if "Traceback (most recent call last)" in output:
            found.append("a traceback")
        last = [line for line in output.strip().splitlines() if line.strip()][-1:] or [""]
        return {
            "case": case.name,
            "held": not found,
            "notes": found[:6],
            "status": status,
            "message": last[0].replace(work, "…")[:300],
        }


def _media(folder: Path) -> None:
    from benchmarks.attack.media_seeds import pictures, sound

    (folder / "a.png").write_bytes(pictures()["png"])
    (folder / "a.wav").write_bytes(sound("WAV", "PCM_16"))
    (folder / "a.txt").write_text("a dog on the mat")


def cases() -> list[Case]:
    """All of them."""
    from benchmarks.attack import stranger_files, stranger_models

    return [*stranger_models.cases(), *stranger_files.cases()]


def prepare() -> None:
    """Make the models once, before cases run side by side."""
    from benchmarks.attack import stranger_models

    stranger_models.prepare()


def run_all(names: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    """One after another; ``names``: only those."""
    wanted = None if names is None else set(names)
    for case in cases():
        if wanted is None or case.name in wanted:
            yield run_case(case)


if __name__ == "__main__":
    import json

    for result in run_all(sys.argv[1:] or None):
        print(json.dumps(result), flush=True)
