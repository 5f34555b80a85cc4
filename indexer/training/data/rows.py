"""The rows a recipe trains on: manifests read, rows joined to concepts, splits kept apart.

Knows nothing of towers; pictures and sounds are named here, not opened.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.corpus.walk import read_manifest
from indexer.errors import MediaError, RecipeError
from indexer.items import Item, Modality
from indexer.media.content_hash import content_hash
from indexer.training.recipe import Recipe

_ANY_KIND = "contradiction"  # of rows that don't say what theirs are about


@dataclass(frozen=True)
class Example:
    """One picture or sound with the texts that describe it."""

    item: Item
    key: str
    """Content hash of the file."""
    captions: tuple[str, ...]
    concept: str
    source: str
    row_id: str
    contradictions: tuple[str, ...] = ()
    """Texts that are false of the file and near its captions: another number, colour or relation."""
    kind: str = ""
    """What the contradictions are about."""


@dataclass(frozen=True)
class Examples:
    """Examples of one modality, by split, and what was left out on the way."""

    train: list[Example]
    heldout: list[Example]


def read_examples(recipe: Recipe) -> tuple[dict[Modality, Examples], list[str]]:
    """Examples by modality, and one line for each row that can't be used.

    A concept with rows on both sides is an error: the split must be by concept, never by picture.
    """
    sides: dict[Modality, dict[bool, list[Example]]] = {}  # by whether it is held out
    complaints: list[str] = []
    for name in (*recipe.data.manifests, *recipe.data.train_only):
        examples, more = manifest_examples(recipe.resolve(name), recipe)
        complaints += more
        for split, example in examples:
            heldout = split == recipe.data.heldout_split
            wanted = split in recipe.data.train_splits or (heldout and name not in recipe.data.train_only)
            if wanted and example.captions and example.source not in recipe.data.exclude_sources:
                sides.setdefault(example.item.modality, {}).setdefault(heldout, []).append(example)
    result = {}
    for modality, by_split in sides.items():
        train, held = by_split.get(False, []), by_split.get(True, [])
        shared = {example.concept for example in train} & {example.concept for example in held}
        if shared:
            raise RecipeError(
                f"{recipe.path}: {len(shared)} concepts are both trained on and held out ({sorted(shared)[0]}, …); "
                f"split the manifest by its metadata key {recipe.data.concept}"
            )
        result[modality] = Examples(train, held)
    if not result.get(Modality.IMAGE) or not result[Modality.IMAGE].train:
        raise RecipeError(
            f"{recipe.path}: no picture with captions in split {' or '.join(recipe.data.train_splits)}; "
            f"check data.manifests and data.train_splits"
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
            captions = row.captions[: recipe.data.captions_each or None]
            item = Item(key=str(file), modality=modality, path=file, captions=captions, metadata=row.metadata)
            try:
                key = content_hash(item)
            except MediaError as error:
                complaints.append(str(error))
                continue
            concept = row.metadata.get(recipe.data.concept)
            named = str(concept) if concept is not None else f"{path}#{row.row_id}"
            source = str(row.metadata.get("source", path.parent.name))
            false = _contradictions(row.metadata, f"{path}#{row.row_id}")
            kind = str(row.metadata.get("kind", "")) or _ANY_KIND
            found.append((row.split, Example(item, key, captions, named, source, row.row_id, false, kind)))
    return found, complaints


def _contradictions(metadata: Mapping[str, Any], row: str) -> tuple[str, ...]:
    """The row's ``metadata.contradictions``, a list that the manifest's reader gives as JSON."""
    given = metadata.get("contradictions")
    if given is None:
        return ()
    try:
        return tuple(_texts(json.loads(given)))
    except (ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"{row}: metadata.contradictions is no list of texts ({error})") from error


@dataclass(frozen=True)
class OtherWords:
    """Texts that say the same as a text; where a text has several senses, by the rows that mean one of them."""

    by_text: dict[str, list[str]]
    by_row: dict[tuple[str, str], list[str]]
    """By (row id, text); these rows do not take what ``by_text`` has."""

    def of(self, example: Example) -> list[str]:
        """Other words for an example's first caption."""
        first = example.captions[0]
        own = self.by_row.get((example.row_id, first))
        return own if own is not None else self.by_text.get(first, [])


def read_paraphrases(paths: Sequence[Path], each: int = 0) -> OtherWords:
    """Read ``.jsonl`` files of lines ``{"text": …, "also": […]}``, with ``"ids"`` where it is true of some rows only.

    Several lines of one text are joined, in order; of each line the first ``each`` are taken (0: all).
    """
    by_text: dict[str, dict[str, None]] = {}
    by_row: dict[tuple[str, str], dict[str, None]] = {}

    def take(row: Any) -> None:
        also = dict.fromkeys(_texts(row["also"])[: each or None])
        text = _texts([row["text"]])[0]
        if "ids" not in row:
            by_text.setdefault(text, {}).update(also)
        for row_id in row.get("ids", []):
            by_row.setdefault((row_id, text), {}).update(also)

    for path in paths:
        _each_line(path, take, "paraphrases", '{"text": …, "also": […]}')
    return OtherWords(
        {text: list(also) for text, also in by_text.items()}, {key: list(also) for key, also in by_row.items()}
    )


#: Language -> texts.
Translations = dict[str, list[str]]


@dataclass(frozen=True)
class Foreign:
    """Captions in other languages: those of a row, and those of a text, which any row with that first caption has."""

    by_row: dict[str, Translations]
    by_text: dict[str, Translations]

    def of(self, example: Example) -> Translations:
        """Of an example; in a language that both have, the row's own."""
        return {**self.of_text(example.captions[0]), **self.by_row.get(example.row_id, {})}

    def of_text(self, text: str) -> Translations:
        """Of a name by itself."""
        return self.by_text.get(text, {})


def read_translations(paths: Sequence[Path]) -> Foreign:
    """Read ``.jsonl`` files of lines with ``translations``, of a row by ``id`` or of a ``text``.

    Raises :class:`RecipeError`.
    """
    found = Foreign({}, {})

    def take(row: Any) -> None:
        own = {language: texts for language, some in row["translations"].items() if (texts := _texts(some))}
        named, key = (found.by_row, row["id"]) if "id" in row else (found.by_text, row["text"])
        named.setdefault(_texts([key])[0], {}).update(own)

    for path in paths:
        _each_line(path, take, "translations", '{"id" or "text": …, "translations": {…}}')
    return found


def _each_line(path: Path, take: Callable[[Any], None], kind: str, form: str) -> None:
    """Give ``take`` every line of a ``.jsonl``. Raises :class:`RecipeError` naming a line that is not of this form."""
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - the error names it
                take(json.loads(line))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file of {kind}; make it with its recipe script") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise RecipeError(f"{path}, line {number}: not {form} ({error})") from error


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("texts must be strings")
    return values


@dataclass(frozen=True)
class ClassName:
    """One class of a classifier: its row and what it is called."""

    number: int
    captions: tuple[str, ...]
    also: tuple[str, ...]
    concept: str


def read_classes(path: Path, recipe: Recipe) -> list[ClassName]:
    """The classes of a ``.jsonl`` of names that are on the training side. Raises :class:`RecipeError`."""
    found = []
    number = 0
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            if row.get("split", recipe.data.train_splits[0]) in recipe.data.train_splits:
                concept = str(row.get("metadata", {}).get(recipe.data.concept, row["captions"][0]))
                captions, also = tuple(_texts(row["captions"])), tuple(_texts(row.get("also", [])))
                found.append(ClassName(number, captions, also, concept))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file of class names; make it with its recipe script") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise RecipeError(f'{path}, line {number + 1}: not {{"captions": […], "split": …}} ({error})') from error
    return found


def by_source(examples: list[Example]) -> dict[str, int]:
    """How many examples come from each source, largest first."""
    return dict(Counter(example.source for example in examples).most_common())
