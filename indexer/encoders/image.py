"""The picture tower: one or several locked trunks of timm, side by side.

Each trunk reads the same picture at its own size; their read-outs are concatenated to one feature row, which the
head of the dual encoder projects. Preprocessing is the tower's own: the picture is fitted whole into the square
(padded with white, so nothing is cut off; transparent pictures stand on white already), then normalised with
ImageNet's mean and standard deviation, as DINOv2 and TinyViT were. Knows nothing of text or of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from indexer.encoders.specs import TrunkSpec
from indexer.encoders.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError

_MEAN = (0.485, 0.456, 0.406)  # ImageNet, as both trunks were trained
_STD = (0.229, 0.224, 0.225)


class Trunk(nn.Module):
    """One timm trunk with its read-out: pixels ``(n, 3, s, s)`` -> float features ``(n, width)``."""

    model: Any

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        ensure_torchvision()
        import timm

        options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
        if "patch14" in spec.arch:
            options["img_size"] = spec.size_px
        try:
            self.model = timm.create_model(spec.arch, **options)
        except RuntimeError as error:
            raise ModelError(f"picture trunk {spec.arch}: timm has no such architecture ({error})") from error
        self.spec = spec
        self.width = int(self.model.num_features) * (2 if spec.readout == "cls+mean" else 1)

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Last features: ``(n, tokens, width)`` for a ViT, ``(n, width, h, w)`` for a hybrid."""
        tokens: torch.Tensor = self.model.forward_features(pixels)
        return tokens

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(pixels)
        if self.spec.readout == "cls+mean":
            prefix = self.model.num_prefix_tokens
            return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1)
        pooled: torch.Tensor = self.model.forward_head(tokens, pre_logits=True)
        return pooled


class ImageTower(nn.Module):
    """Trunks side by side. ``width`` is the sum of theirs; all are locked and in eval mode."""

    def __init__(self, specs: Sequence[TrunkSpec]) -> None:
        super().__init__()
        trunks = [Trunk(spec) for spec in specs]
        self.trunks = nn.ModuleList(trunks)
        self.size_px = max(spec.size_px for spec in specs)
        self.width = sum(trunk.width for trunk in trunks)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """RGB picture of any size -> uint8 ``(size_px, size_px, 3)``, fitted whole on white. Thread-safe."""
        return fit_on_white(picture, self.size_px)

    @torch.inference_mode()
    def features(self, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Prepared pictures -> float32 ``(n, width)``, not normalised."""
        parameter = next(self.parameters())
        stacked = torch.from_numpy(np.stack(prepared)).to(parameter.device)
        pixels = stacked.permute(0, 3, 1, 2).float() / 255.0  # (n, h, w, 3) -> (n, 3, h, w)
        pixels = ((pixels - self.mean.float()) / self.std.float()).to(parameter.dtype)  # type: ignore[operator]
        rows = []
        for trunk in self.trunks:
            assert isinstance(trunk, Trunk)
            side = trunk.spec.size_px
            sized = pixels
            if side != self.size_px:
                sized = nn.functional.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)
            rows.append(trunk(sized).float())
        return np.asarray(torch.cat(rows, dim=1).cpu().numpy(), dtype=np.float32)


def fit_on_white(picture: Image.Image, size_px: int) -> NDArray[np.uint8]:
    """Scale (bicubic, up or down) so that the longer side is ``size_px``, centre on white: ``(s, s, 3)`` uint8."""
    fitted = ImageOps.pad(picture.convert("RGB"), (size_px, size_px), Image.Resampling.BICUBIC, color="white")
    return np.asarray(fitted, dtype=np.uint8)
