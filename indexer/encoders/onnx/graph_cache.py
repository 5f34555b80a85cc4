"""Folders of graphs in the user's cache: named by what they depend on, filled once, with a record of their sha256.

Imports neither torch nor ``onnx``. Knows nothing of what the graphs compute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from indexer.encoders.weights.cache import cache_dir, install
from indexer.encoders.weights.record import check_installed, write_record
from indexer.errors import WeightsCorrupt, WeightsMissing


def graph_folder(kind: str, version: int, content: Sequence[object]) -> Path:
    """The folder of a graph, by everything that it depends on; ``version`` is raised with what graphs compute."""
    digest = hashlib.sha256(json.dumps([version, *content]).encode()).hexdigest()
    return cache_dir() / "onnx" / f"{kind}-{digest[:16]}"


def check_graphs(folder: Path, remedy: str) -> bool:
    """Whether the graphs are there. Raises :class:`WeightsCorrupt` naming a damaged file, with the remedy."""
    try:
        check_installed(folder, remedy, known={})
    except WeightsMissing:
        return False
    return True


def install_graphs(
    folder: Path, make: Callable[[Path], None], version: int, stage: str, on_stage: Callable[[str], None]
) -> None:
    """Let ``make`` fill a folder where it is not there or damaged; it appears when it is whole."""

    def is_whole() -> bool:
        try:
            check_installed(folder, "it is made again", known={}, whole=True)
        except (WeightsMissing, WeightsCorrupt):
            return False
        return True

    def fill(_: Path, target: Path) -> None:
        on_stage(stage)
        target.mkdir()
        make(target)
        write_record(target, {"version": version})

    install(folder, fill, is_whole, on_stage)
