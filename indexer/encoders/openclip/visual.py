"""The picture half of a whole open_clip model: what it is, its weights, and the module that takes them.

The model is loaded once by open_clip itself, with all that it converts, and its picture half is kept: whole, with the
projection, so that the rows are ``encode_image``'s. Knows nothing of heads or of training.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from indexer.encoders.openclip.config import check_config
from indexer.encoders.openclip.source import CONFIG, OpenClipSource
from indexer.encoders.openclip.weights import load_openclip, quiet
from indexer.encoders.specs import ClipSpec
from indexer.encoders.weights.tensor_files import first_line
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError

# The half that is thrown away, as small as it can be: the text tower of a big model is seconds of random numbers, and
# some are built from configurations that only the hub has.
NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def clip_spec(source: OpenClipSource, weights: str) -> ClipSpec:
    """The picture half of ``source`` as an encoder's directory describes it; ``weights`` names its file."""
    size: list[int] = source.preprocess["size"]
    return ClipSpec(
        arch=source.arch,
        readout="pooled",
        weights=weights,
        size_px=max(size),
        library="open_clip",
        mean=tuple(source.preprocess["mean"]),
        std=tuple(source.preprocess["std"]),
        fit="crop",
        config={name: value for name, value in source.config.items() if name not in ("text_cfg", "multimodal_cfg")},
        preprocess=source.preprocess,
    )


def visual_weights(source: OpenClipSource) -> dict[str, torch.Tensor]:
    """Weights of ``build_visual(clip_spec(source, …))``, float32 on the CPU. Raises as :func:`load_openclip`."""
    visual = load_openclip(source, torch.device("cpu"), torch.float32).visual
    return {name: value.clone().contiguous() for name, value in visual.state_dict().items()}


def build_visual(spec: ClipSpec) -> Any:
    """The module with random weights. Raises :class:`ModelError` for a configuration that makes none."""
    ensure_torchvision()
    import open_clip

    config = {**spec.config, "text_cfg": NO_TEXT}
    check_config(config, f"picture tower {spec.arch}")
    try:
        with quiet(), tempfile.TemporaryDirectory() as work:
            (Path(work) / CONFIG).write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
            return open_clip.create_model(f"local-dir:{work}", load_weights=False, pretrained_text=False).visual
    except (RuntimeError, AssertionError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"picture tower {spec.arch}: its configuration makes no open_clip model ({first_line(error)}); train or "
            f"fetch the model again"
        ) from error
