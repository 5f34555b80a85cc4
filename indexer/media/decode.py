"""One item -> what its tower reads: pixels, windows of sound, passages of text; and the limits it may hit.

The door to ``image``, ``audio`` and ``text``. Decoding runs nothing that a file contains,
follows no address, and is decided by content, not by name. Knows nothing of models, SQL or FAISS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from indexer.errors import TrimodalError
from indexer.files import display_path, media_error, one_line
from indexer.items import DecodedItem, DecodedSegment, Item, Modality, Scalar, Segment
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits, check_memory
from indexer.media.audio.decode import open_sound, read_sound, sound_windows
from indexer.media.audio.resample import KEPT_S
from indexer.media.image.decode import open_picture, read_picture
from indexer.media.reserve import Reserve, no_reserve
from indexer.media.stopwatch import Stopwatch
from indexer.media.text.decode import Cut, passages, read_text

__all__ = [
    "SAMPLE_RATE_HZ",
    "MediaLimits",
    "decode",
    "decode_parts",
    "display_path",
    "open_sound",
    "passages",
    "read_picture",
    "read_sound",
    "read_text",
    "sound_windows",
]

_DEFAULT = MediaLimits()
#: What reading a sound takes: ten minutes at 16,000 Hz that are kept, or the blocks of a longer one.
_SOUND_BYTES = round(KEPT_S * SAMPLE_RATE_HZ * 4) + 16_000_000
_WINDOWS_AT_ONCE = 8
#: Windows that are kept take half as much again: the memory between them is not given back.
_KEPT = 1.5
#: A byte of a text may become four of a string, and while it is cut there are two of that.
_TEXT_FACTOR = 10


def decode(item: Item, limits: MediaLimits = _DEFAULT, cut: Cut = passages) -> DecodedItem:
    """Read an item: at least one segment, and the facts learned. Deterministic and thread-safe.

    Raises ``MediaError`` for whatever is wrong with the file, and for a sound whose windows take more memory than one
    file may, as all of them are given at once (see :func:`decode_parts`); ``ModelError`` where ``cut`` does.
    """
    parts: list[DecodedItem] = []
    n_bytes = 0
    for part in decode_parts(item, limits, cut=cut):
        n_bytes += sum(getattr(one.payload, "nbytes", 0) for one in part.segments)
        check_memory(item.path, _KEPT * n_bytes, limits)
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    return replace(parts[-1], segments=tuple(segment for part in parts for segment in part.segments))


def decode_parts(
    item: Item, limits: MediaLimits = _DEFAULT, reserve: Reserve = no_reserve, cut: Cut = passages
) -> Iterator[DecodedItem]:
    """The same as :func:`decode`, in parts that follow each other: of a long sound, some windows at a time.

    ``reserve`` is called with the bytes that reading takes, before they are taken; ``cut`` makes passages of a text.
    Raises as :func:`decode`, for most that can be wrong before the first part.
    """
    try:
        if item.modality is Modality.IMAGE:
            yield _picture(item, limits, reserve)
        elif item.modality is Modality.AUDIO:
            yield from _sound(item, limits, reserve)
        else:
            yield _text(item, limits, reserve, cut)
    except TrimodalError:
        raise
    except Exception as error:
        raise media_error(item.path, f"cannot be read ({one_line(error)}); copy it again or remove it") from error


def _picture(item: Item, limits: MediaLimits, reserve: Reserve) -> DecodedItem:
    picture = open_picture(item.path, limits, reserve)
    facts: dict[str, Scalar] = {"width_px": picture.width_px, "height_px": picture.height_px}
    if picture.taken_at is not None:
        facts["taken_at"] = picture.taken_at
    width, height = picture.image.size
    reserve(4 * width * height)
    return DecodedItem(item, (DecodedSegment(Segment(0), picture.image),), facts, remarks=picture.remarks)


def _sound(item: Item, limits: MediaLimits, reserve: Reserve) -> Iterator[DecodedItem]:
    reserve(_SOUND_BYTES)
    sound = open_sound(item.path, limits)
    facts: dict[str, Scalar] = {"duration_s": sound.duration_s}
    segments: list[DecodedSegment] = []
    for ordinal, (start_s, end_s, window) in enumerate(sound.windows):
        if len(segments) == _WINDOWS_AT_ONCE:
            yield DecodedItem(item, tuple(segments), facts, is_last=False)
            segments.clear()
        segments.append(DecodedSegment(Segment(ordinal, start_s, end_s), window))
        del window
    yield DecodedItem(item, tuple(segments), facts)


def _text(item: Item, limits: MediaLimits, reserve: Reserve, cut: Cut) -> DecodedItem:
    reserve(item.size_bytes * _TEXT_FACTOR)
    watch = Stopwatch(item.path if item.text is None else item.key, limits)
    found = cut(read_text(item.path, limits) if item.text is None else item.text, limits, watch)
    if not found:
        raise media_error(item.key, "holds only white space; remove it")
    reserve(0)  # the passages are counted as what comes out
    segments = tuple(DecodedSegment(Segment(ordinal, text=passage), passage) for ordinal, passage in enumerate(found))
    return DecodedItem(item, segments)
