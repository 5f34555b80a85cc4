"""The text half of a CLAP model of transformers: its RoBERTa tower with the projection, and its tokenizer.

Only this half's weights are kept. Pickled code is never run. Knows nothing of sounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indexer.encoders.weights.library_errors import quiet_transformers, rust_panics_as_errors
from indexer.encoders.weights.tensor_files import first_line, read_tensors
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import NO_REMOTE_CODE, clean_folder
from indexer.errors import ModelError, WeightsCorrupt

_HALF = ("text_model.", "text_projection.")


def load_text_half(directory: Path, weights: Path) -> tuple[Any, Any]:
    """``(tokenizer, ClapTextModelWithProjection)``, float32 on the CPU, locked and in eval mode.

    The tokenizer cuts texts at what the model has positions for. Raises :class:`ModelError`, :class:`WeightsCorrupt`.
    """
    ensure_torchvision()
    from transformers import AutoTokenizer, ClapConfig, ClapTextModelWithProjection

    try:
        with quiet_transformers(), rust_panics_as_errors(), clean_folder(directory) as folder:
            config: Any = ClapConfig.from_pretrained(folder, local_files_only=True).text_config
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, **NO_REMOTE_CODE)
            model: Any = ClapTextModelWithProjection(config)
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises bare Exception, transformers several of its own
        raise ModelError(
            f"CLAP model {directory}: can't be opened ({first_line(error)}); fetch it again, or give another one"
        ) from error
    wanted = set(model.state_dict())
    half = {name: value for name, value in read_tensors(weights).items() if name.startswith(_HALF)}
    half = {name: value for name, value in half.items() if name in wanted or not name.endswith("_ids")}  # old buffers
    try:
        model.load_state_dict(half)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()] or [first_line(error)]
        raise WeightsCorrupt(
            f"{weights}: does not fit the text half of config.json beside it ({lines[0][:200]}); fetch the model again"
        ) from error
    positions = int(config.max_position_embeddings) - int(config.pad_token_id) - 1  # RoBERTa counts from its padding on
    tokenizer.model_max_length = min(int(tokenizer.model_max_length), positions)
    return tokenizer, model.eval().requires_grad_(False)
