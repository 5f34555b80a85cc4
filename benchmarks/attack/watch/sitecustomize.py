"""Put on PYTHONPATH of a program that opens a stranger's files: notes what it must not do, and keeps it from the net.

Python's audit hooks report what is executed, loaded, started and connected to, whoever does it. Notes go to
ATTACK_NOTES, a line each. STRANGER is the folder of the stranger's files; BAIT a file outside of it that no one has a
reason to open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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


def _connect(place: object) -> None:
    if isinstance(place, (str, bytes)) and str(place).startswith(("/", "b'/")):
        return  # a socket of this machine
    _note(f"network: {place}")
    raise OSError(101, "no network in an attack")


def _execute(code: object) -> None:
    name = getattr(code, "co_filename", "")
    if _is_strangers(name):
        _note(f"executed: {name}")


def _load(name: object) -> None:
    if name and _is_strangers(name):
        _note(f"loaded: {name}")


def _start(command: object) -> None:
    if "svg_worker" not in str(command):
        _note(f"process: {command!r}")


def _open(path: object) -> None:
    if str(path).endswith(_BAIT):
        _note(f"opened: {path}")


#: Audit event -> which of its arguments is looked at, and by what.
_WATCHED: dict[str, tuple[int, Callable[[object], None]]] = {
    "socket.connect": (1, _connect),
    "socket.getaddrinfo": (0, _connect),
    "exec": (0, _execute),
    "ctypes.dlopen": (0, _load),
    "import": (1, _load),
    "os.system": (0, lambda command: _note(f"started: {command!r}")),
    "subprocess.Popen": (1, _start),
    "open": (0, _open),
}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _WATCHED:
        at, look = _WATCHED[event]
        look(arguments[at])


if _NOTES:
    sys.addaudithook(_watch)
