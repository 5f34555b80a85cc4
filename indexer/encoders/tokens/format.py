"""Media tokens: a few vectors of a picture or sound that a reranker's cross-attention reads, packed to bytes.

They are made once, when an item is indexed, so that reranking opens no file. A packed row holds, for each token, one
float16 scale and then every component as int8: ``count * (width + 2)`` bytes. Knows nothing of models or of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings

#: Packed media tokens, uint8 ``(n, row_bytes)``.
TokenRows = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """How many tokens an item has, how wide each is, and by what they were made."""

    count: int
    width: int
    fingerprint: str
    """Hex digest of everything that the tokens' values depend on; equal means interchangeable."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one packed row."""
        return self.count * (self.width + 2)

    def pack(self, tokens: NDArray[np.float32]) -> TokenRows:
        """Tokens ``(n, count, width)`` -> uint8 ``(n, row_bytes)``; the largest component of a token becomes 127."""
        rows = np.asarray(tokens, dtype=np.float32).reshape(-1, self.count, self.width)
        scales = (np.abs(rows).max(axis=2) / 127.0).astype("<f2")  # (n, count)
        safe = np.where(scales > 0, scales, 1).astype(np.float32)[:, :, None]
        values = np.clip(np.rint(rows / safe), -127, 127).astype(np.int8)
        packed = np.empty((len(rows), self.row_bytes), dtype=np.uint8)
        packed[:, : 2 * self.count] = scales.view(np.uint8).reshape(len(rows), -1)
        packed[:, 2 * self.count :] = values.view(np.uint8).reshape(len(rows), -1)
        return packed

    def unpack(self, packed: TokenRows) -> NDArray[np.float32]:
        """The reverse: uint8 ``(n, row_bytes)`` -> float32 ``(n, count, width)``."""
        whole = np.ascontiguousarray(packed, dtype=np.uint8).reshape(-1, self.row_bytes)
        scales = np.ascontiguousarray(whole[:, : 2 * self.count]).view("<f2").astype(np.float32)
        values = np.ascontiguousarray(whole[:, 2 * self.count :]).view(np.int8).astype(np.float32)
        return values.reshape(-1, self.count, self.width) * scales[:, :, None]


@runtime_checkable
class TokenEncoder(Protocol):
    """What a dual encoder with a reranker can do beside its :class:`indexer.encoders.base.DualEncoder` part.

    Texts have no tokens: a reranker reads their words.
    """

    @property
    def token_spec(self) -> TokenSpec | None:
        """How its tokens look; ``None`` where the model has no reranker."""

    def encode_images_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """Prepared pictures -> embeddings ``(n, dim)`` and packed tokens ``(n, row_bytes)``, from one forward pass."""

    def encode_audio_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """The same for prepared windows of sound."""


def token_encoder(encoder: object) -> TokenEncoder | None:
    """``encoder`` as one that makes tokens, or ``None``."""
    return encoder if isinstance(encoder, TokenEncoder) and encoder.token_spec is not None else None
