"""Named tensors of a file on this machine, read without running what is in it.

safetensors, or PyTorch's ``weights_only`` reading of a checkpoint. Knows nothing of what the tensors belong to.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from indexer.errors import TrimodalError, WeightsCorrupt, WeightsMissing
from indexer.reading import failed_reads

_CHECKPOINTS = (".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model")  # under which training programs put the weights beside their optimiser


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a file, floating ones as float32; wrappers and a ``module.`` before names are taken off.

    Raises :class:`WeightsMissing` and :class:`WeightsCorrupt`.
    """
    if not path.is_file():
        raise WeightsMissing(
            f"{path}: is missing; give a file ({', '.join(('.safetensors', *_CHECKPOINTS))}), or hub or hub:TAG"
        )
    try:
        if path.suffix == ".safetensors":
            with failed_reads(path):
                document: Any = load_file(path)
        elif path.suffix in _CHECKPOINTS:
            with failed_reads(path), warnings.catch_warnings():  # of what a file looks like: the error says it
                warnings.simplefilter("ignore")
                document = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsCorrupt(f"{path}: is neither .safetensors nor {', '.join(_CHECKPOINTS)}; convert it to one")
    except TrimodalError:
        raise
    except Exception as error:  # PyTorch's reader of pickles raises whatever odd bytes lead it to
        raise WeightsCorrupt(
            f"{path}: can't be read as plain weights ({first_line(error)}); save its state dict as safetensors"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(document, dict) and isinstance(document.get(wrapper), dict):
            document = document[wrapper]
            break
    tensors = document.items() if isinstance(document, dict) else ()
    weights = {
        str(name).removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in tensors
        if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise WeightsCorrupt(f"{path}: holds no named tensors; save a model's state dict")
    return weights


def first_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
