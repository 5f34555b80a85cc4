"""Pictures on disk -> words: read, made into media tokens, captioned. Knows nothing of collections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.encoders.base import DualEncoder, media_limits, require_tower
from indexer.encoders.tokens.format import token_encoder
from indexer.errors import MediaError, ModelError, TrimodalError
from indexer.files import display_path, one_line
from indexer.items import Modality, Skipped
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture
from retrieval.rerank.base import Captioner
from retrieval.rerank.guesses import guesses


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture and its words."""

    path: Path
    caption: str
    """"" where the model is unsure."""
    probability: float | None = None
    """See :class:`retrieval.rerank.guesses.Guess`."""

    @property
    def unsure(self) -> bool:
        """Whether no caption is given."""
        return not self.caption

    def to_json(self) -> dict[str, Any]:
        """One of ``"captions"`` of ``trimodal caption --json``.

        Where the model is unsure, ``caption`` is null and ``unsure`` true; ``probability`` is there where it is known.
        """
        document: dict[str, Any] = {"path": str(self.path), "caption": self.caption or None}
        if self.unsure:
            document["unsure"] = True
        if self.probability is not None:
            document["probability"] = round(self.probability, 4)
        return document


def caption_files(
    paths: Iterable[Path],
    encoder: DualEncoder,
    captioner: Captioner,
    *,
    limits: MediaLimits | None = None,
    beams: int = 3,
) -> Iterator[Captioned | Skipped]:
    """A caption of each picture, in order, as soon as it is made, none where the model is unsure or the words
    hold one that no caption may have (:mod:`retrieval.rerank.guesses`); what cannot be read is ``Skipped``.

    Raises ``ModelError`` where the model reads no pictures or makes no media tokens of them.
    """
    require_tower(encoder, Modality.IMAGE)
    maker = token_encoder(encoder)
    if maker is None:
        raise ModelError(f"model {encoder.spec}: makes no media tokens, so it cannot caption; use one with a reranker")
    limits = media_limits(encoder, limits)
    for path in paths:
        try:
            vectors, tokens = maker.encode_images_with_tokens([encoder.prepare_image(read_picture(path, limits))])
        except MediaError as error:
            yield Skipped(display_path(path), error.reason)
            continue
        except TrimodalError:
            raise
        except Exception as error:
            yield Skipped(display_path(path), f"cannot be read ({type(error).__name__}: {one_line(error)})")
            continue
        found = guesses(captioner, tokens, vectors, beams=beams)[0]
        yield Captioned(path, one_line(found.words) if found.words else "", found.probability)
