"""Training of a dual encoder from a recipe: coloured pictures and pitches, and a small real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import TRUNK, WHISPER

from indexer.encoders import open_encoder
from indexer.encoders.specs import HeadSpec
from indexer.encoders.towers.heads import ProjectionHead, whitening
from indexer.errors import RecipeError
from indexer.training.data.features import FeatureCache
from indexer.training.dual import train_dual
from indexer.training.heldout import hit_rates
from indexer.training.loading import load_recipe
from retrieval.evaluation.metrics.metrics import hits_at_k
from retrieval.evaluation.metrics.ranks import Relevance, ranks


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_recipe_gives_an_encoder_that_opens_and_tells_what_was_done(studio: Path, tmp_path: Path) -> None:
    points = []
    recipe = load_recipe(studio / "recipe.toml")
    report = train_dual(recipe, tmp_path / "out", on_point=lambda stage, point: points.append(point))
    assert report.examples["image"] == {"train": 29, "heldout": 10}  # 30 less the near-duplicate
    assert report.dropped_near_duplicates == {"evaluation/manifest.jsonl at 0.99999": 1}
    assert report.examples["audio"] == {"train": 6, "heldout": 2}
    assert any("gone.png" in line for line in report.unusable)
    assert [point.step for point in points] == [4, 8, 12]
    assert points[-1].loss < points[0].loss
    encoder = open_encoder(str(tmp_path / "out"))
    rows = encoder.encode_queries(["a red square", "a blue square"])
    assert rows.shape == (2, 24)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["best_step"] == report.best_step


def test_the_same_seed_gives_the_same_weights_and_the_second_run_computes_no_features(
    studio: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(studio / "recipe.toml")
    first = train_dual(recipe, tmp_path / "one")
    stages: list[str] = []
    second = train_dual(recipe, tmp_path / "two", on_progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"alignment"}
    assert (tmp_path / "one/heads.safetensors").read_bytes() == (tmp_path / "two/heads.safetensors").read_bytes()
    assert first.heldout == second.heldout
    assert open_encoder(str(tmp_path / "one")).fingerprint == open_encoder(str(tmp_path / "two")).fingerprint


def test_a_feature_cache_that_was_cut_off_drops_the_torn_row_and_goes_on(tmp_path: Path) -> None:
    keys = [f"{n:040d}" for n in range(5)]
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    FeatureCache(tmp_path, 3).add(keys, rows)
    for name, size in (("rows.f32", 4 * 3 * 3 + 5), ("keys.txt", 4 * 41 + 7)):
        with (tmp_path / name).open("r+b") as file:
            file.truncate(size)
    again = FeatureCache(tmp_path, 3)
    assert again.missing(keys) == keys[3:]
    again.add(keys[3:], rows[3:])
    np.testing.assert_array_equal(FeatureCache(tmp_path, 3).get(keys[::-1]), rows[::-1])


def test_a_concept_on_both_sides_of_the_split_is_refused(studio: Path, tmp_path: Path) -> None:
    text = (studio / "pool" / "manifest.jsonl").read_text().splitlines()
    leak = json.loads(text[0]) | {"split": "val", "image": "red1.png"}
    kept = [line for line in text if '"red1.png"' not in line]
    (studio / "pool" / "leaky.jsonl").write_text("\n".join([*kept, json.dumps(leak)]))
    (studio / "leaky.toml").write_text((studio / "recipe.toml").read_text().replace("manifest.jsonl", "leaky.jsonl", 1))
    with pytest.raises(RecipeError, match="1 concepts are both trained on and held out \\(red"):
        train_dual(load_recipe(studio / "leaky.toml"), tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dim = 24", 'dim = "wide"', "dim is 'wide'; must be int"),
        ("dim = 24", "dim = 1", "dim is 1; allowed are 8 to 4096"),
        ("dim = 24", "dmi = 24", "unknown key dmi; allowed are name, data, .*, schedule$"),
        ("dim = 24", 'path = "x"', "unknown key path; allowed are name, data, .*, schedule$"),
        ("dim = 24", f"{'a.' * 5_000}b = 1", "is nested deeper than 20 levels"),
        ("dim = 24", f"dim = 0x{'f' * 5_000}", "holds an integer of thousands of digits"),
        ('name = "colours"', "", "lacks name"),
        ('name = "colours"', 'naem = "colours"', "unknown key naem"),
        ('name = "colours"', "name = 1979-05-27", "name is {'date': '1979-05-27'}; must be str"),
        ('readout = "cls+mean"', 'readout = "max"', "is 'max'; allowed are 'cls\\+mean', 'pooled'"),
        ("batch = 24", "batch = true", "must be int"),
        ("dropout = 0.1", "dropout = 1.5", "image.head.dropout is 1.5"),
        ("name =", "name = = 3", "can't be read as TOML"),
        ("pool/manifest.jsonl", "pool/none.jsonl", "none.jsonl: no such manifest"),
    ],
)
def test_a_recipe_with_a_mistake_names_the_key_and_what_is_allowed(
    studio: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = studio / "mistake.toml"
    path.write_text((studio / "recipe.toml").read_text().replace(old, new, 1))
    with pytest.raises(RecipeError, match=message):
        train_dual(load_recipe(path), tmp_path / "out")


def test_a_missing_recipe_is_named() -> None:
    with pytest.raises(RecipeError, match=r"nowhere.toml: no such recipe"):
        load_recipe(Path("nowhere.toml"))


def test_whitening_gives_uncorrelated_columns_of_unit_variance() -> None:
    torch.manual_seed(0)
    rows = torch.randn(4_000, 6) @ torch.randn(6, 6) * torch.tensor([1.0, 100.0, 1.0, 0.01, 1.0, 1.0])
    head = ProjectionHead(HeadSpec(6, 6, 0, 4))
    head.set_whitening(*whitening(rows, 6, shrinkage=0.0))
    white = head.whitened(rows)
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(6), atol=0.02, rtol=0)


def test_a_feature_that_never_varies_gets_no_weight() -> None:
    """Divided by its own tiny deviation it would be all there is, and past what float16 can hold."""
    torch.manual_seed(0)
    rows = torch.randn(1_000, 5)
    rows[:, 2] = 3.0
    rows[:, 4] = 1.0 + 1e-7 * torch.randn(1_000)
    mean, whiten = whitening(rows, 5, shrinkage=1.0)
    assert whiten.abs().max() < 10
    assert whiten[[2, 4]].abs().max() == 0
    assert torch.isfinite((rows - mean) @ whiten).all()


def test_the_heldout_hit_rates_are_those_of_the_benchmark() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        similarity = (torch.rand(9, 14, generator=generator) * 4).round()  # heavy ties
        relevant = torch.rand(9, 14, generator=generator) < 0.2
        relevant[:, 3] = True
        lists = [row.nonzero()[:, 0].tolist() for row in relevant]
        found = ranks(similarity.numpy(), Relevance.from_lists(lists, 14))
        for k, value in hit_rates(similarity, relevant).items():
            assert value == pytest.approx(float(hits_at_k(found, k).mean()))


def test_the_towers_of_the_recipe_are_copied_beside_the_heads(studio: Path, tmp_path: Path) -> None:
    train_dual(load_recipe(studio / "recipe.toml"), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        TRUNK.weights, WHISPER.weights, "heads.safetensors", "encoder.json", "run.json", "recipe.toml", "curve.png"
    }  # fmt: skip
