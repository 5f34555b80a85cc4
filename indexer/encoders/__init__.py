"""Dual encoders: one door to open any of them."""

from __future__ import annotations

from pathlib import Path

from indexer.encoders.base import DualEncoder
from indexer.errors import ModelError

__all__ = ["KINDS", "DualEncoder", "absolute_spec", "open_encoder"]

#: What a model can be, for messages.
KINDS = (
    "starter, starter@VERSION, openclip:ARCH/TAG, openclip:ARCH@PATH, clap:NAME, "
    "or a directory that `trimodal train` wrote"
)


def open_encoder(spec: str, *, device: str = "auto") -> DualEncoder:
    """Open what ``--model`` names.

    ``starter``, ``starter@2`` and the like, ``fake``, ``openclip:…`` (:mod:`indexer.encoders.openclip.source`),
    ``clap:NAME`` or ``clap:DIR``, or a directory that ``trimodal train`` wrote.

    Weights are read when a tower is first used. Raises :class:`ModelError` for a spec that names nothing.
    """
    if spec == "fake":
        from indexer.encoders.fake import FakeEncoder

        return FakeEncoder()
    if spec.startswith("openclip:"):
        from indexer.encoders.openclip.dual import OpenClipEncoder

        return OpenClipEncoder(spec, device=device)
    if spec.startswith("clap:"):
        from indexer.encoders.clap.dual import ClapEncoder

        return ClapEncoder(spec, device=device)
    from indexer.encoders.starter import find_starter, is_starter
    from indexer.encoders.trained import TrainedDualEncoder

    directory = find_starter(spec) if is_starter(spec) else Path(spec).expanduser()
    if not directory.is_dir():
        raise ModelError(f"model {spec}: no such model; use {KINDS}")

    return TrainedDualEncoder(directory, spec=spec, device=device)


def absolute_spec(spec: str) -> str:
    """A model's spec as a collection can remember it: directories absolute, names as they are."""
    from indexer.encoders.starter import is_starter

    path = Path(spec).expanduser()
    return str(path.absolute()) if path.is_dir() and spec != "fake" and not is_starter(spec) else spec
