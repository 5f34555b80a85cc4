"""Whether an encoder, or a reranker, belongs to a collection; else an error with the command that helps."""

from __future__ import annotations

from pathlib import Path

from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.starter import STARTER, VERSION, is_starter, version_of
from indexer.encoders.tokens.format import TokenSpec
from indexer.errors import CollectionError, EncoderMismatch, IndexDamaged


def require_same_encoder(path: Path, own: EncoderIdentity, encoder: EncoderIdentity) -> None:
    """Raise ``EncoderMismatch`` unless ``encoder``, by its fingerprint, is the collection's ``own``.

    ``IndexDamaged`` where the collection's vectors are not as wide as those of its own encoder.
    """
    if encoder.fingerprint == own.fingerprint:
        if encoder.dim != own.dim:
            raise IndexDamaged(
                f"{path}: says that its vectors have {own.dim} components, and model {encoder.spec} gives "
                f"{encoder.dim}; make it anew: trimodal index --rebuild PATH..."
            )
        return
    version = version_of(own.fingerprint) if is_starter(own.spec) else None
    if version is not None:
        other = f"{STARTER} is version {VERSION} now" if encoder.spec == STARTER else f"this is {encoder.spec}"
        raise EncoderMismatch(
            f"{path}: was made by version {version} of the starter, {other}; search it as it is with "
            f"--model {STARTER}@{version}, or make it anew: trimodal index --rebuild PATH..."
        )
    if encoder.spec == own.spec:
        raise EncoderMismatch(
            f"{path}: was made by another version of model {own.spec} ({own.fingerprint[:12]}, now "
            f"{encoder.fingerprint[:12]}); make it anew: trimodal index --rebuild PATH..."
        )
    raise EncoderMismatch(
        f"{path}: was made by model {own.spec}, not {encoder.spec}; use --model {own.spec}, "
        "another --collection, or make it anew: trimodal index --rebuild PATH..."
    )


def require_same_tokens(path: Path, own: TokenSpec | None, spec: TokenSpec) -> None:
    """Raise ``CollectionError`` where the collection keeps no media tokens, ``EncoderMismatch`` where it keeps others.

    A reranker needs those that ``spec`` describes.
    """
    if own is None:
        raise CollectionError(
            f"{path}: holds no media tokens, so it can't be reranked; add them: trimodal index --rebuild "
            "PATH..., or search with --no-rerank"
        )
    if own != spec:
        raise EncoderMismatch(
            f"{path}: its media tokens were made by another reranker ({own.fingerprint[:16]} against "
            f"{spec.fingerprint[:16]}); make them anew: trimodal index --rebuild PATH..., "
            "or search with --no-rerank"
        )
