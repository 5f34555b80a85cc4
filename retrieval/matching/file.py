"""``match.json``, a model's calibration beside its ``encoder.json``: written, read and checked.

It names the encoder and the reranker that it belongs to and holds a sha256 of its own content; the encoder's
fingerprint does not cover it, so that a model is calibrated anew without any collection being made anew. Knows nothing
of searches.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from indexer.encoders.base import DualEncoder
from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.weights.untrusted import read_json_object, require_types
from indexer.errors import ModelError
from retrieval.matching.features import FEATURES, JUDGED_FEATURES
from retrieval.matching.model import MatchModel, PairFit

NAME = "match.json"
FORMAT = 1

_REMEDY = "calibrate the model again: trimodal train match MANIFEST --model DIR"


@runtime_checkable
class _InDirectory(Protocol):
    """A dual encoder that lies in a directory of ours."""

    @property
    def directory(self) -> Path: ...
    @property
    def reranker_config(self) -> RerankerConfig | None: ...


def open_match(encoder: DualEncoder) -> MatchModel | None:
    """The calibration of an encoder; ``None`` where it has none. Raises ``ModelError`` as :func:`read_match`.

    The fits of judged lists are left out where the model has another one now.
    """
    if not isinstance(encoder, _InDirectory) or not (encoder.directory / NAME).is_file():
        return None
    found = read_match(encoder.directory / NAME)
    if found.encoder != encoder.fingerprint:
        raise ModelError(f"{encoder.directory / NAME}: is of another dual encoder; {_REMEDY}")
    own = None if encoder.reranker_config is None else encoder.reranker_config.sha256
    if found.reranker == own:
        return found
    plain = {key: fit for key, fit in found.fits.items() if not fit.judged}
    return MatchModel(found.encoder, None, plain, found.mixed)


def write_match(path: Path, model: MatchModel) -> None:
    """Write ``match.json``."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "encoder": model.encoder,
        "reranker": model.reranker,
        "mixed": dict(model.mixed),
        "fits": [asdict(fit) for fit in model.fits.values()],
    }
    path.write_text(json.dumps({**document, "sha256": _digest(document)}, indent=1) + "\n", encoding="utf-8")


def read_match(path: Path) -> MatchModel:
    """Read ``match.json``. Raises ``ModelError`` for a file that is damaged, was edited, or is of another format."""
    try:
        document = read_json_object(path)
        promised = document.pop("sha256", None)
        if document.get("format") != FORMAT:
            raise ValueError(f"not format {FORMAT}")
        if promised != _digest(document):
            raise ValueError("its sha256 is not that of its content")
        fits = [_fit(one, path) for one in document["fits"]]
        mixed = {str(query): float(least) for query, least in document["mixed"].items()}
        return MatchModel(str(document["encoder"]), document["reranker"], {fit.key: fit for fit in fits}, mixed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: can't be used ({error}); {_REMEDY}") from error


def _fit(document: dict[str, Any], path: Path) -> PairFit:
    require_types(PairFit, document, path)
    fit = PairFit(**document)
    names = set(FEATURES + JUDGED_FEATURES if fit.judged else FEATURES)
    if any(set(values) != names for values in (fit.low, fit.high, fit.some, fit.hit)):
        raise ValueError("it was fitted on other features")
    return fit


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
