"""One open_clip model of random weights, in the form that each program reads: the same numbers for all of them.

``model.pt`` is open_clip's own; ``transformers/`` is a CLIP model of transformers, for sentence-transformers;
``rclip/`` holds the two ONNX graphs and the vocabulary that rclip keeps in its data folder.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from indexer.encoders.weights.torchvision_ops import ensure_torchvision

ensure_torchvision()
import open_clip  # noqa: E402

#: rclip reads this one and no other.
ARCH = "ViT-B-32-256"
_RCLIP_FOLDER = "ViT-B-32-256-datacomp_s34b_b86k"


def make_layouts(folder: Path) -> None:
    """Write all three, where ``folder`` does not hold them."""
    if (folder / "model.pt").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.create_model(ARCH).eval()
    _transformers(model, folder / "transformers")
    _rclip(model, folder / "rclip")
    torch.save(model.state_dict(), folder / "model.pt")


def _transformers(model: Any, folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    config = open_clip.get_model_config(ARCH)
    assert config is not None
    side = config["vision_cfg"]["image_size"]
    text, vision = config["text_cfg"], config["vision_cfg"]
    made = CLIPModel(
        CLIPConfig(
            projection_dim=config["embed_dim"],
            text_config={
                "hidden_size": text["width"],
                "intermediate_size": 4 * text["width"],
                "num_attention_heads": text["heads"],
                "num_hidden_layers": text["layers"],
                "hidden_act": "gelu",
                "eos_token_id": 49407,
                "projection_dim": config["embed_dim"],
            },
            vision_config={
                "hidden_size": vision["width"],
                "intermediate_size": 4 * vision["width"],
                "num_attention_heads": vision["width"] // 64,
                "num_hidden_layers": vision["layers"],
                "image_size": side,
                "patch_size": vision["patch_size"],
                "hidden_act": "gelu",
                "projection_dim": config["embed_dim"],
            },
        )
    )
    missing = made.load_state_dict(_renamed(model), strict=False)
    wrong = [name for name in missing.missing_keys if "position_ids" not in name] + missing.unexpected_keys
    assert not wrong, wrong
    made.save_pretrained(folder)
    _vocabulary(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor: Any = CLIPProcessor
    processor(pictures, CLIPTokenizer.from_pretrained(folder)).save_pretrained(folder)


def _renamed(model: Any) -> dict[str, torch.Tensor]:
    """open_clip's weights under transformers' names."""
    found = {
        "logit_scale": model.logit_scale,
        "visual_projection.weight": model.visual.proj.T,
        "text_projection.weight": model.text_projection.T,
        "vision_model.embeddings.class_embedding": model.visual.class_embedding,
        "vision_model.embeddings.patch_embedding.weight": model.visual.conv1.weight,
        "vision_model.embeddings.position_embedding.weight": model.visual.positional_embedding,
        "text_model.embeddings.token_embedding.weight": model.token_embedding.weight,
        "text_model.embeddings.position_embedding.weight": model.positional_embedding,
    }
    named = (
        (model.visual.ln_pre, "vision_model.pre_layrnorm"),
        (model.visual.ln_post, "vision_model.post_layernorm"),
        (model.ln_final, "text_model.final_layer_norm"),
    )
    for module, name in named:
        found |= _both(module, name)
    for blocks, stem in ((model.visual.transformer, "vision_model"), (model.transformer, "text_model")):
        for number, block in enumerate(blocks.resblocks):
            found |= _block(block, f"{stem}.encoder.layers.{number}")
    return {name: value.detach().contiguous() for name, value in found.items()}


def _block(block: Any, name: str) -> dict[str, torch.Tensor]:
    found = _both(block.ln_1, f"{name}.layer_norm1") | _both(block.ln_2, f"{name}.layer_norm2")
    found |= _both(block.mlp.c_fc, f"{name}.mlp.fc1") | _both(block.mlp.c_proj, f"{name}.mlp.fc2")
    found |= _both(block.attn.out_proj, f"{name}.self_attn.out_proj")
    for part, weight, bias in zip(
        "qkv", block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3), strict=True
    ):
        found |= {f"{name}.self_attn.{part}_proj.weight": weight, f"{name}.self_attn.{part}_proj.bias": bias}
    return found


def _both(module: Any, name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}


def _vocabulary(folder: Path) -> None:
    """open_clip's merges as ``vocab.json`` and ``merges.txt``."""
    from open_clip.tokenizer import SimpleTokenizer, default_bpe

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    known: dict[str, int] = dict(SimpleTokenizer().encoder)
    known["<|startoftext|>"], known["<|endoftext|>"] = known.pop("<start_of_text>"), known.pop("<end_of_text>")
    (folder / "vocab.json").write_text(json.dumps(known), encoding="utf-8")


def _rclip(model: Any, folder: Path) -> None:
    from open_clip.tokenizer import default_bpe

    graphs = folder / _RCLIP_FOLDER
    graphs.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer").mkdir(exist_ok=True)
    shutil.copy(default_bpe(), folder / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz")
    side = model.visual.image_size[0]
    sides: tuple[tuple[str, nn.Module, torch.Tensor], ...] = (
        ("visual", _Call(model.encode_image), torch.zeros(2, 3, side, side)),
        ("textual", _Call(model.encode_text), torch.ones(2, 77, dtype=torch.int64)),
    )
    for name, module, example in sides:
        torch.onnx.export(
            module,
            (example,),
            str(graphs / f"{name}.onnx"),
            dynamo=False,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
            opset_version=17,
        )


class _Call(nn.Module):
    """A method of a model as a module of its own."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.owner, self.name = method.__self__, method.__name__

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """As the method."""
        found: torch.Tensor = getattr(self.owner, self.name)(given)
        return found
