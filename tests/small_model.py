"""A small real dual encoder on disk: real architectures, random weights, in the layout that training writes.

The picture trunk is timm's smallest ViT, the language model a two-layer Llama with a byte-level tokenizer, the sound
tower a two-layer Whisper encoder. Made by the test itself in a few hundred milliseconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from indexer.encoders.audio import AudioTower
from indexer.encoders.heads import ProjectionHead
from indexer.encoders.image import ImageTower
from indexer.encoders.specs import CONFIG, EncoderConfig, HeadSpec, TextSpec, TrunkSpec, WhisperSpec
from indexer.encoders.torchvision_ops import ensure_torchvision
from indexer.encoders.towers import save_heads
from indexer.encoders.weights import sha256_of

TRUNK = TrunkSpec("test_vit", "cls+mean", "image-test.safetensors", size_px=160)
WHISPER = WhisperSpec("audio-test.safetensors", width=16, layers=2, heads=2, mel_bins=80, window_s=2.0)
DIM = 24


def save_language_model(directory: Path, *, seed: int = 0) -> Path:
    """A two-layer Llama of width 16 with a byte-level tokenizer, in transformers' layout."""
    ensure_torchvision()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: n for n, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(alphabet), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def save_towers(directory: Path, *, seed: int = 0) -> None:
    """Random weights of the picture trunk and the sound tower, in the names that the towers load."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    trunk = ImageTower([TRUNK]).trunks[0].model
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, directory / TRUNK.weights)
    encoder = AudioTower(WHISPER).encoder
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, directory / WHISPER.weights)


def save_small_model(directory: Path, *, seed: int = 0) -> Path:
    """The whole encoder directory; another ``seed`` gives another model of the same shape."""
    save_towers(directory, seed=seed)
    language_model = save_language_model(directory / "lm", seed=seed)
    image_width, audio_width = ImageTower([TRUNK]).width, AudioTower(WHISPER).width
    specs = {
        "image": HeadSpec(image_width, 12, 8, DIM),
        "audio": HeadSpec(audio_width, 12, 8, DIM),
        "text": HeadSpec(16, 12, 8, DIM),
    }
    torch.manual_seed(seed)
    heads = {name: ProjectionHead(spec) for name, spec in specs.items()}
    for head in heads.values():
        head.set_whitening(torch.zeros(head.spec.inputs), torch.randn(head.spec.inputs, 12))
    sha256 = {name: sha256_of(directory / name) for name in (TRUNK.weights, WHISPER.weights)}
    sha256["heads.safetensors"] = save_heads(directory, heads)
    text = TextSpec(str(language_model), prompt='"{text}" is ', max_tokens=40)
    config = EncoderConfig("small", DIM, (TRUNK,), WHISPER, text, specs, sha256)
    (directory / CONFIG).write_text(json.dumps(config.to_json()), encoding="utf-8")
    return directory
