"""A trained dual encoder, written as a directory that ``--model`` opens. Knows nothing of how it was trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from indexer.encoders.specs import CONFIG, HEADS, EncoderConfig
from indexer.encoders.towers.hubness import EXTRA
from indexer.encoders.towers.load import model_digest, save_heads
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import ModelError, StorageError
from indexer.training.curve import plot_curve
from indexer.training.loop import Point
from indexer.training.parts import AlignmentParts
from indexer.training.recipe import Recipe
from indexer.training.report import TrainingReport


def write_encoder(recipe: Recipe, out: Path, built: AlignmentParts, report: TrainingReport, curve: list[Point]) -> None:
    """The encoder directory: weights of towers and heads, recipe, report, curve, and ``encoder.json`` last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        sha256 = _write_towers(recipe, out, built)
        extra = {"hubness": built.hubness} if built.hubness is not None else {}
        gate = built.towers.gate
        sha256[HEADS] = save_heads(out, {**built.heads, **extra}, gate)
        audio = built.towers.audio_spec if "audio" in built.heads else None
        config = EncoderConfig(
            name=recipe.name,
            dim=recipe.dim + (EXTRA if built.hubness is not None else 0),
            image=tuple(
                replace(spec, weights=path.name)
                for spec, path in zip(recipe.image.trunks, built.towers.files.trunks, strict=True)
            ),
            audio=audio,
            text=_text_specs(recipe, built),
            heads={name: head.spec for name, head in built.heads.items()},
            hubness=built.hubness.spec if built.hubness is not None else None,
            gate=None if gate is None else gate.spec,
            sha256=sha256,
        )
        target = out / "recipe.toml"
        if recipe.path.resolve() != target.resolve():
            shutil.copyfile(recipe.path, target)
        plot_curve(curve, out / "curve.png", recipe.name)
        (out / "run.json").write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
        (out / CONFIG).write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out}: can't be written ({error.strerror or error}); choose another --out") from error


def _text_specs(recipe: Recipe, built: AlignmentParts) -> tuple[Any, ...]:
    """Text towers as the directory's reader needs them: local sources absolute, adapters by file name."""
    specs = []
    for number, spec in enumerate(built.towers.text_specs):
        trained = built.towers.adapters[number] is not None or built.live_texts is not None
        source = Path(spec.source).expanduser()
        specs.append(
            replace(
                spec,
                source=str(source.resolve()) if source.exists() else spec.source,
                adapter=_adapter_name(number) if trained else "",
                lora=spec.lora if trained else None,
            )
        )
    return tuple(specs)


def _adapter_name(number: int) -> str:
    return f"text-{number}-adapter.safetensors"


def _write_towers(recipe: Recipe, out: Path, built: AlignmentParts) -> dict[str, str]:
    """Copy or save the towers' weights; digests by file name, and of the language models by source."""
    digests = _write_trunks(out, built)
    audio = built.towers.files.audio
    if "audio" in built.heads and audio is not None:
        digests[audio.name] = _copied(audio, out / audio.name)
    digests |= _write_texts(recipe, out, built)
    if not digests:
        raise ModelError(f"{out}: nothing to write")
    return digests


def _write_trunks(out: Path, built: AlignmentParts) -> dict[str, str]:
    from safetensors.torch import save_file

    digests: dict[str, str] = {}
    for number, path in enumerate(built.towers.files.trunks):
        target = out / path.name
        if built.live_images is None:
            digests[target.name] = _copied(path, target)
        else:
            trunk: Any = built.live_images.trunks[number]
            save_file({k: v.half().contiguous().cpu() for k, v in trunk.model.state_dict().items()}, target)
            digests[target.name] = sha256_of(target)
    return digests


def _write_texts(recipe: Recipe, out: Path, built: AlignmentParts) -> dict[str, str]:
    digests: dict[str, str] = {}
    for number, spec in enumerate(recipe.text.towers):
        digests[f"language model {spec.source}"] = model_digest(spec.source)
        target = out / _adapter_name(number)
        adapter = built.towers.adapters[number]
        if built.live_texts is not None:
            tower: Any = built.live_texts.towers[number]
            digests[target.name] = tower.save_adapter(target)
        elif adapter is not None:
            digests[target.name] = _copied(adapter, target)
        elif target.is_file():
            target.unlink()  # of an earlier recipe
    return digests


def _copied(source: Path, target: Path) -> str:
    """Copy a file, unless it is there already. Returns its sha256."""
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)
    return sha256_of(target)
