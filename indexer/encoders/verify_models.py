"""Whether every file of a model is what it was: all of them read, whatever sizes and times say.

What is compared with what: a trained model's files with the sha256 in ``encoder.json`` and ``reranker.json``; base
weights with the record of their installation; models of other libraries with the sha256 that their first use
remembered. Mends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.encoders.registry import LIBRARIES, base_weights, model_directory
from indexer.encoders.specs import HEADS, read_config
from indexer.encoders.starter import is_starter, weights_file
from indexer.encoders.tokens.config import FOLDER, WEIGHTS, read_reranker
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, check_base, is_pulled
from indexer.encoders.weights.digests import known_sha256, remember_sha256
from indexer.encoders.weights.record import require_sha256
from indexer.errors import ModelError, WeightsCorrupt


@dataclass(frozen=True)
class Checked:
    """One file, or the files of one language model."""

    what: str
    problem: str | None = None
    """One line with the remedy; ``None`` where all is well."""


def verify_model(spec: str) -> Iterator[Checked]:
    """Every file of a model, one after another. Raises :class:`ModelError` for a spec that names nothing."""
    if spec in BASE_WEIGHTS:
        yield _base(spec)
    elif spec.startswith(LIBRARIES):
        yield from _library(spec)
    else:
        yield from _trained(spec)


def _trained(spec: str) -> Iterator[Checked]:
    directory = model_directory(spec)
    config = read_config(directory)
    remedy = "install trimodal again" if is_starter(spec) else "copy the model again, or train it again"
    for name in [HEADS, *config.files]:
        yield _file(weights_file(directory, name), config.sha256.get(name), remedy)
    for name in base_weights(config):
        yield _base(name)
    reranker = read_reranker(directory, config.fingerprint)
    if reranker is not None:
        yield _file(directory / FOLDER / WEIGHTS, reranker.sha256, remedy)
        reader = str(reranker.language_model["source"])
        if reader in BASE_WEIGHTS and is_pulled(reader):
            yield _base(reader)


def _library(spec: str) -> Iterator[Checked]:
    paths: list[Path]
    if spec.startswith("openclip:"):
        from indexer.encoders.openclip.source import find_openclip

        source = find_openclip(spec, fetch=False)
        paths = [source.checkpoint, *source.vocabulary]
    else:
        from indexer.encoders.clap.dual import ClapEncoder

        paths = [ClapEncoder(spec, fetch=False).weights]
    for path in paths:
        promised = known_sha256(path)
        if promised is None:
            remember_sha256(path)  # the first use: there is nothing to compare it with
            yield Checked(str(path))
        else:
            yield _file(path, promised, "fetch the model again")


def _base(name: str) -> Checked:
    try:
        check_base(name, whole=True)
    except ModelError as error:
        return Checked(name, str(error))
    return Checked(name)


def _file(path: Path, promised: str | None, remedy: str) -> Checked:
    if not path.is_file():
        return Checked(str(path), f"{path}: is missing; {remedy}")
    if promised is None:
        return Checked(str(path), f"{path}: the model says no sha256 of it; {remedy}")
    try:
        require_sha256(path, promised, remedy)
    except WeightsCorrupt as error:
        return Checked(str(path), str(error))
    return Checked(str(path))
