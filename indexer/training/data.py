"""The rows a recipe trains on: manifests read, rows joined to concepts, splits kept apart.

Knows nothing of towers; pictures and sounds are named here, not opened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from indexer.corpus import content_hash, read_manifest
from indexer.errors import MediaError, RecipeError
from indexer.items import Item, Modality
from indexer.training.recipe import Recipe


@dataclass(frozen=True)
class Example:
    """One picture or sound with the texts that tell of it."""

    item: Item
    key: str
    """Content hash of the file."""
    captions: tuple[str, ...]
    concept: str
    source: str


@dataclass(frozen=True)
class Examples:
    """Examples of one modality, by split, and what was left out on the way."""

    train: list[Example]
    heldout: list[Example]


def read_examples(recipe: Recipe) -> tuple[dict[Modality, Examples], list[str]]:
    """Examples by modality, and one line for each row that can't be used.

    A concept with rows on both sides is an error: the split must be by concept, never by picture.
    """
    sides: dict[Modality, dict[str, list[Example]]] = {}
    complaints: list[str] = []
    for name in recipe.data.manifests:
        examples, more = manifest_examples(recipe.resolve(name), recipe)
        complaints += more
        for split, example in examples:
            if split in (recipe.data.train_split, recipe.data.heldout_split) and example.captions:
                sides.setdefault(example.item.modality, {}).setdefault(split, []).append(example)
    result = {}
    for modality, by_split in sides.items():
        train = by_split.get(recipe.data.train_split, [])
        heldout = by_split.get(recipe.data.heldout_split, [])
        shared = {example.concept for example in train} & {example.concept for example in heldout}
        if shared:
            raise RecipeError(
                f"{recipe.path}: {len(shared)} concepts are both trained on and held out ({sorted(shared)[0]}, …); "
                f"split the manifest by its metadata key {recipe.data.concept}"
            )
        result[modality] = Examples(train, heldout)
    if not result.get(Modality.IMAGE) or not result[Modality.IMAGE].train:
        raise RecipeError(
            f"{recipe.path}: no picture with captions in split {recipe.data.train_split}; "
            f"check data.manifests and data.train_split"
        )
    return result, complaints


def manifest_examples(path: Path, recipe: Recipe) -> tuple[list[tuple[str | None, Example]], list[str]]:
    """Every picture and sound of a manifest with its split, and what could not be used."""
    if not path.is_file():
        raise RecipeError(f"{path}: no such manifest; make it with the recipe script that its data comes from")
    manifest = read_manifest(path)
    complaints = [f"{skipped.path}: {skipped.reason}" for skipped in manifest.skipped]
    found: list[tuple[str | None, Example]] = []
    for row in manifest.rows:
        for modality, file in ((Modality.IMAGE, row.image), (Modality.AUDIO, row.audio)):
            if file is None:
                continue
            item = Item(key=str(file), modality=modality, path=file, captions=row.captions, metadata=row.metadata)
            try:
                key = content_hash(item)
            except MediaError as error:
                complaints.append(str(error))
                continue
            concept = row.metadata.get(recipe.data.concept)
            named = str(concept) if concept is not None else f"{path}#{row.row_id}"
            source = str(row.metadata.get("source", path.parent.name))
            found.append((row.split, Example(item, key, row.captions, named, source)))
    return found, complaints


def by_source(examples: list[Example]) -> dict[str, int]:
    """How many examples come from each source, largest first."""
    return dict(Counter(example.source for example in examples).most_common())
