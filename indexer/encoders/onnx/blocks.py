"""Quantised weights of a GGUF file as ONNX Runtime multiplies them: 4 bits a weight, a scale and an offset a block.

The numbers are the file's own: a weight is ``scale * (q - 8) + offset``. Weights of 6 bits are two of 4: the second one
counts 16 times as much. Knows nothing of architectures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 32  # weights of a block of 4 bits


@dataclass(frozen=True)
class Blocks:
    """A matrix ``(n, k)`` in blocks of 32 (or 16) along ``k``."""

    packed: NDArray[np.uint8]
    """``(n, k / block, block / 2)``: two weights a byte, the first in the low bits."""
    scales: NDArray[np.float32]
    """``(n, k / block)``."""
    offsets: NDArray[np.float32] | None
    """``(n, k / block)``; ``None`` where all are 0."""
    high: NDArray[np.uint8] | None = None
    """As ``packed``: the upper bits, 16 times the scale; ``None`` for weights of 4 bits."""

    @property
    def block(self) -> int:
        """Weights of a block."""
        return 2 * int(self.packed.shape[2])

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, k)``."""
        return self.packed.shape[0], self.packed.shape[1] * self.block

    def reordered(self, order: NDArray[np.int64]) -> Blocks:
        """The same rows in another order."""
        offsets = None if self.offsets is None else self.offsets[order]
        high = None if self.high is None else self.high[order]
        return Blocks(self.packed[order], self.scales[order], offsets, high)

    def dense(self) -> NDArray[np.float32]:
        """The matrix itself."""
        quants = self._values(self.packed)
        if self.high is not None:
            quants = quants + 16 * self._values(self.high)
        found = self.scales[..., None] * quants
        if self.offsets is not None:
            found = found + self.offsets[..., None]
        return np.asarray(found.reshape(self.shape), dtype=np.float32)

    def _values(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        quants = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*self.scales.shape, self.block)
        return np.asarray(quants.astype(np.float32) - 8)


def read_blocks(tensor: Any) -> Blocks | None:
    """A matrix of :class:`gguf.GGUFReader` in Q4_0, Q4_1, Q4_K or Q6_K; ``None`` for another format."""
    return blocks_of(tensor.tensor_type.name, np.asarray(tensor.data).reshape(int(tensor.shape[1]), -1))


def blocks_of(kind: str, rows: NDArray[np.uint8]) -> Blocks | None:
    """The bytes of rows ``(n, bytes)`` of a matrix; ``None`` for a format that is not read here."""
    read = _FORMATS.get(kind)
    return None if read is None else read(rows)


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
    values = np.stack([quants & 15, quants >> 4], axis=-2).reshape(len(rows), -1, _BLOCK)
    return Blocks(_pairs(values), scale.astype(np.float32), offset.astype(np.float32))


def _q6_k(rows: NDArray[np.uint8]) -> Blocks:
    """Super-blocks of 256: 128 bytes of low and 64 of high bits, sixteen scales of 8 bits, a half that they count.

    A weight is ``scale * v``, ``v`` from -32 to 31: ``a + 16 * b`` with both in 4 bits, so that nothing is rounded.
    """
    data = rows.reshape(len(rows), -1, 210)
    low, high = data[..., :128].reshape(*data.shape[:2], 2, 64), data[..., 128:192].reshape(*data.shape[:2], 2, 32)
    fours = np.concatenate([low & 15, low >> 4], axis=-1)  # of each half, 128 weights
    twos = np.concatenate([(high >> shift) & 3 for shift in (0, 2, 4, 6)], axis=-1)
    values = (fours | (twos << 4)).astype(np.int8).reshape(len(rows), -1, 16) - 32
    upper = (values + 8) >> 4
    scales = _halves(data[..., 208:]) * np.ascontiguousarray(data[..., 192:208]).view(np.int8)
    scales = np.asarray(scales.reshape(len(rows), -1), dtype=np.float32)
    return Blocks(_unsigned(values - 16 * upper), scales, None, _unsigned(upper))


_FORMATS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k, "Q6_K": _q6_k}


def _unsigned(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Values from -8 to 7 ``(..., block)`` -> two a byte."""
    return _pairs((values + 8).astype(np.uint8))


def _halves(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes as little-endian float16 -> float32."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _packed(quants: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """GGUF's 16 bytes of a block (weights 0 to 15 in the low bits, 16 to 31 in the high) -> neighbours in a byte."""
    return _pairs(np.concatenate([quants & 15, quants >> 4], axis=-1))


def _pairs(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values of 4 bits ``(..., block)`` -> two a byte ``(..., block / 2)``."""
    return np.ascontiguousarray(values[..., 0::2] | (values[..., 1::2] << 4))
