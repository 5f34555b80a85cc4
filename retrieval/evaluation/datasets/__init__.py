"""Benchmarks in their published layouts: ``LAYOUT:PATH[@MEDIA]`` -> a :class:`Benchmark`.

``MEDIA`` is the folder of the pictures or sounds where they do not lie beside the list (of ``classes``: the file of
class names). Without a layout, ``PATH`` is a manifest. Nothing is fetched: what is not there is named with where to
get it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from indexer.errors import ManifestError, UsageError
from indexer.files import display_path
from retrieval.evaluation.datasets.audio_csv import load_audiocaps, load_clotho
from retrieval.evaluation.datasets.benchmark import Benchmark, load_benchmark
from retrieval.evaluation.datasets.class_folders import load_class_folders
from retrieval.evaluation.datasets.coco import load_coco_captions
from retrieval.evaluation.datasets.karpathy import load_karpathy
from retrieval.evaluation.datasets.webdataset import load_webdataset

Loader = Callable[[Path, Path | None, str | None], Benchmark]

#: Layouts that are a list and a folder of media.
_LISTS: dict[str, Loader] = {
    "karpathy": load_karpathy,
    "coco-captions": load_coco_captions,
    "audiocaps": load_audiocaps,
    "clotho": load_clotho,
}
#: Karpathy's file in a folder, by the name of the data set.
_IN_FOLDER = {"coco": "dataset_coco.json", "flickr30k": "dataset_flickr30k.json"}

LAYOUTS = (*_IN_FOLDER, *_LISTS, "classes", "webdataset")


def open_dataset(dataset: str, split: str | None = None, *, templates: Sequence[str] = (), cache: Path) -> Benchmark:
    """What ``trimodal bench DATASET`` names. ``cache``: the folder that archives are unpacked into.

    Raises ``UsageError`` for an unknown layout or split, ``ManifestError`` naming what is missing and its source.
    """
    layout, colon, rest = dataset.partition(":")
    if not colon or Path(dataset).exists():
        return _manifest(Path(dataset), split, templates)
    if layout not in LAYOUTS:
        if not re.fullmatch(r"[a-z][a-z0-9_-]+", layout):  # one letter: a drive
            return _manifest(Path(dataset), split, templates)
        raise UsageError(f"{display_path(dataset)}: {layout} is no layout; known are {', '.join(LAYOUTS)}")
    if not rest:
        raise UsageError(f"{layout}: has no path; write {layout}:PATH")
    path, media = _split_media(rest)
    if templates and layout != "classes":
        raise UsageError(f"--template is for classes:FOLDER; leave it out for {layout}")
    if layout == "classes":
        return load_class_folders(path, media, split, templates)
    if layout == "webdataset":
        return load_webdataset(path, cache / "unpacked", split)
    if layout in _IN_FOLDER:
        return load_karpathy(path / _IN_FOLDER[layout] if _is_folder(path) else path, media, split)
    return _LISTS[layout](path, media, split)


def _manifest(path: Path, split: str | None, templates: Sequence[str]) -> Benchmark:
    if templates:
        raise UsageError("--template is for classes:FOLDER; leave it out for a manifest")
    try:
        return load_benchmark(path, split)
    except (ManifestError, UsageError) as error:
        if path.is_dir() or path.suffix.lower() in (".json", ".tar"):
            known = ", ".join(LAYOUTS)
            raise type(error)(f"{error}; of a published data set name the layout, LAYOUT:PATH ({known})") from error
        raise


def _split_media(rest: str) -> tuple[Path, Path | None]:
    """``PATH@MEDIA``, at the last @ that a path stands before; a path that is there as it stands is whole."""
    places = [place for place, char in enumerate(rest) if char == "@"]
    if not places or Path(rest).expanduser().exists():
        return Path(rest).expanduser(), None
    there = [place for place in places if Path(rest[:place]).expanduser().exists()]
    at = (there or places)[-1]
    return Path(rest[:at]).expanduser(), Path(rest[at + 1 :]).expanduser()


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix
