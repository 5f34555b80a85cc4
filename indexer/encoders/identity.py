"""Which encoder made something: the one value by which collections, caches and searches know it."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.encoders.base import DualEncoder
from indexer.encoders.tokens.format import TokenSpec, token_encoder


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """Of a dual encoder, with the media tokens that it makes."""

    spec: str
    """What ``--model`` was given to open it; two specs may name one encoder."""
    fingerprint: str
    """Hex digest of towers, weights, preprocessing and width; equal means interchangeable."""
    dim: int
    """Width of its vectors."""
    tokens: TokenSpec | None = None
    """Of its media tokens; ``None`` where it makes none."""
    revision: str | None = None
    """Of a model from a hub, the commit that was opened; ``None`` where it has none."""


def identity_of(encoder: DualEncoder) -> EncoderIdentity:
    """The identity of an encoder that is open."""
    maker = token_encoder(encoder)
    revision: str | None = getattr(encoder, "revision", None)
    tokens = maker.token_spec if maker is not None else None
    return EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim, tokens, revision)
