"""Repositories of the Hugging Face hub on this machine: from the hub's own cache where it has them, else downloaded.

``hub:NAME`` or ``hub:NAME@REVISION`` are language models; open_clip's and CLAP's repositories are named by their
encoders. Knows nothing of how the files are read: a caller says which files, and what to do where there is no hub.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from indexer.errors import WeightsMissing

PREFIX = "hub:"
#: Files that a tokenizer of transformers may be made of.
TOKENIZER_FILES = ("tokenizer*", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


def hub_directory(source: str, *, fetch: bool = True) -> Path:
    """Directory of a language model's snapshot: configuration, tokenizer and safetensors of the top folder.

    Without ``fetch`` the hub's cache alone is looked at. Raises :class:`WeightsMissing` in one line that says what
    was tried and where the files could be put instead.
    """
    name, _, revision = source.removeprefix(PREFIX).partition("@")
    return hub_snapshot(
        name,
        revision,
        patterns=_PATTERNS,
        what=f"language model {source}",
        whole=lambda found: (found / "config.json").is_file() and any(found.glob("*.safetensors")),
        remedy="put its config.json, *.safetensors and tokenizer files into a directory and give that as the source",
        fetch=fetch,
    )


def hub_snapshot(
    name: str,
    revision: str = "",
    *,
    patterns: Sequence[str],
    whole: Callable[[Path], bool],
    what: str,
    remedy: str,
    fetch: bool = True,
) -> Path:
    """Directory with those of a repository's files that ``patterns`` name, of its top folder.

    The cache's is taken if it is ``whole``; what is downloaded is for the caller to check, and without ``fetch``
    nothing is. Raises :class:`WeightsMissing`: ``what`` starts the line, ``remedy`` ends it.
    """
    from huggingface_hub import constants, snapshot_download

    def snapshot(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                local_files_only=local_files_only,
            )
        )

    with contextlib.suppress(OSError, ValueError):  # not in the cache, or not whole
        found = snapshot(local_files_only=True)
        if whole(found):
            return found
    if not fetch:
        raise WeightsMissing(
            f"{what}: {name} of the hub is not in {constants.HF_HUB_CACHE}; run `trimodal models pull`, or {remedy}"
        )
    try:
        return snapshot(local_files_only=False)
    except Exception as error:  # httpx, hub and xet errors share no class below this one
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsMissing(
            f"{what}: {constants.ENDPOINT}/{name} can't be fetched and is not in {constants.HF_HUB_CACHE} ({reason}); "
            f"connect, or {remedy}"
        ) from error


def hub_file(
    name: str, files: Sequence[str], revision: str = "", *, what: str, remedy: str, fetch: bool = True
) -> Path:
    """The first of ``files`` that a repository has: from the hub's cache, or fetched into it.

    Raises :class:`WeightsMissing`, as :func:`hub_snapshot` does, also where it has none of them.
    """
    for file in files:  # a snapshot of one file: without a connection the hub's own call for a file waits for 20 s
        directory = hub_snapshot(
            name,
            revision,
            patterns=(file,),
            what=what,
            remedy=remedy,
            fetch=fetch,
            whole=lambda found: any((found / one).is_file() for one in files),
        )
        for one in files:
            if (directory / one).is_file():
                return directory / one
    raise WeightsMissing(f"{what}: {name} of the hub has none of {', '.join(files)}; {remedy}")
