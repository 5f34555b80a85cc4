"""A benchmark's pictures captioned by the model, and how near that comes to the captions of the manifest.

Reads the media tokens that the benchmark has made. Knows nothing of files, directions or the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.encoders.tokens.format import TokenRows
from indexer.errors import ModelError, UsageError
from indexer.files import display_path
from indexer.items import Embeddings, Modality
from indexer.progress import Progress, silent
from indexer.unwanted_words import is_unwanted
from retrieval.evaluation.encoding import EncodedBenchmark
from retrieval.evaluation.metrics.caption_metrics import (
    TOKENS,
    CaptionScores,
    find_wordnet,
    require_caption_metrics,
    score_captions,
)
from retrieval.rerank.base import Captioner

#: Examples in a report, spread evenly over the pictures.
EXAMPLES = 20
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class CaptionExample:
    """A picture, the model's caption, and the manifest's."""

    path: str
    """Relative to the manifest where it is below it."""
    caption: str
    """"" where the model is unsure."""
    references: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One of ``"examples"`` of ``"captions"``."""
        return {"path": self.path, "caption": self.caption or None, "references": list(self.references)}


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """Metrics of the captions that were given to a benchmark's pictures."""

    scores: CaptionScores
    """Of the captions given alone; 0 where none was."""
    pictures: int
    """With captions in the manifest."""
    references: int
    """Captions of those pictures in the manifest."""
    beams: int
    seconds: float
    """That the captioning took."""
    examples: tuple[CaptionExample, ...]
    unsure: int = 0
    """Pictures that the model gave no caption."""

    def to_json(self) -> dict[str, Any]:
        """``"captions"`` of ``bench --json``."""
        return {
            "bleu4": self.scores.bleu4,
            "meteor": self.scores.meteor,
            "cider": self.scores.cider,
            "meteor_matches": self.scores.meteor_matches,
            "tokens": TOKENS,
            "pictures": self.pictures,
            "unsure": self.unsure,
            "references": self.references,
            "beams": self.beams,
            "seconds": round(self.seconds, 3),
            "examples": [example.to_json() for example in self.examples],
        }


def caption_benchmark(
    encoded: EncodedBenchmark, captioner: Captioner, *, beams: int = 3, progress: Progress = silent
) -> CaptionResult:
    """Caption every picture that has captions and score that; the media tokens of ``encoded`` were made.

    Raises ``UsageError`` where no picture has a caption, and ``MissingExtra`` without the metrics' libraries.
    """
    require_caption_metrics()
    tokens = encoded.tokens.get(Modality.IMAGE, {})
    rows = [row for row in tokens if encoded.benchmark.rows[row].captions]
    if not rows:
        shown = display_path(encoded.benchmark.path)
        raise UsageError(f"{shown}: no picture that can be read has captions; leave out --captions")
    started = time.perf_counter()
    vectors = encoded.items[Modality.IMAGE]
    captions = write_captions(
        [tokens[row] for row in rows], [vectors[row][:1] for row in rows], captioner, beams, progress
    )
    seconds = time.perf_counter() - started
    references = [encoded.benchmark.rows[row].captions for row in rows]
    progress("caption metrics", 0, 1)
    given = [place for place, caption in enumerate(captions) if caption]
    scores = score_captions(
        [captions[place] for place in given] or ["" for _ in captions],
        [references[place] for place in given] or references,
        wordnet=find_wordnet(),
    )
    progress("caption metrics", 1, 1)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).astype(int)).tolist()
    return CaptionResult(
        scores=scores,
        pictures=len(rows),
        references=sum(map(len, references)),
        beams=beams,
        seconds=seconds,
        examples=tuple(CaptionExample(_path(encoded, rows[n]), captions[n], references[n]) for n in chosen),
        unsure=len(captions) - len(given),
    )


def write_captions(
    tokens: Sequence[TokenRows],
    vectors: Sequence[Embeddings],
    captioner: Captioner,
    beams: int = 3,
    progress: Progress = silent,
) -> list[str]:
    """A caption on one line for each picture's tokens ``(1, row_bytes)`` and vector ``(1, dim)``; "" where unsure."""
    captions: list[str] = []
    progress("captioning", 0, len(tokens))
    for start in range(0, len(tokens), _AT_ONCE):
        part = np.concatenate(tokens[start : start + _AT_ONCE])
        written = captioner.caption(part, np.concatenate(vectors[start : start + _AT_ONCE]), beams=beams)
        if len(written) != len(part):
            raise ModelError(
                f"the reranker gives {len(written)} captions for {len(part)} pictures; use another --model"
            )
        captions += ["" if is_unwanted(caption) else " ".join(caption.split()) for caption in written]
        progress("captioning", len(captions), len(tokens))
    return captions


def _path(encoded: EncodedBenchmark, row: int) -> str:
    benchmark = encoded.benchmark
    path = benchmark.rows[row].items[Modality.IMAGE].path
    folder = benchmark.path.parent
    return display_path(path.relative_to(folder) if path.is_relative_to(folder) else path)
