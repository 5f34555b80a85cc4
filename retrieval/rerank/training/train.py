"""Trains a reranker over a finished dual encoder: align by contrast, generate captions, match with hard negatives.

The dual encoder's recipe says what is trained on and what is held out, and near-duplicates of evaluation pictures stay
out here too. Towers and lower layers are locked, and run once: pooled rows and patch grids of pictures and the lower
layers' states of texts are cached. Hard negatives are neighbours by the dual encoder. A killed run resumes from
its last point.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from indexer.encoders.devices import choose_device, mixed_precision
from indexer.encoders.tokens.compressor import Compressor, CompressorSpec
from indexer.encoders.tokens.config import LORA, RerankerConfig
from indexer.encoders.trained import TrainedDualEncoder
from indexer.items import Modality
from indexer.progress import Progress, silent
from indexer.training.loop import Checkpoint, Loop, Point, Steps
from indexer.training.losses import symmetric_info_nce
from retrieval.rerank.calibration import expected_calibration_error, platt, sigmoid
from retrieval.rerank.naming import give_names, read_names, sayable
from retrieval.rerank.scorer import Scorer, ScorerSpec
from retrieval.rerank.trained import save_reranker
from retrieval.rerank.training.heldout import best_cosine_weight, hit_rates
from retrieval.rerank.training.pool import Pool, Rows, Side
from retrieval.rerank.training.recipe import RerankRecipe, load_rerank_recipe

__all__ = ["load_rerank_recipe", "train_reranker"]

OnPoint = Callable[[int, dict[str, float]], None]

_MASKED = -1e4
#: Held-out captions that captioning is evaluated on.
_CAPTIONS_HELD_OUT = 512


def train_reranker(
    recipe: RerankRecipe,
    out: Path,
    *,
    device: str = "auto",
    on_progress: Progress = silent,
    on_point: OnPoint = lambda step, figures: None,
) -> dict[str, Any]:
    """Train by ``recipe`` and write ``out/reranker/``; ``out`` is the dual encoder's directory or a copy of it.

    Returns the report, which is also written there. Raises :class:`RecipeError`, :class:`ModelError`.
    """
    started = time.monotonic()
    names, left_out = sayable(read_names(recipe.names_file)) if recipe.names_file else ([], [])
    torch.manual_seed(recipe.seed)
    where = choose_device(device)
    encoder = TrainedDualEncoder(recipe.model_directory, device=device)
    pool = Pool(recipe, encoder, where, on_progress)
    torch.manual_seed(recipe.seed)
    run = _Run(recipe, pool)
    digest = hashlib.sha256(repr((replace(recipe, path=Path()), pool.digest)).encode()).hexdigest()
    curves = {
        stage.name: _train_stage(stage, run, out, digest, on_progress, on_point)
        for stage in _stages(run)
        if stage.steps.steps
    }
    judged = {modality: run.calibrate(side) for modality, side in pool.sides.items()}
    report = {
        "trained_on": {str(modality): side.count for modality, side in pool.sides.items()},
        "heldout": {str(modality): one.report for modality, one in judged.items()},
        "curves": {stage: [asdict(point) for point in curve] for stage, curve in curves.items()},
        "seconds": round(time.monotonic() - started, 1),
        "torch": torch.__version__,
        "device": str(where),
    }
    config = RerankerConfig(
        encoder=encoder.fingerprint,
        sources={str(modality): side.sources for modality, side in pool.sides.items()},
        compressors={str(modality): recipe.compressor.sizes(modality) for modality in pool.sides},
        language_model=asdict(recipe.language_model),
        scorer=asdict(run.scorer.spec),
        calibration={str(modality): one.calibration for modality, one in judged.items()},
        sha256="",
        captions=recipe.captions,
        lora=asdict(recipe.lora.spec) if recipe.lora is not None else None,
    )
    parts = {f"compressor.{name}": module.state_dict() for name, module in run.compressors.items()}
    parts["scorer"] = run.scorer.state_dict()
    if recipe.lora is not None:
        upper = pool.reader.upper_layers
        parts[LORA] = {name: value for name, value in upper.named_parameters() if value.requires_grad}
    save_reranker(out, config, parts)
    if left_out:
        report["names_left_out"] = left_out
    (out / "reranker" / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if names:
        give_names(out, names, device=device, on_progress=on_progress)
    for stage in curves:
        (out / f"{stage}.pt").unlink(missing_ok=True)
    return report


@dataclass(frozen=True)
class _Stage:
    """One stage of the training: its steps, its held-out figures, and what of the modules is locked in it."""

    name: str
    steps: Steps
    step: Callable[[torch.Generator], torch.Tensor]
    evaluate: Callable[[], dict[str, float]]
    locked: bool | None
    """Whether the projections are locked; ``None``: as they are."""


def _stages(run: _Run) -> list[_Stage]:
    """The stages in their order; one of no steps is left out of the training."""
    recipe = run.recipe
    parts = (
        ("align", recipe.align, run.align, run.evaluate_alignment, None),
        ("tell", recipe.tell, run.caption, run.evaluate_captioning, True),
        ("match", recipe.match, run.match, run.evaluate, recipe.match.projections == "locked"),
    )
    return [
        _Stage(
            name,
            Steps(settings.steps, settings.learning_rate, settings.weight_decay, settings.evaluate_every),
            step,
            evaluate,
            locked,
        )
        for name, settings, step, evaluate, locked in parts
    ]


def _train_stage(
    stage: _Stage, run: _Run, out: Path, digest: str, on_progress: Progress, on_point: OnPoint
) -> list[Point]:
    """Train one stage, from its last checkpoint of this ``digest``; gives its curve."""
    finished = Checkpoint(out / f"{stage.name}.pt", digest)
    if (state := finished.load()) is not None and state.get("done"):
        run.modules.load_state_dict(state["modules"])
        return [Point(**point) for point in state["curve"]]
    if stage.locked is not None:
        run.lock_projections(stage.locked)
    loop = Loop(
        run.modules,
        nn.ParameterDict(),
        stage.steps,
        run.recipe.seed,
        stage.step,
        stage.evaluate,
        lambda point: on_point(point.step, {"loss": point.loss, **point.heldout}),
        lambda done, total: on_progress(stage.name, done, total),
        Checkpoint(out / f"{stage.name}-part.pt", digest),
    )
    curve = loop.run()
    finished.save({"done": True, "modules": run.modules.state_dict(), "curve": [asdict(point) for point in curve]})
    (out / f"{stage.name}-part.pt").unlink(missing_ok=True)
    return curve


@dataclass(frozen=True)
class _Calibrated:
    """What the held-out pairs of a side say of its scores."""

    calibration: dict[str, float]
    report: dict[str, Any]


class _Run:
    """The modules, the two stages' steps and their held-out figures."""

    def __init__(self, recipe: RerankRecipe, pool: Pool) -> None:
        self.recipe, self.pool = recipe, pool
        settings, where = recipe.compressor, pool.where
        self.compressors = nn.ModuleDict()
        for modality, side in pool.sides.items():
            compressor = Compressor(
                CompressorSpec(side.sources.sources, **settings.sizes(modality)),
                settings.dropout,
                settings.trunk_dropout,
                settings.patch_dropout,
            )
            compressor.whiten(side.joined)
            self.compressors[str(modality)] = compressor.to(where)
        spec = ScorerSpec(
            pool.reader.width,
            len(pool.reader.upper_layers),
            settings.width,
            settings.queries + settings.summary,
            recipe.scorer.inner,
            recipe.scorer.heads,
            recipe.scorer.joint,
            recipe.scorer.interaction,
            recipe.scorer.whitened,
            recipe.scorer.hidden,
        )
        self.scorer = Scorer(spec, recipe.scorer.dropout, recipe.scorer.text_dropout)
        side = pool.sides[Modality.IMAGE]
        trained_on = {text for own in (*side.captions[: side.count], *side.also[: side.count]) for text in own}
        self.scorer.whiten(pool.last[sorted(trained_on)])
        self.scorer.to(where)
        self.modules = nn.ModuleDict({"compressors": self.compressors, "scorer": self.scorer})
        if recipe.lora is not None:
            pool.reader.add_lora(recipe.lora.spec)
            self.modules["upper"] = pool.reader.upper_layers
        shares = np.array([_share(recipe, modality) for modality in pool.sides])
        self._shares = shares / shares.sum()

    def lock_projections(self, locked: bool = True) -> None:
        """Only cross-attention, match head and adapters are trained from now on; or, not ``locked``, everything."""
        self.compressors.requires_grad_(not locked)
        self.scorer.lock_projections(locked)

    def align(self, generator: torch.Generator) -> torch.Tensor:
        """One contrastive step of the projections, of one side."""
        draws, side = self._begin(generator)
        batch = min(self.recipe.align.batch, len(side.labels))
        labels = draws.choice(len(side.labels), batch, p=side.weights, replace=False)
        rows, texts = self._draw(draws, side, labels)
        with mixed_precision(self.pool.where):
            tokens = self._tokens(side, rows)
        cosines = self.scorer.likeness(self.pool.last[texts].to(self.pool.where), tokens.float())
        loss = _both_ways(cosines * self.scorer.scale.exp(), *self._judged(side, rows, texts))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def caption(self, generator: torch.Generator) -> torch.Tensor:
        """One step of captioning, of pictures and their first captions."""
        side = self.pool.sides[Modality.IMAGE]
        draws = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        batch = min(self.recipe.tell.batch, len(side.labels))
        rows, texts = side.draw(draws, draws.choice(len(side.labels), batch, p=side.weights, replace=False), 1.0, 0.0)
        loss = self._caption_loss(side, rows, texts)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        return loss.detach()

    def match(self, generator: torch.Generator) -> torch.Tensor:
        """One step over every pair of a batch of neighbours, of one side."""
        pool, settings = self.pool, self.recipe.match
        draws, side = self._begin(generator)
        rows, texts = self._draw(draws, side, _neighbourhoods(draws, side, settings.batch, settings.near))
        states = pool.states_of(texts)
        with mixed_precision(self.pool.where):
            tokens = self._tokens(side, rows)
            every = tokens[None].expand(len(texts), -1, -1, -1)
            logits: torch.Tensor = self.scorer(pool.reader, states, every).float()
            captioning: torch.Tensor = logits.new_zeros(())
            if settings.lm_weight and side.itself is None:
                captioning = self.scorer.caption_loss(pool.reader, states, tokens)
        positive, ignored = self._judged(side, rows, texts)
        pairs = functional.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
        matching = (pairs * ~ignored).sum() / len(texts)
        loss = (
            _both_ways(logits, positive, ignored)
            + settings.bce_weight * matching
            + settings.lm_weight * captioning.float()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        return loss.detach()

    def evaluate_alignment(self) -> dict[str, float]:
        """Held-out hit rates of the projections: alone, and with the dual encoder's cosine beside them."""
        side = self.pool.sides[Modality.IMAGE]
        with torch.no_grad():
            last = self.pool.last[side.heldout_texts].to(self.pool.where)
            logits = self.scorer.likeness(last, self._heldout_tokens(side)) * self.scorer.scale.exp()
        found = np.asarray(logits.cpu().numpy(), dtype=np.float32)
        weight, figures = best_cosine_weight(found, side.cosines, side.relevant)
        alone = hit_rates(found, side.relevant)
        return {**figures, "alone": alone["mean"], "cosine_weight": weight, "score": figures["mean"]}

    def evaluate_captioning(self) -> dict[str, float]:
        """Cross-entropy a token, in nats, of the first captions of some of the held-out pictures."""
        side = self.pool.sides[Modality.IMAGE]
        losses = []
        with torch.no_grad():
            for at in range(0, min(_CAPTIONS_HELD_OUT, len(side.heldout)), 64):
                rows = side.heldout[at : at + 64]
                texts = np.array([side.captions[row][0] for row in rows], dtype=np.int64)
                losses.append(float(self._caption_loss(side, rows, texts)))
        found = float(np.mean(losses))
        return {"nats": found, "score": -found}

    def evaluate(self) -> dict[str, float]:
        """Held-out hit rates, both ways, of the dual encoder's candidates by logit + weight * cosine."""
        side = self.pool.sides[Modality.IMAGE]
        logits = self.heldout_logits(side)
        weight, figures = best_cosine_weight(logits, side.cosines, side.relevant)
        return {**figures, "cosine_weight": weight, "score": figures["mean"]}

    def calibrate(self, side: Side) -> _Calibrated:
        """The cosine's weight and Platt's scaling of a side's held-out pairs, and what was measured of them."""
        logits = self.heldout_logits(side)
        weight, heldout = best_cosine_weight(logits, side.cosines, side.relevant)
        scored = logits > _MASKED / 2
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
        return _Calibrated({"cosine_weight": weight, "slope": slope, "intercept": intercept}, report)

    def heldout_logits(self, side: Side) -> NDArray[np.float32]:
        """Logits ``(texts, things)`` of the pairs that a direction's reranking reads; elsewhere -1e4."""
        pool, depth = self.pool, self.recipe.depth
        self.modules.eval()
        wanted = np.zeros(side.cosines.shape, dtype=bool)
        for matrix, target in ((side.cosines, wanted), (side.cosines.T, wanted.T)):
            best = np.argsort(-matrix, axis=1, kind="stable")[:, :depth]
            np.put_along_axis(target, best, True, axis=1)
        logits = np.full(side.cosines.shape, _MASKED, dtype=np.float32)
        tokens = self._heldout_tokens(side)
        with torch.no_grad(), mixed_precision(self.pool.where):
            order = np.argsort(wanted.sum(axis=1), kind="stable")
            for start in range(0, len(order), 16):
                some = order[start : start + 16]
                columns = [np.flatnonzero(wanted[row]) for row in some]
                padded = np.zeros((len(some), max(map(len, columns))), dtype=np.int64)
                for place, own in enumerate(columns):
                    padded[place, : len(own)] = own
                states = pool.states_of(side.heldout_texts[some])
                found = self.scorer(pool.reader, states, tokens[torch.from_numpy(padded)]).float().cpu().numpy()
                for place, (row, own) in enumerate(zip(some, columns, strict=True)):
                    logits[row, own] = found[place, : len(own)]
        return logits

    def _begin(self, generator: torch.Generator) -> tuple[np.random.Generator, Side]:
        """This step's random numbers, and the side that it is of."""
        draws = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        sides = list(self.pool.sides.values())
        return draws, sides[int(draws.choice(len(sides), p=self._shares))]

    def _draw(self, draws: np.random.Generator, side: Side, labels: NDArray[Any]) -> tuple[Rows, Rows]:
        return side.draw(draws, labels, self.recipe.first_caption, self.recipe.paraphrase)

    def _judged(self, side: Side, rows: Rows, texts: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        positive, ignored = side.judged(rows, texts, masked=self.recipe.same_concept == "masked")
        return positive.to(self.pool.where), ignored.to(self.pool.where)

    def _tokens(self, side: Side, rows: Any) -> torch.Tensor:
        compressor = self.compressors[str(side.modality)]
        return torch.as_tensor(compressor(side.media_of(rows, self.pool.where)))

    def _caption_loss(self, side: Side, rows: Rows, texts: Rows) -> torch.Tensor:
        with mixed_precision(self.pool.where):
            tokens = self._tokens(side, rows)
            return self.scorer.caption_loss(self.pool.reader, self.pool.states_of(texts), tokens).float()

    def _heldout_tokens(self, side: Side) -> torch.Tensor:
        parts = []
        with torch.no_grad(), mixed_precision(self.pool.where):
            for at in range(0, len(side.heldout), 256):
                parts.append(self._tokens(side, side.heldout[at : at + 256]).float())
        return torch.cat(parts)


def _share(recipe: RerankRecipe, modality: Modality) -> float:
    return {Modality.AUDIO: recipe.shares.audio, Modality.TEXT: recipe.shares.text}.get(modality, 1.0)


def _neighbourhoods(draws: np.random.Generator, side: Side, batch: int, near: int) -> NDArray[np.int64]:
    """Labels by place: some at random, each with some of its 24 nearest by the dual encoder."""
    count = min(max(1, batch // (near + 1)), len(side.labels))
    seeds = draws.choice(len(side.labels), count, p=side.weights, replace=False)
    found = list(seeds)
    for seed in seeds:
        nearest = np.argsort(-side.likeness[seed], kind="stable")[1:25]
        if near and len(nearest):
            found += list(draws.choice(nearest, min(near, len(nearest)), replace=False))
    return np.array(list(dict.fromkeys(found))[:batch])


def _both_ways(logits: torch.Tensor, positive: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
    """List-wise cross-entropy over rows and over columns; all positives of a row share its mass."""
    return 2 * symmetric_info_nce(logits.masked_fill(ignored, _MASKED), positive)
