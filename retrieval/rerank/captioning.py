"""Captions: the reader continues the prompt, every word reading the media tokens; freely, or from what is given.

Knows nothing of files or of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from retrieval.rerank.reader import Reader, TextStates
from retrieval.rerank.scorer import Scorer

#: What a nat of the language model's likelihood counts beside a cosine; chosen on held-out pictures.
_NEARNESS_A_NAT = 0.01


@dataclass
class _Beams:
    """One media's texts: live ones as (log-probability, row of the continuation, words), and those that have ended."""

    live: list[tuple[float, int, list[int]]]
    ended: list[tuple[float, list[int]]] = field(default_factory=list)

    def extend(
        self, values: list[list[float]], tokens: list[list[int]], beams: int, is_end: Callable[[int], bool]
    ) -> None:
        """Extend each live text by the likeliest next ``tokens`` of its row; the ``beams`` best of all stay live.

        ``values`` are their log-probabilities. A text ends with a token that ``is_end``; one without words is dropped.
        With ``beams`` ended texts, none stays live.
        """
        found = [
            (total + value, row, [*words, token])
            for total, row, words in self.live
            for value, token in zip(values[row], tokens[row], strict=True)
        ]
        found.sort(key=lambda each: -each[0])
        self.live = []
        for total, row, words in found:
            if is_end(words[-1]):
                if len(words) > 1:
                    self.ended.append((total / len(words), words[:-1]))
            elif len(self.live) < beams:
                self.live.append((total, row, words))
        if len(self.ended) >= beams:
            self.live = []

    def best(self) -> list[int]:
        """The words with the best mean log-probability a token, of live texts where none has ended; ties: the first."""
        ends = self.ended or [(total / len(words), words) for total, _, words in self.live]
        return max(ends, key=lambda each: each[0])[1] if ends else []


def beam_search(reader: Reader, scorer: Scorer, media: torch.Tensor, beams: int = 3, max_tokens: int = 12) -> list[str]:
    """Words for each of media tokens ``(n, count, width)``: up to the mark that ends a text in the prompt.

    Of the ends that were found, the one with the best mean log-probability a token; ties: the one found first. The
    media are captioned side by side, and each word is run once.
    """
    if not len(media):
        return []
    ending = reader.tokenizer.decode(reader.after[:1])[:1]

    def is_end(token: int) -> bool:
        return str(reader.tokenizer.decode([token])).startswith(ending)

    every = [_Beams([(0.0, row, [])]) for row in range(len(media))]
    continuation = scorer.begin(reader, media)
    for step in range(max_tokens):
        scores = reader.logits(continuation.last).float().log_softmax(dim=-1)  # (live rows, vocabulary)
        best = scores.topk(beams + 1)
        values, tokens = best.values.tolist(), best.indices.tolist()
        for one in every:
            one.extend(values, tokens, beams, is_end)
        live = [(owner, *each) for owner, one in enumerate(every) for each in one.live]
        if not live or step == max_tokens - 1:
            break
        rows, words = [row for _, _, row, _ in live], [text[-1] for *_, text in live]
        continuation = scorer.extend(reader, continuation, rows, words, media[[owner for owner, *_ in live]])
        for one in every:
            one.live = []
        for place, (owner, total, _, text) in enumerate(live):
            every[owner].live.append((total, place, text))
    written = [one.best() for one in every]
    return [str(reader.tokenizer.decode(words)).strip() if words else "" for words in written]


def likeliest(
    reader: Reader, scorer: Scorer, states: TextStates, media: torch.Tensor, nearness: Sequence[float]
) -> int:
    """Of texts ``(n)`` that may caption one media ``(count, width)``: the nearest and likeliest one.

    A text's likelihood is the sum over its own tokens and the mark that ends it.
    """
    nats, whose = scorer.nats(reader, states, media.expand(len(nearness), -1, -1))
    each = torch.zeros(len(nearness), device=nats.device).index_add(0, whose, nats)
    return int((torch.tensor(nearness) - _NEARNESS_A_NAT * each.cpu()).argmax())
