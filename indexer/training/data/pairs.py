"""What a batch is drawn from: rows of a modality with their texts, and the sampler that draws rows and a text for each.

Knows nothing of towers; a text is a number here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Pairs:
    """Rows of one modality by number, with the texts that describe each.

    Row ``i`` has the texts ``texts[i]``, numbers of texts, the best caption first, and perhaps ``also[i]``, which say
    what its label means in other words. ``labels`` ``(n,)`` numbers what a row shows: rows of one label are positives.
    """

    texts: list[list[int]]
    labels: torch.Tensor
    also: list[list[int]] = field(default_factory=list)


class Sampler:
    """Draws a batch of rows, a label in proportion to the root of its number of rows, and a text for each row.

    With chance ``paraphrase`` the text is one of the row's ``also``; otherwise with chance ``first_caption`` its first
    caption, else another of its captions.
    """

    def __init__(self, pairs: Pairs, batch: int, *, first_caption: float, paraphrase: float = 0.0) -> None:
        counts = torch.bincount(pairs.labels)
        self.weights = counts[pairs.labels].double().rsqrt()
        self.batch = min(batch, len(pairs.texts))
        self.first_caption = first_caption
        self.paraphrase = paraphrase
        self.pairs = pairs

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Row numbers and text numbers, each int64 ``(batch,)``."""
        rows = torch.multinomial(self.weights, self.batch, generator=generator)
        return rows, self.texts(rows, generator)

    def texts(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A text for each of ``rows``, int64 ``(n,)``."""
        chance = torch.rand(len(rows), 3, generator=generator).tolist()
        return torch.tensor([self._text(row, *own) for row, own in zip(rows.tolist(), chance, strict=True)])

    def _text(self, row: int, which: float, other: float, reword: float) -> int:
        also = self.pairs.also[row] if self.pairs.also else []
        if also and reword < self.paraphrase:
            return also[int(other * len(also))]
        own = self.pairs.texts[row]
        if which < self.first_caption or len(own) == 1:
            return own[0]
        return own[1 + int(other * (len(own) - 1))]
