"""Karpathy's splits of COCO and Flickr: ``dataset_coco.json``, ``dataset_flickr30k.json`` and a folder of pictures.

``{"images": [{"filepath": "val2014", "filename": "COCO_val2014_...jpg", "split": "test", "sentences": [{"raw":
"..."}]}]}``; ``filepath`` is COCO's only. Every sentence is a caption: 25,010 of COCO's 5,000 test pictures.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from indexer.errors import UsageError
from indexer.files import display_path
from indexer.items import Modality
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.datasets.rows import Rows, find_below, media_folders, read_json, wrong

SPLITS_SOURCE = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
COCO_SOURCE = "http://images.cocodataset.org/zips/val2014.zip (pictures of train2014: train2014.zip there)"
FLICKR_SOURCE = "https://shannon.cs.illinois.edu/DenotationGraph/ (flickr30k-images, on request)"
_SOURCES = {"coco": COCO_SOURCE, "flickr30k": FLICKR_SOURCE}

#: Folders that the pictures usually lie in, beside the JSON.
_USUAL = ("images", "flickr30k-images", "flickr30k_images", "Images", "Flicker8k_Dataset")
_PUBLISHED = {("coco", "test"): 5000, ("flickr30k", "test"): 1000}


def load_karpathy(path: Path, media: Path | None = None, split: str | None = None) -> Benchmark:
    """The pictures of ``split`` (default: test) with all their captions."""
    split = split or "test"
    document, sha256 = read_json(path, SPLITS_SOURCE)
    images = document.get("images")
    if not isinstance(images, list) or not all(isinstance(one, dict) and "sentences" in one for one in images):
        raise wrong(path, 'is none of Karpathy\'s files: it has no "images" with "sentences"', SPLITS_SOURCE)
    splits = Counter(str(one.get("split")) for one in images)
    if split not in splits:
        raise UsageError(f"{display_path(path)}: has no split {split!r}; it has {', '.join(sorted(splits))}")
    folders = media_folders(media, path.absolute().parent, _USUAL)
    name = str(document.get("dataset", ""))
    rows = Rows(path.absolute(), Modality.IMAGE, _SOURCES.get(name, "where the data set is published"))
    for number, one in enumerate(images):
        if one.get("split") != split:
            continue
        filename, folder = str(one.get("filename", "")), str(one.get("filepath") or "")
        inner = f"{folder}/{filename}" if folder else filename
        captions = _captions(one["sentences"])
        rows.add(str(one.get("imgid", number)), inner, find_below(folders, inner, filename), captions)
    found = rows.benchmark("karpathy", sha256, split)
    published = _PUBLISHED.get((name, split))
    if published is None or splits[split] == published:
        return found
    return found.warned(f"this {name} {split} split lists {splits[split]:,} pictures, the published one {published:,}")


def _captions(sentences: Any) -> list[str]:
    """The raw text of every sentence; what is no sentence has none."""
    given = sentences if isinstance(sentences, list) else []
    return [str(one.get("raw", "")) for one in given if isinstance(one, dict)]
