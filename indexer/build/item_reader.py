"""Reads an item: its bytes are hashed, and decoded and prepared where their content is new.

Runs in any thread. Whatever goes wrong with a file is the outcome of that file alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TypeVar

from indexer.build.batches import Prepared, prepare
from indexer.build.outcomes import Failed, Fatal, KnownContent, NewContent, Outcome, SameContent, ToRead
from indexer.collection.catalog.reader import CatalogReader
from indexer.encoders.base import DualEncoder
from indexer.errors import ChangedWhileRead, MediaError, MissingExtra, TrimodalError
from indexer.files import display_path, one_line
from indexer.items import DecodedItem, Item, Modality
from indexer.limits import READING_RULES, MediaLimits
from indexer.media.content_hash import content_hash
from indexer.media.decode import decode_parts
from indexer.media.held import Held
from indexer.media.reserve import Reserve, no_reserve
from indexer.media.text.decode import Cut

#: What can be installed later and then reads files that could not be read before.
_OPTIONAL = ("resvg_py", "pillow_heif")
#: Of a reading function.
_Read = TypeVar("_Read")


class ItemReader:
    """Reads the items of one build; ``cut`` makes passages of a text."""

    def __init__(self, catalog: CatalogReader, encoder: DualEncoder, limits: MediaLimits, cut: Cut) -> None:
        self.catalog = catalog
        self.encoder = encoder
        self.limits = limits
        self.cut = cut
        self.version = _reader_version(limits)
        self.stopped = threading.Event()
        """Once it is set nothing more is decoded."""
        self._remarks: dict[str, list[str]] = {}
        """What was wrong with files that could be read, and their keys."""
        self._claimed: set[tuple[str, Modality]] = set()
        self._lock = threading.Lock()

    def read(self, task: ToRead, reserve: Reserve) -> Iterator[Outcome]:
        """What comes of the item: of new content its parts, else one outcome. ``reserve`` gets the bytes needed."""
        yield from self._decode_if_new(_guarded(task.item, lambda: self._look_at(task)), reserve)

    def read_again(self, item: Item) -> Iterator[Outcome]:
        """The parts of an item whose content is nowhere else after all, or how it failed."""
        yield from self._decode_if_new(_guarded(item, lambda: self._hold(item)), no_reserve)

    def warnings(self) -> list[str]:
        """What was wrong with files that were read all the same: a line for each kind, with a count and a file."""
        lines = []
        for remark, keys in sorted(self._remarks.items()):
            first = display_path(min(keys))
            lines.append(f"{first}: {remark}" + (f" (and {len(keys) - 1:,} more files)" if len(keys) > 1 else ""))
        return lines

    def _decode_if_new(self, found: Outcome | NewContent, reserve: Reserve) -> Iterator[Outcome]:
        if isinstance(found, NewContent):
            yield from self._decode(found, reserve)
        else:
            yield found

    def _look_at(self, task: ToRead) -> Outcome | NewContent:
        new, stored = self._hold(task.item), task.stored
        found: Outcome | NewContent = new
        if stored is not None and (stored.content_hash, stored.modality) == (new.content_hash, new.item.modality):
            found = SameContent(_as_read(task.same, new.held))
        elif not self._claim(new.content_hash, new.item.modality):
            found = KnownContent(new.item, new.content_hash)
        if new.held is not None and found is not new:
            new.held.close()
        return found

    def _hold(self, item: Item) -> NewContent:
        """The item with the hash of its content, as it is now."""
        if item.text is not None:
            return NewContent(item, content_hash(item), None)
        held = Held.hold(item, self.limits, content_hash)
        return NewContent(_as_read(item, held), held.digest, held)

    def _decode(self, new: NewContent, reserve: Reserve) -> Iterator[Outcome]:
        """The parts of an item, prepared; ``Failed`` in the place of the part that can't be read, and then no more."""
        decoding = decode_parts if new.held is None else new.held.decode
        parts = decoding(new.item, self.limits, reserve, self.cut)
        is_last = False
        try:
            while not is_last:
                outcome = _guarded(new.item, lambda: self._next_part(new, parts))
                is_last = not isinstance(outcome, Prepared) or outcome.is_last
                yield outcome
                del outcome  # it may be large, and the next is read meanwhile
        finally:
            if new.held is not None:
                new.held.close()

    def _next_part(self, new: NewContent, parts: Iterator[DecodedItem]) -> Outcome:
        if self.stopped.is_set():
            return Failed(new.item, "stopped", lasting=False)
        decoded = next(parts)
        with self._lock:
            for remark in decoded.remarks:
                self._remarks.setdefault(remark, []).append(new.item.key)
        if not decoded.segments:
            return Failed(new.item, "holds nothing to index; leave it out", lasting=True)
        return prepare(decoded, new.content_hash, self.encoder)

    def _claim(self, digest: str, modality: Modality) -> bool:
        """Whether this content is new to the collection and to this run, and so to be encoded here."""
        with self._lock:
            if (digest, modality) in self._claimed or self.catalog.has_hash(digest, modality):
                return False
            self._claimed.add((digest, modality))
            return True


def _reader_version(limits: MediaLimits) -> str:
    """What decides whether a file can be read, beside the file; a file that failed is tried again when it changes."""
    try:
        ours = version("trimodal")
    except PackageNotFoundError:  # run from a source tree
        ours = ""
    extras = [name for name in _OPTIONAL if find_spec(name) is not None]
    return hashlib.blake2b(repr((limits, ours, extras, READING_RULES)).encode(), digest_size=8).hexdigest()


def _is_lasting(error: BaseException | None) -> bool:
    """Whether the file itself is at fault, and not the system that was to give it (permission, memory)."""
    while error is not None:
        refused = isinstance(error, OSError) and error.errno is not None
        if refused or isinstance(error, MemoryError | ChangedWhileRead):
            return False
        error = error.__cause__ or error.__context__
    return True


def _as_read(item: Item, held: Held | None) -> Item:
    """``item`` with the size and time of the content that was read, not of what was there when it was listed."""
    if held is None:
        return item
    return replace(item, size_bytes=held.size_bytes, mtime_ns=held.mtime_ns, file_id=held.file_id)


def _guarded(item: Item, read: Callable[[], _Read]) -> _Read | Failed | Fatal:
    """Whatever goes wrong with a file is the outcome of that file alone."""
    try:
        return read()
    except (MediaError, MissingExtra) as error:
        reason = error.reason if isinstance(error, MediaError) else str(error)
        return Failed(item, reason, _is_lasting(error))
    except TrimodalError as error:
        return Fatal(error)
    except Exception as error:
        return Failed(item, f"cannot be read ({one_line(error)}); leave it out", _is_lasting(error))
