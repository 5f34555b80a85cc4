"""What a transparent picture is shown on: white, or grey where white would hide it. Knows nothing of files.

The rule: on white, unless less than ``LEAST_SEEN`` of what is visible (pixels, weighted by their opacity) is darker
than ``LIGHT``; then on mid grey. So an opaque picture and a dark drawing look as they always did, and a white drawing
does not become a blank sheet. Where nothing is visible at all, white.
"""

from __future__ import annotations

from PIL import Image, ImageChops

#: A lightness (0..255, ITU-R 601) from which a pixel is hard to see on white.
LIGHT = 230
#: Of what is visible.
LEAST_SEEN = 0.02
WHITE, GREY = (255, 255, 255), (128, 128, 128)
#: Channels of a picture that shows something differ by more than this in some place.
_BLANK_SPREAD = 2


def on_ground(image: Image.Image) -> Image.Image:
    """An RGBA picture as RGB, on the ground of the rule above."""
    ground = Image.new("RGB", image.size, WHITE if shows_on_white(image) else GREY)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def shows_on_white(image: Image.Image) -> bool:
    """Whether enough of what is visible in an RGBA picture is dark enough."""
    opacity = image.getchannel("A")
    visible = _total(opacity)
    return visible == 0 or _total(ImageChops.multiply(opacity, _dark(image))) >= LEAST_SEEN * visible


def dark_share(image: Image.Image) -> float:
    """The share of an RGB picture's pixels that are darker than ``LIGHT``."""
    return _total(_dark(image)) / (255 * image.width * image.height)


def is_blank(image: Image.Image) -> bool:
    """Whether a picture of eight bits is of one colour."""
    if image.mode == "RGBA":
        image = on_ground(image)
    bounds = image.convert("RGB").getextrema()
    return all(high - low <= _BLANK_SPREAD for low, high in bounds)  # type: ignore[misc]


def _dark(image: Image.Image) -> Image.Image:
    return image.convert("RGB").convert("L").point([255] * LIGHT + [0] * (256 - LIGHT))


def _total(channel: Image.Image) -> int:
    return sum(value * count for value, count in enumerate(channel.histogram()))
