"""Which part of a pretrained tower is trained: its last groups of layers; the rest stays as it was.

LiT (Zhai et al. 2022, arXiv 2111.07991) locks the picture tower whole; unlocking its last groups is the way between
that and training all of it. Groups are the libraries' own: timm's ``group_matcher`` (for a ViT: stem, each block, the
last with the final norm, then a classifier if there is one), open_clip's ``lock``. Locked parts stay in eval mode
while the tower trains, so that dropout leaves them alone and BatchNorm's statistics don't move. Knows nothing of
losses or optimisers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from indexer.errors import ModelError


def unlock(model: Any, groups: int, name: str) -> None:
    """Make the last ``groups`` groups of a timm model or an open_clip visual trainable and lock all else.

    0 locks everything; more groups than there are unlock everything. Modes are not changed: see :func:`set_training`.
    An open_clip model over timm's trunk trains its projection along with any group. Raises :class:`ModelError` (with
    ``name``) for a negative number and for a model that has no groups.
    """
    if groups < 0:
        raise ModelError(f"picture trunk {name}: {groups} groups can't be unlocked; 0 locks all of it")
    model.requires_grad_(False)
    if groups == 0:
        return
    trunk = getattr(model, "trunk", model)  # open_clip's adapter holds a timm model there
    if hasattr(trunk, "group_matcher"):
        _unlock_timm(trunk, groups)
        if trunk is not model:
            model.head.requires_grad_(True)
        return
    try:
        model.lock(unlocked_groups=groups)
    except (AssertionError, AttributeError) as error:
        raise ModelError(
            f"picture trunk {name}: has no groups of layers to unlock one by one; unlock 0 and train the head"
        ) from error


def _unlock_timm(model: Any, groups: int) -> None:
    from timm.models import group_parameters

    by_group = group_parameters(model, model.group_matcher())
    for group in sorted(by_group)[-groups:]:
        for parameter in by_group[group]:
            model.get_parameter(parameter).requires_grad_(True)


def set_training(module: nn.Module, mode: bool) -> None:
    """Put a module's trained parts in training mode (or eval), its locked ones in eval mode.

    A part whose parameters are all trained goes as a whole, with the dropouts and norms in it; what has no trained
    parameter is in eval mode; a part of both is in eval mode itself and its children are looked at.
    """
    trained = [parameter.requires_grad for parameter in module.parameters()]
    if not mode or not any(trained):
        module.train(False)
    elif all(trained):
        module.train(True)
    else:
        module.training = False
        for child in module.children():
            set_training(child, mode)


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copies on the CPU of what training changes: trained parameters, and the buffers (statistics) beside them.

    Names are those of ``module.state_dict()``, so that ``load_state_dict(state, strict=False)`` takes them back.
    """
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for prefix, part in module.named_modules():
        own = list(part.parameters(recurse=False))
        if own and all(parameter.requires_grad for parameter in own):
            names |= {f"{prefix}.{name}".removeprefix(".") for name, _ in part.named_buffers(recurse=False)}
    state = module.state_dict()
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items() if name in names}
