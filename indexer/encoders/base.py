"""The seam of the encoders: what a dual encoder is, published or trained here.

``prepare_*`` is NumPy and Pillow only and runs in reader threads beside the encoding; ``encode_*`` runs
the tower on a batch of what was prepared. Texts have two doors, because a query and a document may be
read differently. Knows nothing of files, collections or searching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from PIL.Image import Image

from indexer.errors import ModelError
from indexer.items import Embeddings, Modality, Samples
from indexer.limits import MediaLimits, limits_for

if TYPE_CHECKING:
    import torch

#: Rate of the sound that ``prepare_audio`` takes.
SAMPLE_RATE_HZ = 16_000


@runtime_checkable
class DualEncoder(Protocol):
    """Towers for one or more modalities into one space of ``dim`` dimensions."""

    @property
    def spec(self) -> str:
        """What ``--model`` was given to open it."""

    @property
    def dim(self) -> int:
        """Width of the space."""

    @property
    def modalities(self) -> frozenset[Modality]:
        """The modalities that it has a tower for."""

    @property
    def fingerprint(self) -> str:
        """Stable hex digest of towers, weights, preprocessing and dim; equal means interchangeable."""

    @property
    def window_s(self) -> float:
        """Longest sound, in seconds, that one embedding covers."""

    def prepare_image(self, picture: Image) -> NDArray[Any]:
        """RGB picture of any size -> the array that ``encode_images`` stacks. Thread-safe."""

    def prepare_audio(self, window: Samples) -> NDArray[Any]:
        """Mono float32 at 16 kHz, at most ``window_s`` long -> what ``encode_audio`` stacks. Thread-safe."""

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """float32 ``(n, dim)``, unit L2 rows in input order; ``(0, dim)`` for none."""

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """As ``encode_images``, for prepared windows."""

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        """As ``encode_images``, for texts that are to be found."""

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """As ``encode_images``, for texts that are queries; also captions used as queries."""


@runtime_checkable
class RunsOnTorch(Protocol):
    """A dual encoder whose towers run on a device of torch; any other computes in NumPy, on the CPU."""

    @property
    def device(self) -> torch.device:
        """Where the towers run."""


@runtime_checkable
class KnowsPictureSize(Protocol):
    """A dual encoder that says how large the pictures are that its tower sees, so that none is decoded much finer."""

    @property
    def picture_px(self) -> int | None:
        """The longer side of what ``prepare_image`` makes, in pixels; ``None`` where it isn't known."""


def media_limits(encoder: DualEncoder, limits: MediaLimits | None = None) -> MediaLimits:
    """``limits`` with windows and picture sides as the encoder's towers read them."""
    seen = encoder.picture_px if isinstance(encoder, KnowsPictureSize) else None
    return limits_for(encoder.window_s, limits, picture_px=seen)


@runtime_checkable
class PreparesQueries(Protocol):
    """A dual encoder that can read a few queries without torch, once its graphs are made."""

    def prepare_queries(self, on_stage: Callable[[str], None], *, loaded: bool = False, again: bool = False) -> None:
        """Make the graphs that this machine lacks; with ``loaded`` of towers that are loaded only.

        What had no graph before is tried ``again`` or left alone. Raises :class:`ModelError` and ``StorageError``.
        """


def require_tower(encoder: DualEncoder, modality: Modality) -> None:
    """Raise :class:`ModelError` naming a model that can, if ``encoder`` has no tower for ``modality``."""
    if modality not in encoder.modalities:
        raise ModelError(
            f"model {encoder.spec} has no {modality} tower; it reads {', '.join(sorted(encoder.modalities))}; "
            f"use --model starter, which reads image, audio and text"
        )
