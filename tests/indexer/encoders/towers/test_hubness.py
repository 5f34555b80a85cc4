"""The correction against hubs: what it promises of cosines, and that hubs go."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from studio import build_studio, changed

from indexer.encoders import open_encoder
from indexer.encoders.specs import HubnessSpec
from indexer.encoders.towers.hubness import EXTRA, HubnessCorrection
from indexer.training.dual import train_dual
from indexer.training.loading import load_recipe

WEIGHT = 0.4


def unit(count: int, dim: int = 16, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.fixture
def correction() -> HubnessCorrection:
    made = HubnessCorrection(HubnessSpec(40, 3, WEIGHT), 16)
    made.fill(unit(40, seed=1), unit(40, seed=2))
    return made


@pytest.mark.parametrize(
    ("one", "other"), [("text", "image"), ("image", "text"), ("audio", "text"), ("image", "audio")]
)
def test_cosines_of_two_modalities_lose_both_hubnesses(correction: HubnessCorrection, one: str, other: str) -> None:
    a, b = unit(7, seed=3), unit(9, seed=4)
    banks = {"text": unit(40, seed=2), "image": unit(40, seed=1), "audio": unit(40, seed=1)}  # of the other side

    def slow(rows: torch.Tensor, modality: str) -> torch.Tensor:
        return torch.stack([(row @ banks[modality].T).sort(descending=True).values[:3].mean() for row in rows])

    scale = 1 / (1 + 2 * math.sqrt(2) * WEIGHT)
    wanted = scale * (
        a @ b.T - WEIGHT * (slow(a, one)[:, None] + slow(b, other)[None, :])
    ) + WEIGHT * scale / math.sqrt(2)
    torch.testing.assert_close(correction(a, one) @ correction(b, other).T, wanted, atol=1e-5, rtol=0)


def test_rows_stay_of_unit_length_and_keep_their_order_within_a_modality(correction: HubnessCorrection) -> None:
    rows = unit(50, seed=5)
    for modality in ("text", "image", "audio"):
        found = correction(rows, modality)
        assert found.shape == (50, 16 + EXTRA)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(50))
        before, after = (rows @ rows.T)[0], (found @ found.T)[0]
        agreement = np.corrcoef(before.argsort().argsort(), after.argsort().argsort())[0, 1]
        assert agreement > 0.99


def test_a_hub_no_longer_comes_first_for_every_query() -> None:
    """One picture lies at the centre of all texts; every other one is near its own text, but less near."""
    generator = torch.Generator().manual_seed(0)
    centre = unit(1, 32, seed=9)
    texts = torch.nn.functional.normalize(centre + 0.8 * unit(20, 32, seed=8), dim=1)
    pictures = torch.nn.functional.normalize(texts + 0.9 * unit(20, 32, seed=7), dim=1)
    pictures[0] = centre
    made = HubnessCorrection(HubnessSpec(20, 8, 0.5), 32)
    made.fill(texts[torch.randperm(20, generator=generator)], pictures)
    plain = (texts[1:] @ pictures.T).argmax(dim=1)
    corrected = (made(texts[1:], "text") @ made(pictures, "image").T).argmax(dim=1)
    assert (plain == 0).float().mean() > 0.5
    assert (corrected == 0).float().mean() < (plain == 0).float().mean() / 2


def test_a_recipe_with_hubness_gives_an_encoder_that_applies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    studio = build_studio(tmp_path / "studio")
    path = changed(studio, "hubs", __end__="\n[hubness]\nbank = 6\nneighbours = 2\nweight = 0.4\n")
    train_dual(load_recipe(path), tmp_path / "hubs")
    train_dual(load_recipe(changed(studio, "plain")), tmp_path / "plain")
    corrected, plain = (open_encoder(str(tmp_path / name)) for name in ("hubs", "plain"))
    assert corrected.dim == plain.dim + EXTRA
    queries = ["a red square", "a blue square", "tone 3"]
    rows = corrected.encode_queries(queries)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    scale = 1 / (1 + 2 * math.sqrt(2) * 0.4)
    np.testing.assert_allclose(rows[:, :24], math.sqrt(scale) * plain.encode_queries(queries), atol=2e-3)
    tone = corrected.prepare_audio(np.sin(np.arange(8_000) / 7).astype(np.float32))
    assert corrected.encode_audio([tone]).shape == (1, corrected.dim)
