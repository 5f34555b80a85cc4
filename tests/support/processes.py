"""The program in a process of its own, without waiting for its imports: a server forks one that has made them.

The child is a real process with its own exit code and streams. What is imported lazily is tested elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PRELOADED = ["trimodal.cli", "indexer.build.pipeline", "retrieval.search", "indexer.encoders.towers.load"]
_TIMEOUT_S = 300


def run_program(arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``trimodal ARGUMENTS`` in ``cwd``, as :func:`subprocess.run` with captured output would.

    Environment variables are those of the server's start, at the first call.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdout", "stderr")]
        child = context.Process(target=_child, args=(list(arguments), str(cwd), *map(str, streams)))
        child.start()
        child.join(_TIMEOUT_S)
        if child.exitcode is None:
            child.kill()
            raise subprocess.TimeoutExpired(list(arguments), _TIMEOUT_S)
        out, err = (stream.read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess(list(arguments), child.exitcode, out, err)


def _child(arguments: list[str], cwd: str, out: str, err: str) -> None:
    os.chdir(cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  until the process ends
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["trimodal", *arguments]
    from trimodal.cli import app

    try:
        app()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
