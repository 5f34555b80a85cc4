"""The picture tower: one or several trunks side by side, locked unless the recipe trains them.

Each trunk reads the same picture at its own size and with its own normalisation; their read-outs are concatenated to
one feature row, which the head of the dual encoder projects. A picture is made a square once, at the largest size
(whole on white, so that nothing is cut off, or its centre, as the trunks' ``fit`` says), and is kept as uint8. A whole
CLIP model stands alone and has its own preprocessing. Knows nothing of text or of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from indexer.encoders.specs import TrunkSpec
from indexer.encoders.towers import locking
from indexer.encoders.towers.preparing import PicturePreparing
from indexer.encoders.towers.trunk import Trunk


class ImageTower(nn.Module):
    """Trunks side by side. ``width`` is the sum of theirs; all are locked and in eval mode until :meth:`unlock`.

    Raises :class:`ModelError` for no trunk, for one that can't be built, for trunks that fit pictures differently, and
    for a whole CLIP model beside another trunk.
    """

    def __init__(self, specs: Sequence[TrunkSpec]) -> None:
        super().__init__()
        self._preparing = PicturePreparing(specs)
        trunks = [Trunk(spec) for spec in specs]
        self.trunks = nn.ModuleList(trunks)
        self.fit, self.size_px = self._preparing.fit, self._preparing.size_px
        self.width = sum(trunk.width for trunk in trunks)
        self.eval().requires_grad_(False)

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """RGB picture of any size -> uint8 ``(size_px, size_px, 3)``, as ``fit`` says. Thread-safe.

        For a whole CLIP model as that prepares it, ``(height, width, 3)``.
        """
        return self._preparing.prepare(picture)

    def forward(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        """Prepared pictures -> float32 ``(n, width)``, not normalised, on the tower's device.

        Differentiable with respect to what :meth:`unlock` has unlocked.
        """
        device = next(self.parameters()).device
        if not len(prepared):
            return torch.zeros((0, self.width), device=device)
        pictures = self._pictures(prepared)
        rows = []
        for trunk in self.trunks:
            assert isinstance(trunk, Trunk)
            rows.append(trunk(trunk.pixels(pictures)).float())
        return torch.cat(rows, dim=1)

    @torch.inference_mode()
    def with_grids(
        self, prepared: Sequence[NDArray[Any]], grids: Sequence[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """As :meth:`forward`, and the patches' features of the trunks ``grids``, each float32 ``(n, patches, width)``.

        One forward pass gives both; no gradients.
        """
        pictures = self._pictures(prepared)
        rows, found = [], []
        for number, trunk in enumerate(self.trunks):
            assert isinstance(trunk, Trunk)
            pixels = trunk.pixels(pictures)
            if number in grids:
                row, grid = trunk.with_grid(pixels)
                found.append(grid.float())
            else:
                row = trunk(pixels)
            rows.append(row.float())
        return torch.cat(rows, dim=1), found

    @torch.inference_mode()
    def features(self, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """As :meth:`forward`, as an array, without gradients."""
        return np.asarray(self(prepared).cpu().numpy(), dtype=np.float32)

    def _pictures(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        """Prepared pictures -> float32 ``(n, 3, h, w)`` in 0..1 on the tower's device."""
        stacked = torch.from_numpy(np.stack(prepared)).to(next(self.parameters()).device)
        return stacked.permute(0, 3, 1, 2).float() / 255.0  # (n, h, w, 3) -> (n, 3, h, w)

    def unlock(self, groups: int) -> None:
        """Make the last ``groups`` groups of layers of every trunk trainable and lock all else; 0 locks everything.

        Call ``train()`` for training mode: locked parts stay in eval mode, so their BatchNorm statistics don't move.
        """
        for trunk in self.trunks:
            assert isinstance(trunk, Trunk)
            trunk.unlock(groups)

    def train(self, mode: bool = True) -> ImageTower:
        """Training mode for what is unlocked, eval mode for the rest."""
        for trunk in self.trunks:
            locking.set_training(trunk, mode)
        self.training = self.trunks.training = mode
        return self

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Copies of what training changes, named as in ``state_dict()``; empty while all is locked."""
        return locking.trained_state(self)
