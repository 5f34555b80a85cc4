"""A dual encoder in a directory, as ``trimodal train dual`` writes it: towers, heads and what ties them.

Towers are loaded when first used, so that a text query does not load a picture tower, and an index run that finds
nothing new does not even import torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from indexer.encoders.onnx.few import Few
from indexer.encoders.specs import read_config
from indexer.errors import ModelError
from indexer.items import Embeddings, Modality, Samples

if TYPE_CHECKING:
    import torch

    from indexer.encoders.media_graphs import MediaGraphs
    from indexer.encoders.onnx.media_side import OnnxMediaSide
    from indexer.encoders.onnx.text_side import OnnxTextSide
    from indexer.encoders.tokens.compressor import Compressor
    from indexer.encoders.tokens.config import RerankerConfig
    from indexer.encoders.tokens.format import TokenRows, TokenSpec
    from indexer.encoders.towers.audio import AudioTower
    from indexer.encoders.towers.heads import Head
    from indexer.encoders.towers.hubness import HubnessCorrection
    from indexer.encoders.towers.image import ImageTower
    from indexer.encoders.towers.text import TextTowers
    from indexer.media.text.measure import TextMeasure


#: Texts that are read in ONNX Runtime without waiting for torch; for more of them torch is worth its import.
_FEW = 64


class TrainedDualEncoder:
    """The dual encoder of a directory; see :class:`indexer.encoders.base.DualEncoder` for its contract."""

    def __init__(self, directory: Path, *, spec: str | None = None, device: str = "auto") -> None:
        """Read ``encoder.json``; weights are read on first use. Raises :class:`ModelError` naming what is wrong."""
        self.directory = directory
        self.config = read_config(directory)
        self.spec = spec or str(directory)
        self.dim = self.config.dim
        self.fingerprint = self.config.fingerprint
        self.window_s = self.config.audio.window_s if self.config.audio else 10.0
        self.modalities = frozenset(Modality(name) for name in self.config.heads)
        self._device_name = device
        self._lock = threading.RLock()
        self._loaded: dict[str, Any] = {}
        self._sides: dict[Modality, OnnxMediaSide | None] = {}
        self._prepare: dict[Modality, Any] = {}
        self._few = {modality: Few(or_more=True) for modality in Modality}

    @cached_property
    def device(self) -> torch.device:
        """Where the towers run."""
        from indexer.encoders.devices import choose_device

        return choose_device(self._device_name)

    @property
    def image_tower(self) -> ImageTower:
        """The picture tower, loaded."""
        from indexer.encoders.towers.load import load_image_tower

        tower: ImageTower = self._tower(Modality.IMAGE, lambda: load_image_tower(self.directory, self.config))
        return tower

    @property
    def audio_tower(self) -> AudioTower:
        """The sound tower, loaded."""
        from indexer.encoders.towers.load import load_audio_tower

        tower: AudioTower = self._tower(Modality.AUDIO, lambda: load_audio_tower(self.directory, self.config))
        return tower

    @property
    def text_tower(self) -> TextTowers:
        """The text towers, loaded: one or several language models side by side."""
        from indexer.encoders.towers.load import load_text_towers

        tower: TextTowers = self._tower(Modality.TEXT, lambda: load_text_towers(self.directory, self.config))
        return tower

    @property
    def picture_px(self) -> int | None:
        """The longer side of what its picture tower sees."""
        return max((spec.size_px for spec in self.config.image), default=None)

    def prepare_image(self, picture: Image) -> NDArray[Any]:
        """RGB picture -> uint8 ``(s, s, 3)``."""
        if self._graph(Modality.IMAGE) is None:
            return self.image_tower.prepare(picture)
        prepared: NDArray[Any] = self._preparing(Modality.IMAGE).prepare(picture)
        return prepared

    def prepare_audio(self, window: Samples) -> NDArray[Any]:
        """Mono float32 at 16 kHz -> log-mel with a row that marks where sound is."""
        if self._graph(Modality.AUDIO) is None:
            return self.audio_tower.prepare(window)
        prepared: NDArray[Any] = self._preparing(Modality.AUDIO).prepare(window)
        return prepared

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows. A few are read without torch, where there is a graph."""
        side = self._graph(Modality.IMAGE, prepared)
        if side is not None:
            return side.encode(prepared)
        return self._project(Modality.IMAGE, self.image_tower.features(prepared)) if len(prepared) else self._none()

    def project_images(self, features: NDArray[np.float32]) -> Embeddings:
        """The picture tower's features ``(n, width)`` -> embeddings float32 ``(n, dim)``, unit rows."""
        return self._project(Modality.IMAGE, features)

    def project_audio(self, features: NDArray[np.float32]) -> Embeddings:
        """The sound tower's features ``(n, width)`` -> embeddings float32 ``(n, dim)``, unit rows."""
        return self._project(Modality.AUDIO, features)

    def project_texts(self, features: NDArray[np.float32]) -> Embeddings:
        """The text towers' features ``(n, width)`` -> embeddings float32 ``(n, dim)``, unit rows."""
        return self._project(Modality.TEXT, features)

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows. A few are read without torch, where there is a graph."""
        side = self._graph(Modality.AUDIO, prepared)
        if side is not None:
            return side.encode(prepared)
        return self._project(Modality.AUDIO, self.audio_tower.features(prepared)) if len(prepared) else self._none()

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows."""
        side = self._graphs_for(texts)
        if side is not None:
            return side.encode(texts)
        return self._project(Modality.TEXT, self.text_tower.features(texts)) if len(texts) else self._none()

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """The same as passages: the towers read both alike. A few are read without torch, where there are graphs."""
        return self.encode_passages(texts)

    def _graphs_for(self, texts: Sequence[str]) -> OnnxTextSide | None:
        """The text towers in ONNX Runtime; ``None`` where torch is to read these texts: see :meth:`_graph`."""
        from indexer.encoders.onnx.few import graphs_take

        if Modality.TEXT in self._loaded or not graphs_take(len(texts), _FEW):
            return None
        return self._text_side

    def open_text_measure(self) -> TextMeasure:
        """What the text towers read of a text, by their tokenizers."""
        return self.text_tower.measure() if self._text_side is None else self._text_side.measure()

    @cached_property
    def _text_side(self) -> OnnxTextSide | None:
        """The text towers in ONNX Runtime; ``None`` without graphs, or where a GPU or torch is named."""
        from indexer.encoders.onnx.store import graphs_are_wanted
        from indexer.encoders.onnx.text_side import open_text_side

        return open_text_side(self.config, self.spec) if graphs_are_wanted(self._device_name) else None

    def _graph(self, modality: Modality, prepared: Sequence[NDArray[Any]] = ()) -> OnnxMediaSide | None:
        """The towers of pictures or sounds in ONNX Runtime; ``None`` where torch is to read what was ``prepared``.

        That is: where its tower is loaded, or worth its import, there is no graph, or a GPU or torch is named.
        """
        if modality not in self.modalities or modality in self._loaded:
            return None
        if len(prepared) and not self._few[modality].takes(len(prepared)):
            return None
        with self._lock:
            if modality not in self._sides:
                self._sides[modality] = self._open_graph(modality)
            return self._sides[modality]

    def _open_graph(self, modality: Modality) -> OnnxMediaSide | None:
        from indexer.encoders.onnx.store import graphs_are_wanted

        return self._media_graphs.open(modality) if graphs_are_wanted(self._device_name) else None

    @property
    def _media_graphs(self) -> MediaGraphs:
        from indexer.encoders.media_graphs import MediaGraphs

        return MediaGraphs(self.directory, self.config, self.reranker_config, self.spec)

    def _preparing(self, modality: Modality) -> Any:
        """What has ``prepare`` for the modality, without its tower."""
        with self._lock:
            if modality not in self._prepare:
                self._prepare[modality] = self._media_graphs.preparing(modality)
            return self._prepare[modality]

    def prepare_queries(
        self, on_stage: Callable[[str], None] = lambda stage: None, *, loaded: bool = False, again: bool = False
    ) -> None:
        """Make what the cache lacks of graphs of the picture and sound towers; with ``loaded`` of loaded towers only.

        What had no graph before is tried ``again`` or left alone. Nothing is made where graphs are not wanted. Raises
        as loading the towers does, and ``StorageError``.
        """
        from indexer.encoders.onnx.store import graphs_are_wanted

        for modality in (Modality.IMAGE, Modality.AUDIO):
            if graphs_are_wanted(self._device_name) and (modality in self._loaded or not loaded):
                self._media_graphs.make(modality, on_stage, again=again)
                self._sides.pop(modality, None)

    @cached_property
    def token_spec(self) -> TokenSpec | None:
        """How the media tokens of its reranker look; ``None`` where the model has no reranker."""
        return None if self.reranker_config is None else self.reranker_config.token_spec

    def encode_images_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """float32 ``(n, dim)`` and packed media tokens uint8 ``(n, row_bytes)``, from one forward pass."""
        assert self.reranker_config is not None
        wanted = self.reranker_config.sources["image"].grids
        return self._with_tokens(Modality.IMAGE, prepared, lambda: self.image_tower.with_grids(prepared, wanted))

    def encode_audio_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """As for pictures; rows of zeros where the reranker was not trained on sounds."""
        assert self.reranker_config is not None
        if Modality.AUDIO not in self.reranker_config.sources:
            row_bytes = self.reranker_config.token_spec.row_bytes
            return self.encode_audio(prepared), np.zeros((len(prepared), row_bytes), np.uint8)
        return self._with_tokens(Modality.AUDIO, prepared, lambda: self.audio_tower.with_grids(prepared))

    def _with_tokens(
        self,
        modality: Modality,
        prepared: Sequence[NDArray[Any]],
        read: Callable[[], tuple[torch.Tensor, list[torch.Tensor]]],
    ) -> tuple[Embeddings, TokenRows]:
        assert self.reranker_config is not None
        spec = self.reranker_config.token_spec
        if not len(prepared):
            return self._none(), spec.pack(np.zeros((0, spec.count, spec.width), np.float32))
        side = self._graph(modality, prepared)
        if side is not None and side.makes_tokens:
            found, packed = side.encode_with_tokens(prepared)
            return found, spec.pack(packed)
        import torch

        rows, grids = read()
        with torch.inference_mode():
            tokens = self._compressor(modality)(self.reranker_config.sources[modality].split(rows, grids))
        vectors = self._project(modality, np.asarray(rows.cpu().numpy(), dtype=np.float32))
        return vectors, spec.pack(np.asarray(tokens.float().cpu().numpy(), dtype=np.float32))

    @cached_property
    def reranker_config(self) -> RerankerConfig | None:
        """The settings in the directory's ``reranker.json``; ``None`` where there is none. Raises ``ModelError``."""
        from indexer.encoders.tokens.config import read_reranker

        return read_reranker(self.directory, self.fingerprint)

    def _compressor(self, modality: Modality) -> Compressor:
        from indexer.encoders.tokens.compressor import load_compressor

        assert self.reranker_config is not None
        with self._lock:
            name = f"compressor of {modality}"
            if name not in self._loaded:
                self._loaded[name] = load_compressor(self.directory, self.reranker_config, modality).to(self.device)
            found: Compressor = self._loaded[name]
        return found

    def _none(self) -> Embeddings:
        return np.zeros((0, self.dim), dtype=np.float32)

    def _project(self, modality: Modality, features: NDArray[np.float32]) -> Embeddings:
        import torch

        with torch.inference_mode():
            heads, hubness = self._heads
            rows = heads[modality](torch.from_numpy(features).to(self.device))
            if hubness is not None:
                rows = hubness(rows, modality.value)
            return np.asarray(rows.cpu().numpy(), dtype=np.float32)

    @cached_property
    def _heads(self) -> tuple[dict[str, Head], HubnessCorrection | None]:
        from indexer.encoders.towers.load import load_heads

        heads, hubness = load_heads(self.directory, self.config)
        placed = {name: head.to(self.device).eval() for name, head in heads.items()}
        return placed, None if hubness is None else hubness.to(self.device)

    def _tower(self, modality: Modality, load: Callable[[], Any]) -> Any:
        from indexer.encoders.devices import choose_dtype

        if modality not in self.modalities:
            raise ModelError(f"model {self.spec} has no {modality} tower; use --model starter, which has all three")
        with self._lock:  # readers of several threads may be the first to need a tower
            if modality not in self._loaded:
                self._loaded[modality] = load().to(self.device, choose_dtype(self.device))
            return self._loaded[modality]
