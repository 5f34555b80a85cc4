"""Held-out figures of a reranker in training, and the calibration of its scores.

Knows nothing of training steps, optimisers or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indexer.encoders.devices import mixed_precision
from indexer.items import Modality
from indexer.logistic import sigmoid
from retrieval.rerank.calibration import expected_calibration_error, platt
from retrieval.rerank.training.heldout import NO_LOGIT, best_cosine_weight, has_logit, hit_rates
from retrieval.rerank.training.modules import RerankerModules
from retrieval.rerank.training.pool import Side

#: Held-out captions that captioning is evaluated on.
_CAPTIONS_HELD_OUT = 512


@dataclass(frozen=True)
class Calibrated:
    """The calibration of a side's scores on its held-out pairs, and the figures of it."""

    calibration: dict[str, float]
    report: dict[str, Any]


class Evaluation:
    """Figures of the modules as they are, on what the pool holds out; ``depth`` candidates are reranked."""

    def __init__(self, modules: RerankerModules, depth: int) -> None:
        self.modules, self.pool, self.depth = modules, modules.pool, depth

    def alignment(self) -> dict[str, float]:
        """Held-out hit rates of the projections: alone, and with the dual encoder's cosine beside them."""
        side, scorer = self.pool.sides[Modality.IMAGE], self.modules.scorer
        with torch.no_grad():
            last = self.pool.last[side.heldout_texts].to(self.pool.where)
            logits = scorer.likeness(last, self.modules.heldout_tokens(side)) * scorer.scale.exp()
        found = np.asarray(logits.cpu().numpy(), dtype=np.float32)
        weight, figures = best_cosine_weight(found, side.cosines, side.relevant)
        alone = hit_rates(found, side.relevant)
        return {**figures, "alone": alone["mean"], "cosine_weight": weight, "score": figures["mean"]}

    def captioning(self) -> dict[str, float]:
        """Cross-entropy a token, in nats, of the first captions of some of the held-out pictures."""
        side = self.pool.sides[Modality.IMAGE]
        losses = []
        with torch.no_grad():
            for at in range(0, min(_CAPTIONS_HELD_OUT, len(side.heldout)), 64):
                rows = side.heldout[at : at + 64]
                texts = np.array([side.captions[row][0] for row in rows], dtype=np.int64)
                losses.append(float(self.modules.caption_loss(side, rows, texts)))
        found = float(np.mean(losses))
        return {"nats": found, "score": -found}

    def matching(self) -> dict[str, float]:
        """Held-out hit rates, both ways, of the dual encoder's candidates by logit + weight * cosine."""
        side = self.pool.sides[Modality.IMAGE]
        logits = self.heldout_logits(side)
        weight, figures = best_cosine_weight(logits, side.cosines, side.relevant)
        return {**figures, "cosine_weight": weight, "score": figures["mean"]}

    def calibrate(self, side: Side) -> Calibrated:
        """The cosine's weight and Platt's scaling of a side's held-out pairs, and what was measured of them."""
        logits = self.heldout_logits(side)
        weight, heldout = best_cosine_weight(logits, side.cosines, side.relevant)
        scored = has_logit(logits)
        scores, labels = (logits + weight * side.cosines)[scored], side.relevant[scored]
        slope, intercept = platt(scores, labels)
        report = {
            "things": len(side.heldout),
            "texts": len(side.heldout_texts),
            "dual": hit_rates(side.cosines, side.relevant),
            "reranked": heldout,
            "ece_before": expected_calibration_error(sigmoid(logits[scored]), labels),
            "ece_after": expected_calibration_error(sigmoid(slope * scores + intercept), labels),
        }
        return Calibrated({"cosine_weight": weight, "slope": slope, "intercept": intercept}, report)

    def heldout_logits(self, side: Side) -> NDArray[np.float32]:
        """Logits ``(texts, things)`` of the pairs that a direction's reranking reads; elsewhere ``NO_LOGIT``."""
        pool, depth = self.pool, self.depth
        self.modules.trained.eval()
        wanted = np.zeros(side.cosines.shape, dtype=bool)
        for matrix, target in ((side.cosines, wanted), (side.cosines.T, wanted.T)):
            best = np.argsort(-matrix, axis=1, kind="stable")[:, :depth]
            np.put_along_axis(target, best, True, axis=1)
        logits = np.full(side.cosines.shape, NO_LOGIT, dtype=np.float32)
        tokens = self.modules.heldout_tokens(side)
        with torch.no_grad(), mixed_precision(self.pool.where):
            order = np.argsort(wanted.sum(axis=1), kind="stable")
            for start in range(0, len(order), 16):
                some = order[start : start + 16]
                columns = [np.flatnonzero(wanted[row]) for row in some]
                padded = np.zeros((len(some), max(map(len, columns))), dtype=np.int64)
                for place, own in enumerate(columns):
                    padded[place, : len(own)] = own
                states = pool.states_of(side.heldout_texts[some])
                found = self.modules.scorer(pool.reader, states, tokens[torch.from_numpy(padded)]).float().cpu().numpy()
                for place, (row, own) in enumerate(zip(some, columns, strict=True)):
                    logits[row, own] = found[place, : len(own)]
        return logits
