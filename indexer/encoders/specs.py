"""What a dual encoder's directory says of itself: towers, read-outs, heads, and digests of the weights.

Plain values and ``encoder.json``; imports no torch, so that looking at a model is quick.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from indexer.errors import ModelError

CONFIG = "encoder.json"
HEADS = "heads.safetensors"
FORMAT = 1

Readout = Literal["cls+mean", "pooled"]


@dataclass(frozen=True)
class TrunkSpec:
    """A timm architecture and how one row is read from it.

    ``readout``: ``cls+mean`` joins the class token and the mean of the patch tokens (after the last norm);
    ``pooled`` is timm's own pooled features before a classifier.
    """

    arch: str
    readout: Readout
    weights: str
    """File name of the safetensors beside ``encoder.json``."""
    size_px: int = 224


@dataclass(frozen=True)
class WhisperSpec:
    """Sizes of a Whisper encoder and the window it is read over."""

    weights: str
    """File name of the safetensors beside ``encoder.json``."""
    width: int = 384
    layers: int = 4
    heads: int = 6
    mel_bins: int = 80
    window_s: float = 10.0


@dataclass(frozen=True)
class TextSpec:
    """A language model and how one row is read from it.

    ``source``: a name of :mod:`indexer.encoders.weights`, or a directory in transformers' layout. ``layers``: how many
    of its first layers are kept (0: all). ``readout``: state of the last token, or the mean of the text's tokens.
    ``prompt`` holds ``{text}``; a text is cut to ``max_tokens`` before it goes in.
    """

    source: str
    layers: int = 0
    readout: Literal["last", "mean"] = "last"
    prompt: str = "{text}"
    max_tokens: int = 128
    lowercase: bool = False
    """Read texts in lower case and without a closing full stop, as labels are written."""


@dataclass(frozen=True)
class HeadSpec:
    """Sizes of a head: features in, components kept by the whitening, width of the MLP (0: linear only), dim out."""

    inputs: int
    whitened: int
    hidden: int
    dim: int


@dataclass(frozen=True)
class EncoderConfig:
    """What ``encoder.json`` says. A modality without a tower is ``None`` (pictures: empty)."""

    name: str
    dim: int
    image: tuple[TrunkSpec, ...]
    audio: WhisperSpec | None
    text: TextSpec | None
    heads: dict[str, HeadSpec]
    sha256: dict[str, str]
    """Digest of every weights file of the directory, and of the language model's source."""

    def to_json(self) -> dict[str, Any]:
        """The document of ``encoder.json``."""
        return {"format": FORMAT, **asdict(self), "image": [asdict(trunk) for trunk in self.image]}

    @classmethod
    def from_json(cls, document: dict[str, Any], where: Path) -> EncoderConfig:
        """The reverse; :class:`ModelError` for another format or a missing key."""
        if document.get("format") != FORMAT:
            found = document.get("format")
            raise ModelError(
                f"{where}: format {found} is not {FORMAT}; this trimodal can't read it, update one of them"
            )
        try:
            return cls(
                name=document["name"],
                dim=document["dim"],
                image=tuple(TrunkSpec(**trunk) for trunk in document["image"]),
                audio=WhisperSpec(**document["audio"]) if document["audio"] else None,
                text=TextSpec(**document["text"]) if document["text"] else None,
                heads={name: HeadSpec(**head) for name, head in document["heads"].items()},
                sha256=document["sha256"],
            )
        except (KeyError, TypeError) as error:
            raise ModelError(f"{where}: not an encoder.json of this version ({error})") from error

    @property
    def fingerprint(self) -> str:
        """Hex digest; the same for the same towers, weights, preprocessing, heads and dim, whatever the name."""
        content = {key: value for key, value in self.to_json().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def read_config(directory: Path) -> EncoderConfig:
    """``encoder.json`` of a directory. Raises :class:`ModelError`."""
    path = directory / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{directory}: is no model: it has no {CONFIG}; give a directory that `trimodal train` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: can't be read ({error}); train or fetch the model again") from error
    return EncoderConfig.from_json(document, path)
