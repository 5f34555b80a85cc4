"""Features of locked towers, kept on disk, so that a repeated training does not run a tower again.

One folder a tower (named by the tower's fingerprint): ``rows.f32`` and ``keys.txt``, both append-only; the key is the
content hash. A run that is killed leaves what it had: rows past the last whole key are overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.durable import storage_errors
from indexer.errors import ChangedWhileRead, MediaError, StorageError
from indexer.files import display_path
from indexer.items import Item, Modality
from indexer.media.held import Held
from indexer.progress import Progress
from indexer.reading import OpenFile

_KEY_BYTES = 41  # 40 hex digits and a newline


class FeatureCache:
    """Feature rows by content hash."""

    def __init__(self, directory: Path, width: int, *, half: bool = False) -> None:
        """``half``: rows are kept as float16 (``rows.f16``), for what is large."""
        directory.mkdir(parents=True, exist_ok=True)
        self.width = width
        self._dtype = np.dtype("<f2" if half else "<f4")
        self._keys_path, self._rows_path = directory / "keys.txt", directory / ("rows.f16" if half else "rows.f32")
        for path in (self._keys_path, self._rows_path):
            path.touch()
        whole = min(self._keys_path.stat().st_size // _KEY_BYTES, self._rows_path.stat().st_size // self._row_bytes)
        with self._keys_path.open("r+b") as keys, self._rows_path.open("r+b") as rows:
            keys.truncate(whole * _KEY_BYTES)
            rows.truncate(whole * self._row_bytes)
        self._position = {key: n for n, key in enumerate(self._keys_path.read_text().split())}

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Which of ``keys`` are not here, each once, in order."""
        return [key for key in dict.fromkeys(keys) if key not in self._position]

    def add(self, keys: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Append rows ``(n, width)``. Raises ``StorageError``, on a full disk, with what was there before kept."""
        with storage_errors(self._rows_path), self._rows_path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        with storage_errors(self._keys_path), self._keys_path.open("a") as file:
            file.write("".join(f"{key}\n" for key in keys))
        for key in keys:
            self._position[key] = len(self._position)

    def get(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Rows ``(n, width)`` in the order of ``keys``; KeyError for one that is not here."""
        return np.asarray(self.raw(keys), dtype=np.float32)

    def raw(self, keys: Sequence[str]) -> NDArray[Any]:
        """As :meth:`get`, in the format that they are kept in."""
        size = self._row_bytes
        rows = np.empty((len(keys), self.width), dtype=self._dtype)
        offsets = [self._position[key] * size for key in keys]
        file = OpenFile.open(self._rows_path)
        # read and not mapped: a page that the file has lost would kill the process
        view = rows.reshape(-1).view(np.uint8).data
        if file is None or not file.read_each(view, size, list(range(len(keys))), offsets):
            raise StorageError(
                f"{self._rows_path}: was cut short meanwhile; remove its folder and run the same command again"
            )
        return rows

    @property
    def _row_bytes(self) -> int:
        return self._dtype.itemsize * self.width


def fill(
    cache: FeatureCache,
    wanted: dict[str, Any],
    prepare: Callable[[Any], Any],
    features: Callable[[list[Any]], NDArray[np.float32]],
    *,
    stage: str,
    on_progress: Progress,
    batch_size: int = 32,
    workers: int = 2,
) -> list[str]:
    """Run the tower on what ``cache`` lacks of ``wanted`` (key -> what ``prepare`` reads).

    Reading runs in threads beside the tower. Returns one line for each thing that could not be read; it has no row.
    """
    missing = cache.missing(list(wanted))
    complaints: list[str] = []

    def read(key: str) -> tuple[str, Any]:
        value = wanted[key]
        try:
            if not isinstance(value, Path):
                return key, prepare(value)
            with Held.hold(Item(str(value), Modality.IMAGE, value)) as held:
                if held.digest != key:  # kept by this key, its features would be taken for those of another content
                    raise ChangedWhileRead(display_path(value))
                with held.in_use():
                    prepared = prepare(value)
                held.check()
                return key, prepared
        except MediaError as error:
            return key, error

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(missing), 4 * batch_size):  # bounds what is read before it is encoded
            block = list(pool.map(read, missing[start : start + 4 * batch_size]))
            complaints += [str(value) for _, value in block if isinstance(value, MediaError)]
            good = [(key, value) for key, value in block if not isinstance(value, MediaError)]
            for at in range(0, len(good), batch_size):
                part = good[at : at + batch_size]
                cache.add([key for key, _ in part], features([value for _, value in part]))
            on_progress(stage, min(start + 4 * batch_size, len(missing)), len(missing))
    return complaints
