"""Versions of the starter side by side: which one a spec opens, what they share, and what an old collection says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_model import TRUNK, WHISPER, save_small_model

from indexer.collection.collection import Collection
from indexer.encoders import absolute_spec, open_encoder, starter
from indexer.encoders.identity import EncoderIdentity, identity_of
from indexer.encoders.registry import describe_model, known_models
from indexer.encoders.specs import read_config
from indexer.encoders.trust import require_confirmed
from indexer.encoders.verify_models import verify_model
from indexer.errors import EncoderMismatch, ModelError, WeightsCorrupt, WeightsMissing
from retrieval import Searcher

SHARED = (TRUNK.weights, WHISPER.weights)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``models`` with the newest version, 3, and version 2, whose towers are those of 3 and whose heads are not."""
    models = tmp_path_factory.mktemp("data") / "models"
    newest = save_small_model(models / "starter", seed=1)
    old = save_small_model(models / "starter-2", seed=2)
    for name in SHARED:
        shutil.copy(newest / name, old / name)
    config = read_config(old)
    config.sha256.update({name: read_config(newest).sha256[name] for name in SHARED})
    (old / "encoder.json").write_text(json.dumps(config.to_json()), encoding="utf-8")
    return models


@pytest.fixture
def models(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both, in which version 2 lacks what it shares with 3; and the program that comes with them."""
    models = Path(shutil.copytree(both, tmp_path / "models"))
    for name in SHARED:
        (models / "starter-2" / name).unlink()
    monkeypatch.setattr(starter, "models_directory", lambda: models)
    monkeypatch.setattr(starter, "VERSION", 3)
    monkeypatch.setattr("indexer.encoders.registry.VERSION", 3)
    monkeypatch.setattr("indexer.collection.compatibility.VERSION", 3)
    return models


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


def test_a_version_opens_by_its_number_and_reads_what_it_shares_from_the_newest(both: Path, models: Path) -> None:
    old, whole = open_encoder("starter@2"), open_encoder(str(both / "starter-2"))
    assert old.fingerprint == whole.fingerprint != open_encoder("starter").fingerprint
    assert open_encoder("starter@3").fingerprint == open_encoder("starter").fingerprint
    rows = [one.encode_images([one.prepare_image(picture())]) for one in (old, whole)]
    np.testing.assert_array_equal(*rows)
    sound = np.sin(np.arange(16_000) / 9).astype(np.float32)
    rows = [one.encode_audio([one.prepare_audio(sound)]) for one in (old, whole)]
    np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(*[one.encode_queries(["a dog"]) for one in (old, whole)])


def test_a_version_that_is_not_here_is_refused_with_those_that_are(models: Path) -> None:
    with pytest.raises(ModelError, match=r"starter@7: there is no such version .* use one of starter@3, starter@2$"):
        open_encoder("starter@7")
    with pytest.raises(ModelError, match="starter@new: no such model"):
        open_encoder("starter@new")


def test_a_version_is_listed_verified_and_needs_no_confirmation(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [info.spec for info in known_models()] == ["starter", "starter@2"]
    assert describe_model("starter@2").size_mb == pytest.approx(describe_model("starter").size_mb, abs=0.1)
    assert [one.problem for one in verify_model("starter@2")] == [None] * 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter@2").mkdir()  # the name is the program's, whatever lies in a folder
    assert absolute_spec("starter@2") == "starter@2"
    require_confirmed("starter@2", "any", "a collection")


def test_other_files_than_those_it_was_trained_with_are_refused(both: Path, models: Path) -> None:
    other = save_small_model(models.parent / "other", seed=9)
    shutil.copy(other / TRUNK.weights, models / "starter" / TRUNK.weights)
    old = open_encoder("starter@2")
    with pytest.raises(WeightsCorrupt, match=TRUNK.weights):
        old.encode_images([old.prepare_image(picture())])
    (models / "starter" / TRUNK.weights).unlink()
    old = open_encoder("starter@2")
    with pytest.raises(WeightsMissing, match=TRUNK.weights):
        old.encode_images([old.prepare_image(picture())])
    assert "pull" in describe_model("starter@2").state


def test_a_model_from_elsewhere_reads_nothing_of_the_starters(both: Path, models: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "mine", models / "mine", tmp_path / "starter-2"):
        copy = Path(shutil.copytree(models / "starter-2", place))
        encoder = open_encoder(str(copy))
        with pytest.raises(WeightsMissing, match=str(copy)):
            encoder.encode_images([encoder.prepare_image(picture())])


def test_a_collection_of_an_earlier_version_names_it_and_both_ways_on(models: Path, tmp_path: Path) -> None:
    made = identity_of(open_encoder("starter@2"))
    with Collection.create(tmp_path / "c", EncoderIdentity("starter", made.fingerprint, made.dim)):
        pass
    with pytest.raises(EncoderMismatch) as refused:
        Searcher.open(tmp_path / "c", device="cpu")
    line = str(refused.value)
    assert "made by version 2 of the starter, starter is version 3 now" in line
    assert "--model starter@2" in line
    assert "trimodal index --rebuild PATH..." in line
    assert "\n" not in line
    with Searcher.open(tmp_path / "c", model="starter@2", device="cpu") as searcher:
        assert len(searcher.search("a dog")) == 0
    with pytest.raises(EncoderMismatch, match="version 2 of the starter, this is fake; .* starter@2"):
        Searcher.open(tmp_path / "c", model="fake", device="cpu")


def test_a_collection_of_a_version_that_is_gone_says_to_rebuild(models: Path, tmp_path: Path) -> None:
    with (
        Collection.create(tmp_path / "c", EncoderIdentity("starter", "0123456789abcd", 24)),
        pytest.raises(EncoderMismatch, match="another version of model starter .*--rebuild"),
    ):
        Searcher.open(tmp_path / "c", device="cpu")
