"""A small deterministic dual encoder without weights, for tests and for trying things out (``--model fake``).

Colours tie the modalities together: a picture is its mean colour and a coarse colour grid, the colour
words of a text point the same way, and a pure tone has a colour by its pitch (low red, middle green, high
blue). All else in a text is hashed words, and all else in a sound its spectrum, so different inputs have
different vectors. It is no model: it finds nothing but colours and equal words.

Its media tokens are the vector itself, cut into four; :mod:`retrieval.rerank.fake` reads them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.items import Embeddings, Modality, Samples

COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 0.6, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "orange": (1.0, 0.6, 0.0),
    "purple": (0.6, 0.0, 0.6),
}
_TONES = {"low": "red", "middle": "green", "high": "blue"}
#: How its media tokens look.
FAKE_TOKENS = TokenSpec(4, 16, "fake-tokens-1")


class FakeEncoder:
    """Colours, words and pitches in one space of 64 dimensions."""

    spec = "fake"
    dim = 64
    modalities = frozenset(Modality)
    fingerprint = "fake-1"
    window_s = 10.0
    token_spec: TokenSpec | None = FAKE_TOKENS

    def prepare_image(self, picture: Image.Image) -> NDArray[Any]:
        """RGB picture -> float32 ``(4, 4, 3)`` in [0, 1]."""
        small = picture.convert("RGB").resize((4, 4), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32) / 255.0

    def prepare_audio(self, window: Samples) -> NDArray[Any]:
        """Mono 16 kHz -> float32 ``(40,)``: share of the energy in 40 bands up to 4 kHz."""
        spectrum = np.abs(np.fft.rfft(window, n=16_000))[:4_000] ** 2
        bands = np.asarray(spectrum.reshape(40, 100).sum(axis=1), dtype=np.float32)
        return bands / max(float(bands.sum()), 1e-12)

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """Mean colour in the colour axes, the grid in the free ones."""
        return self._stack(
            [
                self._vector(_colour_axes(p.mean(axis=(0, 1))), (p - p.mean(axis=(0, 1))).ravel()[:40], 0.2)
                for p in prepared
            ]
        )

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """Colour of the strongest band in the colour axes, the spectrum in the free ones."""
        rows = []
        for bands in prepared:
            tone = ("low", "middle", "high")[min(int(np.argmax(bands)) // 6, 2)]
            rows.append(self._vector(_colour_axes(np.array(COLOURS[_TONES[tone]])), bands, 0.3))
        return self._stack(rows)

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        """Colour words in the colour axes, hashed words in the free ones."""
        rows = []
        for text in texts:
            words = re.findall(r"\w+", text.lower())
            colours = [_colour_axes(np.array(COLOURS[w])) for w in words if w in COLOURS]
            free = np.zeros(40)
            for word in words:
                if word not in COLOURS:
                    digest = hashlib.blake2s(word.encode()).digest()
                    free[digest[0] % 40] += 1.0 if digest[1] % 2 else -1.0
            rows.append(
                self._vector(np.mean(colours, axis=0) if colours else np.zeros(24), free, 0.3 if colours else 1.0)
            )
        return self._stack(rows)

    def encode_images_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """The vectors, and the same again as packed tokens."""
        vectors = self.encode_images(prepared)
        return vectors, FAKE_TOKENS.pack(vectors)

    def encode_audio_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """The vectors, and the same again as packed tokens."""
        vectors = self.encode_audio(prepared)
        return vectors, FAKE_TOKENS.pack(vectors)

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """The same as passages."""
        return self.encode_passages(texts)

    def _vector(self, colour: NDArray[Any], free: NDArray[Any], free_weight: float) -> NDArray[Any]:
        row = np.zeros(self.dim)
        row[:24] = colour
        norm = float(np.linalg.norm(free))
        row[24 : 24 + len(free)] = free_weight * free / norm if norm > 0 else 0.0
        if not row.any():
            row[0] = 1e-3
            row[63] = 1.0
        return row

    def _stack(self, rows: Sequence[NDArray[Any]]) -> Embeddings:
        matrix = np.asarray(rows, dtype=np.float32).reshape(len(rows), self.dim)
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        return np.asarray(matrix / np.maximum(norms, 1e-12), dtype=np.float32)


def _colour_axes(rgb: NDArray[Any]) -> NDArray[Any]:
    """Colour ``(3,)`` in [0, 1] -> unit ``(24,)`` bumps, so that near colours have near vectors."""
    centres = np.linspace(0.0, 1.0, 8)
    axes = np.exp(-(((rgb[:, None] - centres[None, :]) / 0.2) ** 2)).ravel()
    return np.asarray(axes / np.linalg.norm(axes))
