"""Made-up candidate lists with labels, and the calibration that comes of them."""

from __future__ import annotations

import numpy as np

from indexer.items import Modality
from retrieval.matching.features import DEPTH, CandidateList
from retrieval.matching.fitting import Example, fit_matches
from retrieval.matching.model import MatchModel

KINDS = tuple(Modality)


def made_up_examples(
    count: int = 480, *, kinds: tuple[Modality, ...] = KINDS, judged: bool = False, seed: int = 0
) -> list[Example]:
    """Lists of every pair of ``kinds``: ordinary cosines lie around a centre of their pair, an answer 0.4 above it."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        query = kinds[number % len(kinds)]
        for target in kinds:
            answered = bool(random.random() < 0.5)
            size = int(random.integers(3, 60))
            centre = 0.1 + 0.3 * (query is target)
            cosines = centre + 0.08 * random.standard_normal(size)
            if answered:
                cosines[0] = centre + 0.4 + 0.05 * random.standard_normal()
            order = np.argsort(-cosines, kind="stable")
            scores = None
            right = (order == 0)[:DEPTH] & answered
            if judged:
                logits = 20 * (cosines - centre - 0.3)
                scores, right = np.sort(logits)[::-1], (np.argsort(-logits, kind="stable") == 0)[:DEPTH] & answered
            lists = CandidateList(cosines[order], cosines, size, scores)
            found.append(Example(query, target, f"concept {number // 12}", number, lists, right, answered))
    return found


def made_up_match(encoder: str = "fake-1", kinds: tuple[Modality, ...] = KINDS) -> MatchModel:
    """A calibration of every pair of ``kinds``."""
    return fit_matches(made_up_examples(kinds=kinds), encoder=encoder)[0]
