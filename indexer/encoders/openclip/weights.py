"""An open_clip model with its checkpoint's weights, in one number format on one device, locked and in eval mode.

Built and loaded by open_clip itself: what it converts (other programs' names, positions of another picture size) is
converted here too. Pickled code is never run. Where a checkpoint does not fit, the error says what it seems to be of.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import pickle
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from indexer.encoders.openclip.config import check_config, check_size
from indexer.encoders.openclip.source import CONFIG, OpenClipSource, other_repository
from indexer.encoders.weights.tensor_files import first_line, read_tensors
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import clean_folder
from indexer.errors import ModelError, TrimodalError, WeightsCorrupt
from indexer.reading import failed_reads

#: open_clip's names of the number formats.
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def load_openclip(source: OpenClipSource, device: torch.device, dtype: torch.dtype) -> Any:
    """The model of ``source``, ready to encode. Its norms stay float32 in any ``dtype``, as open_clip has it.

    Raises :class:`ModelError` for a configuration that makes no model, :class:`WeightsCorrupt` for a checkpoint that
    does not fit it or can't be read.
    """
    model = _built(source, dtype)
    _load(model, source)
    return model.to(device).eval().requires_grad_(False)


def _built(source: OpenClipSource, dtype: torch.dtype) -> Any:
    ensure_torchvision()
    import open_clip

    text = source.config["text_cfg"]
    check_config(source.config, f"model {source.spec}")
    check_size(source.config, source.checkpoint, f"model {source.spec}")
    try:
        # open_clip builds from a name or from a directory: a directory is the same way for names, files and hubs
        with quiet(), _text_tower(source) as config, tempfile.TemporaryDirectory() as work:
            document = {"model_cfg": config, "preprocess_cfg": source.preprocess}
            (Path(work) / CONFIG).write_text(json.dumps(document), encoding="utf-8")
            return open_clip.create_model(
                f"local-dir:{work}", load_weights=False, pretrained_text=False, precision=PRECISIONS[dtype]
            )
    except TrimodalError:
        raise
    except OSError as error:
        raise ModelError(
            f"model {source.spec}: its text tower {text.get('hf_model_name')} can't be built ({first_line(error)}); "
            f"connect, or put that model's config.json beside the checkpoint"
        ) from error
    except (RuntimeError, AssertionError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"model {source.spec}: its configuration makes no open_clip model ({first_line(error)}); correct {CONFIG}"
        ) from error


@contextlib.contextmanager
def _text_tower(source: OpenClipSource) -> Iterator[dict[str, Any]]:
    """``model_cfg`` with a text tower of transformers named by a clean folder: open_clip reads what it finds there."""
    text = source.config["text_cfg"]
    name = text.get("hf_model_name")
    if not name:
        yield source.config
        return
    directory = Path(str(name))
    if not (directory.is_absolute() and directory.is_dir()):
        directory = other_repository(
            source.spec,
            "text tower",
            str(name),
            patterns=("config.json",),
            fetch=True,
            whole=lambda found: (found / "config.json").is_file(),
            remedy="put that model's config.json beside the checkpoint",
        )
    with clean_folder(directory) as folder:
        yield {**source.config, "text_cfg": {**text, "hf_model_name": str(folder)}}


def _load(model: Any, source: OpenClipSource) -> None:
    import open_clip

    path = source.checkpoint
    try:
        with quiet(), failed_reads(path):
            open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except TrimodalError:
        raise
    except (SafetensorError, OSError, EOFError, pickle.UnpicklingError, StopIteration) as error:
        raise WeightsCorrupt(f"{path}: {_unread(error)}") from error
    except Exception as error:  # a checkpoint that does not fit raises whatever the conversion of it meets
        if "TorchScript" in str(error) or "PytorchStreamReader" in str(error):
            raise WeightsCorrupt(f"{path}: {_unread(error)}") from error
        raise WeightsCorrupt(
            f"{path}: is no checkpoint of {source.arch}: {_misfit(error)}; {_advice(path, source)}"
        ) from error


def _unread(error: Exception) -> str:
    if "TorchScript" in str(error):
        return "is a TorchScript program, which is not run; save its state dict as safetensors"
    if "global" in str(error).lower() and isinstance(error, pickle.UnpicklingError):
        return "is a pickle of more than tensors, which is not run; save its state dict as safetensors"
    return "is no file of weights, or not a whole one; fetch it again"


#: Of an error of PyTorch: the first tensors that it names are enough.
_MESSAGE_CHARS = 20_000


def _misfit(error: Exception) -> str:
    """What PyTorch says of a state dict over many lines, in a few words."""
    text = str(error)[:_MESSAGE_CHARS]  # it names every tensor of a stranger's file
    wrong = re.search(r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)", text)
    missing = re.search(r'Missing key\(s\) in state_dict: "(.*?)"', text)
    surplus = re.search(r'Unexpected key\(s\) in state_dict: "(.*?)"', text)
    if missing:
        return f"it lacks {missing[1]}"
    if wrong:
        return f"{wrong[1]} is ({wrong[2]}), not ({wrong[3]})"
    if surplus:
        return f"{surplus[1]} has no place"
    return first_line(error)


def _advice(path: Path, source: OpenClipSource) -> str:
    import open_clip

    with contextlib.suppress(TrimodalError):
        configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
        names = [name for name in fitting_archs(read_tensors(path), configs) if name != source.arch]
        if names:
            return f"it looks like {' or '.join(names[:3])}; use openclip:{names[0]}@{path}"
    return "name the architecture that it was trained as: openclip:ARCH@PATH"


def fitting_archs(weights: Mapping[str, torch.Tensor], configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The architectures with open_clip's own ViT whose widths, patches, depths and picture size those weights have.

    Those that differ in nothing that weights show, as an activation, are all named; timm's trunks are not recognised.
    """
    sizes = {name: tuple(value.shape) for name, value in weights.items()}
    patches, positions = sizes.get("visual.conv1.weight", ()), sizes.get("visual.positional_embedding", ())
    words = sizes.get("token_embedding.weight") or sizes.get("text.token_embedding.weight") or ()
    if len(patches) != 4 or len(positions) != 2 or len(words) != 2:
        return []
    side = round(math.sqrt(max(positions[0] - 1, 0))) * patches[2]
    captions = any(name.startswith("text_decoder.") for name in sizes)  # CoCa
    found = (patches[0], patches[2], _depth(sizes, "visual."), side, words, _depth(sizes, "", "text."))
    return [
        name
        for name, config in configs.items()
        if _measures(config) == found and ("multimodal_cfg" in config) == captions
    ]


def _measures(config: Mapping[str, Any]) -> tuple[Any, ...]:
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision or "hf_model_name" in text:
        return ()
    return (
        vision.get("width", 768),
        vision.get("patch_size", 16),
        vision.get("layers", 12),
        vision.get("image_size", 224),
        (text.get("vocab_size", 49_408), text.get("width", 512)),
        text.get("layers", 12),
    )


def _depth(sizes: Mapping[str, Any], *prefixes: str) -> int:
    numbers = {
        int(found[1])
        for prefix in prefixes
        for name in sizes
        if (found := re.match(rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\.", name))
    }
    return len(numbers)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without open_clip's and PyTorch's remarks: what matters is an error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
