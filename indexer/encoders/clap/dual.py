"""A dual encoder of transformers' CLAP: sounds and texts, from the hub or a directory; no pictures.

``clap:NAME``, ``clap:NAME@REVISION`` (a repository of the hub, as ``laion/clap-htsat-unfused``) or ``clap:DIR`` (what
``ClapModel.save_pretrained`` and the processor's wrote). The sound half is
:class:`indexer.encoders.clap.tower.ClapTower`, which reads as CLAP does but for its randomness; sounds come at 16 kHz,
so that what was above 8 kHz is not heard. Weights are read when something is first encoded.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.base import require_tower
from indexer.encoders.clap.sounds import ClapSounds, settings_of
from indexer.encoders.onnx.few import Few
from indexer.encoders.onnx.library_side import LibraryGraphs, TowerGraph, encoded_media, encoded_texts, is_large
from indexer.encoders.onnx.store import graphs_are_wanted
from indexer.encoders.weights.digests import cached_sha256
from indexer.encoders.weights.hub import TOKENIZER_FILES, hub_file, hub_snapshot
from indexer.encoders.weights.untrusted import read_json_object
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing
from indexer.items import Embeddings, Modality, Samples

if TYPE_CHECKING:
    import torch

    from indexer.encoders.clap.tower import ClapTower
    from indexer.media.text.measure import TextMeasure

PREFIX = "clap:"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt")
# What a configuration says of the program that wrote it; it changes no embedding.
_INCIDENTAL = ("transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path", "_commit_hash")
_SOUNDS_AT_ONCE, _TEXTS_AT_ONCE = 32, 256
#: What is read in ONNX Runtime without waiting for torch; for more torch is worth its import.
_FEW_TEXTS = 64


class ClapEncoder:
    """The two halves of a CLAP model; see :class:`indexer.encoders.base.DualEncoder` for its contract."""

    modalities = frozenset({Modality.AUDIO, Modality.TEXT})

    def __init__(self, spec: str, *, device: str = "auto", fetch: bool = True) -> None:
        """Find the files, or with ``fetch`` get them from the hub; weights are read on first use.

        Raises :class:`ModelError` or :class:`WeightsMissing`, in one line that says what is wrong.
        """
        self.directory, self.spec = find_clap(spec, fetch=fetch)
        self._config = _read_json(self.directory / "config.json", spec)
        if self._config.get("model_type") != "clap":
            kind = self._config.get("model_type")
            raise ModelError(
                f"model {spec}: {self.directory / 'config.json'} is of a {kind}, not of a whole CLAP model; give one"
            )
        if not _vocabulary(self.directory):
            raise WeightsMissing(
                f"model {spec}: {self.directory} holds no {' or '.join(_VOCABULARIES)}; save the processor there too"
            )
        self.weights = _weights(spec, self.directory)
        self.dim = int(self._config.get("projection_dim", 512))
        self.window_s = _window_s(self.directory, spec)
        self._device_option = device
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        self._few = Few()
        self._graphs = LibraryGraphs(self.spec, lambda: self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Of configuration, weights, preprocessing and tokenizer; not of the number format or where files lie."""
        settings = [_read_json(path, self.spec) for name in _SETTINGS if (path := self.directory / name).is_file()]
        facts = {
            "kind": "clap-1",
            "settings": [_lasting(one) for one in settings],
            "weights": cached_sha256(self.weights),
            "tokenizer": [cached_sha256(file) for file in _vocabulary(self.directory)],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def device(self) -> torch.device:
        """Where the towers run."""
        from indexer.encoders.devices import choose_device

        return choose_device(self._device_option)

    @property
    def audio_tower(self) -> ClapTower:
        """The sound half, loaded."""
        with self._lock:  # reader threads are the first to need it
            return self._audio_tower

    @cached_property
    def _audio_tower(self) -> ClapTower:
        from indexer.encoders.clap.tower import ClapTower, clap_from_directory
        from indexer.encoders.devices import choose_dtype
        from indexer.encoders.weights.tensor_files import first_line

        published, weights = clap_from_directory(self.directory)
        tower = ClapTower(published)
        try:
            tower.load(weights)
        except (RuntimeError, KeyError) as error:
            raise WeightsCorrupt(
                f"{self.weights}: does not fit config.json beside it ({first_line(error)}); fetch the model again"
            ) from error
        return tower.to(self.device, choose_dtype(self.device))

    @property
    def text_tower(self) -> tuple[Any, Any]:
        """The text half: tokenizer and ``ClapTextModelWithProjection``, loaded."""
        with self._lock:
            return self._text_tower

    @cached_property
    def _text_tower(self) -> tuple[Any, Any]:
        from indexer.encoders.clap.texts import load_text_half
        from indexer.encoders.devices import choose_dtype

        tokenizer, model = load_text_half(self.directory, self.weights)
        return tokenizer, model.to(self.device, choose_dtype(self.device))

    def prepare_image(self, picture: Image.Image) -> NDArray[Any]:
        """Never: raises :class:`ModelError` naming a model that sees."""
        require_tower(self, Modality.IMAGE)
        raise AssertionError("it has no picture tower")

    def prepare_audio(self, window: Samples) -> NDArray[Any]:
        """Mono float32 at 16 kHz -> CLAP's log-mel, float32 ``(frames, bands)``."""
        if self._graph(Modality.AUDIO) is None:
            return self.audio_tower.prepare(window)
        with self._lock:
            sounds = self._sounds
        return sounds.prepare(window)

    @cached_property
    def _sounds(self) -> ClapSounds:
        audio = self._config.get("audio_config")
        fuses = isinstance(audio, dict) and bool(audio.get("enable_fusion"))
        return ClapSounds(settings_of(self.directory, fuses), self.window_s, f"CLAP {self.directory}")

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """Never: raises :class:`ModelError` naming a model that sees."""
        require_tower(self, Modality.IMAGE)
        raise AssertionError("it has no picture tower")

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows: CLAP's audio embeddings. A few are read without torch, with a graph."""
        found = encoded_media(self._graph(Modality.AUDIO), prepared, self._few)
        return (
            found if found is not None else self._rows(prepared, _SOUNDS_AT_ONCE, lambda part: self.audio_tower(part))
        )

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows: CLAP's text embeddings. A few run without torch, too."""
        found = encoded_texts(self._graph(Modality.TEXT), texts, _FEW_TEXTS)
        return found if found is not None else self._rows(texts, _TEXTS_AT_ONCE, self._read)

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """The same as passages: CLAP reads both alike."""
        return self.encode_passages(texts)

    def open_text_measure(self) -> TextMeasure:
        """What the text tower reads of a text; loads it, where there is no graph."""
        from indexer.media.text.measure import CountMeasure

        graph = self._graph(Modality.TEXT)
        if graph is not None:
            return graph.texts.measure()
        tokenizer, _ = self.text_tower

        def count(text: str) -> int:
            with self._reading:
                return len(tokenizer(text, add_special_tokens=False, truncation=False, padding=False)["input_ids"])

        special = int(tokenizer.num_special_tokens_to_add())
        return CountMeasure(count, max(1, int(tokenizer.model_max_length) - special))

    def prepare_queries(
        self, on_stage: Callable[[str], None] = lambda stage: None, *, loaded: bool = False, again: bool = False
    ) -> None:
        """Make the graphs that the cache lacks; with ``loaded`` of loaded halves only, and of no large ones.

        What had no graph before is tried ``again`` or left alone. Nothing is made where graphs are not wanted. Raises
        as loading the halves does, and ``StorageError``.
        """
        if not graphs_are_wanted(self._device_option) or (loaded and is_large(self.weights)):
            return
        writers = {Modality.AUDIO: self._write_sounds, Modality.TEXT: self._write_texts}
        wanted = {one: write for one, write in writers.items() if not loaded or self._is_loaded(one)}
        self._graphs.make(wanted, on_stage, again=again)

    def _write_sounds(self, folder: Path) -> None:
        from indexer.encoders.clap.graphs import write_sounds
        from indexer.encoders.clap.tower import ClapTower, clap_from_directory

        published, weights = clap_from_directory(self.directory)
        tower = ClapTower(published)
        tower.load(weights)
        write_sounds(tower, folder)

    def _write_texts(self, folder: Path) -> None:
        from indexer.encoders.clap.graphs import write_text_half
        from indexer.encoders.clap.texts import load_text_half

        write_text_half(*load_text_half(self.directory, self.weights), folder)

    def _graph(self, modality: Modality) -> TowerGraph | None:
        """The half in ONNX Runtime, unless torch has it loaded or is named, or there is no graph."""
        if self._is_loaded(modality) or not graphs_are_wanted(self._device_option):
            return None
        return self._graphs.open(modality)

    def _is_loaded(self, modality: Modality) -> bool:
        return ("_audio_tower" if modality is Modality.AUDIO else "_text_tower") in self.__dict__

    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        tokenizer, model = self.text_tower
        with self._reading:  # a fast tokenizer's settings of padding can't be borrowed twice
            tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        rows: torch.Tensor = model(
            input_ids=tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device)
        ).text_embeds
        return rows

    def _rows(self, inputs: Sequence[Any], at_once: int, run: Callable[[Sequence[Any]], torch.Tensor]) -> Embeddings:
        from indexer.encoders.unit_rows import unit_rows

        return unit_rows(inputs, at_once, run, dim=self.dim, spec=self.spec)


def find_clap(spec: str, *, fetch: bool = True) -> tuple[Path, str]:
    """Directory of the files, and the spec as a collection remembers it. Raises :class:`WeightsMissing`."""
    body = spec.removeprefix(PREFIX)
    path = Path(body).expanduser()
    if path.is_dir():
        return path.absolute(), f"{PREFIX}{path.absolute()}"
    if not body or path.is_absolute() or body.startswith((".", "~")):
        raise WeightsMissing(f"model {spec}: there is no such directory; correct it, or name a repository of the hub")
    name, _, revision = body.partition("@")
    files = f"{_SETTINGS[0]}, {_SETTINGS[1]}, {_WEIGHTS[0]} and tokenizer files"
    remedy = f"put its {files} into a directory and use --model {PREFIX}DIR"
    what = f"model {spec}"
    directory = hub_snapshot(
        name,
        revision,
        patterns=(*_SETTINGS, *TOKENIZER_FILES),
        what=what,
        remedy=remedy,
        fetch=fetch,
        whole=lambda found: (found / "config.json").is_file() and bool(_vocabulary(found)),
    )
    hub_file(name, _WEIGHTS, revision, what=what, remedy=remedy, fetch=fetch)
    return directory, spec


def _weights(spec: str, directory: Path) -> Path:
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    raise WeightsMissing(f"model {spec}: {directory} holds no {' or '.join(_WEIGHTS)}; put one there")


def _window_s(directory: Path, spec: str) -> float:
    """Seconds that the model reads at once; 10 where its files don't say, as published."""
    for name in _SETTINGS[1:]:
        if (directory / name).is_file():
            settings = _read_json(directory / name, spec)
            settings = settings.get("feature_extractor", settings)
            if "max_length_s" in settings:
                return float(settings["max_length_s"])
    return 10.0


def _vocabulary(directory: Path) -> list[Path]:
    """``tokenizer.json`` holds all of a tokenizer; where there is none, the files it would be made of."""
    found = [directory / name for name in _VOCABULARIES if (directory / name).is_file()]
    return found[:1] if found and found[0].name == _VOCABULARIES[0] else found


def _lasting(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {name: _lasting(value) for name, value in settings.items() if name not in _INCIDENTAL}
    return settings


def _read_json(path: Path, spec: str) -> dict[str, Any]:
    try:
        document = read_json_object(path)
    except (OSError, ValueError) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise ModelError(
            f"model {spec}: {path} can't be read ({reason}); give the directory of a CLAP model"
        ) from error
    return document
