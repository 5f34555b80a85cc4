"""CLAP as a dual encoder of sounds and texts: real architectures with random weights, in transformers' layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file, save_file
from small_clap import WORDS, save_clap

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder
from indexer.encoders.clap.dual import ClapEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.registry import describe_model, pull_model
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing
from indexer.items import Modality

ensure_torchvision()

RATE_HZ = 16_000
TEXTS = ["a dog barks", "rain", "rain on a dog", "dog " * 60, ""]


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = 0.5 * np.sin(2 * np.pi * (300 + 400 * seed) * time) + 0.05 * rng.standard_normal(len(time))
    return tone.astype(np.float32)


def rows_of_transformers(
    model: Any, before: Any, sounds: list[np.ndarray], texts: list[str], rate_hz: int
) -> tuple[np.ndarray, np.ndarray]:
    """transformers' own call of the whole model; sounds at the model's rate."""
    at_rate = [np.asarray(soxr.resample(one, RATE_HZ, rate_hz), np.float32) for one in sounds]
    inputs = before.feature_extractor(at_rate, sampling_rate=rate_hz, return_tensors="pt")
    inputs["is_longer"] = torch.zeros((len(sounds), 1), dtype=torch.bool)  # of short sounds one is marked at random
    limit = model.config.text_config.max_position_embeddings - 2
    tokens = before.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    with torch.inference_mode():
        out = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], **inputs)
    return out.audio_embeds.numpy(), out.text_embeds.numpy()  # both normalised by the model


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
@pytest.mark.parametrize("fused", [False, True])
def test_rows_are_those_of_transformers_own_call(fused: bool, rate_hz: int, tmp_path: Path) -> None:
    model, before = save_clap(tmp_path / "clap", rate_hz=rate_hz, fused=fused)
    encoder = open_encoder(f"clap:{tmp_path / 'clap'}")
    assert isinstance(encoder, DualEncoder)
    assert encoder.modalities == {Modality.AUDIO, Modality.TEXT}
    assert encoder.dim == 12 and encoder.window_s == 1.0
    sounds = [sound(1.0), sound(0.3, 1), sound(0.77, 2)]
    audio, texts = rows_of_transformers(model, before, sounds, TEXTS, rate_hz)
    found = encoder.encode_audio([encoder.prepare_audio(one) for one in sounds])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, audio, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), texts, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4 and np.abs(texts[0] - texts[1]).max() > 1e-3
    assert encoder.encode_audio([]).shape == encoder.encode_passages([]).shape == (0, 12)


def test_a_text_does_not_depend_on_the_texts_beside_it(tmp_path: Path) -> None:
    save_clap(tmp_path / "clap")
    encoder = open_encoder(f"clap:{tmp_path / 'clap'}")
    together = encoder.encode_queries(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(encoder.encode_queries([text])[0], row, atol=1e-5)


def test_it_says_what_it_reads_of_a_text(tmp_path: Path) -> None:
    save_clap(tmp_path / "clap")
    encoder = open_encoder(f"clap:{tmp_path / 'clap'}")
    measure = encoder.open_text_measure()  # type: ignore[attr-defined]
    words, word, other = measure.max_tokens, WORDS[4], WORDS[5]
    texts = [" ".join([word] * words), " ".join([word] * words + [other]), " ".join([word] * (words - 1) + [other])]
    rows = encoder.encode_queries(texts)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)  # the last word is not read
    assert np.abs(rows[0] - rows[2]).max() > 1e-4
    assert measure.read_chars(texts[0], 1_000) == len(texts[0])
    assert measure.read_chars(texts[1], 1_000) <= len(texts[0]) + 1


def test_the_hubs_older_layout_is_read_too(tmp_path: Path) -> None:
    """A pickled state dict with buffers that transformers no longer keeps."""
    directory = tmp_path / "clap"
    save_clap(directory)
    expected = open_encoder(f"clap:{directory}").encode_queries(TEXTS)
    weights = load_file(directory / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(20)[None]
    torch.save(weights, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    np.testing.assert_array_equal(open_encoder(f"clap:{directory}").encode_queries(TEXTS), expected)


def test_the_fingerprint_is_of_weights_settings_and_tokenizer_and_not_of_place_or_program(tmp_path: Path) -> None:
    save_clap(tmp_path / "one")
    prints = [open_encoder(f"clap:{tmp_path / 'one'}").fingerprint]
    moved = Path(shutil.copytree(tmp_path / "one", tmp_path / "moved"))
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "transformers_version": "9.9"}))
    assert open_encoder(f"clap:{moved}").fingerprint == prints[0]
    weights = load_file(moved / "model.safetensors")
    weights["text_projection.linear1.bias"] += 1
    save_file(weights, moved / "model.safetensors")
    prints.append(open_encoder(f"clap:{moved}").fingerprint)
    words = (moved / "tokenizer.json").read_text()
    (moved / "tokenizer.json").write_text(words.replace('"barks"', '"howls"'))
    prints.append(open_encoder(f"clap:{moved}").fingerprint)
    name = next(n for n in ("preprocessor_config.json", "processor_config.json") if (moved / n).is_file())
    settings = (moved / name).read_text()
    assert "7000" in settings
    (moved / name).write_text(settings.replace("7000", "6000"))
    prints.append(open_encoder(f"clap:{moved}").fingerprint)
    assert len(set(prints)) == 4


def test_sounds_are_indexed_with_it_and_a_collection_remembers_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, before = save_clap(tmp_path / "clap", rate_hz=RATE_HZ)
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "a.wav", sound(0.8), RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "sounds" / "long.wav", sound(2.5, 1), RATE_HZ, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    encoder = open_encoder("clap:./clap")
    with Collection.open_or_create(
        tmp_path / "c", EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim)
    ) as collection:
        report = build(collection, find_items([tmp_path / "sounds"]), encoder)
        assert report.added == 2 and report.segments > 3, "windows of one second"
        stored = collection.vectors.get(np.arange(1))
    expected, _ = rows_of_transformers(model, before, [sound(0.8)], ["a"], RATE_HZ)
    np.testing.assert_allclose(stored, expected, atol=1e-5)
    assert Collection.open(tmp_path / "c").encoder_spec == f"clap:{tmp_path / 'clap'}"


def test_pictures_are_refused_with_a_model_that_sees(tmp_path: Path) -> None:
    save_clap(tmp_path / "clap")
    with pytest.raises(ModelError, match="has no image tower; it reads audio, text; use --model starter"):
        open_encoder(f"clap:{tmp_path / 'clap'}").encode_images([])


def test_a_repository_in_the_hubs_cache_needs_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    place = tmp_path / "hub" / "models--someone--clap"
    commit = "0123456789abcdef0123456789abcdef01234567"
    save_clap(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = open_encoder("clap:someone/clap")
    assert encoder.spec == "clap:someone/clap" and encoder.encode_queries(TEXTS).shape == (5, 12)
    with pytest.raises(WeightsMissing) as caught:
        open_encoder("clap:laion/clap-htsat-unfused")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "laion/clap-htsat-unfused can't be fetched and is not in " + str(tmp_path / "hub") in message
    assert "put its config.json, preprocessor_config.json, model.safetensors and tokenizer files" in message
    assert "use --model clap:DIR" in message


def test_show_tells_what_a_clap_reads(tmp_path: Path) -> None:
    save_clap(tmp_path / "clap")
    found = describe_model(f"clap:{tmp_path / 'clap'}")
    assert found.state == "ready" and found.modalities == ["audio", "text"] and found.dim == 12
    assert found.towers["audio"] == "CLAP audio encoder, windows of 1 s"
    assert pull_model(f"clap:{tmp_path / 'clap'}") == {f"clap:{tmp_path / 'clap'}": tmp_path / "clap"}


def test_what_a_directory_lacks_is_said_in_one_line(tmp_path: Path) -> None:
    directory = tmp_path / "clap"

    def said() -> str:
        with pytest.raises(ModelError) as caught:
            open_encoder(f"clap:{directory}").encode_queries(["a"])
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert f"model clap:{directory}: there is no such directory" in said()
    directory.mkdir()
    assert "config.json can't be read (it is not there)" in said()
    (directory / "config.json").write_text('{"model_type": "bert"}')
    assert "config.json is of a bert, not of a whole CLAP model" in said()
    save_clap(directory)
    weights = load_file(directory / "model.safetensors")
    weights["text_projection.linear1.weight"] = torch.zeros(3, 3)
    save_file(weights, directory / "model.safetensors")
    assert "model.safetensors: does not fit the text half of config.json beside it (size mismatch" in said()
    (directory / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(WeightsCorrupt):
        open_encoder(f"clap:{directory}").encode_queries(["a"])
    (directory / "model.safetensors").unlink()
    assert "holds no model.safetensors or pytorch_model.bin" in said()
    for name in ("tokenizer.json", "vocab.json"):
        (directory / name).unlink(missing_ok=True)
    assert "holds no tokenizer.json or vocab.json or merges.txt; save the processor there too" in said()


@pytest.mark.slow
def test_rows_of_a_clap_of_the_published_size_are_those_of_transformers(tmp_path: Path) -> None:
    """HTSAT-tiny and RoBERTa-base with random weights; the tokenizer is a small one, its own being far."""
    model, before = save_clap(tmp_path / "clap", whole=True)
    encoder = ClapEncoder(f"clap:{tmp_path / 'clap'}")
    assert encoder.dim == 512 and encoder.window_s == 10.0
    sounds = [sound(10.0), sound(3.1, 1)]
    audio, texts = rows_of_transformers(model, before, sounds, TEXTS, 48_000)
    found = encoder.encode_audio([encoder.prepare_audio(one) for one in sounds])
    differences = [float(np.abs(found - audio).max()), float(np.abs(encoder.encode_queries(TEXTS) - texts).max())]
    assert max(differences) < 1e-5, differences
