"""Model directories of every kind, of which one file is damaged; and files of weights alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.attack import model_dirs
from benchmarks.attack.seeds import Seed, files_below


def make(work: Path) -> list[Seed]:
    """All of them. The trained model's language model stays in ``work``: its ``encoder.json`` names the place."""
    with model_dirs.quiet():
        trained = model_dirs.small_model(work / "trained")
        openclip = model_dirs.openclip_directory(work / "openclip")
        clap = model_dirs.clap_directory(work / "clap")
    found = [
        *_of_directory("trained", "model", trained),
        *_of_directory("openclip", "model:openclip", openclip),
        *_of_directory("clap", "model:clap", clap),
        _reranker(),
    ]
    weights = (clap / "model.safetensors").read_bytes()
    found.append(Seed("weights", "tensors", "w.safetensors", {"w.safetensors": weights}, "safetensors", 1.0))
    found += [
        Seed(f"weights{suffix}", "tensors", f"w{suffix}", {f"w{suffix}": _checkpoint()}, "", 0.6)
        for suffix in (".pt", ".bin")
    ]
    gguf = model_dirs.gguf_file(work / "small.gguf").read_bytes()
    found.append(Seed("gguf", "gguf", "small.gguf", {"small.gguf": gguf}, "", 0.3))
    return found


def _of_directory(name: str, reader: str, directory: Path) -> list[Seed]:
    files = {f"m/{path}": content for path, content in files_below(directory).items()}
    found = []
    for path in files:
        if path.endswith("README.md"):
            continue
        format = {".json": "json", ".safetensors": "safetensors"}.get(Path(path).suffix, "")
        weight = 0.15 if format == "safetensors" else 0.4
        found.append(Seed(f"{name}-{path.removeprefix('m/')}", reader, path, files, format, weight))
    return found


def _checkpoint() -> bytes:
    import io

    import torch

    file = io.BytesIO()
    torch.save({"state_dict": {"a.weight": torch.zeros(3, 4), "b": torch.arange(5)}}, file)
    return file.getvalue()


def _reranker() -> Seed:
    from indexer.encoders.tokens.config import MediaSources, RerankerConfig

    sizes = {"queries": 2, "summary": 1, "width": 8, "heads": 2, "whitened": 8, "hidden": 8}
    config = RerankerConfig(
        encoder="0" * 32,
        sources={"image": MediaSources((8,), (0,), (4,), (8,))},
        compressors={"image": sizes},
        language_model={"source": "smollm2", "layers": 2, "lower": 1, "prompt": "{text}", "max_tokens": 8},
        scorer={"inner": 8, "heads": 2, "joint": 8, "interaction": "one-way"},
        calibration={"image": {"cosine_weight": 1.0, "slope": 1.0, "intercept": 0.0}},
        sha256="0" * 64,
    )
    content = json.dumps({"format": 1, **asdict(config)}).encode()
    name = "m/reranker/reranker.json"
    return Seed("reranker", "reranker", name, {name: content}, "json", 1.0)
