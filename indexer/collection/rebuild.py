"""A collection rebuilt beside the old one, and put in its place when it is whole. Knows nothing of media and models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from indexer.collection import layout
from indexer.collection.collection import Collection
from indexer.encoders.identity import EncoderIdentity
from indexer.errors import IndexDamaged
from indexer.media.text.token_passages import PassageRule


class MayBeInterrupted(Protocol):
    """What a rebuild needs to know of its result."""

    @property
    def interrupted(self) -> bool: ...


Rebuilt = TypeVar("Rebuilt", bound=MayBeInterrupted)


def rebuild(
    path: Path,
    encoder: EncoderIdentity,
    run: Callable[[Collection], Rebuilt],
    passages: PassageRule | None = None,
) -> Rebuilt:
    """Make the collection at ``path`` anew beside it, by ``run``, and put it in its place when that is done.

    Until then the old one is searched as before. Interrupted or killed, the old one stays, and the next rebuild with
    the same encoder, tokens and passages continues where this one ended. Returns what ``run`` returns.
    """
    path = path.resolve()
    beside = layout.rebuilding_path(path)
    for folder in (path, layout.replaced_path(path)):
        layout.refuse_other_files(folder)  # they are removed in the end
    with contextlib.ExitStack() as cleanup:
        if Collection.exists(path):  # no other writer may add to what is about to be replaced
            cleanup.callback(layout.take_lock(path).release)
        target = _unfinished(beside, encoder, passages)
        if target is None:
            target = Collection.create(beside, encoder, passages, replace=True)
        with target:
            result = run(target)
        if not result.interrupted:
            layout.replace(path, beside)
    return result


def _unfinished(beside: Path, encoder: EncoderIdentity, passages: PassageRule | None) -> Collection | None:
    """What an earlier rebuild with the same encoder, tokens and passages left, open for writing, where it is whole."""
    if not Collection.exists(beside):
        return None
    with contextlib.suppress(IndexDamaged), contextlib.ExitStack() as unless_taken:
        found = unless_taken.enter_context(Collection.open(beside, writable=True))
        kept = (found.fingerprint, found.token_spec, found.passage_rule)
        if kept == (encoder.fingerprint, encoder.tokens, passages) and not found.verify():
            unless_taken.pop_all()
            return found
    return None
