"""The gate of text towers: who reads what, in torch and in ONNX Runtime, and directories that don't fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_model import save_small_model

from indexer.encoders.specs import CONFIG, HEADS, GateSpec, TextSpec, read_config
from indexer.encoders.text_gate import TextGate, joined_features
from indexer.encoders.towers.load import load_gate, load_heads, save_heads
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import ModelError, WeightsCorrupt
from indexer.training.language_gate import fit_language


class Tower:
    """Gives a text's length and a constant, and notes what it read."""

    def __init__(self, constant: float) -> None:
        self.constant = constant
        self.read: list[str] = []

    def features(self, texts: Sequence[str]) -> np.ndarray:
        self.read += texts
        return np.array([[len(text), self.constant] for text in texts], dtype=np.float32).reshape(-1, 2)


@pytest.mark.parametrize("gated", [0, 1])
def test_a_gated_tower_reads_what_it_can_and_a_mean_stands_for_the_rest(gated: int) -> None:
    towers = [Tower(1.0), Tower(2.0)]
    fill = np.array([7.0, 8.0], np.float32)
    gate = TextGate(GateSpec(gated, 1 - gated), np.array([-1.0, 0.0], np.float32), 3.0, fill)  # three letters or fewer
    texts = ["dog", "Hund", "a", "chien"]
    found = joined_features(towers, texts, gate)
    assert towers[gated].read == ["dog", "a"] and towers[1 - gated].read == texts
    own = found[:, 2 * gated : 2 * gated + 2]
    assert own.tolist() == [[3, gated + 1], [7, 8], [1, gated + 1], [7, 8]]
    assert found[:, 2 - 2 * gated].tolist() == [3, 4, 1, 5]
    assert joined_features(towers, [], gate).shape == (0, 4)
    np.testing.assert_array_equal(joined_features(towers, texts, None)[:, 0], [3, 4, 1, 5])


def test_the_gate_learns_to_tell_two_clouds_apart() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(900, 12)).astype(np.float32) * 5 + 40
    rows[:100, 3] += 30  # a tenth of them
    positive = np.arange(900) < 100
    weight, bias = fit_language(rows, positive)
    assert weight.shape == (12,) and weight.dtype == np.float32
    assert np.mean((rows @ weight + bias >= 0) == positive) > 0.98


def with_gate(directory: Path, spec: GateSpec, width: int) -> TextGate:
    """Put a second text tower and a gate into a small model's directory."""
    config = read_config(directory)
    gate = TextGate(spec, np.ones(width, np.float32), -0.5, np.full(width, 0.25, np.float32))
    heads, _ = load_heads(directory, config)
    sha256 = {**config.sha256, HEADS: save_heads(directory, heads, gate)}
    text = (*config.text, TextSpec("other", readout="mean"))
    document = replace(config, text=text, gate=spec, sha256=sha256).to_json()
    (directory / CONFIG).write_text(json.dumps(document), encoding="utf-8")
    return gate


def test_a_gate_is_written_read_and_part_of_what_a_model_is(tmp_path: Path) -> None:
    directory = save_small_model(tmp_path / "m")
    plain = read_config(directory)
    assert plain.gate is None and "gate" not in plain.to_json() and load_gate(directory, plain) is None
    gate = with_gate(directory, GateSpec(0, 1), 16)
    config = read_config(directory)
    found = load_gate(directory, config)
    assert found is not None and found.spec == GateSpec(0, 1) and found.bias == gate.bias
    np.testing.assert_array_equal(found.weight, gate.weight)
    np.testing.assert_array_equal(found.fill, gate.fill)
    assert config.fingerprint != replace(config, gate=None).fingerprint
    assert config.sha256[HEADS] == sha256_of(directory / HEADS)


@pytest.mark.parametrize("gate", [{"gated": 0, "judge": 0}, {"gated": 2, "judge": 0}, {"gated": -1, "judge": 0}])
def test_a_gate_of_towers_that_are_not_there_is_refused(gate: dict[str, int], tmp_path: Path) -> None:
    directory = save_small_model(tmp_path / "m")
    with_gate(directory, GateSpec(0, 1), 16)
    document = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**document, "gate": gate}))
    with pytest.raises(ModelError, match=r"encoder\.json"):
        read_config(directory)


def test_a_directory_whose_weights_have_no_gate_is_refused(tmp_path: Path) -> None:
    directory = save_small_model(tmp_path / "m")
    with_gate(directory, GateSpec(0, 1), 16)
    config = read_config(directory)
    heads, _ = load_heads(directory, config)
    sha256 = {**config.sha256, HEADS: save_heads(directory, heads)}
    with pytest.raises(WeightsCorrupt, match="gate"):
        load_gate(directory, replace(config, sha256=sha256))
