"""Captions: the reader goes on from the prompt, every word reading the media tokens; freely, or from what is given.

Knows nothing of files or of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from retrieval.rerank.reader import Reader, TextStates
from retrieval.rerank.scorer import Scorer

#: What a nat of the language model's likelihood counts beside a cosine; chosen on held-out pictures.
_NEARNESS_A_NAT = 0.01


@dataclass
class _Beams:
    """One media's texts: live ones as (log-probability, row of the telling, words), and those that have ended."""

    live: list[tuple[float, int, list[int]]]
    ended: list[tuple[float, list[int]]] = field(default_factory=list)


def beam_search(reader: Reader, scorer: Scorer, media: torch.Tensor, beams: int = 3, max_tokens: int = 12) -> list[str]:
    """Words for each of media tokens ``(n, count, width)``: up to the mark that ends a text in the prompt.

    Of the ends that were found, the one with the best mean log-probability a token; ties: the one found first. The
    media are told side by side, and each word is run once.
    """
    if not len(media):
        return []
    ending = reader.tokenizer.decode(reader.after[:1])[:1]
    every = [_Beams([(0.0, row, [])]) for row in range(len(media))]
    telling = scorer.begin(reader, media)
    for step in range(max_tokens):
        scores = reader.logits(telling.last).float().log_softmax(dim=-1)  # (live rows, vocabulary)
        best = scores.topk(beams + 1)
        values, tokens = best.values.tolist(), best.indices.tolist()
        for one in every:
            found = [
                (total + value, row, [*words, token])
                for total, row, words in one.live
                for value, token in zip(values[row], tokens[row], strict=True)
            ]
            found.sort(key=lambda each: -each[0])
            one.live = []
            for total, row, words in found:
                if reader.tokenizer.decode(words[-1:]).startswith(ending):
                    if len(words) > 1:
                        one.ended.append((total / len(words), words[:-1]))
                elif len(one.live) < beams:
                    one.live.append((total, row, words))
            if len(one.ended) >= beams:
                one.live = []
        going = [(owner, *each) for owner, one in enumerate(every) for each in one.live]
        if not going or step == max_tokens - 1:
            break
        rows, words = [row for _, _, row, _ in going], [text[-1] for *_, text in going]
        telling = scorer.go_on(reader, telling, rows, words, media[[owner for owner, *_ in going]])
        for one in every:
            one.live = []
        for place, (owner, total, _, text) in enumerate(going):
            every[owner].live.append((total, place, text))
    told = []
    for one in every:
        ends = one.ended or [(total / len(words), words) for total, _, words in one.live]
        told.append(str(reader.tokenizer.decode(max(ends, key=lambda each: each[0])[1])).strip() if ends else "")
    return told


def likeliest(
    reader: Reader, scorer: Scorer, states: TextStates, media: torch.Tensor, nearness: Sequence[float]
) -> int:
    """Of texts ``(n)`` that may tell of one media ``(count, width)``: the nearest one that would most likely be told.

    A text's likelihood is the sum over its own tokens and the mark that ends it.
    """
    nats, whose = scorer.nats(reader, states, media.expand(len(nearness), -1, -1))
    each = torch.zeros(len(nearness), device=nats.device).index_add(0, whose, nats)
    return int((torch.tensor(nearness) - _NEARNESS_A_NAT * each.cpu()).argmax())
