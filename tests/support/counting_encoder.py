"""An encoder that counts what it is given to encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from indexer.encoders.fake import FakeEncoder
from indexer.items import Embeddings


class Counting(FakeEncoder):
    """Counts what its towers were given."""

    def __init__(self) -> None:
        self.pictures = self.sounds = self.texts = 0

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        self.pictures += len(prepared)
        return super().encode_images(prepared)

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        self.sounds += len(prepared)
        return super().encode_audio(prepared)

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        self.texts += len(texts)
        return super().encode_passages(texts)

    @property
    def work(self) -> tuple[int, int, int]:
        return self.pictures, self.sounds, self.texts
