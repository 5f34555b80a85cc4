"""A folder a class, as ImageNet and CIFAR are laid out: pictures for zero-shot classification.

Classes are the folders by name, in the order of their names. What a class is called is its folder's name with spaces
for ``_``, or what ``classnames.txt`` says: a line a class in that order, or lines of ``folder<TAB or space>name`` (as
ImageNet's ``LOC_synset_mapping.txt``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from indexer.errors import ManifestError, UsageError
from indexer.files import display_path
from indexer.items import Modality
from indexer.media.formats import IMAGE_SUFFIXES
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.datasets.rows import Rows, read_bytes, walk

#: One template, so that a number is what the words say; ``--template`` gives others (CLIP's ImageNet has 80).
TEMPLATES = ("a photo of a {}.",)

_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html or https://image-net.org"
_NAMES_FILE = "classnames.txt"
_SPLITS = frozenset(("train", "test", "val", "valid", "validation"))


def load_class_folders(
    path: Path, media: Path | None = None, split: str | None = None, templates: Sequence[str] = ()
) -> Benchmark:
    """Pictures with the number of their class, and the classes; ``media`` is the file of class names, if any."""
    _check_templates(templates)
    root = path.absolute()
    if not root.is_dir():
        raise ManifestError(
            f"{display_path(path)}: is no folder of class folders; unpack the pictures of a data set there, "
            f"from {_SOURCE}"
        )
    folders = _class_folders(root, path, split)
    if len(folders) < 2:
        raise ManifestError(f"{display_path(path)}: has {len(folders)} folders; a class is a folder, and it takes two")
    names = _names(root, media, [folder.name for folder in folders])
    rows = Rows(root, Modality.IMAGE, _SOURCE)
    digest = hashlib.sha256("\n".join(names).encode())
    for label, folder in enumerate(folders):
        for file in sorted(walk(folder)):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                shown = file.relative_to(root).as_posix()
                rows.add(shown, shown, file, (), label)
                digest.update(f"\n{shown} {file.stat().st_size}".encode("utf-8", "surrogateescape"))
    prompts = tuple(templates) or TEMPLATES
    return rows.benchmark("classes", digest.hexdigest(), split, classes=tuple(names), templates=prompts)


def _check_templates(templates: Sequence[str]) -> None:
    for template in templates:
        if template.count("{}") != 1 or template.replace("{}", "").count("{") + template.count("}") != 1:
            raise UsageError(f'--template "{display_path(template)}": write {{}} once where the name of the class goes')


def _class_folders(root: Path, shown: Path, split: str | None) -> list[Path]:
    """The folders of the classes, of the split if there is one; ``shown`` is ``root`` as it was given."""
    folders = _folders(root)
    if split is not None:
        if split not in [folder.name for folder in folders]:
            raise UsageError(f"{display_path(shown)}: has no folder for the split {split!r}; leave --split out")
        return _folders(root / split)
    if folders and all(folder.name in _SPLITS for folder in folders):
        given = ", ".join(folder.name for folder in folders)
        raise UsageError(f"{display_path(shown)}: its folders are splits, not classes ({given}); give one: --split")
    return folders


def _folders(root: Path) -> list[Path]:
    return sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))


def _names(root: Path, given: Path | None, folders: list[str]) -> list[str]:
    path = given or root / _NAMES_FILE
    if given is None and not path.is_file():
        return [folder.replace("_", " ") for folder in folders]
    lines = [line for line in read_bytes(path, _SOURCE).decode("utf-8-sig", "replace").splitlines() if line.strip()]
    pairs = dict(line.strip().split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    if all(folder in pairs for folder in folders):
        names = [pairs[folder].strip() for folder in folders]
    elif len(lines) == len(folders):
        names = [line.strip() for line in lines]
    else:
        raise ManifestError(
            f"{display_path(path)}: names {len(lines)} classes for {len(folders)} folders; "
            f"write a line a folder, in the order of their names, or: folder<TAB>name"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ManifestError(f"{display_path(path)}: two classes are called {twice!r}; give each its own name")
    return names
