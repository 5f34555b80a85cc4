"""One item -> what its tower reads: pixels, windows of sound, passages of text; and the limits it may hit.

The door to ``picture.py``, ``sound.py`` and ``passages.py``. Decoding runs nothing that a file contains,
follows no address, and is decided by content, not by name. Knows nothing of models, SQL or FAISS.
"""

from __future__ import annotations

from indexer.errors import MediaError
from indexer.files import display_path, media_error, one_line
from indexer.items import DecodedItem, DecodedSegment, Item, Modality, Scalar, Segment
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits
from indexer.passages import passages, read_text
from indexer.picture import open_picture, read_picture
from indexer.sound import read_sound, sound_windows

__all__ = [
    "SAMPLE_RATE_HZ",
    "MediaLimits",
    "decode",
    "display_path",
    "passages",
    "read_picture",
    "read_sound",
    "read_text",
    "sound_windows",
]

_DEFAULT = MediaLimits()


def decode(item: Item, limits: MediaLimits = _DEFAULT) -> DecodedItem:
    """Read an item: at least one segment, and the facts learned. Deterministic and thread-safe.

    Raises ``MediaError`` for whatever is wrong with the file, and nothing else.
    """
    try:
        if item.modality is Modality.IMAGE:
            return _picture(item, limits)
        if item.modality is Modality.AUDIO:
            return _sound(item, limits)
        return _text(item, limits)
    except MediaError:
        raise
    except Exception as error:
        raise media_error(item.path, f"cannot be read ({one_line(error)}); copy it again or remove it") from error


def _picture(item: Item, limits: MediaLimits) -> DecodedItem:
    picture = open_picture(item.path, limits)
    facts: dict[str, Scalar] = {"width_px": picture.width_px, "height_px": picture.height_px}
    if picture.taken_at is not None:
        facts["taken_at"] = picture.taken_at
    return DecodedItem(item, (DecodedSegment(Segment(0), picture.image),), facts)


def _sound(item: Item, limits: MediaLimits) -> DecodedItem:
    samples, duration_s = read_sound(item.path, limits)
    segments = tuple(
        DecodedSegment(Segment(ordinal, start_s, end_s), window)
        for ordinal, (start_s, end_s, window) in enumerate(sound_windows(samples, limits))
    )
    return DecodedItem(item, segments, {"duration_s": duration_s})


def _text(item: Item, limits: MediaLimits) -> DecodedItem:
    found = passages(read_text(item.path, limits) if item.text is None else item.text, limits)
    if not found:
        raise media_error(item.key, "holds only white space; remove it")
    segments = tuple(DecodedSegment(Segment(ordinal, text=passage), passage) for ordinal, passage in enumerate(found))
    return DecodedItem(item, segments)
