"""A small deterministic dual encoder without weights, for tests and for trying things out (``--model fake``).

Colours tie the modalities together: a picture is its mean colour and a coarse colour grid, the colour
words of a text point the same way, and a pure tone has a colour by its pitch (low red, middle green, high
blue). All else in a text is hashed words, and all else in a sound its spectrum, so different inputs have
different vectors. It is no model: it finds nothing but colours and equal words.

Its media tokens are the vector itself, cut into four, and its reranker compares the vector that it finds in them.
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

_COLOURS = {
    "red": (1.0, 0.0, 0.0), "green": (0.0, 0.6, 0.0), "blue": (0.0, 0.0, 1.0), "yellow": (1.0, 1.0, 0.0),
    "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "orange": (1.0, 0.6, 0.0), "purple": (0.6, 0.0, 0.6),
}  # fmt: skip
_TONES = {"low": "red", "middle": "green", "high": "blue"}
_TOKENS = TokenSpec(4, 16, "fake-tokens-1")


class FakeEncoder:
    """Colours, words and pitches in one space of 64 dimensions."""

    spec = "fake"
    dim = 64
    modalities = frozenset(Modality)
    fingerprint = "fake-1"
    window_s = 10.0
    token_spec: TokenSpec | None = _TOKENS

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
            rows.append(self._vector(_colour_axes(np.array(_COLOURS[_TONES[tone]])), bands, 0.3))
        return self._stack(rows)

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        """Colour words in the colour axes, hashed words in the free ones."""
        rows = []
        for text in texts:
            words = re.findall(r"\w+", text.lower())
            colours = [_colour_axes(np.array(_COLOURS[w])) for w in words if w in _COLOURS]
            free = np.zeros(40)
            for word in words:
                if word not in _COLOURS:
                    digest = hashlib.blake2s(word.encode()).digest()
                    free[digest[0] % 40] += 1.0 if digest[1] % 2 else -1.0
            rows.append(
                self._vector(np.mean(colours, axis=0) if colours else np.zeros(24), free, 0.3 if colours else 1.0)
            )
        return self._stack(rows)

    def encode_images_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """The vectors, and the same again as packed tokens."""
        vectors = self.encode_images(prepared)
        return vectors, _TOKENS.pack(vectors)

    def encode_audio_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
        """The vectors, and the same again as packed tokens."""
        vectors = self.encode_audio(prepared)
        return vectors, _TOKENS.pack(vectors)

    def open_reranker(self) -> FakeReranker:
        """A reranker that reads those tokens."""
        return FakeReranker()

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


class FakeReranker:
    """Ten times the cosine of the text and the vector in the tokens, minus five: positive above a cosine of a half."""

    token_spec = _TOKENS

    def __init__(self) -> None:
        self._encoder = FakeEncoder()

    def missing(self) -> str | None:
        """Nothing."""
        return None

    def supports(self, query: Modality, candidate: Modality) -> bool:
        """Exactly one side is a text."""
        return (query is Modality.TEXT) != (candidate is Modality.TEXT)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        """One text against media ``(n, row_bytes)`` -> float32 ``(n,)``."""
        del modality  # pictures and sounds are compared alike
        return self._logits(self._encoder.encode_queries([text]), _seen(tokens)).reshape(-1)

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        """One picture or sound ``(1, row_bytes)`` against ``n`` texts -> float32 ``(n,)``."""
        del modality
        return self._logits(self._encoder.encode_queries(texts), _seen(tokens)[:1]).reshape(-1)

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Never: it supports no texts against texts."""
        raise NotImplementedError

    def cosine_weight(self, modality: Modality) -> float:
        """As LAVIS."""
        del modality
        return 1.0

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        """The logistic function of the scores."""
        del modality
        return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(scores, dtype=np.float32))), dtype=np.float32)

    def read(self, texts: Sequence[str]) -> None:
        """Nothing is gained by it."""

    def require_captions(self) -> None:
        """It can."""

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        """``a red picture``: the nearest colour; it has no other words."""
        del vectors, beams, max_words
        names = list(_COLOURS)
        nearest = (_seen(tokens) @ self._encoder.encode_queries(names).T).argmax(axis=1)  # (n, 64) @ (64, 8)
        return [f"a {names[number]} picture" for number in nearest]

    def _logits(self, texts: Embeddings, media: Embeddings) -> NDArray[np.float32]:
        return np.asarray(10.0 * (texts @ media.T) - 5.0, dtype=np.float32)  # (q, 64) @ (64, n)


def _seen(tokens: TokenRows) -> Embeddings:
    """Packed tokens ``(n, row_bytes)`` -> the unit vectors in them, ``(n, 64)``."""
    rows = _TOKENS.unpack(tokens).reshape(-1, FakeEncoder.dim)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _colour_axes(rgb: NDArray[Any]) -> NDArray[Any]:
    """Colour ``(3,)`` in [0, 1] -> unit ``(24,)`` bumps, so that near colours have near vectors."""
    centres = np.linspace(0.0, 1.0, 8)
    axes = np.exp(-(((rgb[:, None] - centres[None, :]) / 0.2) ** 2)).ravel()
    return np.asarray(axes / np.linalg.norm(axes))
