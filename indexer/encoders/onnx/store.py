"""Graphs in the cache: each in a folder of its own, made once a machine, with a record of its files' sha256.

A folder's name is a digest of all that the graph depends on. Of a model that has no graph the folder holds the reason,
so that nobody tries again at every run. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from indexer.encoders.weights.cache import cache_dir, install
from indexer.encoders.weights.record import check_installed, write_record
from indexer.errors import WeightsCorrupt, WeightsMissing

#: Raised with every change of what the graphs compute.
VERSION = 1
_REASON = "no-graph.txt"


class NoOnnxForm(ValueError):
    """A model that cannot be written as a graph here; the text says why."""


def remedy_of(model: str) -> str:
    """What a message says of a damaged graph of a model."""
    return f"make it again: trimodal models pull {model}"


def graph_folder(kind: str, *content: object) -> Path:
    """Where a graph lies that depends on ``content``, which JSON can hold."""
    digest = hashlib.sha256(json.dumps([VERSION, *content]).encode()).hexdigest()
    return cache_dir() / "onnx" / f"{kind}-{digest[:16]}"


def has_graph(folder: Path, remedy: str) -> bool:
    """Whether the graph is there, all files of it as they were made.

    Raises :class:`WeightsCorrupt` naming a damaged file, with the ``remedy``.
    """
    try:
        check_installed(folder, remedy, known={})
    except WeightsMissing:
        return False
    return not (folder / _REASON).is_file()


def make_graph(
    folder: Path,
    make: Callable[[Path], None],
    remedy: str,
    on_stage: Callable[[str], None] = lambda stage: None,
    *,
    again: bool = False,
    stage: str = "preparing queries (once)",
) -> bool:
    """Let ``make`` fill the folder unless it is whole; whether there is a graph then. ``on_stage`` is given ``stage``.

    ``make`` raises :class:`NoOnnxForm` where there can be none; that is remembered until ``again``, which also reads
    every file that is there.
    """

    def is_whole() -> bool:
        if again and (folder / _REASON).is_file():
            return False
        try:
            check_installed(folder, remedy, known={}, whole=again)
        except (WeightsMissing, WeightsCorrupt):
            return False
        return True

    def fill(_: Path, target: Path) -> None:
        on_stage(stage)
        target.mkdir()
        try:
            make(target)
        except NoOnnxForm as error:
            shutil.rmtree(target)
            target.mkdir()
            (target / _REASON).write_text(f"{error}\n", encoding="utf-8")
        write_record(target, {"version": VERSION})

    install(folder, fill, is_whole, on_stage)
    return not (folder / _REASON).is_file()


def graphs_are_wanted(device: str) -> bool:
    """Whether queries may run in ONNX Runtime: not where a GPU is named, or torch (``TRIMODAL_RUNTIME=torch``)."""
    return device in ("auto", "cpu") and os.environ.get("TRIMODAL_RUNTIME", "auto") != "torch"
