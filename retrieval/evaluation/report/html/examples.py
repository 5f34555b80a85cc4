"""Files of a benchmark -> small pictures and short clips of sound as ``data:`` addresses, within a budget of bytes.

Files are read as indexing reads them, so a hostile one can do no more here than there; what cannot be read, or comes
when the budget is spent, is shown by its name alone. Knows nothing of pages.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from indexer.errors import MediaError
from indexer.items import Modality
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits
from indexer.media.audio.decode import read_sound
from indexer.media.image.decode import read_picture
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.shown_items import shown_item

THUMBNAIL_PX = 224
CLIP_S = 6.0
#: Of everything that one page holds, before base64 adds its third.
BUDGET_BYTES = 6_000_000

_FADE_S = 0.05
#: Longer sounds are not decoded for the sake of their first seconds.
_LIMITS = MediaLimits(max_file_mb=200, max_audio_hours=1)


def files_of(benchmark: Benchmark) -> dict[str, Path]:
    """Where the pictures and sounds are that a report names; a name that means two files is left out."""
    found: dict[str, Path] = {}
    doubtful: set[str] = set()
    for row, there in enumerate(benchmark.rows):
        for modality, item in there.items.items():
            path = shown_item(benchmark, row, modality).path
            if path is not None and found.setdefault(path, item.path) != item.path:
                doubtful.add(path)
    return {name: path for name, path in found.items() if name not in doubtful}


class Media:
    """Gives the ``data:`` address of a file that a report names."""

    def __init__(self, files: Mapping[str, Path], *, budget_bytes: int = BUDGET_BYTES) -> None:
        self._files = files
        self._left_bytes = budget_bytes
        self._made: dict[str, str | None] = {}

    def address(self, name: str | None, modality: str) -> str | None:
        """A thumbnail's or a clip's address; ``None`` where there is none to show. The same file is read once."""
        if name is None or name not in self._files:
            return None
        if name not in self._made:
            self._made[name] = self._make(self._files[name], modality)
        made = self._made[name]
        cost = len(made) * 3 // 4 if made else 0
        if cost > self._left_bytes:
            return None
        self._left_bytes -= cost
        return made

    def _make(self, path: Path, modality: str) -> str | None:
        try:
            if modality == Modality.IMAGE:
                return thumbnail(path)
            return clip(path) if modality == Modality.AUDIO else None
        except MediaError:
            return None


def thumbnail(path: Path) -> str:
    """The picture, its long side at most ``THUMBNAIL_PX``, as WebP."""
    picture = read_picture(path, _LIMITS).copy()
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    out = BytesIO()
    picture.save(out, "WEBP", quality=78)
    return _address("image/webp", out.getvalue())


def clip(path: Path) -> str:
    """The first ``CLIP_S`` seconds, faded out where there is more, as MP3, or as WAV where MP3 cannot be written."""
    samples, _ = read_sound(path, _LIMITS)
    length, fade = round(CLIP_S * SAMPLE_RATE_HZ), round(_FADE_S * SAMPLE_RATE_HZ)
    heard = samples[:length].copy()
    if len(samples) > length:
        heard[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    out = BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(out, heard, SAMPLE_RATE_HZ, format="MP3")
        return _address("audio/mpeg", out.getvalue())
    soundfile.write(out, heard, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return _address("audio/wav", out.getvalue())


def _address(kind: str, raw: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"
