"""A picture of any size -> the square of pixels that a picture tower reads.

Pillow and NumPy only, thread-safe. Two ways to make a square: the whole picture on white, or its largest centred
square, as CLIP models were trained. Knows nothing of models, means or deviations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

# A strip longer than this many squares is cut to it before it is scaled: a picture of 1 x 30,000 pixels would otherwise
# grow to gigapixels on the way to a square of its middle.
_LONGEST_STRIP = 16


def fit_on_white(picture: Image.Image, size_px: int) -> NDArray[np.uint8]:
    """Scale (bicubic, up or down) so that the longer side is ``size_px``, centre on white: ``(s, s, 3)`` uint8."""
    fitted = ImageOps.pad(as_rgb(picture), (size_px, size_px), Image.Resampling.BICUBIC, color="white")
    return np.asarray(fitted, dtype=np.uint8)


def crop_square(picture: Image.Image, size_px: int) -> NDArray[np.uint8]:
    """Scale (bicubic) so that the shorter side is ``size_px``, cut the centre out: ``(s, s, 3)`` uint8.

    The same pixels as torchvision's ``Resize(size_px, BICUBIC)`` and ``CenterCrop(size_px)`` on a Pillow picture,
    which is open_clip's ``image_transform``; rounding of the long side and of the offset included.
    """
    picture = without_ends(as_rgb(picture))
    width, height = picture.size
    if width <= height:
        scaled = (size_px, max(size_px, int(size_px * height / width)))
    else:
        scaled = (max(size_px, int(size_px * width / height)), size_px)
    picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    left = round((scaled[0] - size_px) / 2.0)
    top = round((scaled[1] - size_px) / 2.0)
    return np.asarray(picture.crop((left, top, left + size_px, top + size_px)), dtype=np.uint8)


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture itself where it is RGB, else converted."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def without_ends(picture: Image.Image) -> Image.Image:
    """The middle of a strip that is too long to be scaled so that its shorter side fills a square."""
    width, height = picture.size
    longest = _LONGEST_STRIP * min(width, height)
    if max(width, height) <= longest:
        return picture
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return picture.crop((left, top, left + min(width, longest), top + min(height, longest)))
