"""Language models of the Hugging Face hub (``hub:NAME`` or ``hub:NAME@REVISION``): the files, on this machine.

Only configuration, tokenizer and safetensors of the top folder are fetched. Knows nothing of how they are read.
"""

from __future__ import annotations

from pathlib import Path

from indexer.errors import WeightsMissing

PREFIX = "hub:"
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def hub_directory(source: str) -> Path:
    """Directory of the hub's snapshot: from the hub's cache if it is there whole, else downloaded.

    Raises :class:`WeightsMissing` in one line that says what was tried and where the files could be put instead.
    """
    from huggingface_hub import constants

    name, _, revision = source.removeprefix(PREFIX).partition("@")
    try:
        found = _snapshot(name, revision, local_files_only=True)
        if (found / "config.json").is_file() and any(found.glob("*.safetensors")):
            return found
    except (OSError, ValueError):
        pass  # not in the cache, or not whole
    try:
        return _snapshot(name, revision, local_files_only=False)
    except Exception as error:  # httpx, hub and xet errors share no class below this one
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsMissing(
            f"language model {source}: {constants.ENDPOINT}/{name} can't be fetched and is not in "
            f"{constants.HF_HUB_CACHE} ({reason}); connect, or put its config.json, *.safetensors and tokenizer files "
            "into a directory and give that as the source"
        ) from error


def _snapshot(name: str, revision: str, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=_PATTERNS,
            ignore_patterns=["*/*"],
            local_files_only=local_files_only,
        )
    )
