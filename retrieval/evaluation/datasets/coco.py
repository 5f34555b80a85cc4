"""COCO's own captions: ``captions_val2017.json`` (or another year's) and the folder of its pictures.

``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``. Not Karpathy's 5k: val2017 holds other
5,000 pictures, and numbers on the two are not to be compared.
"""

from __future__ import annotations

from pathlib import Path

from indexer.items import Modality
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.datasets.rows import Rows, find_below, media_folders, one_split, read_json, wrong

ANNOTATIONS_SOURCE = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"


def load_coco_captions(path: Path, media: Path | None = None, split: str | None = None) -> Benchmark:
    """Every picture of the file with all its captions, in the order of the file."""
    one_split(path, split)
    document, sha256 = read_json(path, ANNOTATIONS_SOURCE)
    images, annotations = document.get("images"), document.get("annotations")
    captions: dict[object, list[str]] = {}
    try:
        if not isinstance(images, list) or not isinstance(annotations, list):
            raise TypeError
        for one in annotations:
            captions.setdefault(one["image_id"], []).append(str(one["caption"]))
        names = [(one["id"], str(one["file_name"])) for one in images]
        hash(tuple(names))  # an id that is a list is no id
    except (KeyError, TypeError, AttributeError) as error:
        what = 'is none of COCO\'s caption files: it has no "images" with "annotations" that hold a "caption"'
        raise wrong(path, what, ANNOTATIONS_SOURCE) from error
    year = path.stem.removeprefix("captions_")  # captions_val2017.json -> val2017
    beside = path.absolute().parent
    # annotations_trainval2017.zip unpacks into annotations/, the pictures into val2017/ beside that
    folders = media_folders(media, beside, (year, f"../{year}", f"../images/{year}", "images"))
    if media is not None:
        folders.append(media / year)
    rows = Rows(path.absolute(), Modality.IMAGE, f"http://images.cocodataset.org/zips/{year}.zip")
    for image_id, name in names:
        rows.add(str(image_id), name, find_below(folders, name), captions.get(image_id, ()))
    return rows.benchmark("coco-captions", sha256, None)
