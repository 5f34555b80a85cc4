"""One picture trunk, of timm or the visual half of an open_clip model, read out to one feature row a picture.

Built from its specification with random weights; see :mod:`indexer.encoders.towers.trunk_weights` for where weights
come from. Normalisation belongs to the trunk. Knows nothing of texts, of other trunks or of the shared space.
"""

from __future__ import annotations

import difflib
from typing import Any, get_args

import torch
from torch import nn

from indexer.encoders.openclip.visual import NO_TEXT, build_visual
from indexer.encoders.openclip.weights import quiet
from indexer.encoders.specs import ClipSpec, Library, Readout, TrunkSpec
from indexer.encoders.towers import locking
from indexer.encoders.weights.tensor_files import first_line
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError

#: No published trunk reads pictures near this size.
_MAX_SIDE_PX = 8_192


class Trunk(nn.Module):
    """A trunk with its read-out: normalised pixels ``(n, 3, s, s)`` -> features ``(n, width)``; all of it locked.

    ``model`` is timm's model or open_clip's visual; its ``state_dict`` has the names that weights are stored under.
    Raises :class:`ModelError` for an architecture or a read-out that there is not.
    """

    model: Any

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        ensure_torchvision()
        for name, value, kind in (("readout", spec.readout, Readout), ("library", spec.library, Library)):
            if value not in get_args(kind):
                allowed = ", ".join(get_args(kind))
                raise ModelError(f"picture trunk {spec.arch}: {name} {value} is none of {allowed}")
        if not 1 <= spec.size_px <= _MAX_SIDE_PX:
            raise ModelError(f"picture trunk {spec.arch}: size_px {spec.size_px} is no size; 224 is a common one")
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            if len(values) != 3:
                raise ModelError(f"picture trunk {spec.arch}: {name} has {len(values)} values; red, green, blue are 3")
        self.spec = spec
        if isinstance(spec, ClipSpec):
            self.model, self.width = build_visual(spec), int(spec.config["embed_dim"])
        else:
            self.model, self.width = _open_clip_visual(spec) if spec.library == "open_clip" else _timm_model(spec)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def pixels(self, pictures: torch.Tensor) -> torch.Tensor:
        """Square pictures ``(n, 3, h, h)``, float32 in 0..1 -> what the trunk reads, normalised, in its own format.

        A picture of another side is scaled (bicubic, antialiased); a whole CLIP model's were prepared for it alone.
        """
        side = self.spec.size_px
        mean, std = self.get_buffer("mean").float(), self.get_buffer("std").float()
        pixels = ((pictures - mean) / std).to(next(self.parameters()).dtype)
        if pixels.shape[-1] != side and not isinstance(self.spec, ClipSpec):
            pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)
        return pixels

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Last features, after the last norm: ``(n, tokens, width)`` for a ViT, ``(n, width, h, w)`` for a hybrid."""
        if self.spec.library == "open_clip":
            normed = getattr(self.model, "attn_pool", None) is None  # CoCa's last norm is that of what it pooled
            layers = self.model.forward_intermediates(
                pixels,
                indices=1,
                normalize_intermediates=normed,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
            prefix = layers.get("image_intermediates_prefix", [])
            return torch.cat([*prefix, *layers["image_intermediates"]], dim=1)
        tokens: torch.Tensor = self.model.forward_features(pixels)
        return tokens

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels -> ``(n, width)``, not normalised, in the parameters' format."""
        if self.spec.library == "open_clip" and self.spec.readout != "cls+mean":
            embedded = self.model(pixels)
            # CoCa's visual half gives its tokens too
            embedding: torch.Tensor = embedded[0] if isinstance(embedded, tuple) else embedded
            return embedding
        return self.row(self.tokens(pixels))

    def row(self, tokens: torch.Tensor) -> torch.Tensor:
        """What :meth:`tokens` gave -> one row a picture, ``(n, width)``; not for open_clip's projected embedding."""
        readout = self.spec.readout
        if readout == "cls+mean":
            return torch.cat([tokens[:, 0], tokens[:, _prefix_tokens(self.model) :].mean(dim=1)], dim=1)
        rows = []
        if readout in ("pooled", "pooled+logits"):
            rows.append(self.model.forward_head(tokens, pre_logits=True))
        if readout in ("logits", "pooled+logits"):
            rows.append(self.model.forward_head(tokens))
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def with_grid(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised pixels -> the row of :meth:`forward`, and the patches' features ``(n, patches, width)``."""
        tokens = self.tokens(pixels)
        projected = self.spec.library == "open_clip" and self.spec.readout != "cls+mean"
        return self(pixels) if projected else self.row(tokens), self.grid(tokens)

    def grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """What :meth:`tokens` gave -> the patches' features ``(n, patches, width)``, row by row."""
        if tokens.ndim == 4:
            return tokens.flatten(2).transpose(1, 2)  # (n, width, h, w) -> (n, h * w, width)
        return tokens[:, _prefix_tokens(self.model) :]

    def unlock(self, groups: int) -> None:
        """Make the last ``groups`` groups of layers trainable and lock the rest: see ``locking``."""
        locking.unlock(self.model, groups, self.spec.arch)


def _timm_model(spec: TrunkSpec) -> tuple[Any, int]:
    import timm

    if not timm.is_model(spec.arch):  # also keeps timm from querying the hub for hf-hub: names
        raise ModelError(_unknown("timm", spec.arch, timm.list_models()))
    with_classes = "logits" in spec.readout
    options: dict[str, Any] = {"pretrained": False, **({} if with_classes else {"num_classes": 0})}
    try:
        published: Any = timm.get_pretrained_cfg(spec.arch)
        resized = spec.size_px != published.input_size[-1]
        model: Any = _resized(spec, options) if resized else timm.create_model(spec.arch, **options)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise ModelError(
            f"picture trunk {spec.arch}: can't be built at {spec.size_px} px ({first_line(error)})"
        ) from error
    pooled = int(getattr(model, "head_hidden_size", model.num_features))  # some have a layer between pool and classes
    if spec.readout == "cls+mean":
        _require_class_token(spec, model)
        return model, 2 * int(model.num_features)
    if not with_classes:
        return model, pooled
    classes = int(model.num_classes)
    if not classes:
        raise ModelError(
            f"picture trunk {spec.arch}: has no classifier to read {spec.readout} from; read it out as pooled, or name "
            f"a tag that has one, as in vit_base_patch16_224.augreg_in21k"
        )
    return model, classes if spec.readout == "logits" else pooled + classes


def _resized(spec: TrunkSpec, options: dict[str, Any]) -> Any:
    """A model of timm for another side than its published one; only a ViT needs to know it (``img_size``)."""
    import timm

    try:
        return timm.create_model(spec.arch, **options, img_size=spec.size_px)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(spec.arch, **options)


def _open_clip_visual(spec: TrunkSpec) -> tuple[Any, int]:
    import open_clip

    if spec.arch not in open_clip.list_models():
        raise ModelError(_unknown("open_clip", spec.arch, open_clip.list_models()))
    if "logits" in spec.readout:
        raise ModelError(f"picture trunk {spec.arch}: open_clip models have no classifier; read it out as pooled")
    config: dict[str, Any] = open_clip.get_model_config(spec.arch)
    small: dict[str, Any] = {"text_cfg": NO_TEXT}
    if "multimodal_cfg" in config:
        small["multimodal_cfg"] = NO_TEXT
    resized = spec.size_px != config["vision_cfg"].get("image_size", 224)
    try:
        with quiet():
            visual = open_clip.create_model(
                spec.arch,
                pretrained=None,
                load_weights=False,
                pretrained_text=False,
                force_image_size=spec.size_px if resized else None,
                **small,
            ).visual
            if resized and hasattr(visual, "trunk"):  # the configuration does not reach a timm trunk
                visual.set_input_size(spec.size_px)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise ModelError(
            f"picture trunk {spec.arch}: can't be built at {spec.size_px} px ({first_line(error)})"
        ) from error
    if spec.readout == "pooled":
        return visual, int(config["embed_dim"])
    inner = getattr(visual, "trunk", visual)
    _require_class_token(spec, inner)
    return visual, 2 * int(inner.num_features if hasattr(inner, "num_features") else inner.transformer.width)


def _require_class_token(spec: TrunkSpec, model: Any) -> None:
    has_token = any(getattr(model, name, None) is not None for name in ("cls_token", "class_embedding"))
    # CoCa's attention pooling stands before its last norm; timm's models with one norm the tokens first
    pooled_away = hasattr(model, "class_embedding") and getattr(model, "attn_pool", None) is not None
    if not has_token or pooled_away or _prefix_tokens(model) < 1:
        raise ModelError(f"picture trunk {spec.arch}: gives no class token to read cls+mean from; read it as pooled")


def _prefix_tokens(model: Any) -> int:
    """How many tokens stand before the patches' (class, registers)."""
    inner = getattr(model, "trunk", model)
    return int(getattr(inner, "num_prefix_tokens", 1 if hasattr(inner, "class_embedding") else 0))


def _unknown(library: str, arch: str, known: list[str]) -> str:
    near = difflib.get_close_matches(arch, known, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; see {library}.list_models()"
    return f"picture trunk {arch}: {library} has no such architecture{hint}"
