"""Every error a user can meet, one tree.

    TrimodalError                 stated errors: one line naming the thing, the limit and the remedy
    ├── UsageError                options or arguments that make no sense (exit code 2)
    │   └── FilterError           a --where expression that cannot be read
    ├── MediaError                one file that cannot be read: corrupt, huge, empty, wrong type
    │   └── ChangedWhileRead      it was written to meanwhile
    ├── ManifestError             a manifest that cannot be read at all
    ├── CollectionError           a collection directory that cannot be used
    │   ├── CollectionMissing     nothing there yet
    │   ├── CollectionLocked      another writer is at work
    │   ├── EncoderMismatch       made by another encoder
    │   ├── IndexDamaged          index.faiss, the vectors or the catalog disagree or cannot be read
    │   └── CatalogRefuses        a value or a question that SQLite does not take
    ├── StorageError              the disk is full, read-only or failing
    ├── ModelError                a model that cannot be opened, or lacks a tower
    │   ├── ModelNotConfirmed     a collection names a model that this user never named
    │   ├── WeightsMissing        weights not here, with the command that gets them
    │   └── WeightsCorrupt        sha256 or shape differs from what was promised
    ├── RecipeError               a training recipe that cannot be used
    └── MissingExtra              an optional package is not installed, with the exact pip line

Library code raises these; it never prints and never exits.
"""

from __future__ import annotations


class TrimodalError(Exception):
    """Base of all stated errors. ``str(error)`` is one line for the user."""

    exit_code = 3


class UsageError(TrimodalError):
    """Options or arguments that make no sense; nothing was done."""

    exit_code = 2


class FilterError(UsageError):
    """A ``--where`` expression that cannot be read or names an unknown column."""


class MediaError(TrimodalError):
    """One file that cannot be read. ``path`` names it; ``str(error)`` starts with it."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class ChangedWhileRead(MediaError):
    """A file that was written to while it was read; the next run reads it again."""

    def __init__(self, path: object) -> None:
        super().__init__(path, "changed while it was read; it is read again on the next run")


class ManifestError(TrimodalError):
    """A manifest that cannot be read at all (a bad line alone is only skipped)."""


class CollectionError(TrimodalError):
    """A collection directory that cannot be used."""


class CollectionMissing(CollectionError):
    """There is no collection at that place."""


class CollectionLocked(CollectionError):
    """Another process is writing to the collection."""


class EncoderMismatch(CollectionError):
    """The collection was made by another encoder."""


class IndexDamaged(CollectionError):
    """Files of the collection disagree with each other or cannot be read."""


class CatalogRefuses(CollectionError):
    """A value or a question that SQLite does not take; the transaction stored nothing, and what was stored stays."""


class StorageError(TrimodalError):
    """The disk is full, read-only or failing."""


class ModelError(TrimodalError):
    """A model that cannot be opened, or that has no tower for the modality."""


class ModelNotConfirmed(ModelError):
    """A collection made elsewhere names a model that was not used on this machine before."""


class WeightsMissing(ModelError):
    """Weights are not on this machine."""


class WeightsCorrupt(ModelError):
    """Weights are not what their manifest promises."""


class RecipeError(TrimodalError):
    """A training recipe that cannot be used; names the key and what is allowed."""

    exit_code = 2


class MissingExtra(TrimodalError):
    """An optional package is missing; the message is the ``pip install`` that adds it."""
