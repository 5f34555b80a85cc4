"""What a dual encoder's directory says of itself: towers, read-outs, heads, and digests of the weights.

Plain values and ``encoder.json``; imports no torch, so that looking at a model is quick.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from indexer.encoders.weights.untrusted import file_name, read_json_object, require_types
from indexer.errors import ModelError
from indexer.validation import ByKind, Within

CONFIG = "encoder.json"
HEADS = "heads.safetensors"
FORMAT = 2

#: A size of at least one; what is too large, the weights show.
_Size = Annotated[int, Within(1, math.inf)]
_SizeOrNone = Annotated[int, Within(0, math.inf)]
#: No sound tower reads longer windows than ten minutes.
_Window = Annotated[float, Within(0.1, 600)]

Readout = Literal["cls+mean", "pooled", "logits", "pooled+logits"]
Library = Literal["timm", "open_clip"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TrunkSpec:
    """A picture trunk of timm, or the visual half of an open_clip model, and how one row is read from it.

    ``readout``: ``cls+mean`` joins the class token and the mean of the patch tokens (after the last norm);
    ``pooled`` is the trunk's own pooled features before a classifier (open_clip: its projected embedding); ``logits``
    are a classifier's raw outputs, one a class; ``pooled+logits`` joins the two.
    Preprocessing belongs to the trunk: side in pixels, mean and deviation of the channels, and ``fit``: the picture
    whole on white, or its largest centred square.
    """

    arch: str
    readout: Readout
    weights: str
    """File name of the safetensors beside ``encoder.json``."""
    size_px: int = 224
    library: Library = "timm"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    fit: Literal["pad", "crop"] = "pad"


@dataclass(frozen=True)
class ClipSpec(TrunkSpec):
    """The picture half of a whole open_clip model, read and prepared as that model does: its rows are the space.

    ``config`` and ``preprocess`` are open_clip's ``model_cfg`` (without the text tower's) and ``PreprocessCfg``, so
    that the tower needs nothing but this and its weights. It stands alone, pooled, and its head is the identity.
    """

    config: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    kind: Literal["openclip"] = "openclip"


@dataclass(frozen=True)
class WhisperSpec:
    """Sizes of a Whisper encoder and the window it is read over."""

    weights: str
    """File name of the safetensors beside ``encoder.json``."""
    width: _Size = 384
    layers: _Size = 4
    heads: _Size = 6
    mel_bins: _Size = 80
    window_s: _Window = 10.0
    kind: Literal["whisper"] = "whisper"


@dataclass(frozen=True)
class ClapSpec:
    """The audio half of a CLAP model of transformers, and the window it is read over.

    ``config`` and ``extractor`` are the published ``audio_config`` and feature extractor settings, so that the tower
    needs nothing but this file and its weights.
    """

    weights: str
    kind: Literal["clap"]
    config: dict[str, Any] = field(default_factory=dict)
    extractor: dict[str, Any] = field(default_factory=dict)
    window_s: _Window = 10.0


AudioSpec = Annotated[WhisperSpec | ClapSpec, ByKind()]


@dataclass(frozen=True)
class TextSpec:
    """A language model, decoder or BERT-family encoder, and how one row is read from it.

    ``source``: a name of :mod:`indexer.encoders.weights.base_weights`, a directory in transformers' layout, a ``.gguf``
    file, or ``hub:NAME``. ``layers``: how many of its first layers are kept (0: all). ``attention``: ``native`` is the
    model's own; ``bidirectional`` takes a decoder's causal mask away (LLM2Vec). ``readout``: state of the last token,
    the mean of the text's tokens, or ``learned``, a mean weighted by one learned query. ``prompt`` holds ``{text}``; a
    text is cut to ``max_tokens`` before it goes in. ``adapter`` names a safetensors file beside ``encoder.json`` with
    what was trained in the tower (LoRA, unlocked layers, the learned query); empty: nothing was.
    """

    source: str
    layers: _SizeOrNone = 0
    attention: Literal["native", "bidirectional"] = "native"
    readout: Literal["last", "mean", "learned"] = "last"
    prompt: str = "{text}"
    max_tokens: _Size = 128
    lowercase: bool = False
    """Read texts in lower case and without a closing full stop, as labels are written."""
    adapter: str = ""
    lora: LoraSpec | None = None


@dataclass(frozen=True)
class LoraSpec:
    """Low-rank adapters in a language model's linear layers (peft's ``LoraConfig``).

    ``targets`` are names of linear modules, or ``all-linear``.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)


@dataclass(frozen=True)
class HeadSpec:
    """Sizes of a head: features in, components kept by the whitening, width of the MLP (0: linear only), dim out.

    ``whitened`` 0 is the identity: the features themselves, of unit length; nothing is trained.
    """

    inputs: _Size
    whitened: _SizeOrNone
    hidden: _SizeOrNone
    dim: _Size


@dataclass(frozen=True)
class HubnessSpec:
    """A correction against hubs: rows of the banks, how many of the nearest count, and its weight."""

    bank: Annotated[int, Within(1, 1e6)] = 1024
    neighbours: _Size = 8
    weight: Annotated[float, Within(1e-3, 2)] = 0.5

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """Scale of the cosine, constant coordinate, slope of the hubness; :mod:`indexer.encoders.towers.hubness`."""
        scale = 1.0 / (1.0 + 2.0 * math.sqrt(2.0) * self.weight)
        constant = math.sqrt(self.weight * scale / math.sqrt(2.0))
        return scale, constant, self.weight * scale / constant


@dataclass(frozen=True)
class GateSpec:
    """Which text tower reads only what it can, and which one judges that; numbers of :attr:`EncoderConfig.text`."""

    gated: _SizeOrNone
    judge: _SizeOrNone


@dataclass(frozen=True)
class EncoderConfig:
    """What ``encoder.json`` says. A modality without a tower is empty (sounds: ``None``)."""

    name: str
    dim: _Size
    image: tuple[TrunkSpec, ...]
    audio: AudioSpec | None
    text: tuple[TextSpec, ...]
    heads: dict[str, HeadSpec]
    sha256: dict[str, str]
    """Digest of every weights file of the directory, and of the language model's source."""
    hubness: HubnessSpec | None = None
    """``dim`` counts its further coordinates."""
    gate: GateSpec | None = None
    """Of the text towers; see :mod:`indexer.encoders.text_gate`."""

    def to_json(self) -> dict[str, Any]:
        """The document of ``encoder.json``."""
        parts = {"image": [asdict(trunk) for trunk in self.image], "text": [asdict(tower) for tower in self.text]}
        document = {"format": FORMAT, **asdict(self), **parts}
        if self.gate is None:
            del document["gate"]  # the fingerprint of models from before there was one
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any], where: Path) -> EncoderConfig:
        """The reverse; :class:`ModelError` for another format or a missing key."""
        if document.get("format") != FORMAT:
            found = document.get("format")
            raise ModelError(
                f"{where}: format {found} is not {FORMAT}; this trimodal can't read it, update one of them"
            )
        require_types(cls, document, f"{where}: not an encoder.json of this version")
        try:  # by hand: pydantic would make 10.0 of 10, and the fingerprint is of the numbers as they are written
            config = cls(
                name=document["name"],
                dim=document["dim"],
                image=tuple(_trunk(trunk) for trunk in document["image"]),
                audio=_audio(document["audio"]) if document["audio"] else None,
                text=tuple(_text(tower) for tower in document["text"]),
                heads={name: HeadSpec(**head) for name, head in document["heads"].items()},
                hubness=HubnessSpec(**document["hubness"]) if document["hubness"] else None,
                gate=_gate(document, where),
                sha256=document["sha256"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{where}: not an encoder.json of this version ({error})") from error
        for name in config.files:
            file_name(name, str(where))
        return config

    @property
    def files(self) -> list[str]:
        """Names of the weights' files beside ``encoder.json``: of trunks, the sound tower and adapters."""
        audio = [self.audio.weights] if self.audio else []
        return [*(trunk.weights for trunk in self.image), *audio, *(one.adapter for one in self.text if one.adapter)]

    @property
    def fingerprint(self) -> str:
        """Hex digest; the same for the same towers, weights, preprocessing, heads and dim, whatever the name."""
        content = {key: value for key, value in self.to_json().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def read_config(directory: Path) -> EncoderConfig:
    """``encoder.json`` of a directory. Raises :class:`ModelError`."""
    path = directory / CONFIG
    try:
        document = read_json_object(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{directory}: is no model: it has no {CONFIG}; give a directory that `trimodal train` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: can't be read ({error}); train or fetch the model again") from error
    return EncoderConfig.from_json(document, path)


def _gate(document: dict[str, Any], where: Path) -> GateSpec | None:
    if not document.get("gate"):
        return None
    gate = GateSpec(**document["gate"])
    if gate.gated == gate.judge or max(gate.gated, gate.judge) >= len(document["text"]):
        raise ModelError(f"{where}: its gate names text towers that it doesn't have; train or fetch the model again")
    return gate


def _trunk(document: dict[str, Any]) -> TrunkSpec:
    lists = {key: tuple(value) for key, value in document.items() if isinstance(value, list)}
    return (ClipSpec if document.get("kind") == "openclip" else TrunkSpec)(**{**document, **lists})


def _audio(document: dict[str, Any]) -> AudioSpec:
    return ClapSpec(**document) if document.get("kind") == "clap" else WhisperSpec(**document)


def _text(document: dict[str, Any]) -> TextSpec:
    lora = document.get("lora")
    return TextSpec(**{**document, "lora": LoraSpec(**{**lora, "targets": tuple(lora["targets"])}) if lora else None})
