"""What a published number carries beside itself: commit, versions, device, number format and hardware.

Nothing here names the user, the host or a place on the disk. Knows nothing of data sets or metrics.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from indexer.encoders.base import DualEncoder, RunsOnTorch
from indexer.files import one_line

ROOT = Path(__file__).resolve().parents[2]
#: An absolute path: a spec of its own, or behind an architecture's `@` or a library's `:`.
_PATH = re.compile(r"(^|[@:])(/[^@]*)")
PACKAGES = ("trimodal", "torch", "transformers", "timm", "open_clip_torch", "numpy", "pillow", "soundfile", "soxr")


def facts(encoder: DualEncoder, outputs: Sequence[str] = ()) -> dict[str, Any]:
    """JSON of where and with what ``encoder`` runs; ``outputs`` as for :func:`commit`."""
    device, dtype = device_of(encoder)
    return {
        **commit(outputs),
        "device": device,
        "dtype": dtype,
        "hardware": hardware(device),
        "versions": {"python": platform.python_version(), **versions()},
    }


def of_run(encoder: DualEncoder, arguments: Sequence[str]) -> dict[str, Any]:
    """``"provenance"`` of a report: :func:`facts`, the command, and when (UTC, to the second)."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": command_line(arguments), "at": at, **facts(encoder)}


def device_of(encoder: DualEncoder) -> tuple[str, str]:
    """Device and number format of the towers, as torch calls them; those of NumPy for an encoder without torch."""
    if not isinstance(encoder, RunsOnTorch):
        return "cpu", "float32"
    from indexer.encoders.devices import choose_dtype

    return str(encoder.device), str(choose_dtype(encoder.device)).removeprefix("torch.")


def hardware(device: str) -> str:
    """ "AMD EPYC, 2 cores", and the GPU's name where one is used."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    named = f"{cpu}, {cores} cores"
    if device.startswith("cuda"):
        torch: Any = sys.modules["torch"]  # only model code imports it; who runs on a GPU has it loaded
        named += f", {torch.cuda.get_device_name(device)}"
    return named


def versions() -> dict[str, str]:
    """Installed versions of the packages that can move a number."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit(outputs: Sequence[str] = ()) -> dict[str, Any]:
    """``{"commit": hash, "changed": whether tracked files differ from it}``; both ``None`` without git.

    ``outputs``: paths that the measurement itself writes; a change there does not change what was measured.
    """
    unknown = {"commit": None, "changed": None}
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:  # unpacked inside somebody else's repository
        return unknown
    head = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in outputs))
    return {"commit": head, "changed": bool(status)} if head is not None else unknown


def command_line(arguments: Sequence[str]) -> str:
    """The command as it can be typed again, the home directory as ``~``.

    >>> command_line(["trimodal", "bench", "my photos.jsonl"])
    "trimodal bench 'my photos.jsonl'"
    """
    home = str(Path.home())
    shown = []
    for argument in arguments:
        quoted = shlex.quote(argument)
        inside = argument.removeprefix(home)
        if len(home) > 1 and inside != argument and inside.startswith("/"):
            quoted = f"~/{shlex.quote(inside[1:])}" if len(inside) > 1 else "~"
        elif len(home) > 1:  # openclip:ARCH@PATH: no shell opens a ~ there, but a reader does
            quoted = quoted.replace(f"@{home}/", "@~/").replace(f":{home}/", ":~/")
        shown.append(quoted)
    return " ".join(shown)


def short_spec(spec: str) -> str:
    """A model's spec with the last parts alone of the paths in it: where it stands on a disk concerns nobody.

    >>> short_spec("openclip:ViT-B-32@/home/me/runs/epoch_9.pt"), short_spec("openclip:ViT-B-32/openai")
    ('openclip:ViT-B-32@epoch_9.pt', 'openclip:ViT-B-32/openai')
    """
    return one_line(_PATH.sub(lambda found: found[1] + Path(found[2]).name, spec), 60)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
