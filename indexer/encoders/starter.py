"""The versions of the starter: the directory of each, and where the weights lie that several of them share.

The newest version is ``starter`` in ``data/models``, an earlier one ``starter-N`` beside it. An earlier version's
directory holds what it does not share (``encoder.json``, heads, reranker). A weights file that it lacks is that of the
newest, by the same name and, by ``encoder.json``, the same sha256. Only the starter's own directories share files: a
model from elsewhere reads nothing but its directory. Imports no torch; knows nothing of collections.
"""

from __future__ import annotations

import re
from pathlib import Path

from indexer.encoders.specs import CONFIG, read_config
from indexer.errors import ModelError

#: The version that ``starter`` opens.
VERSION = 2
STARTER = "starter"

_SPEC = re.compile(r"starter(?:@(?P<version>[0-9]+))?")


def is_starter(spec: str) -> bool:
    """Whether a spec is ``starter`` or ``starter@N``, of whatever version.

    >>> is_starter("starter"), is_starter("starter@2"), is_starter("starter@new"), is_starter("./starter")
    (True, True, False, False)
    """
    return _SPEC.fullmatch(spec) is not None


def starter_directory(version: int | None = None) -> Path:
    """Where the starter's committed weights are: package data of the distribution. ``None``: the newest version."""
    name = STARTER if version in (None, VERSION) else f"{STARTER}-{version}"
    return models_directory() / name


def models_directory() -> Path:
    """Where the versions lie side by side."""
    from importlib.resources import files

    return Path(str(files("trimodal.data"))) / "models"


def starter_versions() -> list[int]:
    """The versions that are here, the newest first."""
    named = (re.fullmatch(rf"{STARTER}-([0-9]+)", path.parent.name) for path in models_directory().glob(f"*/{CONFIG}"))
    earlier = {int(found[1]) for found in named if found is not None}
    return [VERSION, *sorted(earlier - {VERSION}, reverse=True)]


def find_starter(spec: str) -> Path:
    """The directory that ``starter`` or ``starter@N`` names; :class:`ModelError` for a version that is not here."""
    found = _SPEC.fullmatch(spec)
    assert found is not None
    version = VERSION if found["version"] is None else int(found["version"])
    if version not in starter_versions():
        there = ", ".join(f"{STARTER}@{one}" for one in starter_versions())
        raise ModelError(f"model {spec}: there is no such version of the starter; use one of {there}")
    return starter_directory(version)


def version_of(fingerprint: str) -> int | None:
    """Which version has this fingerprint; ``None`` where none that is here has it."""
    for version in starter_versions():
        try:
            if read_config(starter_directory(version)).fingerprint == fingerprint:
                return version
        except ModelError:  # an installation that lacks a part still opens the others
            continue
    return None


def weights_file(directory: Path, name: str) -> Path:
    """The weights file ``name`` of a model's directory; an earlier starter's may be that of the newest version.

    It may be missing: who reads it says so. Its sha256 is compared as that of any other.
    """
    own = directory / name
    newest = starter_directory()
    if own.exists() or directory.parent != newest.parent or directory == newest:
        return own
    shared = newest / name
    return shared if is_earlier(directory) and shared.exists() else own


def is_earlier(directory: Path) -> bool:
    """Whether a directory is that of an earlier version of the starter."""
    return any(directory == starter_directory(version) for version in starter_versions()[1:])
