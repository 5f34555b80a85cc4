"""Which models this user has confirmed: a collection made elsewhere may name any, and does not open it by itself.

A model is confirmed by naming it (``--model``, ``trimodal models trust``) or by indexing with it. ``starter`` is a part
of the program; what lies in trimodal's own cache or in the hub's was fetched by this user. Everything else that a
``collection.json`` names needs a confirmation first: a folder, or a repository that would be downloaded. The record
binds a spec to a fingerprint, so that another model in the same folder has to be confirmed again. Knows nothing of
collections.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from indexer.durable import replace_text
from indexer.encoders.base import DualEncoder
from indexer.encoders.starter import is_starter
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import ModelError, ModelNotConfirmed, StorageError

_HUB_LIBRARIES = ("openclip:", "clap:")
_FILE = "trusted-models.json"
_LOCK_TIMEOUT_S = 10.0


def require_confirmed(spec: str, fingerprint: str, who: object) -> None:
    """Raise :class:`ModelNotConfirmed` where ``who`` (a collection) names a model that this user never confirmed.

    Reads no weights, fetches nothing, opens nothing of the model but the names in a cache.
    """
    if _is_built_in(spec) or fingerprint in confirmed().get(spec, ()) or _is_ours(spec):
        return
    raise ModelNotConfirmed(
        f"{who}: names the model {spec}, which was not used on this machine before; if you trust it, confirm it: "
        f"trimodal models trust {spec}, or repeat the command with --model {spec}"
    )


def confirm(encoder: DualEncoder) -> None:
    """Remember that this user named ``encoder``. Raises ``StorageError`` where that cannot be written."""
    spec, fingerprint = encoder.spec, encoder.fingerprint
    if _is_built_in(spec) or fingerprint in confirmed().get(spec, ()):
        return
    import filelock  # brings asyncio: for who writes

    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{place}.lock", timeout=_LOCK_TIMEOUT_S):
            known = confirmed()
            known[spec] = [*known.get(spec, ()), fingerprint]
            replace_text(place, json.dumps({"models": known}, indent=1) + "\n")
    except (OSError, filelock.Timeout) as error:
        raise StorageError(f"{place}: cannot be written ({error}); free some space or set TRIMODAL_CACHE") from error


def confirm_if_possible(encoder: DualEncoder) -> None:
    """:func:`confirm`, where there is a place to remember it: a run does not fail because its home is read-only."""
    with contextlib.suppress(StorageError):
        confirm(encoder)


def confirmed() -> dict[str, list[str]]:
    """Fingerprints by spec; nothing where the record cannot be read."""
    try:
        models = json.loads(_place().read_text(encoding="utf-8"))["models"]
        return {str(spec): [str(one) for one in found] for spec, found in models.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_built_in(spec: str) -> bool:
    return spec == "fake" or is_starter(spec)


def _place() -> Path:
    """Beside the cache that ``TRIMODAL_CACHE`` names, else among the user's data, which nobody clears for space."""
    import platformdirs

    return (cache_dir() if os.environ.get("TRIMODAL_CACHE") else platformdirs.user_data_path("trimodal")) / _FILE


def _is_ours(spec: str) -> bool:
    """Whether what ``spec`` names was fetched by this user: it lies in trimodal's cache, or the hub's."""
    library = next((prefix for prefix in _HUB_LIBRARIES if spec.startswith(prefix)), "")
    body = spec.removeprefix(library)
    path = Path(body.rpartition("@")[2] if library == "openclip:" and "@" in body else body).expanduser()
    if path.is_absolute() or path.exists():
        return path.resolve().is_relative_to(cache_dir().resolve())
    if not library:
        return False
    try:
        if library == "openclip:":
            from indexer.encoders.openclip.source import find_openclip

            return _in_hub_cache(find_openclip(spec, fetch=False).checkpoint)
        from indexer.encoders.clap.dual import find_clap

        return _in_hub_cache(find_clap(spec, fetch=False)[0])
    except ModelError:
        return False


def _in_hub_cache(path: Path) -> bool:
    from huggingface_hub import constants

    # the snapshot's own place: what it links to may lie anywhere
    return path.absolute().is_relative_to(Path(constants.HF_HUB_CACHE).absolute())
