"""Trained dual encoders: a small real one, loaded and run through the code that runs the starter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import DIM, TRUNK, save_small_model

from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder, require_tower
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.fitting import fit_on_white
from indexer.encoders.registry import describe_model
from indexer.encoders.trained import TrainedDualEncoder
from indexer.errors import ModelError, UsageError, WeightsCorrupt, WeightsMissing
from indexer.items import Modality


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (40 + n, 60, 3), dtype=np.uint8)) for n in range(count)]


@pytest.mark.parametrize("spec", ["small", "fake"])
def test_every_modality_gives_unit_float32_rows_in_input_order(spec: str, small: Path) -> None:
    encoder = open_encoder(str(small) if spec == "small" else spec)
    assert isinstance(encoder, DualEncoder)
    images = [encoder.prepare_image(picture) for picture in pictures(3)]
    sounds = [encoder.prepare_audio(np.sin(np.arange(n) / 9).astype(np.float32)) for n in (400, 16_000, 32_000)]
    texts = ["a dog", "a cat on a mat", "rain"]
    for rows in (encoder.encode_images(images), encoder.encode_audio(sounds), encoder.encode_passages(texts)):
        assert rows.dtype == np.float32
        assert rows.shape == (3, encoder.dim)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
        assert not np.allclose(rows[0], rows[1], atol=1e-3)
    reverse = encoder.encode_passages(texts[::-1])[::-1]
    np.testing.assert_allclose(reverse, encoder.encode_passages(texts), atol=2e-2)
    assert encoder.encode_images([]).shape == (0, encoder.dim)


def test_a_text_does_not_depend_on_the_texts_beside_it(small: Path) -> None:
    encoder = open_encoder(str(small))
    alone = encoder.encode_queries(["a dog"])
    crowd = encoder.encode_queries(["a", "a dog", "quite a long text about something else altogether"])
    np.testing.assert_allclose(crowd[1], alone[0], atol=2e-2)


def test_an_empty_text_and_a_very_long_one_have_rows_too(small: Path) -> None:
    rows = open_encoder(str(small)).encode_queries(["", "word " * 5_000])
    assert np.isfinite(rows).all()


def test_bfloat16_gives_the_same_ranking_as_float32(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {}
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setenv("TRIMODAL_DTYPE", dtype)
        encoder = open_encoder(str(small))
        images = encoder.encode_images([encoder.prepare_image(picture) for picture in pictures(6)])
        rows[dtype] = images @ encoder.encode_queries(["one", "two words"]).T
    np.testing.assert_allclose(rows["bfloat16"], rows["float32"], atol=0.05)


def test_a_sound_gives_the_same_row_every_time_and_silence_after_it_is_not_read(small: Path) -> None:
    encoder = open_encoder(str(small))
    tone = np.sin(np.arange(8_000) / 7).astype(np.float32)
    first, again = (encoder.encode_audio([encoder.prepare_audio(tone)]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    prepared = encoder.prepare_audio(tone)
    assert prepared[-1].sum() == 50  # 0.5 s are 50 frames of 10 ms


def test_a_picture_is_fitted_whole_and_centred_on_white() -> None:
    wide = Image.new("RGB", (200, 50), "black")
    fitted = fit_on_white(wide, 100)
    assert fitted.shape == (100, 100, 3)
    assert (fitted[0] == 255).all()
    assert (fitted[50] == 0).all()


def test_the_fingerprint_changes_with_the_weights_and_not_with_the_name(
    small: Path, tmp_path: Path, copy: Path
) -> None:
    config = json.loads((copy / "encoder.json").read_text())
    config["name"] = "renamed"
    (copy / "encoder.json").write_text(json.dumps(config))
    fingerprint = open_encoder(str(small)).fingerprint
    assert open_encoder(str(copy)).fingerprint == fingerprint
    config["sha256"]["heads.safetensors"] = "0" * 64
    (copy / "encoder.json").write_text(json.dumps(config))
    assert open_encoder(str(copy)).fingerprint != fingerprint


def test_opening_an_encoder_reads_no_weights(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")  # graphs of the same weights need none of these files
    for file in copy.glob("*.safetensors"):
        file.unlink()
    encoder = open_encoder(str(copy))
    assert encoder.dim == DIM
    with pytest.raises(WeightsMissing, match="image-test"):
        encoder.encode_images([encoder.prepare_image(pictures(1)[0])])


def test_changed_weights_are_refused_with_the_remedy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")  # as above
    path = copy / TRUNK.weights
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsCorrupt, match=r"image-test.safetensors: sha256 is .* fetch the model again"):
        open_encoder(str(copy)).prepare_image(pictures(1)[0])


def test_weights_of_another_shape_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")  # as above
    config = json.loads((copy / "encoder.json").read_text())
    config["heads"]["image"]["hidden"] = 4
    (copy / "encoder.json").write_text(json.dumps(config))
    encoder = open_encoder(str(copy))
    with pytest.raises(WeightsCorrupt, match="does not fit"):
        encoder.encode_images([encoder.prepare_image(pictures(1)[0])])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no encoder.json"),
        ("{", "can't be read"),
        ('{"format": 99}', "format 99 is not 2"),
        ('{"format": 2}', "not an encoder.json of this version"),
    ],
)
def test_a_directory_that_is_no_model_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "encoder.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        open_encoder(str(tmp_path))


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with pytest.raises(ModelError, match="model nonsense: no such model; use starter"):
        open_encoder("nonsense")


def test_a_model_without_a_tower_says_which_has_one() -> None:
    class PicturesOnly(FakeEncoder):
        spec = "pictures"
        modalities = frozenset({Modality.IMAGE})

    with pytest.raises(ModelError, match="pictures has no audio tower.*--model starter"):
        require_tower(PicturesOnly(), Modality.AUDIO)


def test_a_missing_language_model_names_the_command(small: Path, copy: Path) -> None:
    config = json.loads((copy / "encoder.json").read_text())
    config["text"][0]["source"] = "/nowhere/at/all"
    (copy / "encoder.json").write_text(json.dumps(config))
    with pytest.raises(WeightsMissing, match="/nowhere/at/all"):
        open_encoder(str(copy)).encode_queries(["x"])


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "tpu:0"])
def test_a_device_that_is_none_is_refused(small: Path, device: str) -> None:
    encoder = open_encoder(str(small), device=device)
    with pytest.raises(UsageError, match="not a device; use auto, cpu, cuda"):
        encoder.encode_queries(["x"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_a_stated_error(small: Path) -> None:
    with pytest.raises(UsageError, match="use --device cpu"):
        open_encoder(str(small), device="cuda").encode_queries(["x"])


@pytest.mark.gpu
def test_the_gpu_gives_the_rows_of_the_cpu(small: Path) -> None:
    rows = [open_encoder(str(small), device=device).encode_queries(["a dog"]) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-2)


def test_describing_a_model_reads_no_weights(small: Path) -> None:
    described = describe_model(str(small))
    assert described.modalities == ["audio", "image", "text"]
    assert described.dim == DIM
    assert described.state == "ready"
    assert described.towers["text"].endswith("lm, all layers, last token")


def test_towers_are_loaded_only_when_used(small: Path) -> None:
    encoder = TrainedDualEncoder(small)
    encoder.encode_queries(["x"])
    assert set(encoder._loaded) == {Modality.TEXT}
