"""A small real dual encoder on disk: real architectures, random weights, in the layout that training writes.

The picture trunk is timm's smallest ViT, the language model a two-layer Llama with a byte-level tokenizer, the sound
tower a two-layer Whisper encoder. Made by the test itself in a few hundred milliseconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from indexer.encoders.specs import CONFIG, EncoderConfig, HeadSpec, TextSpec, TrunkSpec, WhisperSpec
from indexer.encoders.towers.audio import AudioTower
from indexer.encoders.towers.heads import ProjectionHead
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.load import save_heads
from indexer.encoders.weights.base_weights import sha256_of
from indexer.encoders.weights.torchvision_ops import ensure_torchvision

TRUNK = TrunkSpec("test_vit", "cls+mean", "image-test.safetensors", size_px=160)
WHISPER = WhisperSpec("audio-test.safetensors", width=16, layers=2, heads=2, mel_bins=80, window_s=2.0)
DIM = 24


def save_language_model(directory: Path, kind: str = "llama", *, seed: int = 0, **changes: Any) -> Path:
    """A two-layer language model of width 16 in transformers' layout: llama, qwen2, gpt2, bert, roberta, modernbert.

    Decoders get a byte-level tokenizer without special tokens, encoders one of letters with ``[CLS]`` and ``[SEP]``.
    ``changes`` go into the model's config.
    """
    ensure_torchvision()
    import transformers

    torch.manual_seed(seed)
    if kind in ("bert", "roberta", "modernbert"):
        vocabulary = save_word_tokenizer(directory)
    else:
        vocabulary = save_byte_tokenizer(directory)
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    if kind != "gpt2":
        sizes["intermediate_size"] = 32
    if kind in ("llama", "qwen2"):
        sizes |= {"num_key_value_heads": 2, "tie_word_embeddings": False}
    if kind == "modernbert":
        sizes |= {"cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 1}
    names = {
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
        "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
        "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
        "bert": ("BertConfig", "BertModel"),
        "roberta": ("RobertaConfig", "RobertaForMaskedLM"),
        "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM"),
    }
    config_class, model_class = (getattr(transformers, name) for name in names[kind])
    model = model_class(config_class(**{**sizes, **changes}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)  # so that tokens are told apart and see each other
    model.save_pretrained(directory)
    return directory


def save_byte_tokenizer(directory: Path) -> int:
    """A byte-level tokenizer without merges or special tokens; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: n for n, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer).save_pretrained(directory)
    return len(alphabet)


def save_word_tokenizer(directory: Path) -> int:
    """A WordPiece tokenizer of single letters with ``[CLS]`` 2 and ``[SEP]`` 3; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*special, *letters, *(f"##{letter}" for letter in letters), ":", "."]
    tokenizer = Tokenizer(models.WordPiece(vocab={word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast: Any = PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(directory)
    return len(words)


def save_towers(directory: Path, *, seed: int = 0) -> None:
    """Random weights of the picture trunk and the sound tower, in the names that the towers load."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    trunk: Any = ImageTower([TRUNK]).trunks[0].model
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, directory / TRUNK.weights)
    encoder = AudioTower(WHISPER).encoder
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, directory / WHISPER.weights)


def save_small_model(directory: Path, *, seed: int = 0, text_width: int = 16) -> Path:
    """The whole encoder directory; another ``seed`` gives another model of the same shape.

    ``text_width``: features of the text towers that the caller puts in place of its own.
    """
    save_towers(directory, seed=seed)
    language_model = save_language_model(directory / "lm", seed=seed)
    image_width, audio_width = ImageTower([TRUNK]).width, AudioTower(WHISPER).width
    specs = {
        "image": HeadSpec(image_width, 12, 8, DIM),
        "audio": HeadSpec(audio_width, 12, 8, DIM),
        "text": HeadSpec(text_width, 12, 8, DIM),
    }
    torch.manual_seed(seed)
    heads = {name: ProjectionHead(spec) for name, spec in specs.items()}
    for head in heads.values():
        head.set_whitening(torch.zeros(head.spec.inputs), torch.randn(head.spec.inputs, 12))
    sha256 = {name: sha256_of(directory / name) for name in (TRUNK.weights, WHISPER.weights)}
    sha256["heads.safetensors"] = save_heads(directory, heads)
    text = TextSpec(str(language_model), prompt='"{text}" is ', max_tokens=40)
    config = EncoderConfig("small", DIM, (TRUNK,), WHISPER, (text,), specs, sha256)
    (directory / CONFIG).write_text(json.dumps(config.to_json()), encoding="utf-8")
    return directory
