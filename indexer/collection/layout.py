"""The files of a collection's directory: their names, which are ours, the lock, replacing one by a rebuilt one.

    collection.json    what it is: schema version, encoder and fingerprint, dim, metric; written once, atomically
    catalog.sqlite     items and segments; its transaction is the commit point
    vectors/           the embeddings, append-only: the source of truth
    tokens/            media tokens, row by row beside the vectors; only where it was created to keep them
    index.faiss        derived from the vectors; may lag behind or be missing, and is then completed in memory
    write.lock         held by the one writer; the system releases it when the writer dies

Knows nothing of what a commit writes, of items or of models.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.collection.catalog.catalog import Catalog
from indexer.collection.description import (
    DESCRIPTION_NAME,
    MEND_DESCRIPTION,
    Description,
    parse_description,
    read_description,
)
from indexer.collection.row_store import Checksums, VectorStore
from indexer.collection.token_store import TokenStore
from indexer.durable import make_way, replace_text, storage_error, storage_errors, sync_folder
from indexer.errors import CollectionError, CollectionLocked, CollectionMissing, IndexDamaged
from indexer.reading import lost_target, misplaced, read_errors, status

if TYPE_CHECKING:
    import filelock

CATALOG_NAME = "catalog.sqlite"
VECTORS_NAME = "vectors"
TOKENS_NAME = "tokens"
INDEX_NAME = "index.faiss"
LOCK_NAME = "write.lock"

_FILES = (DESCRIPTION_NAME, CATALOG_NAME, INDEX_NAME, LOCK_NAME)
_OURS = frozenset((*_FILES, VECTORS_NAME, TOKENS_NAME, "lost+found"))


def exists(path: Path) -> bool:
    """Whether there is a collection at ``path``, be it damaged. Raises ``StorageError`` where that is not known."""
    finish_replacing(path)
    return _is_there(path / DESCRIPTION_NAME) or _remains(path) is not None


def open_stores(path: Path, description: Description, catalog: Catalog) -> tuple[VectorStore, TokenStore | None]:
    """The vectors of the commit that ``catalog`` sees, and its tokens, their files about as big as those of vectors."""
    generation, count, rows = catalog.generation, catalog.vector_count, description.rows_per_shard
    common: dict[str, Any] = {"generation": generation, "count": count, "checked": description.checksums}
    vectors = VectorStore(path / VECTORS_NAME, dim=description.dim, shard_rows=rows, **common)
    if description.tokens is None:
        return vectors, None
    width = description.tokens.row_bytes
    rows = max(1, rows * description.dim * vectors.dtype.itemsize // width)
    return vectors, TokenStore(path / TOKENS_NAME, dim=width, shard_rows=rows, **common)


def size_bytes(path: Path) -> int:
    """Of all files in the directory but the tokens; a file that a writer removes meanwhile counts as nothing."""
    size = 0
    for file in path.rglob("*"):
        if file.parent.name == TOKENS_NAME:
            continue  # they have holes
        with contextlib.suppress(OSError):
            found = file.stat()
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return size


# -- the lock -----------------------------------------------------------------------------------------------


def take_lock(path: Path) -> filelock.BaseFileLock:
    """The writer's lock, held. Raises ``CollectionLocked`` where another process holds it, and ``StorageError``."""
    import filelock  # brings asyncio: for who writes

    if (wrong := misplaced(path / LOCK_NAME)) not in (None, "is missing"):
        raise CollectionError(f"{path / LOCK_NAME}: {wrong}; remove it and run the same command again")
    lock = filelock.FileLock(path / LOCK_NAME, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise CollectionLocked(f"{path}: another trimodal is writing to it; wait for it to end, or stop it") from None
    except OSError as error:
        raise storage_error(path, error) from error
    return lock


# -- making room --------------------------------------------------------------------------------------------


def refuse_other_files(path: Path) -> None:
    """Raise ``CollectionError`` where the folder holds other things, such as the user's pictures."""
    if not _is_there(path):
        return
    if misplaced(path, folder=True) is not None:
        raise CollectionError(f"{path}: is a file; name a new or empty folder (--collection)")
    with storage_errors(path):
        for entry in sorted(path.iterdir()):
            if entry.name in _FILES and entry.is_dir() and any(entry.iterdir()):
                raise CollectionError(f"{entry}: is a folder with files in it, which are not ours; move it away")
            ours = entry.name in _OURS or entry.name.startswith((CATALOG_NAME, ".")) or entry.suffix == ".tmp"
            if not ours:
                raise CollectionError(
                    f"{path}: holds other files ({entry.name}); name a new or empty folder (--collection)"
                )


def clear(path: Path) -> None:
    """Remove a collection's files, ``collection.json`` first: from then on there is none."""
    make_way(path / DESCRIPTION_NAME)
    sync_folder(path)
    rows = [
        *path.glob(f"{VECTORS_NAME}/*{VectorStore.suffix}"),
        *path.glob(f"{TOKENS_NAME}/*{TokenStore.suffix}"),
        *path.glob(f"*/*{Checksums.suffix}"),
    ]
    # the catalog last: without it, rows would be taken for what is left of a collection
    for file in [path / INDEX_NAME, *rows, *path.glob("*.tmp"), *path.glob(f"{CATALOG_NAME}*")]:
        make_way(file)


def remove_temporary_files(path: Path) -> None:
    """Remove what atomic writes left when they were killed; what cannot be removed only takes space."""
    for left_over in path.glob("*.tmp"):
        with contextlib.suppress(OSError):
            left_over.unlink(missing_ok=True)


# -- replacing a collection by a rebuilt one ----------------------------------------------------------------


def rebuilding_path(path: Path) -> Path:
    """Where the collection at ``path`` is rebuilt: beside it."""
    return path.with_name(path.name + ".rebuilding")


def replaced_path(path: Path) -> Path:
    """Where the old collection is for the moment between the two steps of :func:`replace`."""
    return path.with_name(path.name + ".replaced")


def replace(path: Path, rebuilt: Path) -> None:
    """Put the directory ``rebuilt`` in the place of ``path``.

    A crash between its two steps is mended by :func:`finish_replacing`.
    """
    replaced = replaced_path(path)
    with storage_errors(path):
        if replaced.exists():
            shutil.rmtree(replaced)
        if path.exists():
            path.rename(replaced)
        rebuilt.rename(path)
        sync_folder(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def finish_replacing(path: Path) -> None:
    """Undo half a replacement: the old collection was moved away, and the new one not yet moved in."""
    replaced = replaced_path(path)
    if not _is_there(path) and (_is_there(replaced / DESCRIPTION_NAME) or _is_there(replaced / CATALOG_NAME)):
        with storage_errors(replaced), contextlib.suppress(FileNotFoundError):  # another process was faster
            replaced.rename(path)
        # taken for missing, a new one would be made in its place


# -- a collection without its description -------------------------------------------------------------------


def refuse_remains(path: Path) -> None:
    """Raise ``IndexDamaged`` where a collection has lost its description: it is not thrown away."""
    if not _is_there(path / DESCRIPTION_NAME) and (found := _remains(path)) is not None:
        raise IndexDamaged(f"{path / DESCRIPTION_NAME}: is missing, but {found} is there; {MEND_DESCRIPTION}")


def restore_description(path: Path) -> list[str]:
    """Put ``collection.json`` back where it is missing or damaged, from the copy that the catalog keeps.

    Returns a line for what was done, none where nothing was. Raises ``IndexDamaged`` where there is no copy (in
    collections last written before copies were kept), ``CollectionMissing`` where there is no collection,
    ``CollectionLocked`` and ``StorageError``.
    """
    finish_replacing(path)
    file = path / DESCRIPTION_NAME
    try:
        read_description(path)
        return []
    except CollectionMissing:
        if _remains(path) is None:
            raise
    except IndexDamaged:
        pass
    lock = take_lock(path)
    try:
        with contextlib.closing(Catalog.open(path / CATALOG_NAME)) as catalog:
            text = catalog.description()
        if text is None:
            raise IndexDamaged(
                f"{file}: is missing or damaged, and the catalog keeps no copy of it; put it back from a backup, "
                "or make the collection anew: trimodal index --rebuild PATH..."
            )
        parse_description(text.encode(), path / CATALOG_NAME)
        make_way(file)
        replace_text(file, text)
    finally:
        lock.release()
    return [f"{DESCRIPTION_NAME} put back from its copy in {CATALOG_NAME}"]


# -- helpers ------------------------------------------------------------------------------------------------


def _is_there(path: Path) -> bool:
    """Whether anything stands there, a link that leads nowhere too. Raises ``StorageError`` where that is not known."""
    return status(path) is not None or lost_target(path) is not None


def _remains(path: Path) -> str | None:
    """What there is of a collection without ``collection.json``; ``None`` for nothing worth keeping.

    A creation that was killed leaves an empty catalog: the description is written last.
    """
    catalog = path / CATALOG_NAME
    if _is_there(catalog):
        try:
            with contextlib.closing(Catalog.open(catalog)) as opened:
                return None if not opened.vector_count and not sum(opened.count_items().values()) else CATALOG_NAME
        except IndexDamaged:
            if not Catalog.is_unmade(catalog):
                return CATALOG_NAME
    with read_errors(path):
        for folder, suffix in ((VECTORS_NAME, VectorStore.suffix), (TOKENS_NAME, TokenStore.suffix)):
            if any(file.stat().st_size for file in path.glob(f"{folder}/*{suffix}")):
                return f"{folder}/"
    return None
