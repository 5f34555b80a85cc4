"""Captions by beam search: the reader goes on from the prompt, every word reading the media tokens.

Knows nothing of files or of pairs.
"""

from __future__ import annotations

import torch

from retrieval.rerank.reader import Reader
from retrieval.rerank.scorer import Scorer


def beam_search(reader: Reader, scorer: Scorer, media: torch.Tensor, beams: int = 3, max_tokens: int = 12) -> str:
    """Words for media tokens ``(1, count, width)``: up to the mark that ends a text in the prompt.

    Of the ends that were found, the one with the best mean log-probability a token; ties: the one found first.
    """
    ending = reader.tokenizer.decode(reader.after[:1])[:1]
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for _ in range(max_tokens):
        sequences = [[*reader.before, *words] for _, words in live]
        states = reader.states_of(sequences)
        hidden = scorer.tell(reader, states, media.expand(len(live), -1, -1))[:, -1]
        scores = reader.logits(hidden).float().log_softmax(dim=-1)  # (beams, vocabulary)
        found = []
        for (total, words), row in zip(live, scores, strict=True):
            best = row.topk(beams + 1)
            found += [(total + value, [*words, token]) for value, token in
                      zip(best.values.tolist(), best.indices.tolist(), strict=True)]  # fmt: skip
        found.sort(key=lambda one: -one[0])
        live = []
        for total, words in found:
            if reader.tokenizer.decode(words[-1:]).startswith(ending):
                if len(words) > 1:
                    ended.append((total / len(words), words[:-1]))
            elif len(live) < beams:
                live.append((total, words))
        if len(ended) >= beams or not live:
            break
    if not ended:
        ended = [(total / len(words), words) for total, words in live]
    return str(reader.tokenizer.decode(max(ended, key=lambda one: one[0])[1])).strip()
