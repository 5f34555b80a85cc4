"""A small reranker on disk, of random weights, that reads with a language model of base weights in a GGUF."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_gguf import save_gguf
from small_model import TRUNK, save_language_model, save_small_model

from indexer.encoders.specs import CONFIG, LoraSpec, TextSpec, read_config
from indexer.encoders.tokens.compressor import Compressor, CompressorSpec
from indexer.encoders.tokens.config import LORA, MediaSources, RerankerConfig
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights import base_weights
from indexer.encoders.weights.base_weights import GGUF_NAME, QWEN_1_5B
from indexer.encoders.weights.gguf_files import describe_gguf
from indexer.encoders.weights.record import write_record
from retrieval.rerank.pair_model import save_reranker
from retrieval.rerank.reader import Reader
from retrieval.rerank.scorer import Scorer, ScorerSpec

PROMPT = 'It shows "{text}" in one word: "'
#: Wide enough for super-blocks of 256, with heads of 16.
WIDE = {
    "hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 16, "num_key_value_heads": 4,
    "num_hidden_layers": 3,
}  # fmt: skip


def install_small_qwen(cache: Path, patch: pytest.MonkeyPatch, kind: str = "qwen2", quants: str = "Q4_1+Q6_K") -> Path:
    """A three-layer language model in the place of Qwen's base weights in a cache, as GGUF alone; its directory."""
    patch.setenv("TRIMODAL_CACHE", str(cache))
    place = base_weights._directory(QWEN_1_5B)
    place.mkdir(parents=True)
    save_gguf(place / GGUF_NAME, save_language_model(cache / "whole", kind, **WIDE), quants)
    (place / GGUF_NAME).rename(cache / GGUF_NAME)
    describe_gguf(cache / GGUF_NAME, place)
    (cache / GGUF_NAME).rename(place / GGUF_NAME)
    write_record(place, {"sha256": QWEN_1_5B.sha256})
    return place


def save_small_reranker(
    model: Path, language_model: Path, *, interaction: str = "bidirectional", lora: LoraSpec | None = None
) -> RerankerConfig:
    """Give a model's directory a reranker over the last two of three layers, all gates open; also of texts."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"layers": 0, "lower": 1, "prompt": PROMPT, "max_tokens": 24}
    reader = Reader(language_model, **settings)
    width, upper = reader.width, len(reader.upper_layers)
    row = ImageTower([TRUNK]).width
    sources = {"image": MediaSources((row,), (), (), ()), "text": MediaSources((width, width), (), (), ())}
    sizes = {"queries": 3, "width": 16, "heads": 2, "summary": 2, "whitened": 12, "hidden": 16}
    compressors = {}
    for name, one in sources.items():
        compressors[name] = Compressor(CompressorSpec(one.sources, **sizes))
        compressors[name].whiten(torch.randn(40, sum(one.rows)))
    spec = ScorerSpec(width, upper, 16, 5, 16, 2, 8, interaction, 12, 16)  # type: ignore[arg-type]
    scorer = Scorer(spec)
    scorer.whiten(torch.randn(60, width))
    for parameter in (*scorer.judge.parameters(), *scorer.text.parameters()):
        torch.nn.init.normal_(parameter, std=0.2)
    for gate in (scorer.gates, scorer.caption_gates, scorer.back_gate):
        torch.nn.init.constant_(gate, 0.04)
    parts = {f"compressor.{name}": one.state_dict() for name, one in compressors.items()}
    parts["scorer"] = scorer.state_dict()
    if lora is not None:
        reader.add_lora(lora)
        adapters = {name: one for name, one in reader.upper_layers.named_parameters() if "lora_" in name}
        for one in adapters.values():
            torch.nn.init.normal_(one, std=0.2)
        parts[LORA] = adapters
    calibration = {name: {"cosine_weight": 1.0, "slope": 0.5, "intercept": 0.0} for name in sources}
    config = RerankerConfig(
        TrainedDualEncoder(model).fingerprint,
        sources,
        dict.fromkeys(sources, sizes),
        {"source": QWEN_1_5B.name, **settings},
        {name: getattr(spec, name) for name in spec.__dataclass_fields__},
        calibration,
        "",
        captions=True,
        lora=None if lora is None else {**lora.__dict__, "targets": list(lora.targets)},
    )
    return save_reranker(model, config, parts)


def save_small_reranked_model(directory: Path, language_model: Path, **options: Any) -> tuple[Path, RerankerConfig]:
    """A small dual encoder with a small reranker; its text tower reads with the same language model."""
    model = save_small_model(directory, text_width=WIDE["hidden_size"])
    tower = TextSpec(QWEN_1_5B.name, layers=2, prompt='"{text}" is ', max_tokens=40, lowercase=True)
    document = replace(read_config(model), text=(tower,)).to_json()
    (model / CONFIG).write_text(json.dumps(document), encoding="utf-8")
    return model, save_small_reranker(model, language_model, **options)
