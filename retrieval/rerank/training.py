"""Trains a reranker over a finished dual encoder: align by contrast, then match with hard negatives and captioning.

The dual encoder's recipe says what is trained on and what is held out, and near-duplicates of evaluation pictures stay
out here too. Towers and language model are locked, and run once: pooled rows and patch grids of pictures and the lower
layers' states of texts are cached. Hard negatives are neighbours by the dual encoder; pairs of one concept that do not
share a text are neither match nor mismatch, and are masked. A killed run goes on from its last evaluation.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from indexer.encoders.compressor import Compressor, CompressorSpec
from indexer.encoders.devices import choose_device, choose_dtype
from indexer.encoders.tokenizer import ImageSources, RerankerConfig
from indexer.encoders.towers import language_model_directory
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights import cache_dir
from indexer.errors import RecipeError
from indexer.items import Modality
from indexer.training.dual import Clock, TrainingData
from indexer.training.loop import Checkpoint, Loop, Point, Steps
from indexer.training.towers import RecipeTowers
from retrieval.evaluation.calibration import expected_calibration_error, platt, sigmoid
from retrieval.rerank.heldout import best_cosine_weight, hit_rates
from retrieval.rerank.reader import Reader, TextStates
from retrieval.rerank.recipe import RerankRecipe, load_rerank_recipe
from retrieval.rerank.scorer import Scorer, ScorerSpec
from retrieval.rerank.trained import save_reranker

__all__ = ["load_rerank_recipe", "train_reranker"]

OnProgress = Callable[[str, int, int], None]
OnPoint = Callable[[int, dict[str, float]], None]

_MASKED = -1e4
_STATES_AT_ONCE = 128


def train_reranker(
    recipe: RerankRecipe,
    out: Path,
    *,
    device: str = "auto",
    on_progress: OnProgress = lambda stage, done, total: None,
    on_point: OnPoint = lambda step, figures: None,
) -> dict[str, Any]:
    """Train what ``recipe`` says and write ``out/reranker/``; ``out`` is the dual encoder's directory or a copy of it.

    Returns the report, which is also written there. Raises :class:`RecipeError`, :class:`ModelError`.
    """
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    where = choose_device(device)
    encoder = TrainedDualEncoder(recipe.model_directory, device=device)
    pool = _Pool(recipe, encoder, where, on_progress)
    compressor = Compressor(
        CompressorSpec(
            pool.sources.sources, recipe.compressor.queries, recipe.compressor.width, recipe.compressor.heads
        ),
        recipe.compressor.dropout,
    )
    pool.standardise(compressor)
    scorer = Scorer(
        ScorerSpec(
            pool.reader.width, len(pool.reader.upper_layers), recipe.compressor.width, compressor.spec.count,
            recipe.scorer.inner, recipe.scorer.heads, recipe.scorer.joint, recipe.scorer.interaction,
        ),
        recipe.scorer.dropout,
    )  # fmt: skip
    run = _Run(recipe, pool, compressor.to(where), scorer.to(where))
    digest = hashlib.sha256(repr((replace(recipe, path=Path()), pool.digest)).encode()).hexdigest()
    curves: dict[str, list[Point]] = {}
    for stage, steps, step, evaluate in (
        ("align", recipe.align, run.align, run.evaluate_alignment),
        ("match", recipe.match, run.match, run.evaluate),
    ):
        finished = Checkpoint(out / f"{stage}.pt", digest)
        if (state := finished.load()) is not None and state.get("done"):
            run.modules.load_state_dict(state["modules"])
            curves[stage] = [Point(**point) for point in state["curve"]]
            continue
        pool.draws = np.random.default_rng(recipe.seed)

        def tell(point: Point) -> None:
            on_point(point.step, {"loss": point.loss, **point.heldout})

        def progress(done: int, total: int, stage: str = stage) -> None:
            on_progress(stage, done, total)

        loop = Loop(
            run.modules, nn.ParameterDict(), Steps(steps.steps, steps.learning_rate, steps.weight_decay,
            steps.evaluate_every), recipe.seed, step, evaluate, tell, progress,
            Checkpoint(out / f"{stage}-part.pt", digest),
        )  # fmt: skip
        curves[stage] = loop.run()
        finished.save({"done": True, "modules": run.modules.state_dict(), "curve": [asdict(p) for p in curves[stage]]})
        (out / f"{stage}-part.pt").unlink(missing_ok=True)
    logits = run.heldout_logits()
    weight, heldout = best_cosine_weight(logits, pool.cosines, pool.relevant)
    scored = logits > _MASKED / 2
    scores, labels = (logits + weight * pool.cosines)[scored], pool.relevant[scored]
    slope, intercept = platt(scores, labels)
    report = {
        "trained_on": len(pool.train), "heldout_pictures": len(pool.heldout), "heldout": heldout,
        "cosine_weight": weight,
        "ece_before": expected_calibration_error(sigmoid(logits[scored]), labels),
        "ece_after": expected_calibration_error(sigmoid(slope * scores + intercept), labels),
        "curves": {stage: [asdict(point) for point in curve] for stage, curve in curves.items()},
        "seconds": round(time.monotonic() - started, 1), "torch": torch.__version__, "device": str(where),
    }  # fmt: skip
    spec = asdict(scorer.spec)
    config = RerankerConfig(
        encoder=encoder.fingerprint, image=pool.sources,
        compressor={"queries": recipe.compressor.queries, "width": recipe.compressor.width,
                    "heads": recipe.compressor.heads},
        language_model=asdict(recipe.language_model), scorer=spec,
        calibration={"slope": slope, "intercept": intercept}, cosine_weight=weight, sha256="",
    )  # fmt: skip
    save_reranker(out, config, {"compressor": compressor, "scorer": scorer})
    (out / "reranker" / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for stage in curves:
        (out / f"{stage}.pt").unlink(missing_ok=True)
    return report


class _Pool:
    """Everything that is read once: features of pictures, states of texts, the dual encoder's cosines."""

    def __init__(
        self, recipe: RerankRecipe, encoder: TrainedDualEncoder, where: torch.device, on_progress: OnProgress
    ) -> None:
        self.recipe = recipe
        self.where = where
        dual = recipe.dual_recipe
        towers = RecipeTowers(dual, where, on_progress)
        if [trunk.arch for trunk in dual.image.trunks] != [trunk.arch for trunk in encoder.config.image]:
            raise RecipeError(f"{recipe.path}: the trunks of {recipe.dual} are not those of the model {recipe.model}")
        data = TrainingData(dual, towers, Clock())
        data.prepare()
        image = data.used[Modality.IMAGE]
        self.train, self.heldout = image.train, image.heldout
        every = [*self.train, *self.heldout]
        if not self.heldout:
            raise RecipeError(f"{recipe.path}: nothing is held out; the reranker is calibrated on held-out pairs")
        rows = towers.of_media(every)
        widths = [towers.of_trunk(n, every[:1]).shape[1] for n in range(len(dual.image.trunks))]
        grids = [torch.from_numpy(towers.grids(number, every)) for number in recipe.compressor.grids]
        self.sources = ImageSources(
            tuple(widths), tuple(recipe.compressor.grids),
            tuple(grid.shape[1] for grid in grids), tuple(grid.shape[2] for grid in grids),
        )  # fmt: skip
        self.media = self.sources.split(torch.from_numpy(rows), grids)
        captions = [example.captions[:2] for example in self.train] + [example.captions for example in self.heldout]
        texts = sorted({text for own in captions for text in own})
        numbers = {text: number for number, text in enumerate(texts)}
        self.captions = [[numbers[text] for text in own] for own in captions]
        self.digest = hashlib.sha256(json.dumps([texts, [example.key for example in every]]).encode()).hexdigest()
        self.reader = self._open_reader()
        self.states = self._states(texts, on_progress)
        self.concepts = np.array([example.concept for example in every])
        # one label, as in the dual encoder's training: pictures with the same first caption
        self.by_label: dict[int, list[int]] = {}
        for row in range(len(self.train)):
            self.by_label.setdefault(self.captions[row][0], []).append(row)
        self.labels = list(self.by_label)
        weights = np.sqrt([len(self.by_label[label]) for label in self.labels])
        self.weights: NDArray[np.float64] = weights / weights.sum()
        vectors = self._embedded(encoder, towers, texts)
        of_labels = vectors[self.labels]
        self.likeness = of_labels @ of_labels.T  # (labels, labels)
        self.draws = np.random.default_rng(recipe.seed)
        asked = sorted({number for own in self.captions[len(self.train) :] for number in own})
        self.asked = torch.tensor(asked)
        held = encoder.project_images(rows[len(self.train) :])
        self.cosines = vectors[asked] @ held.T
        self.relevant = np.zeros(self.cosines.shape, dtype=bool)
        place = {number: n for n, number in enumerate(asked)}
        for column, own in enumerate(self.captions[len(self.train) :]):
            self.relevant[[place[number] for number in own], column] = True

    def standardise(self, compressor: Compressor) -> None:
        """Pooled rows to mean 0, deviation 1 over the training pictures."""
        for number in range(len(self.sources.rows)):
            rows = self.media[number][: len(self.train), 0]
            compressor.standardise(number, rows.mean(dim=0), rows.std(dim=0) + 1e-3)

    def media_of(self, rows: Any) -> list[torch.Tensor]:
        """Sources of pictures by row."""
        picked = torch.as_tensor(rows)
        return [source[picked].to(self.where) for source in self.media]

    def draw(self, labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of labels, by place: a picture of each and one of its texts."""
        pictures = np.array([self.draws.choice(self.by_label[self.labels[n]]) for n in labels])
        first = self.draws.random(len(labels)) < self.recipe.first_caption
        texts = [self.captions[row][0 if plain else -1] for row, plain in zip(pictures, first, strict=True)]
        return pictures, np.array(texts)

    def judged(self, pictures: NDArray[np.int64], texts: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Which text (row) belongs to which picture (column), and which pairs are neither match nor mismatch."""
        own = [set(self.captions[row]) for row in pictures]
        positive = torch.tensor([[int(text) in captions for captions in own] for text in texts])
        named = self.concepts[pictures]
        same = torch.from_numpy(named[:, None] == named[None])
        return positive.to(self.where), (same.to(self.where) & ~positive.to(self.where))

    def _open_reader(self) -> Reader:
        said = self.recipe.language_model
        reader = Reader(
            language_model_directory(said.source), layers=said.layers, lower=said.lower, prompt=said.prompt,
            max_tokens=said.max_tokens,
        )  # fmt: skip
        return reader.to(self.where, choose_dtype(self.where))

    @staticmethod
    def _embedded(encoder: TrainedDualEncoder, towers: RecipeTowers, texts: list[str]) -> NDArray[np.float32]:
        """The dual encoder's vectors of the texts; features of towers that were not adapted come from the cache."""
        if any(spec.adapter for spec in encoder.config.text):
            return encoder.encode_queries(texts)
        return encoder.project_texts(towers.texts(texts))

    def _states(self, texts: list[str], on_progress: OnProgress) -> TextStates:
        """The lower layers' states of every text, from the cache or run now."""
        said = json.dumps([asdict(self.recipe.language_model), texts, str(choose_dtype(self.where))])
        path = cache_dir() / "features" / f"states-{hashlib.sha256(said.encode()).hexdigest()[:16]}.pt"
        if path.is_file():
            kept = torch.load(path, weights_only=True)
            return TextStates(kept["hidden"], kept["lengths"], kept["ids"], kept["own"])
        order = sorted(range(len(texts)), key=lambda n: len(self.reader.token_ids(texts[n])))
        rows: list[tuple[torch.Tensor, ...]] = [()] * len(texts)
        with torch.inference_mode():
            for start in range(0, len(order), _STATES_AT_ONCE):
                part = order[start : start + _STATES_AT_ONCE]
                states = self.reader.states([texts[n] for n in part])
                for place, n in enumerate(part):
                    length = int(states.lengths[place])
                    parts = (states.hidden[place, :length], states.ids[place, :length], states.own[place, :length])
                    rows[n] = tuple(piece.clone().cpu() for piece in parts)
                on_progress("texts by the language model", min(start + _STATES_AT_ONCE, len(order)), len(order))
        hidden, ids, own = (pad_sequence(list(parts), batch_first=True) for parts in zip(*rows, strict=True))
        lengths = torch.tensor([len(row[1]) for row in rows])
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"hidden": hidden, "lengths": lengths, "ids": ids, "own": own}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        return TextStates(hidden, lengths, ids, own)


class _Run:
    """The two stages' steps and their held-out figures."""

    def __init__(self, recipe: RerankRecipe, pool: _Pool, compressor: Compressor, scorer: Scorer) -> None:
        self.recipe, self.pool = recipe, pool
        self.compressor, self.scorer = compressor, scorer
        self.modules = nn.ModuleDict({"compressor": compressor, "scorer": scorer})
        self._last: torch.Tensor | None = None

    def align(self, generator: torch.Generator) -> torch.Tensor:
        """One contrastive step of the projections."""
        pool, batch = self.pool, min(self.recipe.align.batch, len(self.pool.labels))
        pool.draws = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        labels = pool.draws.choice(len(pool.labels), batch, p=pool.weights, replace=False)
        pictures, texts = pool.draw(labels)
        with self._autocast():
            tokens = self.compressor(pool.media_of(pictures))
        cosines = self.scorer.likeness(self._last_states(texts), tokens.float())
        loss = self._both_ways(cosines * self.scorer.scale.exp(), *pool.judged(pictures, texts))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def match(self, generator: torch.Generator) -> torch.Tensor:
        """One step over every pair of a batch of neighbours."""
        pool, said = self.pool, self.recipe.match
        pool.draws = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        pictures, texts = pool.draw(self._neighbourhoods(said.batch, said.near))
        states = self._states(texts)
        with self._autocast():
            tokens = self.compressor(pool.media_of(pictures))
            every = tokens[None].expand(len(texts), -1, -1, -1)
            logits = self.scorer(pool.reader, states, every).float()
            told = self.scorer.caption_loss(pool.reader, states, tokens) if said.lm_weight else logits.new_zeros(())
        positive, ignored = pool.judged(pictures, texts)
        pairs = functional.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
        matching = (pairs * ~ignored).sum() / len(texts)
        loss = self._both_ways(logits, positive, ignored) + said.bce_weight * matching + said.lm_weight * told.float()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        return loss.detach()

    def evaluate_alignment(self) -> dict[str, float]:
        """Held-out hit rates of the projections alone."""
        with torch.no_grad():
            last = self._last_states(self.pool.asked.numpy())
            cosines = self.scorer.likeness(last, self._heldout_tokens()).cpu().numpy()
        return self._figures(cosines)

    def evaluate(self) -> dict[str, float]:
        """Held-out hit rates, both ways, of the dual encoder's candidates by logit + weight * cosine."""
        logits = self.heldout_logits()
        weight, figures = best_cosine_weight(logits, self.pool.cosines, self.pool.relevant)
        return {**figures, "cosine_weight": weight, "score": figures["mean"]}

    def heldout_logits(self) -> NDArray[np.float32]:
        """Logits ``(texts, pictures)`` of the pairs that a direction's reranking reads; elsewhere -1e4."""
        pool, depth = self.pool, self.recipe.depth
        self.modules.eval()
        wanted = np.zeros(pool.cosines.shape, dtype=bool)
        for matrix, target in ((pool.cosines, wanted), (pool.cosines.T, wanted.T)):
            best = np.argsort(-matrix, axis=1, kind="stable")[:, :depth]
            np.put_along_axis(target, best, True, axis=1)
        logits = np.full(pool.cosines.shape, _MASKED, dtype=np.float32)
        tokens = self._heldout_tokens()
        with torch.no_grad(), self._autocast():
            order = np.argsort(wanted.sum(axis=1), kind="stable")
            for start in range(0, len(order), 16):
                some = order[start : start + 16]
                columns = [np.flatnonzero(wanted[row]) for row in some]
                padded = np.zeros((len(some), max(map(len, columns))), dtype=np.int64)
                for place, own in enumerate(columns):
                    padded[place, : len(own)] = own
                states = self._states(pool.asked[torch.from_numpy(some)].numpy())
                found = self.scorer(pool.reader, states, tokens[torch.from_numpy(padded)]).float().cpu().numpy()
                for place, (row, own) in enumerate(zip(some, columns, strict=True)):
                    logits[row, own] = found[place, : len(own)]
        return logits

    def _figures(self, scores: NDArray[np.float32]) -> dict[str, float]:
        figures = hit_rates(scores, self.pool.relevant)
        return {**figures, "score": figures["mean"]}

    def _heldout_tokens(self) -> torch.Tensor:
        start, stop = len(self.pool.train), len(self.pool.train) + len(self.pool.heldout)
        parts = []
        with torch.no_grad(), self._autocast():
            for at in range(start, stop, 256):
                parts.append(self.compressor(self.pool.media_of(np.arange(at, min(at + 256, stop)))).float())
        return torch.cat(parts)

    def _neighbourhoods(self, batch: int, near: int) -> NDArray[np.int64]:
        """Labels by place: some at random, each with some of its 24 nearest by the dual encoder."""
        pool = self.pool
        seeds = pool.draws.choice(len(pool.labels), max(1, batch // (near + 1)), p=pool.weights, replace=False)
        found = list(seeds)
        for seed in seeds:
            nearest = np.argsort(-pool.likeness[seed], kind="stable")[1:25]
            if near and len(nearest):
                found += list(pool.draws.choice(nearest, min(near, len(nearest)), replace=False))
        return np.array(list(dict.fromkeys(found))[:batch])

    def _states(self, texts: NDArray[np.int64]) -> TextStates:
        picked = self.pool.states.rows(torch.as_tensor(texts))
        where = self.pool.where
        return TextStates(*(part.to(where) for part in (picked.hidden, picked.lengths, picked.ids, picked.own)))

    def _last_states(self, texts: NDArray[np.int64]) -> torch.Tensor:
        """Last tokens without media, ``(n, width)``; every text's is computed once."""
        if self._last is None:
            parts = []
            with torch.no_grad(), self._autocast():
                for at in range(0, len(self.pool.states.ids), 256):
                    rows = np.arange(at, min(at + 256, len(self.pool.states.ids)))
                    last, _ = self.pool.reader.read(self._states(rows), 1, lambda layer, hidden: hidden)
                    parts.append(last[:, 0].float())
            self._last = torch.cat(parts)
        return self._last[torch.as_tensor(texts)]

    def _both_ways(self, logits: torch.Tensor, positive: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """List-wise cross-entropy over rows and over columns; all positives of a row share its mass."""
        logits = logits.masked_fill(ignored, _MASKED)
        total = logits.new_zeros(())
        for scores, own in ((logits, positive), (logits.T, positive.T)):
            share = scores.masked_fill(~own, _MASKED).logsumexp(dim=1) - scores.logsumexp(dim=1)
            total = total - share.mean()
        return total

    def _autocast(self) -> torch.autocast:
        where = self.pool.where
        return torch.autocast(where.type, dtype=torch.bfloat16, enabled=choose_dtype(where) is torch.bfloat16)
