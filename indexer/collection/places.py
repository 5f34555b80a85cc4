"""Which items a person means who names files, folders or keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from indexer.items import Place
from indexer.names import nfc


def keys_under(places: Sequence[Place], names: Iterable[str]) -> list[str]:
    """Keys of the items that are, or lie under, one of ``names``: a file, a folder, or a key (``manifest.jsonl#row``).

    A name that nothing has as it is written may be that of an item in the other form of Unicode.
    """
    wanted = {form for name in names for form in (name, str(Path(name).absolute()))}
    called = [(place.key, {place.key, str(place.path), *map(str, place.path.parents)}) for place in places]
    found = {key: wanted & names_of_it for key, names_of_it in called}
    left = {nfc(name) for name in wanted.difference(*found.values()) if not name.isascii()}
    left -= {nfc(name) for exact in found.values() for name in exact}
    return [key for key, names_of_it in called if found[key] or left & {nfc(name) for name in names_of_it}]
