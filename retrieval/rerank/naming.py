"""Gives a model's reranker the names that its captions may choose: reads them once, and stores their vectors.

Names with a word that no caption may have (:mod:`indexer.unwanted_words`) are left out, and the caller gets them.
Knows nothing of pictures or of how a caption is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from indexer.encoders.tokens.config import FOLDER, read_reranker, write_reranker
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import ModelError, UsageError
from indexer.files import display_path, one_line
from indexer.progress import Progress, silent
from indexer.unwanted_words import is_unwanted
from retrieval.rerank.names import NAMES, save_names
from retrieval.rerank.trained import TrainedReranker

#: More takes minutes to read and megabytes to keep, and names that nobody uses hide those that fit.
MOST_NAMES = 50_000
_MOST_LISTED = 20


def read_names(path: Path) -> list[str]:
    """Names of a text file, a line each; empty lines and repeated ones are left out. Raises ``UsageError``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{display_path(path)}: cannot be read ({error}); write a name a line, in UTF-8") from error
    names = list(dict.fromkeys(name for name in (" ".join(line.split()) for line in lines) if name))
    if not 2 <= len(names) <= MOST_NAMES:
        raise UsageError(f"{display_path(path)}: holds {len(names):,} names; give 2 to {MOST_NAMES:,}, a line each")
    return names


def sayable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that captions may hold, and the others. Raises ``UsageError`` where fewer than two are left."""
    dropped = [name for name in names if is_unwanted(name)]
    left_out = set(dropped)
    kept = [name for name in names if name not in left_out]
    if len(kept) < 2:
        raise UsageError(f"{dropped_line(dropped)}; {len(kept)} is left: give 2 or more that captions may say")
    return kept, dropped


def give_names(
    model: Path,
    names: Sequence[str],
    *,
    device: str = "auto",
    on_progress: Progress = silent,
) -> list[str]:
    """Write ``reranker/names.safetensors`` of a model's directory, and its digest into ``reranker.json``.

    Returns the names that were left out, since no caption may have them. Raises ``UsageError`` where fewer than two are
    left, and :class:`ModelError` where the model has no reranker or the language model is not here.
    """
    names, dropped = sayable(names)
    encoder = TrainedDualEncoder(model, device=device)
    config = read_reranker(model, encoder.fingerprint)
    if config is None:
        raise ModelError(f"{model}: has no reranker; train one: trimodal train rerank RECIPE --out {model}")
    reranker = TrainedReranker(model, config, device)
    match = reranker.joint_texts(names, lambda done: on_progress("names by the reranker", done, len(names)))
    on_progress("names by the dual encoder", 0, len(names))
    dual = encoder.encode_queries(names)
    on_progress("names by the dual encoder", len(names), len(names))
    save_names(model / FOLDER / NAMES, names, match, dual)
    write_reranker(model, replace(config, names=sha256_of(model / FOLDER / NAMES)))
    return dropped


def dropped_line(dropped: Sequence[str]) -> str:
    """One line that counts and lists names that were left out, at most :data:`_MOST_LISTED` of them."""
    more = f" and {len(dropped) - _MOST_LISTED:,} more" if len(dropped) > _MOST_LISTED else ""
    listed = ", ".join(repr(one_line(name)) for name in dropped[:_MOST_LISTED])
    return f"{len(dropped):,} names have words that no caption may say and are left out: {listed}{more}"
