"""A dual encoder of open_clip: any architecture and any checkpoint of it, read the way that it was trained to read.

Pictures and texts; no sound. The forms of a spec are in :mod:`indexer.encoders.openclip.source`. The tokenizer is
open_clip's own for the model, with its cleaning (SigLIP's takes capitals and punctuation away, CLIP's lower-cases) and
its context length; longer texts are cut there. Weights are read when something is first encoded.
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
from indexer.encoders.onnx.few import Few
from indexer.encoders.onnx.library_side import LibraryGraphs, TowerGraph, encoded_media, encoded_texts, is_large
from indexer.encoders.onnx.store import graphs_are_wanted
from indexer.encoders.openclip.pictures import Pictures
from indexer.encoders.openclip.source import OpenClipSource, find_openclip
from indexer.encoders.openclip.source_notes import noted_source, write_note
from indexer.encoders.weights.digests import cached_sha256
from indexer.items import Embeddings, Modality, Samples

if TYPE_CHECKING:
    import torch

    from indexer.media.text.measure import TextMeasure

#: Of what is given at once, this many go through the tower together.
_PICTURES_AT_ONCE, _TEXTS_AT_ONCE = 128, 256
#: What is read in ONNX Runtime without waiting for torch; for more torch is worth its import.
_FEW_TEXTS = 64


class OpenClipEncoder:
    """Two towers of an open_clip model; see :class:`indexer.encoders.base.DualEncoder` for its contract."""

    modalities = frozenset({Modality.IMAGE, Modality.TEXT})
    window_s = 10.0

    def __init__(self, spec: str, *, device: str = "auto", fetch: bool = True) -> None:
        """Find the files that ``spec`` names, or with ``fetch`` get them from the hub; weights are read on first use.

        Raises as :func:`find_openclip` does.
        """
        noted = noted_source(spec) if graphs_are_wanted(device) else None
        self.source: OpenClipSource = noted or find_openclip(spec, fetch=fetch)
        self.spec = self.source.spec
        self.dim = self.source.dim
        self._device_option = device
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        self._few = Few(or_more=True)
        self._graphs = LibraryGraphs(self.spec, self._graph_key)

    @cached_property
    def fingerprint(self) -> str:
        """Of architecture, weights, preprocessing and tokenizer; not of the number format or of where files lie."""
        config = dict(self.source.config)
        config["text_cfg"] = {**config["text_cfg"], "hf_model_name": bool(config["text_cfg"].get("hf_model_name"))}
        facts = {
            "kind": "openclip-1",
            "config": config,
            "preprocess": self.source.preprocess,
            "weights": cached_sha256(self.source.checkpoint),
            "tokenizer": [cached_sha256(file) for file in self.source.vocabulary],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _graph_key(self) -> str:
        """The fingerprint, and what else a text tower of transformers is built from."""
        tower = Path(str(self.source.config["text_cfg"].get("hf_model_name") or "")) / "config.json"
        return f"{self.fingerprint} {cached_sha256(tower) if tower.is_absolute() and tower.is_file() else ''}"

    @cached_property
    def device(self) -> torch.device:
        """Where the towers run."""
        from indexer.encoders.devices import choose_device

        return choose_device(self._device_option)

    @property
    def model(self) -> Any:
        """open_clip's model, loaded."""
        with self._lock:
            return self._model

    @cached_property
    def _model(self) -> Any:
        from indexer.encoders.openclip.weights import load_openclip

        return load_openclip(self.source, self.device, self._dtype)

    @cached_property
    def _dtype(self) -> torch.dtype:
        from indexer.encoders.devices import choose_dtype

        return choose_dtype(self.device)

    @property
    def pictures(self) -> Pictures:
        """open_clip's transform of pictures."""
        with self._lock:  # reader threads are the first to need it
            return self._pictures

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self.source.preprocess)

    @property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer: texts -> int64 ``(n, context)``."""
        with self._lock:
            return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        from indexer.encoders.openclip.texts import open_tokenizer

        return open_tokenizer(self.source)

    @property
    def picture_px(self) -> int:
        """The longer side of what its tower sees."""
        return int(max(self.source.preprocess["size"]))

    def prepare_image(self, picture: Image.Image) -> NDArray[Any]:
        """RGB picture -> uint8 ``(height, width, 3)``, open_clip's transform without its normalisation."""
        return self.pictures.prepare(picture)

    def prepare_audio(self, window: Samples) -> NDArray[Any]:
        """Never: raises :class:`ModelError` naming a model that hears."""
        require_tower(self, Modality.AUDIO)
        raise AssertionError("it has no sound tower")

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows: ``encode_image`` of the model; without torch where there is a graph."""
        found = encoded_media(self._graph(Modality.IMAGE), prepared, self._few)
        return found if found is not None else self._rows(prepared, _PICTURES_AT_ONCE, self._see)

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """Never: raises :class:`ModelError` naming a model that hears."""
        require_tower(self, Modality.AUDIO)
        raise AssertionError("it has no sound tower")

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows: ``encode_text`` of the model. A few run without torch, too."""
        found = encoded_texts(self._graph(Modality.TEXT), texts, _FEW_TEXTS)
        return found if found is not None else self._rows(texts, _TEXTS_AT_ONCE, self._read)

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """The same as passages: CLIP models read both alike."""
        return self.encode_passages(texts)

    def open_text_measure(self) -> TextMeasure:
        """What the text tower reads of a text."""
        graph = self._graph(Modality.TEXT)
        if graph is not None:
            return graph.texts.measure()
        from indexer.encoders.openclip.texts import measure_of

        return measure_of(self.tokenizer, self._reading)

    def prepare_queries(
        self, on_stage: Callable[[str], None] = lambda stage: None, *, loaded: bool = False, again: bool = False
    ) -> None:
        """Make the graphs that the cache lacks; with ``loaded`` only where the model is loaded, and not large.

        What had no graph before is tried ``again`` or left alone. Nothing is made where graphs are not wanted. Raises
        as loading the model does, and ``StorageError``.
        """
        if not graphs_are_wanted(self._device_option):
            return
        if loaded and (not self._is_loaded or is_large(self.source.checkpoint)):
            return
        self._graphs.make(
            {Modality.IMAGE: self._write_pictures, Modality.TEXT: self._write_texts}, on_stage, again=again
        )
        write_note(self.source)

    def _write_pictures(self, folder: Path) -> None:
        from indexer.encoders.openclip.graphs import write_pictures

        write_pictures(self._exact_model(), self.pictures, folder)

    def _write_texts(self, folder: Path) -> None:
        from indexer.encoders.openclip.graphs import write_text_tower

        write_text_tower(self._exact_model(), self.tokenizer, folder)

    def _exact_model(self) -> Any:
        """The model in float32 on the CPU: the loaded one where it is that."""
        import torch

        from indexer.encoders.openclip.weights import load_openclip

        cpu = torch.device("cpu")
        if self._is_loaded and self.device == cpu and self._dtype is torch.float32:
            return self.model
        return load_openclip(self.source, cpu, torch.float32)

    def _graph(self, modality: Modality) -> TowerGraph | None:
        """The tower in ONNX Runtime, unless torch has the model loaded or is named, or there is no graph."""
        if self._is_loaded or not graphs_are_wanted(self._device_option):
            return None
        return self._graphs.open(modality)

    @property
    def _is_loaded(self) -> bool:
        return "_model" in self.__dict__

    def _see(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        rows: torch.Tensor = self.model.encode_image(self.pictures.pixels(prepared, self.device, self._dtype))
        return rows

    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        tokenizer = self.tokenizer
        with self._reading:  # a fast tokenizer's settings of padding can't be borrowed twice
            tokens = tokenizer(list(texts))
        rows: torch.Tensor = self.model.encode_text(tokens.to(self.device))
        return rows

    def _rows(self, inputs: Sequence[Any], at_once: int, run: Callable[[Sequence[Any]], torch.Tensor]) -> Embeddings:
        from indexer.encoders.unit_rows import unit_rows

        return unit_rows(inputs, at_once, run, dim=self.dim, spec=self.spec)
