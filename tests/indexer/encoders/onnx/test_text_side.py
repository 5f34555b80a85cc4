"""Texts in ONNX Runtime against the torch towers: features, embeddings, and a search that imports no torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from light_search import light_search
from small_gguf import save_gguf
from small_media import pictures
from small_model import save_language_model, save_small_model
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders import open_encoder
from indexer.encoders.onnx import making, text_side
from indexer.encoders.onnx.decoder_graph import write_decoder
from indexer.encoders.onnx.encoder_graph import write_encoder
from indexer.encoders.onnx.head_graph import write_head
from indexer.encoders.onnx.hubness import correct_hubness, unit
from indexer.encoders.onnx.session import open_session
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.onnx.text_tower import OnnxTextTower
from indexer.encoders.specs import CONFIG, HubnessSpec, LoraSpec, TextSpec, read_config
from indexer.encoders.towers.hubness import HubnessCorrection
from indexer.encoders.towers.load import load_heads
from indexer.encoders.towers.text import TextTower
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights import base_weights
from indexer.encoders.weights.base_weights import GGUF_NAME, MINILM_L6_V2, SMOLLM2_135M, sha256_of
from indexer.encoders.weights.gguf_files import convert_gguf
from indexer.encoders.weights.record import write_record
from indexer.errors import WeightsCorrupt

TEXTS = ["a dog", "A Dog.", "rain on a tin roof", "", "word " * 90, "x", "zwölf: ein hund"]
WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.asarray((ours * theirs).sum(axis=1) / lengths)


# towers


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("quants", ["F32", "Q4_0", "Q4_1"])
def test_a_decoder_gives_the_features_of_its_torch_tower(kind: str, quants: str, readout: str, tmp_path: Path) -> None:
    save_gguf(tmp_path / "m.gguf", save_language_model(tmp_path / "whole", kind, **WIDE), quants)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "lm")
    spec = TextSpec("m", layers=1, readout=readout, prompt='so "{text}" is', max_tokens=40)  # type: ignore[arg-type]
    (tmp_path / "graph").mkdir()
    write_decoder(tmp_path / "m.gguf", tmp_path / "graph", spec.layers)
    ours = OnnxTextTower(spec, tmp_path / "graph", tmp_path / "lm" / "tokenizer.json")
    theirs = TextTower(spec, tmp_path / "lm")
    assert [ours.token_ids(text) for text in TEXTS] == [theirs.token_ids(text) for text in TEXTS]
    assert cosines(ours.features(TEXTS), theirs.features(TEXTS)).min() > 0.9999


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("prompt", ["{text}", "ab {text} c"])
def test_an_encoder_gives_the_features_of_its_torch_tower(
    prompt: str, layers: int, readout: str, tmp_path: Path
) -> None:
    directory = save_language_model(tmp_path / "lm", "bert")
    spec = TextSpec("m", layers, readout=readout, prompt=prompt, max_tokens=40, lowercase=True)  # type: ignore[arg-type]
    (tmp_path / "graph").mkdir()
    write_encoder(directory, tmp_path / "graph", layers)
    ours, theirs = OnnxTextTower(spec, tmp_path / "graph", directory / "tokenizer.json"), TextTower(spec, directory)
    assert [ours.token_ids(text) for text in TEXTS] == [theirs.token_ids(text) for text in TEXTS]
    assert cosines(ours.features(TEXTS), theirs.features(TEXTS)).min() > 0.9999


def test_a_text_does_not_depend_on_the_texts_beside_it(tmp_path: Path) -> None:
    directory = save_language_model(tmp_path / "lm", "bert")
    (tmp_path / "graph").mkdir()
    write_encoder(directory, tmp_path / "graph", 0)
    tower = OnnxTextTower(TextSpec("m", readout="mean"), tmp_path / "graph", directory / "tokenizer.json")
    alone = np.concatenate([tower.features([text]) for text in TEXTS])
    np.testing.assert_allclose(tower.features(TEXTS), alone, atol=1e-5)
    assert tower.features([]).shape == (0, 16)


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "modernbert"])
def test_a_model_without_a_graph_is_named(kind: str, tmp_path: Path) -> None:
    directory = save_language_model(tmp_path / "lm", kind)
    with pytest.raises(NoOnnxForm, match="has no graph"):
        write_encoder(directory, tmp_path, 0)
    (tmp_path / "no.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(NoOnnxForm, match=r"no\.gguf: can't be read"):
        write_decoder(tmp_path / "no.gguf", tmp_path, 0)


# heads


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_the_head_and_the_correction_against_hubs_are_torchs(modality: str, tmp_path: Path) -> None:
    directory = save_small_model(tmp_path / "model")
    config = read_config(directory)
    write_head(directory, config, tmp_path, modality)
    width = config.heads[modality].inputs
    features = np.random.default_rng(0).normal(size=(9, width)).astype(np.float32)
    heads, _ = load_heads(directory, config)
    with torch.inference_mode():
        expected = heads[modality](torch.from_numpy(features)).numpy()
    (rows,) = open_session(tmp_path / "head.onnx").run(["out"], {"features": features})
    ours = unit(rows)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    spec = HubnessSpec(bank=7, neighbours=3, weight=0.4)
    correction = HubnessCorrection(spec, config.dim)
    bank = torch.nn.functional.normalize(torch.randn(7, config.dim), dim=1)
    correction.fill(bank, bank)
    corrected = correct_hubness(ours, bank.numpy(), spec, modality)
    np.testing.assert_allclose(corrected, correction(torch.from_numpy(ours), modality).numpy(), atol=1e-5)


# a whole model


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model whose text towers are base weights in a cache of their own: a GGUF of 4 bits and a BERT."""
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    save_gguf(tmp_path / "m.gguf", save_language_model(tmp_path / "whole", **WIDE), "Q4_1")
    for base in (SMOLLM2_135M, MINILM_L6_V2):
        monkeypatch.setitem(base_weights.BASE_WEIGHTS, base.name, replace(base, converted={}))
        place = base_weights._directory(base)
        if base.form == "gguf":
            place.parent.mkdir(parents=True)
            convert_gguf(tmp_path / "m.gguf", place)
            (tmp_path / "m.gguf").rename(place / GGUF_NAME)
        else:
            save_language_model(place, "bert")
        write_record(place, {"sha256": base.sha256})
    directory = save_small_model(tmp_path / "model", text_width=80)
    towers = (
        TextSpec(SMOLLM2_135M.name, prompt='"{text}" is ', max_tokens=40, lowercase=True),
        TextSpec(MINILM_L6_V2.name, readout="mean", max_tokens=40),
    )
    config = replace(read_config(directory), text=towers)
    (directory / CONFIG).write_text(json.dumps(config.to_json()), encoding="utf-8")
    return directory


def test_pulling_a_model_makes_its_graphs_once_and_they_give_its_embeddings(model: Path, tmp_path: Path) -> None:
    assert text_side.open_text_side(read_config(model), str(model)) is None
    expected = TrainedDualEncoder(model).encode_queries(TEXTS)
    assert CliRunner().invoke(app, ["models", "pull", str(model)]).exit_code == 0
    files = sorted((tmp_path / "cache" / "onnx").rglob("*"))
    stamps = [file.stat().st_mtime_ns for file in files]
    encoder = TrainedDualEncoder(model)
    side = encoder._text_side
    assert side is not None
    assert cosines(side.encode(TEXTS), expected).min() > 0.9999
    np.testing.assert_array_equal(encoder.encode_queries(TEXTS), side.encode(TEXTS))
    assert encoder.encode_queries([]).shape == (0, encoder.dim)
    for text in TEXTS:
        assert side.measure().read_chars(text, 9) == encoder.text_tower.measure().read_chars(text, 9)
    assert CliRunner().invoke(app, ["models", "pull", str(model)]).exit_code == 0
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "cache" / "onnx").rglob("*"))] == stamps


def test_a_search_with_graphs_imports_no_torch_and_finds_what_torch_finds(model: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "media", 12)
    place = tmp_path / "c"
    runner = CliRunner()
    assert runner.invoke(app, ["models", "pull", str(model)]).exit_code == 0
    assert (
        runner.invoke(app, ["index", str(tmp_path / "media"), "-c", str(place), "--model", str(model)]).exit_code == 0
    )
    ours, theirs = light_search(place, "a dog")
    assert [hit["path"] for hit in ours] == [hit["path"] for hit in theirs]
    np.testing.assert_allclose(*([hit["score"] for hit in hits] for hits in (ours, theirs)), atol=1e-3)


def test_a_damaged_graph_is_named_and_pulling_makes_it_again(model: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["models", "pull", str(model)]).exit_code == 0
    (file,) = [
        path for path in (tmp_path / "cache" / "onnx").glob("tower-*/tower.bin") if path.stat().st_size > 20_000
    ][:1]
    digest = sha256_of(file)
    with file.open("r+b") as damaged:
        damaged.seek(5_000)
        damaged.write(b"other bytes")
    with pytest.raises(WeightsCorrupt, match=r"tower\.bin: is damaged .* trimodal models pull"):
        TrainedDualEncoder(model).encode_queries(["a dog"])
    assert runner.invoke(app, ["models", "pull", str(model)]).exit_code == 0
    assert sha256_of(file) == digest
    assert len(TrainedDualEncoder(model).encode_queries(["a dog"])) == 1


def test_a_graph_that_gives_something_else_is_not_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "LEAST_COSINE", 1.1)
    assert CliRunner().invoke(app, ["models", "pull", str(model)]).exit_code == 0
    encoder = TrainedDualEncoder(model)
    assert encoder._text_side is None
    assert len(encoder.encode_queries(["a dog"])) == 1


def test_towers_that_were_trained_and_gpus_have_no_graphs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(model)
    assert text_side.has_onnx_form(config)
    for change in ({"lora": LoraSpec()}, {"adapter": "a.safetensors"}, {"attention": "bidirectional"}):
        assert not text_side.has_onnx_form(replace(config, text=(replace(config.text[0], **change),)))
    assert CliRunner().invoke(app, ["models", "pull", str(model)]).exit_code == 0
    assert TrainedDualEncoder(model, device="cuda")._text_side is None
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")
    assert TrainedDualEncoder(model)._text_side is None
    assert isinstance(open_encoder(str(model)), TrainedDualEncoder)
