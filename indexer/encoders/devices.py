"""Which device and number format a tower runs in.

``--device auto|cpu|cuda[:n]``: ``auto`` takes the first CUDA device if there is one. bfloat16 is chosen where the
hardware multiplies it (AVX512-BF16 or AMX on a CPU, compute capability 8.0 on a GPU); ``TRIMODAL_DTYPE=float32``,
``bfloat16`` or ``float16`` overrules it. Embeddings are float32 either way.
"""

from __future__ import annotations

import os

import torch

from indexer.errors import UsageError


def choose_device(device: str = "auto") -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:n`` -> a device that exists; :class:`UsageError` otherwise."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    name, _, number = device.partition(":")
    if name != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"--device {device}: not a device; use auto, cpu, cuda or cuda:0")
    if not torch.cuda.is_available():
        built = "this torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        raise UsageError(f"--device {device}: {built}; use --device cpu, or install a CUDA build of torch")
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return torch.device(device)


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where ``device`` multiplies it in hardware, else float32."""
    requested = os.environ.get("TRIMODAL_DTYPE", "auto")
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if requested in named:
        return named[requested]
    if requested != "auto":
        raise UsageError(f"TRIMODAL_DTYPE={requested}: use auto, {', '.join(named)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if has_bf16() or has_amx() else torch.float32


def mixed_precision(device: torch.device) -> torch.autocast:
    """A context in which float32 modules multiply in bfloat16, where :func:`choose_dtype` chooses it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=choose_dtype(device) is torch.bfloat16)
