"""A GGUF file (llama.cpp's format, often quantised) made into transformers' layout, once; or all but its weights.

Knows nothing of where files come from.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from indexer.errors import ModelError

_MAGIC = b"GGUF"


def check_gguf(path: Path) -> None:
    """Raise :class:`ModelError` unless the file starts as a GGUF does."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise ModelError(f"language model {path}: can't be read ({error.strerror or error})") from error
    if magic != _MAGIC:
        raise ModelError(f"language model {path}: is no GGUF file (it starts with {magic!r}); fetch it again")


def convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantise a GGUF into a directory: config, float16 safetensors with the language-model head, tokenizer.

    Raises :class:`ModelError` for a damaged file or an architecture that transformers does not read from GGUF.
    """
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from indexer.encoders.weights.library_errors import quiet_transformers, stated_errors
    from indexer.encoders.weights.untrusted import NO_REMOTE_CODE, alone

    # the GGUF reader has a progress bar of its own that no setting turns off
    with stated_errors(gguf), quiet_transformers(), contextlib.redirect_stderr(io.StringIO()), alone(gguf) as file:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **NO_REMOTE_CODE)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, **NO_REMOTE_CODE
        )
        # transformers refuses to save what it loaded from a GGUF; a plain model with the same weights it saves
        settings = model.config.to_dict()
        settings.pop("quantization_config", None)
        halves = {name: tensor.half() for name, tensor in model.state_dict().items()}
        with torch.device("meta"):  # takes the weights over: a large model is not held once more
            plain: Any = type(model)(type(model.config).from_dict(settings))
        plain.load_state_dict(halves, assign=True)
        plain.tie_weights()
    with quiet_transformers():  # a full disk is the caller's to report
        plain.save_pretrained(target)
        tokenizer.save_pretrained(target)


def describe_gguf(gguf: Path, target: Path) -> None:
    """Write ``config.json`` and the tokenizer of a GGUF into a directory; its weights are read from it itself.

    Raises as :func:`convert_gguf`.
    """
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    from transformers import AutoConfig, AutoTokenizer

    from indexer.encoders.weights.library_errors import quiet_transformers, stated_errors
    from indexer.encoders.weights.untrusted import NO_REMOTE_CODE, alone

    with stated_errors(gguf), quiet_transformers(), contextlib.redirect_stderr(io.StringIO()), alone(gguf) as file:
        config: Any = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, **NO_REMOTE_CODE)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **NO_REMOTE_CODE)
        if not config.architectures:
            config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
    with quiet_transformers():  # a full disk is the caller's to report
        config.save_pretrained(target)
        tokenizer.save_pretrained(target)
