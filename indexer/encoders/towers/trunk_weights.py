"""Weights of a picture trunk for training: a file on this machine, or one that the hub has.

No file is unpickled as code: safetensors, or PyTorch's ``weights_only`` reading of a checkpoint. What comes back fits
the trunk that the specification names, to the last shape, or there is an error of one line. Knows nothing of recipes:
the caller says what a path is relative to.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from indexer.encoders.specs import TrunkSpec
from indexer.encoders.towers.trunk import Trunk
from indexer.encoders.weights.tensor_files import first_line, read_tensors
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing


def load_trunk_weights(source: str, spec: TrunkSpec, resolve: Callable[[str], Path]) -> dict[str, torch.Tensor]:
    """Weights under the names of ``Trunk(spec).model.state_dict()``, float32 on the CPU, every one of them.

    ``source`` is a path that ``resolve`` makes absolute (``.safetensors``; ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` with
    a state dict in it, bare or under ``state_dict`` or ``model``), or ``hub`` or ``hub:TAG``: timm's or open_clip's
    published weights. Of a whole CLIP model the visual half is taken; a classifier that the read-out does not use is
    left out; the older names that timm knows, and positions of another picture size, are converted as timm and
    open_clip do. Raises :class:`WeightsMissing` and :class:`WeightsCorrupt`, and :class:`ModelError` for the trunk.
    """
    trunk = Trunk(spec)
    if source == "hub" or source.startswith("hub:"):
        tag = source.partition(":")[2]
        path = _open_clip_file(spec.arch, tag) if spec.library == "open_clip" else _timm_file(spec.arch, tag)
    else:
        path = resolve(source)
    return fit_weights(trunk, read_tensors(path), path)


def fit_weights(trunk: Trunk, weights: dict[str, torch.Tensor], where: Path) -> dict[str, torch.Tensor]:
    """``weights`` as ``trunk.model`` names them, each copied. Raises :class:`WeightsCorrupt` naming what differs."""
    try:
        weights = (_visual_half if trunk.spec.library == "open_clip" else _timm_names)(trunk.model, weights)
    except (KeyError, RuntimeError, ValueError, AttributeError, IndexError, TypeError) as error:
        raise WeightsCorrupt(
            f"{where}: can't be converted to {trunk.spec.arch} ({first_line(error)}); are they weights of another?"
        ) from error
    wanted: dict[str, torch.Tensor] = trunk.model.state_dict()
    unused = _classifier(trunk)
    for name, value in wanted.items():
        if name not in weights and name.endswith("num_batches_tracked"):
            weights[name] = value  # older checkpoints don't count
    problems = [f"{name} is not there" for name in wanted if name not in weights]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems += [f"{name} has no place" for name in weights if name not in wanted and not name.startswith(unused)]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise WeightsCorrupt(
            f"{where}: does not fit {trunk.spec.arch} at {trunk.spec.size_px} px: {problems[0]}{more}; correct arch "
            f"(a tag, as in vit_base_patch16_224.augreg_in21k, sets the classes), size_px or weights"
        )
    return {name: weights[name].to(value.dtype).clone().contiguous() for name, value in wanted.items()}


def _timm_names(model: Any, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What timm does to a checkpoint before it loads it: other programs' names, positions of another size."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(convert(dict(weights), model)) if convert else dict(weights)


def _visual_half(model: Any, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from open_clip.model import resize_pos_embed

    if not any(name.startswith("visual.") for name in weights):
        weights = {f"visual.{name}": value for name, value in weights.items()}
    weights = {name: value for name, value in weights.items() if name.startswith("visual.")}
    resize_pos_embed(weights, SimpleNamespace(visual=model))
    return {name.removeprefix("visual."): value for name, value in weights.items()}


def _classifier(trunk: Trunk) -> tuple[str, ...]:
    """Beginnings of the names that a checkpoint may have beyond the trunk: its classifier, where it is not read."""
    if trunk.spec.library == "open_clip" or "logits" in trunk.spec.readout:
        return ()
    named = trunk.model.default_cfg.get("classifier") or ()
    names = (named,) if isinstance(named, str) else tuple(named)
    return tuple(f"{name}." for name in names)


def _timm_file(arch: str, tag: str) -> Path:
    ensure_torchvision()
    import timm

    name = f"{arch.partition('.')[0]}.{tag}" if tag else arch
    try:
        published: Any = timm.get_pretrained_cfg(name)
    except RuntimeError:
        published = None
    repository = getattr(published, "hf_hub_id", None)
    if not repository:
        known = [full.partition(".")[2] for full in timm.list_models(f"{arch.partition('.')[0]}.*", pretrained=True)]
        raise WeightsMissing(
            f"hub: timm publishes no weights {name} there; its tags are {', '.join(known) or 'none'}; or give a path"
        )
    file = getattr(published, "hf_hub_filename", None)
    return _hub_file(repository, _alternatives(file) if file else ("model.safetensors", "pytorch_model.bin"))


def _open_clip_file(arch: str, tag: str) -> Path:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tag and len(tags) == 1:
        tag = tags[0]
    published: dict[str, Any] = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    if not published:
        named = f"no {tag}" if tag else f"{len(tags)} of them"
        raise WeightsMissing(
            f"hub: open_clip publishes {named} for {arch}; give hub:TAG, of {', '.join(tags) or 'none'}; or a path"
        )
    quick = bool(published.get("quick_gelu", False))
    if quick != bool(open_clip.get_model_config(arch).get("quick_gelu", False)):
        other = f"{arch}-quickgelu" if quick else arch.removesuffix("-quickgelu")
        raise ModelError(f"picture trunk {arch}: {tag} was trained with another activation; set arch to {other}")
    if published.get("hf_hub"):
        repository, _, file = str(published["hf_hub"]).rpartition("/")
        return _hub_file(repository, _alternatives(file or "open_clip_pytorch_model.bin"))
    url = str(published.get("url", ""))
    try:
        return Path(open_clip.download_pretrained_from_url(url))
    except Exception as error:  # whatever the network says, one line
        raise WeightsMissing(
            f"{url}: can't be fetched ({first_line(error)}); fetch it elsewhere and give its path as weights"
        ) from error


def _alternatives(file: str) -> tuple[str, ...]:
    """A published file's names, the one in safetensors first."""
    if file == "open_clip_pytorch_model.bin":
        return "open_clip_model.safetensors", file
    safe = str(Path(file).with_suffix(".safetensors"))
    return (safe,) if safe == file else (safe, file)


def _hub_file(repository: str, files: tuple[str, ...]) -> Path:
    """The first of ``files`` that a repository of the hub has: from the hub's cache, or fetched into it."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    reason: Exception | None = None
    with _quiet_hub():
        for file in files:
            try:
                return Path(huggingface_hub.hf_hub_download(repository, file))
            except EntryNotFoundError as error:
                reason = error
                if isinstance(error, LocalEntryNotFoundError):  # no connection: the next name would wait as long
                    break
            except Exception as error:  # whatever the network says, one line
                reason = error
                break
    raise WeightsMissing(
        f"hub: {repository} ({files[0]}) is not in the hub's cache and can't be fetched "
        f"({first_line(reason) if reason else 'no file'}); "
        f"fetch https://huggingface.co/{repository}/resolve/main/{files[0]} elsewhere and give its path as weights"
    ) from reason


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without the hub's own lines about retries: the error says it once."""
    log = logging.getLogger("huggingface_hub")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
