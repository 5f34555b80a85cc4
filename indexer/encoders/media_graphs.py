"""The graphs of a trained model's picture and sound towers: opened from the cache, or made from its weights.

Imports torch to make them alone. Knows nothing of devices or batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from indexer.encoders.onnx.head import head_folder
from indexer.encoders.onnx.media_side import OnnxMediaSide, has_onnx_form, open_media_side, tokens_folder, tower_folder
from indexer.encoders.onnx.store import make_graph, remedy_of
from indexer.encoders.specs import EncoderConfig
from indexer.encoders.tokens.config import RerankerConfig
from indexer.items import Modality


class MediaGraphs:
    """Of the model in ``directory``, which has a reranker where ``reranker`` is given."""

    def __init__(self, directory: Path, config: EncoderConfig, reranker: RerankerConfig | None, spec: str) -> None:
        self._directory, self._config, self._reranker = directory, config, reranker
        self._remedy = remedy_of(spec)

    def open(self, modality: Modality) -> OnnxMediaSide | None:
        """From the cache; ``None`` where it lacks one. Raises :class:`WeightsCorrupt` with the remedy."""
        return open_media_side(self._config, modality, self._grids(modality), self._tokens(modality), self._remedy)

    def preparing(self, modality: Modality) -> Any:
        """What has ``prepare`` for pictures or sounds, without a tower."""
        from indexer.encoders.towers.preparing import PicturePreparing, open_sounds

        if modality is Modality.IMAGE:
            return PicturePreparing(self._config.image)
        assert self._config.audio is not None
        return open_sounds(self._config.audio)

    def make(self, modality: Modality, on_stage: Callable[[str], None], *, again: bool) -> None:
        """Make what the cache lacks. Raises as loading the towers does, and ``StorageError``."""
        if not has_onnx_form(self._config, modality):
            return
        places = {
            tower_folder(self._config, modality, self._grids(modality)): self._write_tower,
            head_folder(self._config, modality): self._write_head,
        }
        tokens = self._tokens(modality)
        if tokens is not None:
            places[tokens_folder(tokens)] = self._write_tokens
        for folder, write in places.items():
            if not make_graph(folder, partial(write, modality), self._remedy, on_stage, again=again):
                return

    def _write_tower(self, modality: Modality, folder: Path) -> None:
        from indexer.encoders.towers import graphs
        from indexer.encoders.towers.load import load_audio_tower, load_image_tower

        grids = self._grids(modality)
        if modality is Modality.IMAGE:
            graphs.write_image_tower(load_image_tower(self._directory, self._config), grids, folder)
        else:
            graphs.write_audio_tower(load_audio_tower(self._directory, self._config), grids, folder)

    def _write_head(self, modality: Modality, folder: Path) -> None:
        from indexer.encoders.towers.graphs import write_media_head

        write_media_head(self._directory, self._config, modality, folder)

    def _write_tokens(self, modality: Modality, folder: Path) -> None:
        from indexer.encoders.tokens.compressor import load_compressor
        from indexer.encoders.towers.graphs import write_tokens

        assert self._reranker is not None
        compressor = load_compressor(self._directory, self._reranker, modality)
        write_tokens(compressor, self._reranker.sources[modality], folder)

    def _grids(self, modality: Modality) -> tuple[int, ...]:
        """The trunks whose grids its reranker reads."""
        reranker = self._reranker
        return reranker.sources[modality].grids if reranker is not None and modality in reranker.sources else ()

    def _tokens(self, modality: Modality) -> object | None:
        """What the graph of its media tokens depends on; ``None`` where there are none."""
        reranker = self._reranker
        if reranker is None or modality not in reranker.sources:
            return None
        return [reranker.sha256, modality.value, reranker.compressors[modality], asdict(reranker.sources[modality])]
