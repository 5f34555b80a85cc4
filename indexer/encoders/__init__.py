"""Dual encoders: one door to open any of them."""

from __future__ import annotations

from pathlib import Path

from indexer.encoders.dual import DualEncoder
from indexer.errors import ModelError

__all__ = ["DualEncoder", "open_encoder", "starter_directory"]


def open_encoder(spec: str, *, device: str = "auto") -> DualEncoder:
    """Open what ``--model`` names: ``starter``, ``fake``, or a directory that ``trimodal train`` wrote.

    Weights are read when a tower is first used. Raises :class:`ModelError` for a spec that names nothing.
    """
    if spec == "fake":
        from indexer.encoders.fake import FakeEncoder

        return FakeEncoder()
    directory = starter_directory() if spec == "starter" else Path(spec).expanduser()
    if not directory.is_dir():
        raise ModelError(f"model {spec}: no such model; use starter or a directory that `trimodal train` wrote")
    from indexer.encoders.trained import TrainedDualEncoder

    return TrainedDualEncoder(directory, spec=spec, device=device)


def starter_directory() -> Path:
    """Where the starter's committed weights are: package data of the distribution."""
    from importlib.resources import files

    return Path(str(files("trimodal.data"))) / "models" / "starter"
