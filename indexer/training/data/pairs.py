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
    what its label means in other words, and ``foreign[i]``, texts in other languages, by language. ``labels`` ``(n,)``
    numbers what a row shows: rows of one label are positives. ``false[i]`` are texts that contradict the row, and
    ``kinds[i]`` says what they are about.
    """

    texts: list[list[int]]
    labels: torch.Tensor
    also: list[list[int]] = field(default_factory=list)
    foreign: list[dict[str, list[int]]] = field(default_factory=list)
    false: list[list[int]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def contradictions(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Places in ``rows`` that have contradictions, and one drawn for each: int64 ``(m,)`` both."""
        own = [self.false[row] for row in rows.tolist()] if self.false else []
        places = [place for place, texts in enumerate(own) if texts]
        chance = torch.rand(len(places), generator=generator).tolist()
        drawn = [own[place][int(one * len(own[place]))] for place, one in zip(places, chance, strict=True)]
        return torch.tensor(places, dtype=torch.long), torch.tensor(drawn, dtype=torch.long)


class Sampler:
    """Draws a batch of rows, a label in proportion to the root of its number of rows, and a text for each row.

    With chance ``translation`` the text is one of the row's ``foreign``, every language as often; else with chance
    ``paraphrase`` one of its ``also``; otherwise with chance ``first_caption`` its first caption, else another one.
    """

    def __init__(
        self, pairs: Pairs, batch: int, *, first_caption: float, paraphrase: float = 0.0, translation: float = 0.0
    ) -> None:
        counts = torch.bincount(pairs.labels)
        self.weights = counts[pairs.labels].double().rsqrt()
        self.batch = min(batch, len(pairs.texts))
        self.first_caption = first_caption
        self.paraphrase = paraphrase
        self.translation = translation
        self.pairs = pairs
        self.foreign = [list(own.values()) for own in pairs.foreign]

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Row numbers and text numbers, each int64 ``(batch,)``."""
        rows = torch.multinomial(self.weights, self.batch, generator=generator)
        return rows, self.texts(rows, generator)

    def texts(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A text for each of ``rows``, int64 ``(n,)``."""
        chance = torch.rand(len(rows), 3, generator=generator).tolist()
        texts = [self._text(row, *own) for row, own in zip(rows.tolist(), chance, strict=True)]
        if self.translation:
            chance = torch.rand(len(rows), 3, generator=generator).tolist()
            for place, (row, own) in enumerate(zip(rows.tolist(), chance, strict=True)):
                texts[place] = self._translated(row, texts[place], *own)
        return torch.tensor(texts)

    def _translated(self, row: int, text: int, whether: float, language: float, which: float) -> int:
        """The text, or one in another language in its place."""
        languages = self.foreign[row] if self.foreign else []
        if not languages or whether >= self.translation:
            return text
        texts = languages[int(language * len(languages))]
        return texts[int(which * len(texts))]

    def _text(self, row: int, which: float, other: float, reword: float) -> int:
        also = self.pairs.also[row] if self.pairs.also else []
        if also and reword < self.paraphrase:
            return also[int(other * len(also))]
        own = self.pairs.texts[row]
        if which < self.first_caption or len(own) == 1:
            return own[0]
        return own[1 + int(other * (len(own) - 1))]
