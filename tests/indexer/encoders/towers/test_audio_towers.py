"""Sound towers: CLAP's audio half against transformers' own, and what both kinds of tower promise.

Real architectures, tiny, with random weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from indexer.encoders.clap.tower import ClapTower, clap_from_directory
from indexer.encoders.specs import ClapSpec, EncoderConfig, WhisperSpec
from indexer.encoders.towers.audio import AudioTower, open_audio_tower
from indexer.encoders.towers.load import load_audio_tower
from indexer.encoders.weights.base_weights import sha256_of
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing

ensure_torchvision()
from transformers import (  # noqa: E402
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
)

WHISPER = WhisperSpec("whisper.safetensors", width=16, layers=2, heads=2, mel_bins=80, window_s=2.0)
RATE_HZ = 16_000
FUSED = [False, True]


def extractor(fused: bool, rate_hz: int = RATE_HZ) -> Any:
    """One second at once, 51 frames of 16 bands: what fits the tiny model's 32 x 32 picture after its folding."""
    return ClapFeatureExtractor(
        feature_size=16, sampling_rate=rate_hz, hop_length=rate_hz // 50, max_length_s=1, fft_window_size=1024,
        frequency_max=7_000, truncation="fusion" if fused else "rand_trunc",
    )  # fmt: skip


def audio_config(fused: bool) -> dict[str, Any]:
    return {
        "num_mel_bins": 16, "spec_size": 32, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
        "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
        "num_hidden_layers": 2, "enable_fusion": fused, "fusion_type": "none" if fused else None,
    }  # fmt: skip


def save_clap(directory: Path, *, fused: bool = False, half: bool = False, with_extractor: bool = True) -> Any:
    """A tiny CLAP in transformers' layout, whole or its audio half; returns the model."""
    torch.manual_seed(1)
    if half:
        config = ClapAudioConfig(**audio_config(fused), projection_dim=12, projection_hidden_act="gelu")
        model: Any = ClapAudioModelWithProjection(config)
    else:
        text = {
            "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 20,
        }  # fmt: skip
        model = ClapModel(
            ClapConfig(
                text_config=text, audio_config=audio_config(fused), projection_dim=12, projection_hidden_act="gelu"
            )
        )
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.uniform_(-60, -20)
    norm.running_var.uniform_(50, 400)
    model.eval().save_pretrained(directory)
    if with_extractor:
        extractor(fused).save_pretrained(directory)
    return model


def opened(directory: Path) -> ClapTower:
    spec, weights = clap_from_directory(directory)
    tower = open_audio_tower(spec)
    assert isinstance(tower, ClapTower)
    tower.load(weights)
    return tower


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * (300 + 400 * seed) * time) + 0.05 * rng.standard_normal(len(time))).astype(
        np.float32
    )


@pytest.mark.parametrize("half", [False, True])
def test_claps_rows_are_those_of_transformers_own_call(tmp_path: Path, half: bool) -> None:
    model = save_clap(tmp_path, half=half)
    tower = opened(tmp_path)
    sounds = [sound(1.0), sound(0.3, 1), sound(0.77, 2)]
    inputs = extractor(False)(sounds, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        if half:
            expected = model(**inputs).audio_embeds
        else:
            pooled = model.audio_model(**inputs).pooler_output
            expected = model.audio_projection(pooled)  # get_audio_features normalises or not, by version
    rows = tower.features([tower.prepare(one) for one in sounds])
    assert rows.shape == (3, 12) == (3, tower.width) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-5)
    assert np.abs(rows[0] - rows[1]).max() > 1e-4


def test_fused_claps_rows_are_those_of_transformers_for_sounds_that_are_not_longer(tmp_path: Path) -> None:
    model = save_clap(tmp_path, fused=True)
    tower = opened(tmp_path)
    sounds = [sound(1.0), sound(0.3, 1)]
    inputs = extractor(True)(sounds, sampling_rate=RATE_HZ, return_tensors="pt")
    assert inputs["input_features"].shape[1] == 4 and inputs["is_longer"].sum() == 1  # one of the two, at random
    inputs["is_longer"] = torch.zeros((2, 1), dtype=torch.bool)
    with torch.inference_mode():
        expected = model.audio_projection(model.audio_model(**inputs).pooler_output)
    rows = tower.features([tower.prepare(one) for one in sounds])
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("fused", FUSED)
def test_a_sound_has_one_row_whatever_the_batch_its_length_and_the_state_of_chance(tmp_path: Path, fused: bool) -> None:
    save_clap(tmp_path, fused=fused)
    tower = opened(tmp_path)
    long = sound(2.5)  # over the window: cut, not cropped at random
    np.random.seed(0)
    first = tower.features([tower.prepare(long)])
    np.random.seed(1)
    np.testing.assert_array_equal(tower.features([tower.prepare(long)]), first)
    np.testing.assert_allclose(tower.features([tower.prepare(long[:RATE_HZ])]), first, atol=1e-6)
    np.random.seed(2)
    batch = tower.features([tower.prepare(one) for one in (sound(0.4, 1), long, sound(0.2, 2))])
    np.testing.assert_allclose(batch[1:2], first, atol=1e-5)


def test_a_sound_is_brought_to_the_models_rate_and_never_over_its_window(tmp_path: Path) -> None:
    spec, weights = clap_from_directory_at(tmp_path, rate_hz=48_000)
    tower = open_audio_tower(spec)
    tower.load(weights)
    prepared = [tower.prepare(sound(seconds)) for seconds in (1.0, 0.5, 3.0)]
    assert {one.shape for one in prepared} == {(51, 16)} and prepared[0].dtype == np.float32
    # half a second of a tone, repeated, has the spectrum of a second of it
    assert np.abs(prepared[0].mean(axis=0) - prepared[1].mean(axis=0)).max() < 3.0


def clap_from_directory_at(directory: Path, rate_hz: int) -> tuple[ClapSpec, dict[str, torch.Tensor]]:
    save_clap(directory)
    extractor(False, rate_hz).save_pretrained(directory)
    return clap_from_directory(directory)


@pytest.mark.parametrize("fused", FUSED)
def test_no_sound_at_all_and_a_single_sample_have_rows(tmp_path: Path, fused: bool) -> None:
    save_clap(tmp_path, fused=fused)
    tower = opened(tmp_path)
    rows = tower.features([tower.prepare(np.zeros(0, np.float32)), tower.prepare(np.ones(1, np.float32))])
    assert rows.shape == (2, 12) and np.isfinite(rows).all()
    assert tower.features([]).shape == (0, 12)


@pytest.mark.parametrize("fused", FUSED)
def test_a_specification_goes_through_json_and_opens_with_its_weights_alone(tmp_path: Path, fused: bool) -> None:
    save_clap(tmp_path / "clap", fused=fused)
    spec, weights = clap_from_directory(tmp_path / "clap")
    rows = opened(tmp_path / "clap").features([ClapTower(spec).prepare(sound(0.6))])
    path = tmp_path / spec.weights
    save_file({name: value.clone() for name, value in weights.items()}, path)
    config = EncoderConfig("x", 8, (), spec, (), {}, {path.name: sha256_of(path)})
    reread = EncoderConfig.from_json(json.loads(json.dumps(config.to_json())), tmp_path)
    assert reread == config and reread.fingerprint == config.fingerprint
    tower = load_audio_tower(tmp_path, reread)
    np.testing.assert_array_equal(tower.features([tower.prepare(sound(0.6))]), rows)
    assert spec.window_s == 1.0 and spec.extractor["sampling_rate"] == RATE_HZ


@pytest.mark.parametrize("fused", FUSED)
def test_without_an_extractors_file_claps_published_settings_hold(tmp_path: Path, fused: bool) -> None:
    torch.manual_seed(0)
    settings = {**audio_config(fused), "num_mel_bins": 64, "spec_size": 256, "window_size": 8, "depths": [1, 1]}
    ClapAudioModelWithProjection(ClapAudioConfig(**settings)).save_pretrained(tmp_path)
    spec, _ = clap_from_directory(tmp_path)
    assert spec.extractor["truncation"] == ("fusion" if fused else "rand_trunc")
    assert spec.extractor["sampling_rate"] == 48_000 and spec.window_s == 10.0
    assert ClapTower(spec).prepare(sound(0.1)).shape == (1001, 64)


def test_weights_of_older_directories_are_read_from_their_checkpoint(tmp_path: Path) -> None:
    save_clap(tmp_path)
    spec, weights = clap_from_directory(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    again, same = clap_from_directory(tmp_path)
    assert again == spec and all(torch.equal(same[name], weights[name]) for name in weights)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsMissing, match=r"holds no model.safetensors or pytorch_model.bin"):
        clap_from_directory(tmp_path)


def test_a_directory_that_is_no_clap_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no CLAP model"):
        clap_from_directory(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ModelError, match=r"config.json: is a whisper, not a CLAP model"):
        clap_from_directory(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="holds no CLAP model"):
        clap_from_directory(tmp_path)


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    save_clap(tmp_path)
    spec, _ = clap_from_directory(tmp_path)
    with pytest.raises(ModelError, match="window_s 10 is over the 1 s that the model reads at once; lower window_s"):
        ClapTower(replace(spec, window_s=10.0))
    with pytest.raises(ModelError, match="the extractor gives 20 bands, not 16"):
        ClapTower(replace(spec, extractor={**spec.extractor, "feature_size": 20}))
    with pytest.raises(ModelError, match="are more than the model's 64 frames"):
        ClapTower(replace(spec, extractor={**spec.extractor, "hop_length": 100}))
    with pytest.raises(ModelError, match="its settings are no model"):
        ClapTower(replace(spec, config={**spec.config, "depths": "two"}))


def test_a_window_shorter_than_the_models_is_cut_there(tmp_path: Path) -> None:
    save_clap(tmp_path)
    spec, _ = clap_from_directory(tmp_path)
    half = ClapTower(replace(spec, window_s=0.5))
    np.testing.assert_array_equal(half.prepare(sound(1.0)), half.prepare(sound(1.0)[: RATE_HZ // 2]))


def test_weights_of_another_clap_are_refused(tmp_path: Path) -> None:
    save_clap(tmp_path / "clap")
    spec, weights = clap_from_directory(tmp_path / "clap")
    path = tmp_path / spec.weights
    save_file({name: value.clone() for name, value in weights.items() if "linear2" not in name}, path)
    config = EncoderConfig("x", 8, (), spec, (), {}, {})
    with pytest.raises(WeightsCorrupt, match="does not fit the sound tower"):
        load_audio_tower(tmp_path, config)


def test_both_kinds_of_tower_open_from_their_specification_and_give_gradients(tmp_path: Path) -> None:
    save_clap(tmp_path)
    for tower in (open_audio_tower(WHISPER), opened(tmp_path)):
        assert not any(parameter.requires_grad for parameter in tower.parameters()) and not tower.training
        prepared = [tower.prepare(sound(0.5)), tower.prepare(sound(0.9, 1))]
        tower.requires_grad_(True)
        rows = tower(prepared)
        assert rows.shape == (2, tower.width) and rows.dtype == torch.float32
        np.testing.assert_allclose(rows.detach().numpy(), tower.features(prepared), atol=1e-6)
        rows.square().sum().backward()
        assert sum(float(p.grad.abs().sum()) for p in tower.parameters() if p.grad is not None) > 0
    assert isinstance(open_audio_tower(WHISPER), AudioTower)
    assert open_audio_tower(WHISPER).features([]).shape == (0, 48)


def test_a_clap_tower_runs_in_bfloat16_near_its_float_rows(tmp_path: Path) -> None:
    save_clap(tmp_path)
    tower = opened(tmp_path)
    prepared = [tower.prepare(sound(0.5)), tower.prepare(sound(0.9, 1))]
    exact, rough = tower.features(prepared), tower.to(torch.bfloat16).features(prepared)
    assert rough.dtype == np.float32
    assert np.linalg.norm(rough - exact) < 0.1 * np.linalg.norm(exact)


def test_a_clap_specification_is_plain_values(tmp_path: Path) -> None:
    save_clap(tmp_path)
    spec, _ = clap_from_directory(tmp_path)
    assert json.loads(json.dumps(asdict(spec))) == asdict(spec)
