"""The media tokens of a model that has a reranker: towers' features through the compressor, packed.

A model's ``reranker/reranker.json`` says what the compressor reads; its weights stand in ``reranker.safetensors``
beside it, with the scorer's, which the indexer leaves alone. Knows nothing of texts or of how pairs are scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from indexer.encoders.media_tokens import TokenSpec
from indexer.errors import ModelError

FOLDER = "reranker"
CONFIG = "reranker.json"
WEIGHTS = "reranker.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class ImageSources:
    """What the compressor reads of a picture: every trunk's row, in pieces ``rows`` wide, and the grids of ``grids``.

    ``tokens`` are the patches of each of those grids, ``widths`` their features' width.
    """

    rows: tuple[int, ...]
    grids: tuple[int, ...]
    tokens: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def sources(self) -> tuple[tuple[int, int], ...]:
        """(tokens, width) of everything, as the compressor wants it."""
        return (*((1, width) for width in self.rows), *zip(self.tokens, self.widths, strict=True))

    def split(self, rows: Any, grids: Sequence[Any]) -> list[Any]:
        """Joined rows ``(n, sum of rows)`` and the grids -> sources, each ``(n, tokens, width)``."""
        pieces, start = [], 0
        for width in self.rows:
            pieces.append(rows[:, None, start : start + width])
            start += width
        return [*pieces, *grids]


@dataclass(frozen=True)
class RerankerConfig:
    """What ``reranker.json`` says."""

    encoder: str
    """Fingerprint of the dual encoder whose towers it reads, and whose candidates it was trained on."""
    image: ImageSources
    compressor: dict[str, Any]
    """``queries``, ``width`` and ``heads`` of the compressor."""
    language_model: dict[str, Any]
    """``source``, ``layers``, ``lower``, ``prompt`` and ``max_tokens`` of the reader."""
    scorer: dict[str, Any]
    calibration: dict[str, float]
    """Platt's: probability = sigmoid(slope * score + intercept), score = logit + cosine weight * cosine."""
    cosine_weight: float
    sha256: str
    """Of the weights."""

    def to_json(self) -> dict[str, Any]:
        """The document of ``reranker.json``."""
        return {"format": FORMAT, **asdict(self)}

    @property
    def token_spec(self) -> TokenSpec:
        """How the media tokens look."""
        count = self.compressor["queries"] + len(self.image.rows)
        content = json.dumps([self.encoder, asdict(self.image), self.compressor, self.sha256], sort_keys=True)
        return TokenSpec(count, self.compressor["width"], hashlib.sha256(content.encode()).hexdigest()[:32])


def read_reranker(model: Path, encoder_fingerprint: str) -> RerankerConfig | None:
    """The reranker of a model's directory; ``None`` where it has none. Raises :class:`ModelError`."""
    path = model / FOLDER / CONFIG
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ValueError(f"not format {FORMAT}")
        image = ImageSources(**{key: tuple(value) for key, value in document.pop("image").items()})
        config = RerankerConfig(image=image, **document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: no reranker.json of this version ({error}); train or fetch it again") from error
    if config.encoder != encoder_fingerprint:
        raise ModelError(
            f"{path}: is of another dual encoder ({config.encoder[:8]}, this is {encoder_fingerprint[:8]}); "
            "train a reranker for this one: trimodal train rerank RECIPE"
        )
    return config
