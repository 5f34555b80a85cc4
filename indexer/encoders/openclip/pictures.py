"""open_clip's own way of making a picture a tower's input, in two halves that give the same pixels.

The first, in a reader's thread, is what open_clip's transform does with a Pillow picture: scale, cut or pad; the result
is uint8, a quarter of what floats would take to wait and to move. The second, on the device, makes it floats and
normalises them. Knows nothing of towers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.fitting import without_ends
from indexer.encoders.weights.tensor_files import first_line
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError

#: No published tower reads pictures near this size.
MAX_SIDE_PX = 8_192


class Pictures:
    """The transform that ``preprocess`` (open_clip's ``PreprocessCfg`` as a mapping) describes."""

    def __init__(self, preprocess: Mapping[str, Any]) -> None:
        ensure_torchvision()
        from open_clip.transform import MaybeToTensor, PreprocessCfg, image_transform_v2
        from torchvision.transforms import Normalize

        listed = {one.name for one in dataclasses.fields(PreprocessCfg)}
        settings = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in preprocess.items()
            if name in listed
        }
        _check(settings)
        try:
            steps: list[Any] = image_transform_v2(PreprocessCfg(**settings), is_train=False).transforms
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise ModelError(
                f"the model's preprocessing {dict(settings)} is none of open_clip's ({first_line(error)}); fetch the "
                "model again"
            ) from error
        *self._scaling, to_tensor, normalise = steps
        assert isinstance(to_tensor, MaybeToTensor) and isinstance(normalise, Normalize), "open_clip's order changed"
        self.mean, self.std = normalise.mean, normalise.std
        self._cuts = settings.get("resize_mode", PreprocessCfg.resize_mode) == "shortest"

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """RGB picture of any size -> uint8 ``(height, width, 3)``, scaled as the model was trained. Thread-safe."""
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        if self._cuts:
            picture = without_ends(picture)
        for step in self._scaling:
            picture = step(picture)
        return np.asarray(picture, dtype=np.uint8)

    def pixels(self, prepared: Sequence[NDArray[Any]], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Prepared pictures -> normalised ``(n, 3, height, width)`` in ``dtype`` on ``device``."""
        stacked = torch.from_numpy(np.stack(prepared)).to(device)
        floats = stacked.permute(0, 3, 1, 2).float().div_(255.0)  # (n, h, w, 3) -> (n, 3, h, w)
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return floats.sub_(mean).div_(std).to(dtype)


def _check(settings: Mapping[str, Any]) -> None:
    """Raise :class:`ModelError` for a side that no tower has, or colours that are not three numbers."""
    sides = settings.get("size", 224)
    for side in sides if isinstance(sides, tuple) else (sides,):
        if not isinstance(side, int) or not 0 < side <= MAX_SIDE_PX:
            raise ModelError(f"the model's preprocessing: size {sides!r} is not 1 to {MAX_SIDE_PX:,} pixels")
    for name in ("mean", "std"):
        values = settings.get(name, (0.5,) * 3)
        if not isinstance(values, tuple) or len(values) != 3 or not all(isinstance(one, int | float) for one in values):
            raise ModelError(f"the model's preprocessing: {name} {values!r} is not three numbers")
