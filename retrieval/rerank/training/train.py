"""Trains a reranker over a finished dual encoder: align by contrast, generate captions, match with hard negatives.

The dual encoder's recipe says what is trained on and what is held out, and near-duplicates of evaluation pictures stay
out here too. Towers and lower layers are locked, and run once: pooled rows and patch grids of pictures and the lower
layers' states of texts are cached. A killed run resumes from its last point.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from indexer.encoders.devices import choose_device
from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.trained import TrainedDualEncoder
from indexer.progress import Progress, silent
from retrieval.rerank.naming import give_names, read_names, sayable
from retrieval.rerank.pair_model import save_reranker
from retrieval.rerank.training.evaluate import Evaluation
from retrieval.rerank.training.modules import RerankerModules
from retrieval.rerank.training.pool import Pool
from retrieval.rerank.training.recipe import RerankRecipe
from retrieval.rerank.training.stages import OnPoint, stages_of, train_stage


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
    modules = RerankerModules(recipe, pool)
    digest = hashlib.sha256(repr((asdict(replace(recipe, path=Path())), pool.digest)).encode()).hexdigest()
    curves = {
        stage.name: train_stage(stage, modules, recipe.seed, out, digest, on_progress, on_point)
        for stage in stages_of(recipe, modules)
        if stage.steps.steps
    }
    heldout = Evaluation(modules, recipe.depth)
    judged = {modality: heldout.calibrate(side) for modality, side in pool.sides.items()}
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
        scorer=asdict(modules.scorer.spec),
        calibration={str(modality): one.calibration for modality, one in judged.items()},
        sha256="",
        captions=recipe.captions,
        lora=asdict(recipe.lora.spec) if recipe.lora is not None else None,
    )
    save_reranker(out, config, modules.parts())
    if left_out:
        report["names_left_out"] = left_out
    (out / "reranker" / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if names:
        give_names(out, names, device=device, on_progress=on_progress)
    for stage in curves:
        (out / f"{stage}.pt").unlink(missing_ok=True)
    return report
