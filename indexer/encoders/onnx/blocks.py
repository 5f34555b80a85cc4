"""Quantised weights of a GGUF file as ONNX Runtime multiplies them: 4 bits a weight, a scale and an offset a block.

The numbers are the file's own: a weight is ``scale * (q - 8) + offset``. Knows nothing of architectures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
_SUPER = 256  # weights of a super-block of the K formats


@dataclass(frozen=True)
class Blocks:
    """A matrix ``(n, k)`` in blocks of 32 along ``k``."""

    packed: NDArray[np.uint8]
    """``(n, k / 32, 16)``: two weights a byte, the first in the low bits."""
    scales: NDArray[np.float32]
    """``(n, k / 32)``."""
    offsets: NDArray[np.float32] | None
    """``(n, k / 32)``; ``None`` where all are 0."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, k)``."""
        return self.packed.shape[0], self.packed.shape[1] * BLOCK

    def reordered(self, order: NDArray[np.int64]) -> Blocks:
        """The same rows in another order."""
        offsets = None if self.offsets is None else self.offsets[order]
        return Blocks(self.packed[order], self.scales[order], offsets)

    def dense(self) -> NDArray[np.float32]:
        """The matrix itself."""
        q = np.stack([self.packed & 15, self.packed >> 4], axis=-1).reshape(*self.scales.shape, BLOCK)
        found = self.scales[..., None] * (q.astype(np.float32) - 8)
        if self.offsets is not None:
            found = found + self.offsets[..., None]
        return np.asarray(found.reshape(self.shape), dtype=np.float32)


def read_blocks(tensor: Any) -> Blocks | None:
    """A tensor of :class:`gguf.GGUFReader` in Q4_0, Q4_1 or Q4_K; ``None`` for another format."""
    read = _FORMATS.get(tensor.tensor_type.name)
    if read is None:
        return None
    return read(np.asarray(tensor.data).reshape(int(tensor.shape[1]), -1))


def _q4_0(rows: NDArray[np.uint8]) -> Blocks:
    """Blocks of 32: a half as scale, then 16 bytes."""
    data = rows.reshape(len(rows), -1, 18)
    return Blocks(_packed(data[..., 2:]), _halves(data[..., :2])[..., 0], None)


def _q4_1(rows: NDArray[np.uint8]) -> Blocks:
    """Blocks of 32: halves as scale and minimum, then 16 bytes."""
    data = rows.reshape(len(rows), -1, 20)
    halves = _halves(data[..., :4])
    return Blocks(_packed(data[..., 4:]), halves[..., 0], halves[..., 1] + 8 * halves[..., 0])


def _q4_k(rows: NDArray[np.uint8]) -> Blocks:
    """Super-blocks of 256: halves of scale and minimum, eight of each in 6 bits (12 bytes), then 128 bytes.

    The bytes hold four pairs of blocks; of a pair the first block is in the low bits.
    """
    data = rows.reshape(len(rows), -1, 144)
    halves, six, quants = _halves(data[..., :4]), data[..., 4:16], data[..., 16:].reshape(len(rows), -1, 4, 32)
    low, high, mixed = six[..., 0:4], six[..., 4:8], six[..., 8:12]
    scales = np.concatenate([low & 63, (mixed & 15) | ((low >> 6) << 4)], axis=-1)
    minima = np.concatenate([high & 63, (mixed >> 4) | ((high >> 6) << 4)], axis=-1)
    scale = (halves[..., :1] * scales).reshape(len(rows), -1)
    offset = 8 * scale - (halves[..., 1:] * minima).reshape(len(rows), -1)
    values = np.stack([quants & 15, quants >> 4], axis=-2).reshape(len(rows), -1, BLOCK)
    return Blocks(_pairs(values), scale.astype(np.float32), offset.astype(np.float32))


_FORMATS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k}


def _halves(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes as little-endian float16 -> float32."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _packed(quants: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """GGUF's 16 bytes of a block (weights 0 to 15 in the low bits, 16 to 31 in the high) -> neighbours in a byte."""
    return _pairs(np.concatenate([quants & 15, quants >> 4], axis=-1))


def _pairs(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values of 4 bits ``(..., 32)`` -> two a byte ``(..., 16)``."""
    return np.ascontiguousarray(values[..., 0::2] | (values[..., 1::2] << 4))
