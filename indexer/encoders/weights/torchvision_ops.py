"""Lets ``torchvision`` be imported beside a CPU-only torch.

Some torchvision wheels carry operators compiled for CUDA. Beside a CPU build of torch they can't be loaded, and
importing torchvision, and so timm, open_clip and transformers' image code, dies with "operator torchvision::nms does
not exist", though none of those operators is used here. Declaring the two schemas that are registered at import mends
it. Nothing is done where torchvision imports by itself.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_SCHEMAS = ("nms", "qnms")
_library: object = None  # kept alive: the schemas go with it


def ensure_torchvision() -> None:
    """Import torchvision, declaring the missing operator schemas first where that is what fails. Idempotent."""
    global _library
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        import torch

        for name in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
            del sys.modules[name]  # half-imported
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(f"{schema}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library = library
        importlib.import_module("torchvision")
