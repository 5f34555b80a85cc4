"""What a process takes: seconds of the processor and of the clock, and the most memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

#: A process counts the memory of the one that started it as its own at first: so a small one starts it.
_START = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
seconds = time.perf_counter() - started
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, seconds, used.ru_maxrss / 1024]))
"""


@dataclass(frozen=True)
class Measured:
    """Of one process, and of those that it waited for."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measured(command: list[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end. Where it fails the program ends with what it printed."""
    starting = [sys.executable, "-S", "-c", _START, *command]
    done = subprocess.run(starting, env={**os.environ, **(environment or {})}, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode(errors='replace')[-2000:]}")
    code, *figures = json.loads(done.stdout)
    if code != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode(errors='replace')[-2000:]}")
    return Measured(*figures)
