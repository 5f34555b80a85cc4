"""open_clip's own way of making a picture a tower's input, in two halves that give the same pixels.

The first, in a reader's thread, is what open_clip's transform does with a Pillow picture: scale, cut or pad; the result
is uint8, a quarter of what floats would take to wait and to move. It is Pillow alone, so that a picture that is a query
waits for no library. The second, on the device, makes it floats and normalises them. Knows nothing of towers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.fitting import as_rgb, without_ends
from indexer.errors import ModelError

if TYPE_CHECKING:
    import torch

#: No published tower reads pictures near this size.
MAX_SIDE_PX = 8_192
#: open_clip's ``PreprocessCfg``: what holds where a model's files say nothing.
_DEFAULTS: dict[str, Any] = {
    "size": 224,
    "mode": "RGB",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
#: open_clip's "random" is for training; where it reads, it is bicubic.
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "random": Image.Resampling.BICUBIC,
}
_MODES = ("shortest", "longest", "squash")


class Pictures:
    """The transform that ``preprocess`` (open_clip's ``PreprocessCfg`` as a mapping) describes."""

    def __init__(self, preprocess: Mapping[str, Any]) -> None:
        given = {name: tuple(one) if isinstance(one, list) else one for name, one in preprocess.items()}
        settings = {**_DEFAULTS, **{name: given[name] for name in _DEFAULTS if name in given}}
        _check(settings)
        size = settings["size"]
        self.height: int = size if isinstance(size, int) else size[0]
        self.width: int = size if isinstance(size, int) else size[-1]
        self.mean, self.std = settings["mean"], settings["std"]
        self._mode: str = settings["resize_mode"] or "shortest"
        self._filter = _FILTERS[settings["interpolation"] or "bicubic"]
        self._fill = settings["fill_color"]

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """RGB picture of any size -> uint8 ``(height, width, 3)``, scaled as the model was trained. Thread-safe."""
        picture = as_rgb(picture)
        if self._mode == "squash":
            picture = self._scaled(picture, self.width, self.height)
        elif self._mode == "longest":
            picture = self._padded(self._by_ratio(picture, max))
        else:
            picture = without_ends(picture)
            square = self.height == self.width
            picture = self._padded(self._shortest(picture) if square else self._by_ratio(picture, min))
        return np.asarray(picture, dtype=np.uint8)

    def pixels(self, prepared: Sequence[NDArray[Any]], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Prepared pictures -> normalised ``(n, 3, height, width)`` in ``dtype`` on ``device``."""
        import torch

        return self.normalised(torch.from_numpy(np.stack(prepared)).to(device)).to(dtype)

    def normalised(self, stacked: torch.Tensor) -> torch.Tensor:
        """uint8 ``(n, height, width, 3)`` -> float32 ``(n, 3, height, width)``."""
        import torch

        floats = stacked.permute(0, 3, 1, 2).float() / 255.0  # (n, h, w, 3) -> (n, 3, h, w)
        mean, std = (torch.tensor(values, device=stacked.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (floats - mean) / std

    def _scaled(self, picture: Image.Image, width: int, height: int) -> Image.Image:
        return picture if picture.size == (width, height) else picture.resize((width, height), self._filter)

    def _shortest(self, picture: Image.Image) -> Image.Image:
        """The shorter side as long as the square's: torchvision's ``Resize`` of one number, which rounds down."""
        width, height = picture.size
        side = self.width
        if width <= height:
            return self._scaled(picture, side, int(side * height / width))
        return self._scaled(picture, int(side * width / height), side)

    def _by_ratio(self, picture: Image.Image, least_or_most: Any) -> Image.Image:
        """open_clip's ``ResizeKeepRatio``: the longest (``max``) or the shortest (``min``) side fits, rounded."""
        width, height = picture.size
        ratio = least_or_most(height / self.height, width / self.width)
        # open_clip scales what is not square bicubic, whatever the model says
        scaling = self._filter if least_or_most is max else Image.Resampling.BICUBIC
        size = (round(width / ratio), round(height / ratio))
        return picture if picture.size == size else picture.resize(size, scaling)

    def _padded(self, picture: Image.Image) -> Image.Image:
        """The middle, and where the picture is smaller, ``fill_color`` around it; black where sides are cut."""
        fill = self._fill if self._mode == "longest" else 0
        width, height = max(picture.width, self.width), max(picture.height, self.height)
        if (width, height) != picture.size:
            ground = Image.new("RGB", (width, height), (fill, fill, fill) if isinstance(fill, int) else fill)
            ground.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
            picture = ground
        left = round((picture.width - self.width) / 2.0)
        top = round((picture.height - self.height) / 2.0)
        return picture.crop((left, top, left + self.width, top + self.height))


def _check(settings: Mapping[str, Any]) -> None:
    """Raise :class:`ModelError` for a side that no tower has, or colours that are not three numbers."""
    sides = settings["size"]
    for side in sides if isinstance(sides, tuple) else (sides,):
        if not isinstance(side, int) or not 0 < side <= MAX_SIDE_PX:
            raise ModelError(f"the model's preprocessing: size {sides!r} is not 1 to {MAX_SIDE_PX:,} pixels")
    if sides == () or (isinstance(sides, tuple) and len(sides) > 2):
        raise ModelError(f"the model's preprocessing: size {sides!r} is not one side or two")
    for name in ("mean", "std"):
        values = settings[name]
        if not isinstance(values, tuple) or len(values) != 3 or not all(isinstance(one, int | float) for one in values):
            raise ModelError(f"the model's preprocessing: {name} {values!r} is not three numbers")
    listed = {"mode": ("RGB",), "interpolation": (*_FILTERS, None), "resize_mode": (*_MODES, None)}
    for name, allowed in listed.items():
        if settings[name] not in allowed:
            raise ModelError(
                f"the model's preprocessing: {name} {str(settings[name])[:80]!r} is none of open_clip's; fetch the "
                "model again"
            )
    fill = settings["fill_color"]
    if not all(isinstance(one, int) and 0 <= one <= 255 for one in (fill if isinstance(fill, tuple) else (fill,))):
        raise ModelError(f"the model's preprocessing: fill_color {fill!r} is no colour; fetch the model again")
