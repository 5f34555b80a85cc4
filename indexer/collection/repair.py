"""Mend the rows of a damaged collection. Knows nothing of its index, and removes only what cannot be used.

Items whose vectors or tokens are lost are removed from the catalog, so that the next ``trimodal index`` encodes them
again; missing folders, checksums and empty rows of tokens are written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indexer.collection.catalog.catalog import Catalog
from indexer.collection.row_store import RowStore, VectorStore
from indexer.collection.token_store import TokenStore
from indexer.collection.verify import bad_vectors, without_tokens
from indexer.durable import make_way, storage_errors, sync_folder
from indexer.reading import misplaced


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done, a line for each step, and whether the vectors have to be compacted to be whole."""

    done: list[str]
    compact: bool


def repair_rows(catalog: Catalog, vectors: VectorStore, tokens: TokenStore | None) -> Repaired:
    """Drop the items that have no usable vector or have lost their tokens, and make the files of rows complete.

    For a catalog that is whole, open for writing. Raises ``StorageError``.
    """
    stores: list[RowStore[Any]] = [vectors] if tokens is None else [vectors, tokens]
    folders = _make_folders(stores)
    lost, bad = bad_vectors(catalog, vectors)
    without = without_tokens(catalog, tokens) if tokens is not None else []
    changed = [row for store in stores for row in store.damaged().tolist()]
    done: list[str] = []
    dropped = catalog.drop_inconsistent([*lost, *bad, *without, *changed])
    if dropped:
        what = "vectors or media tokens" if without else "vectors"
        shown = ", ".join(dropped[:3]) + (", ..." if len(dropped) > 3 else "")
        done.append(
            f"{len(dropped):,} items without usable {what} removed ({shown}); "
            "to encode them again: trimodal index PATH..."
        )
    if tokens is not None:
        # only now: no item refers to the rows that were lost, and those of texts are empty anyway
        done += [f"{tokens.folder.name}/{name} filled up with empty rows" for name in tokens.fill_up()]
        changed += tokens.damaged().tolist()
    done += folders
    for store in stores:
        done += [f"{store.folder.name}/{name} written anew" for name in store.mend_sums()]
    return Repaired(done, bool(bad or changed or vectors.short_shards()))


def _make_folders(stores: list[RowStore[Any]]) -> list[str]:
    """Make the folders that are missing, or have something else in their place; a line for each."""
    done = []
    for store in stores:
        if misplaced(store.folder, folder=True) is not None:
            make_way(store.folder)
            with storage_errors(store.folder):
                store.folder.mkdir()
                sync_folder(store.folder.parent)
            done.append(f"{store.folder.name}/ made anew")
    return done
