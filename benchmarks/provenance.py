"""What a published number carries beside itself: commit, versions, device, number format and hardware.

Nothing here names the user, the host or a place on the disk. Knows nothing of data sets or metrics.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from indexer.encoders.dual import DualEncoder

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("trimodal", "torch", "transformers", "timm", "numpy", "pillow", "soundfile", "soxr")
#: What a measurement itself writes; a change there does not change what was measured.
OUTPUTS = ("docs/bench", "README.md", "data/models/starter/README.md")


def facts(encoder: DualEncoder) -> dict[str, Any]:
    """JSON of where and with what ``encoder`` runs."""
    device, dtype = device_of(encoder)
    return {
        **commit(),
        "device": device,
        "dtype": dtype,
        "hardware": hardware(device),
        "versions": {"python": platform.python_version(), **versions()},
    }


def device_of(encoder: DualEncoder) -> tuple[str, str]:
    """Device and number format of the towers, as torch calls them; those of NumPy for an encoder without torch."""
    device = getattr(encoder, "device", None)
    if device is None:
        return "cpu", "float32"
    from indexer.encoders.devices import choose_dtype

    return str(device), str(choose_dtype(device)).removeprefix("torch.")


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
        import torch

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


def commit() -> dict[str, Any]:
    """``{"commit": hash, "changed": whether tracked files differ from it}``; both ``None`` without git."""
    unknown = {"commit": None, "changed": None}
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:  # unpacked inside somebody else's repository
        return unknown
    head = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in OUTPUTS))
    return {"commit": head, "changed": bool(status)} if head is not None else unknown


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
