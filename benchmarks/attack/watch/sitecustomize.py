"""Put on PYTHONPATH of a program that opens a stranger's files: notes what it must not do, and keeps it from the net.

Python's audit hooks report what is executed, loaded, started and connected to, whoever does it. Notes go to
ATTACK_NOTES, a line each. STRANGER is the folder of the stranger's files; BAIT a file outside of it that no one has a
reason to open.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_NOTES = os.environ.get("ATTACK_NOTES", "")
_STRANGER = os.environ.get("STRANGER", "\0")
_BAIT = os.environ.get("BAIT", "\0")


def _note(line: str) -> None:
    descriptor = os.open(_NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (line + "\n").encode("utf-8", "replace"))
    os.close(descriptor)


def _is_strangers(name: object) -> bool:
    name = str(name)
    return name.startswith(_STRANGER) or "transformers_modules" in name or "evil" in name.rsplit("/", 1)[-1]


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" or event == "socket.getaddrinfo":
        place = arguments[1] if event == "socket.connect" else arguments[0]
        if isinstance(place, (str, bytes)) and str(place).startswith(("/", "b'/")):
            return  # a socket of this machine
        _note(f"network: {place}")
        raise OSError(101, "no network in an attack")
    if event == "exec":
        name = getattr(arguments[0], "co_filename", "")
        if _is_strangers(name):
            _note(f"executed: {name}")
    elif event in ("ctypes.dlopen", "import"):
        name = arguments[0] if event == "ctypes.dlopen" else arguments[1]
        if name and _is_strangers(name):
            _note(f"loaded: {name}")
    elif event == "os.system":
        _note(f"started: {arguments[0]!r}")
    elif event == "subprocess.Popen":
        if "svg_worker" not in str(arguments[1]):
            _note(f"process: {arguments[1]!r}")
    elif event == "open" and str(arguments[0]).endswith(_BAIT):
        _note(f"opened: {arguments[0]}")


if _NOTES:
    sys.addaudithook(_watch)
