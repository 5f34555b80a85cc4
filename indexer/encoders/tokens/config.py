"""The media tokens of a model that has a reranker: towers' features through the compressor, packed.

A model's ``reranker/reranker.json`` says what the compressor reads; its weights stand in ``reranker.safetensors``
beside it, with the scorer's, which the indexer leaves alone. Knows nothing of texts or of how pairs are scored.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from indexer.encoders.tokens.format import TokenSpec
from indexer.encoders.weights.untrusted import read_json_object, require_keys, require_types
from indexer.errors import ModelError

FOLDER = "reranker"
CONFIG = "reranker.json"
WEIGHTS = "reranker.safetensors"
LORA = "lora"
"""The part of the weights that adapts the language model's upper layers."""
FORMAT = 1
#: What the parts of ``reranker.json`` may set.
_READER = frozenset(("source", "layers", "lower", "prompt", "max_tokens"))
_SCORER = frozenset(
    (
        "width",
        "layers",
        "media_width",
        "media_count",
        "inner",
        "heads",
        "joint",
        "interaction",
        "whitened",
        "hidden",
    )
)
_COMPRESSOR = frozenset(("queries", "summary", "width", "heads", "whitened", "hidden"))
_CALIBRATION = frozenset(("cosine_weight", "slope", "intercept"))
_LORA = frozenset(("rank", "alpha", "dropout", "targets"))
_NAMING = frozenset(("slope", "intercept", "least"))
#: No size of a reranker is near this.
_MOST = 1_000_000


@dataclass(frozen=True)
class MediaSources:
    """What a compressor reads of a picture: every trunk's row, in pieces ``rows`` wide, and the grids of ``grids``.

    ``tokens`` are the patches of each of those grids, ``widths`` their features' width. Of a sound it is the tower's
    row and its frames; of a text two rows of the language model's.
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
    """The settings of ``reranker.json``."""

    encoder: str
    """Fingerprint of the dual encoder whose towers it reads, and whose candidates it was trained on."""
    sources: dict[str, MediaSources]
    """What is read of each modality that it judges texts against: a compressor for each."""
    compressors: dict[str, dict[str, int]]
    """Sizes of each modality's compressor, but for its sources; all give as many tokens of one width."""
    language_model: dict[str, Any]
    """``source``, ``layers``, ``lower``, ``prompt`` and ``max_tokens`` of the reader."""
    scorer: dict[str, Any]
    calibration: dict[str, dict[str, float]]
    """Of each modality ``cosine_weight``, ``slope`` and ``intercept``: score = logit + cosine weight * cosine, and by
    Platt's scaling probability = sigmoid(slope * score + intercept)."""
    sha256: str
    """Of the weights."""
    captions: bool = True
    """Whether its captions are of use; after a short training the language model still writes what it always does."""
    lora: dict[str, Any] | None = None
    """Adapters in the language model's upper layers (:class:`LoraSpec`); none: the layers are locked."""
    names: str = ""
    """sha256 of the names that its captions may choose (:mod:`retrieval.rerank.names`); without it there are none."""
    naming: dict[str, float] | None = None
    """How probably a chosen name is right: sigmoid(``slope`` * nearness + ``intercept``), and the ``least`` probability
    of a caption that is given (:mod:`retrieval.rerank.guesses`). None: every caption is given."""

    def to_json(self) -> dict[str, Any]:
        """The document of ``reranker.json``."""
        return {"format": FORMAT, **asdict(self)}

    @property
    def token_spec(self) -> TokenSpec:
        """How the media tokens look."""
        sizes = next(iter(self.compressors.values()))
        read = {name: asdict(sources) for name, sources in self.sources.items()}
        content = json.dumps([self.encoder, read, self.compressors, self.sha256], sort_keys=True)
        count = sizes["queries"] + sizes["summary"]
        return TokenSpec(count, sizes["width"], hashlib.sha256(content.encode()).hexdigest()[:32])


@runtime_checkable
class HasReranker(Protocol):
    """A dual encoder in a directory that may hold a reranker beside it."""

    @property
    def directory(self) -> Path:
        """The model's directory."""

    @property
    def reranker_config(self) -> RerankerConfig | None:
        """As :func:`read_reranker`."""


def write_reranker(model: Path, config: RerankerConfig) -> None:
    """Write ``reranker.json`` into a model's directory, whose ``reranker`` folder is there."""
    path = model / FOLDER / CONFIG
    path.write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")


def read_reranker(model: Path, encoder_fingerprint: str) -> RerankerConfig | None:
    """The reranker of a model's directory; ``None`` where it has none. Raises :class:`ModelError`."""
    path = model / FOLDER / CONFIG
    if not path.is_file():
        return None
    try:
        document = read_json_object(path)
        require_types(RerankerConfig, document, f"{path}: no reranker.json of this version")
        if document.pop("format") != FORMAT:
            raise ValueError(f"not format {FORMAT}")
        sources = {
            modality: MediaSources(**{key: tuple(value) for key, value in read.items()})
            for modality, read in document.pop("sources").items()
        }
        config = RerankerConfig(sources=sources, **document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: no reranker.json of this version ({error}); train or fetch it again") from error
    _check(config, path)
    if config.encoder != encoder_fingerprint:
        raise ModelError(
            f"{path}: is of another dual encoder ({config.encoder[:8]}, this is {encoder_fingerprint[:8]}); "
            "train a reranker for this one: trimodal train rerank RECIPE"
        )
    return config


def _check(config: RerankerConfig, path: Path) -> None:
    """Raise :class:`ModelError` for a setting that ``reranker.json`` may not set, or a size that is none."""
    parts = [(config.language_model, _READER, "language_model"), (config.scorer, _SCORER, "scorer")]
    parts += [(sizes, _COMPRESSOR, f"compressors.{name}") for name, sizes in config.compressors.items()]
    parts += [(values, _CALIBRATION, f"calibration.{name}") for name, values in config.calibration.items()]
    parts += [] if config.lora is None else [(config.lora, _LORA, "lora")]
    parts += [] if config.naming is None else [(config.naming, _NAMING, "naming")]
    if config.naming is not None and (
        set(config.naming) != _NAMING or not all(map(math.isfinite, config.naming.values()))
    ):
        raise ModelError(f"{path}: naming holds not a number for each of {', '.join(sorted(_NAMING))}; fetch it again")
    for settings, listed, name in parts:
        if not isinstance(settings, dict):
            raise ModelError(f"{path}: {name} is no object; train or fetch it again")
        require_keys(settings, listed, f"{path}: {name}")
        for key, value in settings.items():
            if isinstance(value, int) and not 0 <= value <= _MOST:
                raise ModelError(f"{path}: {name}.{key} is {value}; it is a number from 0 to {_MOST:,}")
    sized = all({"queries", "summary", "width"} <= set(sizes) for sizes in config.compressors.values())
    if not config.compressors or set(config.compressors) != set(config.sources) or not sized:
        raise ModelError(f"{path}: sources and compressors do not go together; train or fetch it again")
