"""What this machine computes fast, without importing torch: whether many inputs are for ONNX Runtime or for torch.

Measured on processors with AVX2 alone: ONNX Runtime runs the starter's trunks, an input a thread, in half of torch's
time in float32. With AVX512-BF16 or AMX torch multiplies bfloat16 in a quarter of it, and a GPU is faster than both.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16"))
#: Nodes of NVIDIA's, AMD's and Windows' drivers.
_GPU_NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def favours_graphs() -> bool:
    """Whether ONNX Runtime is known to be the faster one here for many inputs, in float32 on the processor.

    No with ``TRIMODAL_DTYPE``, which names a number format of torch.
    """
    return os.environ.get("TRIMODAL_DTYPE", "auto") == "auto" and not may_have_gpu() and _is_measured(cpu_flags())


def may_have_gpu() -> bool:
    """Whether a driver of a GPU is there; torch knows whether it is of use."""
    return any(Path(node).exists() for node in _GPU_NODES)


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's features, as Linux names them; empty where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def _is_measured(flags: frozenset[str]) -> bool:
    return platform.machine() in ("x86_64", "AMD64") and "avx2" in flags and not flags & _BFLOAT16
