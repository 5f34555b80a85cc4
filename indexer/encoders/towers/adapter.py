"""What training adds to or changes in a language model: LoRA (peft), unlocked layers, and the file that keeps them.

A file holds the trained tensors only, float16, with metadata naming the model that they belong to. LoRA is folded
into the weights where nobody trains, so that searching costs nothing more. Knows nothing of tokens or read-outs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from indexer.encoders.specs import LoraSpec
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import ModelError, StorageError, WeightsCorrupt, WeightsMissing
from indexer.reading import failed_reads

KIND = "trimodal text adapter"


def add_lora(model: nn.Module, stack: str, spec: LoraSpec) -> None:
    """Put low-rank adapters into the linear layers of ``stack`` (Hu et al. 2021), in place; they start as identity.

    The adapters are float32 whatever the model's dtype (an optimiser's small steps are lost in bfloat16) and
    trainable; everything else is locked. Raises :class:`ModelError` for a target that no linear layer is named by.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets, convolutions = _targets(model, stack, spec.targets)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # a factor; peft means any number
        lora_dropout=spec.dropout,
        target_modules=targets,
        fan_in_fan_out=convolutions,
        bias="none",
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        is_adapter = _is_lora(name)
        parameter.requires_grad_(is_adapter)
        if is_adapter:
            parameter.data = parameter.data.float()


def merge_lora(model: nn.Module) -> None:
    """Fold the adapters into the weights that they adapt, and take them away."""
    for name, layer in list(lora_layers(model)):
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())


def lora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and layers that hold adapters."""
    return ((name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))


def save_trained(path: Path, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    """Write trained tensors as float16 and what they belong to; return the file's sha256. :class:`StorageError`."""
    weights = {name: tensor.detach().cpu().half().contiguous() for name, tensor in state.items()}
    metadata = {"format": "pt", "kind": KIND, "base": json.dumps(dict(facts), sort_keys=True)}
    try:
        save_file(weights, path, metadata=metadata)
        path.chmod(0o644)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path}: can't be written ({error}); free some space or choose another place") from error
    return sha256_of(path)


def read_trained(path: Path, facts: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a file, float32, if it belongs to the model of ``facts``.

    Raises :class:`WeightsMissing`, or :class:`WeightsCorrupt` naming what differs.
    """
    if not path.is_file():
        raise WeightsMissing(f"{path}: is missing; fetch the model again, or train it again")
    try:
        with failed_reads(path), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a dict
        base = json.loads(metadata["base"]) if metadata.get("kind") == KIND else None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise WeightsCorrupt(f"{path}: is no whole safetensors file ({error}); fetch the model again") from error
    if not isinstance(base, dict):
        raise WeightsCorrupt(f"{path}: is no adapter of a text tower; correct `adapter` in encoder.json")
    for name, value in facts.items():
        if base.get(name) != value:
            raise WeightsCorrupt(
                f"{path}: was trained with {name} {base.get(name)}, this tower has {value}; train or fetch it again"
            )
    return state


def lora_facts(spec: LoraSpec | None) -> Any:
    """A spec as JSON gives it back (tuples are lists there); dropout is of training alone and left out."""
    facts = json.loads(json.dumps(asdict(spec))) if spec else None
    return {key: value for key, value in facts.items() if key != "dropout"} if facts else None


def put_trained(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy tensors into the parameters of those names. Raises :class:`WeightsCorrupt` where one does not fit."""
    parameters = dict(module.named_parameters())
    for name, tensor in state.items():
        parameter = parameters.get(name)
        if parameter is None or parameter.shape != tensor.shape:
            found = "nothing of that name" if parameter is None else f"{tuple(parameter.shape)}"
            raise WeightsCorrupt(
                f"{path}: {name} {tuple(tensor.shape)} does not fit the tower ({found}); train or fetch it again"
            )
        parameter.data.copy_(tensor)
    lacking = sorted(name for name in parameters if _is_lora(name) and name not in state)
    if lacking:
        raise WeightsCorrupt(f"{path}: lacks {len(lacking)} tensors, as {lacking[0]}; train or fetch it again")


def _targets(model: nn.Module, stack: str, targets: Sequence[str]) -> tuple[list[str], bool]:
    """Full names of the linear layers that ``targets`` name, and whether they are GPT-2's transposed ``Conv1D``."""
    from transformers.pytorch_utils import Conv1D

    linear = {
        name: module
        for name, module in model.named_modules()
        if name.startswith(f"{stack}.") and isinstance(module, nn.Linear | Conv1D)
    }
    unknown = [target for target in targets if target != "all-linear" and not _named(linear, target)]
    if unknown or not targets:
        short = sorted({name.rpartition(".")[2] for name in linear})
        raise ModelError(
            f"lora target {', '.join(unknown) or '(none)'}: this model's linear layers are {', '.join(short)}; "
            "name some of them, or all-linear"
        )
    names = linear if "all-linear" in targets else {name for target in targets for name in _named(linear, target)}
    return sorted(names), any(isinstance(linear[name], Conv1D) for name in names)


def _named(names: Mapping[str, object], target: str) -> list[str]:
    return [name for name in names if f".{name}".endswith(f".{target}")]


def _is_lora(name: str) -> bool:
    return ".lora_" in name
