"""A language model whose weights stay in their GGUF, against the same one converted to safetensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_gguf import save_gguf
from small_model import save_language_model

from indexer.encoders.specs import TextSpec
from indexer.encoders.towers.gguf_weights import StreamedLayer
from indexer.encoders.towers.language_model import open_language_model
from indexer.encoders.towers.text import TextTower
from indexer.encoders.weights.base_weights import GGUF_NAME
from indexer.encoders.weights.gguf_files import convert_gguf, describe_gguf
from indexer.errors import WeightsCorrupt

WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
TEXTS = ["a dog", "rain on a tin roof"]


@pytest.fixture(params=["llama", "qwen2"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """The directory that keeps the GGUF, and the one of safetensors."""
    kept = tmp_path / "kept"
    save_gguf(tmp_path / "m.gguf", save_language_model(tmp_path / "whole", request.param, **WIDE), "Q4_1")
    convert_gguf(tmp_path / "m.gguf", tmp_path / "converted")
    describe_gguf(tmp_path / "m.gguf", kept)
    (tmp_path / "m.gguf").rename(kept / GGUF_NAME)
    return kept, tmp_path / "converted"


def test_it_gives_the_states_and_the_next_tokens_of_the_converted_one(both: tuple[Path, Path]) -> None:
    kept, _ = both
    assert sorted(path.name for path in kept.glob("*.safetensors")) == []
    for layers in (0, 1):
        towers = [TextTower(TextSpec("m", layers, prompt='so "{text}" is'), place) for place in both]
        rows = [torch.from_numpy(tower.features(TEXTS)) for tower in towers]
        torch.testing.assert_close(rows[0], rows[1], atol=2e-2, rtol=2e-2)  # the converted one is rounded to float16
    ids = torch.tensor([[5, 9, 200, 31]])
    with torch.inference_mode():
        logits = [open_language_model(place).with_head()(input_ids=ids).logits for place in both]
    torch.testing.assert_close(logits[0], logits[1], atol=5e-2, rtol=2e-2)
    assert logits[0].std() > 1


def test_only_the_layers_that_are_kept_are_read_and_streamed_ones_hold_nothing(both: tuple[Path, Path]) -> None:
    kept, _ = both
    whole = open_language_model(kept)
    streamed = open_language_model(kept, streamed=1)
    assert isinstance(streamed.layers[0], StreamedLayer) and not list(streamed.layers[0].parameters())
    ids = torch.tensor([[5, 9, 200, 31]])
    with torch.inference_mode():
        states = [one.model(input_ids=ids, use_cache=False).last_hidden_state for one in (whole, streamed, streamed)]
    assert torch.equal(states[0], states[1]) and torch.equal(states[1], states[2])
    cut = open_language_model(kept, torch.bfloat16, layers=1)
    assert len(cut.layers) == 1
    assert {parameter.dtype for parameter in cut.model.parameters()} == {torch.bfloat16}


def test_a_damaged_gguf_is_named(both: tuple[Path, Path]) -> None:
    kept, _ = both
    (kept / GGUF_NAME).write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(WeightsCorrupt, match=r"model\.gguf: .*fetch it again"):
        open_language_model(kept)
