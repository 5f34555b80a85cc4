"""Names of things that a picture may show, and how near a picture is to each: captions beside those of beam search.

A language model that has learned captions from some thousand pictures writes well and knows little; its reading of a
*name* and a picture side by side knows much more. So names found near the picture are captions that may be chosen, as
captioners that retrieve do it (SmallCap, Ramos et al. 2023; DeCap, Li et al. 2023). Nearness is the mean of two
cosines: in the match scorer's joint space, and the dual encoder's where its vector is known. Rows are kept as int8 on
the first principal axes of each space. A name with an unwanted word (:mod:`indexer.unwanted_words`) is dropped when a
file is read, also of files made elsewhere. Knows nothing of pictures, collections or search.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from indexer.errors import ModelError
from indexer.reading import failed_reads
from indexer.unwanted_words import is_unwanted

NAMES = "names.safetensors"
#: The two spaces, in this order.
SPACES = ("match", "dual")
#: Principal axes of each that are kept.
AXES = 160

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Space:
    """Names in one space: ``rows`` float32 ``(names, axes)`` on ``basis`` ``(width, axes)``."""

    rows: Rows
    basis: Rows

    def cosines(self, queries: Rows) -> Rows:
        """Unit rows ``(n, width)`` -> ``(n, names)``, to within what the axes left out."""
        return np.asarray((queries @ self.basis) @ self.rows.T)


@dataclass(frozen=True, eq=False)
class Names:
    """``phrases`` with their places in the joint spaces."""

    phrases: tuple[str, ...]
    spaces: Mapping[str, Space]

    def nearest(self, match: Rows, dual: Rows | None, count: int) -> list[list[tuple[str, float]]]:
        """Of pictures, unit rows ``(n, width)`` in both spaces, the ``count`` nearest names with the mean cosine."""
        near = self.spaces["match"].cosines(match)
        if dual is not None:
            near = np.asarray((near + self.spaces["dual"].cosines(dual)) / 2, dtype=np.float32)
        best = np.argsort(-near, axis=1, kind="stable")[:, :count]
        return [[(self.phrases[n], float(row[n])) for n in own] for row, own in zip(near, best, strict=True)]


def save_names(path: Path, phrases: Sequence[str], match: Rows, dual: Rows) -> None:
    """Write phrases with their unit rows ``(n, width)`` in both spaces, on the axes that hold most of them."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for space, rows in zip(SPACES, (match, dual), strict=True):
        _, axes = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
        basis = axes[:, ::-1][:, :AXES].astype(np.float16)
        on_axes = rows @ basis.astype(np.float32)
        scale = np.maximum(np.abs(on_axes).max(axis=0), 1e-9) / 127
        tensors[f"{space}.rows"] = np.round(on_axes / scale).astype(np.int8)
        tensors[f"{space}.scale"] = scale.astype(np.float32)
        tensors[f"{space}.basis"] = np.ascontiguousarray(basis)
    save_file(tensors, path, metadata={"phrases": json.dumps(list(phrases), ensure_ascii=False)})
    path.chmod(0o644)


def load_names(path: Path) -> Names:
    """Read what :func:`save_names` wrote, without names with an unwanted word: perhaps none is left.

    Raises :class:`ModelError` naming the file.
    """
    try:
        with failed_reads(path), safe_open(path, "numpy") as file:
            phrases = tuple(map(_text, json.loads(file.metadata()["phrases"])))
            spaces = {}
            for space in SPACES:
                rows = file.get_tensor(f"{space}.rows").astype(np.float32) * file.get_tensor(f"{space}.scale")
                spaces[space] = Space(rows, file.get_tensor(f"{space}.basis").astype(np.float32))
        if any(len(space.rows) != len(phrases) for space in spaces.values()):
            raise ValueError("phrases and rows are not as many")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as names ({error}); fetch or train the reranker again") from error
    kept = [number for number, phrase in enumerate(phrases) if not is_unwanted(phrase)]
    if len(kept) == len(phrases):
        return Names(phrases, spaces)
    rest = {name: Space(space.rows[kept], space.basis) for name, space in spaces.items()}
    return Names(tuple(phrases[number] for number in kept), rest)


def keep_names(path: Path, fits: Callable[[str], bool]) -> tuple[int, int]:
    """Rewrite a file of :func:`save_names` with the phrases that fit and their rows, which stay as they are.

    Returns how many it held and holds. Raises :class:`ModelError` naming the file.
    """
    load_names(path)
    with safe_open(path, "numpy") as file:
        phrases = json.loads(file.metadata()["phrases"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is no dict
    kept = [number for number, phrase in enumerate(phrases) if fits(phrase)]
    for space in SPACES:
        tensors[f"{space}.rows"] = np.ascontiguousarray(tensors[f"{space}.rows"][kept])
    fitting = json.dumps([phrases[number] for number in kept], ensure_ascii=False)
    save_file(tensors, path, metadata={"phrases": fitting})
    path.chmod(0o644)
    return len(phrases), len(kept)


def _text(phrase: object) -> str:
    if not isinstance(phrase, str):
        raise TypeError(f"{phrase!r} is no text")
    return phrase
