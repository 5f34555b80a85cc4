"""A space that is a CLIP's: its pictures' rows as they are, texts and sounds trained into it.

Small real open_clip models with random weights; open_clip's own calls on the same files are what rows must be.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image
from safetensors.torch import save_file
from studio import COLOURS, changed

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders import open_encoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.openclip.source import find_openclip
from indexer.encoders.openclip.visual import clip_spec, visual_weights
from indexer.encoders.registry import describe_model
from indexer.encoders.specs import ClipSpec, EncoderConfig, TrunkSpec, read_config
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, RecipeError, WeightsCorrupt, WeightsMissing
from indexer.items import Modality
from indexer.training.dual import train_dual
from indexer.training.loading import load_recipe
from indexer.training.loop import Point
from indexer.training.recipe import read_recipe
from retrieval.query import build_query
from retrieval.search import Searcher

ensure_torchvision()
import open_clip  # noqa: E402

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
CLIP: dict[str, Any] = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
SIGLIP: dict[str, Any] = {**CLIP, "custom_text": True, "vision_cfg": {**VISION, "pool_type": "avg"}}
WIDE: dict[str, Any] = {**CLIP, "vision_cfg": {**VISION, "image_size": [32, 48]}}
COCA: dict[str, Any] = {
    "embed_dim": 16, "custom_text": True, "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
    "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": {**TEXT, "embed_cls": True},
}  # fmt: skip
SQUASHED = {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear", "resize_mode": "squash"}
MODEL = 'model = "openclip:clip"'


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))


def save_clip(directory: Path, config: dict[str, Any] = CLIP) -> Path:
    """A directory in open_clip's layout."""
    directory.mkdir(parents=True)
    document = {"model_cfg": config, "preprocess_cfg": SQUASHED}
    (directory / "open_clip_config.json").write_text(json.dumps(document))
    torch.manual_seed(0)
    state = open_clip.create_model(f"local-dir:{directory}", load_weights=False).state_dict()
    save_file({name: value.clone() for name, value in state.items()}, directory / "open_clip_model.safetensors")
    return directory


def combined(studio: Path, name: str, image: str = MODEL, **lines: str) -> Path:
    """The studio's recipe with a CLIP (beside it, in ``clip``) in the place of the trunk, its head and ``dim``."""
    if not (studio / "clip").exists():
        save_clip(studio / "clip")
    path = changed(studio, name, **lines)
    text = path.read_text().replace("dim = 24\n", "")
    before, _, after = text.partition("[[image.trunks]]")
    path.write_text(f"{before}[image]\n{image}\n[[text.towers]]{after.partition('[[text.towers]]')[2]}")
    return path


def rows_of_open_clip(directory: Path, pictures: list[Image.Image]) -> np.ndarray:
    """open_clip's own calls on a directory in its layout."""
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{directory}")
    with torch.inference_mode():
        rows = model.eval().encode_image(torch.stack([transform(one) for one in pictures]), normalize=True)
    return np.asarray(rows)


@pytest.fixture(scope="module")
def trained(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe gives, trained once; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMODAL_DTYPE", "float32")
        patch.setenv("TRIMODAL_CACHE", str(out.parent / "cache"))
        train_dual(load_recipe(combined(studio, "trained")), out)
    return out


def pool(studio: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted((studio / "pool").glob("*.png"))]


def encoded(encoder: Any, pictures: list[Image.Image]) -> np.ndarray:
    return np.asarray(encoder.encode_images([encoder.prepare_image(one) for one in pictures]))


def test_pictures_are_the_clips_own_and_texts_and_sounds_are_trained_into_their_space(
    studio: Path, tmp_path: Path
) -> None:
    path = combined(studio, "combined", schedule="steps = 80\nevaluate_every = 40")
    report = train_dual(load_recipe(path), tmp_path / "out")
    assert report.curve[-1]["loss"] < 0.7 * report.curve[0]["loss"]
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "out", moved)
    shutil.rmtree(tmp_path / "cache")  # the directory is all that it needs, beside the language model
    encoder = open_encoder(str(moved))
    assert encoder.dim == 16 and encoder.modalities == frozenset(Modality)
    pictures = pool(studio)
    found = encoded(encoder, pictures)
    np.testing.assert_allclose(found, rows_of_open_clip(studio / "clip", pictures), atol=1e-5)
    assert np.abs(found[0] - found[-1]).max() > 1e-3

    sound = encoder.encode_audio([encoder.prepare_audio(np.sin(np.arange(16_000)).astype(np.float32))])
    told = list(COLOURS)[:6]  # those that it was trained on
    words = encoder.encode_queries([f"a {colour} square" for colour in told])
    assert sound.shape == (1, 16) and words.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(np.vstack([sound, words]), axis=1), 1.0, atol=1e-5)
    names = np.array([path.stem[:-1] for path in sorted((studio / "pool").glob("*.png"))])
    nearer = [row[names == colour].mean() > row.mean() for colour, row in zip(told, words @ found.T, strict=True)]
    assert sum(nearer) >= 5

    config = read_config(moved)
    assert isinstance(config.image[0], ClipSpec) and config.heads["image"].whitened == 0
    assert describe_model(str(moved)).towers["image"] == "clip"


def test_each_modality_finds_all_three(studio: Path, trained: Path, tmp_path: Path) -> None:
    encoder = open_encoder(str(trained))
    media = tmp_path / "media"
    media.mkdir()
    for name in ("red0.png", "blue0.png", "red.wav", "blue.wav"):
        shutil.copy(studio / "pool" / name, media)
    (media / "note.txt").write_text("a red square")
    with Collection.open_or_create(
        tmp_path / "c", EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim)
    ) as collection:
        assert build(collection, find_items([media]), encoder).added == 5
    with Searcher.open(tmp_path / "c") as searcher:
        for asked, modality, itself in (
            ({"words": "a red square"}, "text", "note.txt"),
            ({"images": [media / "red0.png"]}, "image", "red0.png"),
            ({"sounds": [media / "red.wav"]}, "audio", "red.wav"),
        ):
            options: dict[str, Any] = asked
            assert len(searcher.search(build_query(**options), k=9)) == 5  # pictures, sounds and a text
            best = searcher.search(build_query(**options, modalities=[modality]), k=1)[0]
            assert Path(str(best.path)).name == itself and best.score == pytest.approx(1.0, abs=1e-4)


def test_a_run_that_was_killed_ends_as_one_that_was_not(studio: Path, tmp_path: Path) -> None:
    recipe = load_recipe(combined(studio, "combined"))
    whole = train_dual(recipe, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(stage: str, point: Point) -> None:
        if point.step >= 8:
            raise Killed

    with pytest.raises(Killed):
        train_dual(recipe, tmp_path / "cut", on_point=kill)
    told: list[int] = []
    cut = train_dual(load_recipe(recipe.path), tmp_path / "cut", on_point=lambda stage, point: told.append(point.step))
    assert told == [8, 12] and cut.curve == whole.curve
    assert (tmp_path / "cut/heads.safetensors").read_bytes() == (tmp_path / "whole/heads.safetensors").read_bytes()
    fingerprints = {open_encoder(str(tmp_path / name)).fingerprint for name in ("whole", "cut")}
    assert len(fingerprints) == 1


def test_a_checkpoint_is_named_by_architecture_and_a_path_beside_the_recipe(
    studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny-ViT", CLIP)
    torch.manual_seed(3)
    model = open_clip.create_model("Tiny-ViT").eval()
    torch.save({"state_dict": model.state_dict()}, studio / "epoch.pt")
    path = combined(studio, "checkpoint", 'model = "openclip:Tiny-ViT@epoch.pt"')
    train_dual(load_recipe(path), tmp_path / "out")
    _, transform = open_clip.create_model_from_pretrained("Tiny-ViT", pretrained=str(studio / "epoch.pt"))
    monkeypatch.delitem(open_clip.factory._MODEL_CONFIGS, "Tiny-ViT")  # what was written needs no list of open_clip's
    pictures = pool(studio)[:4]
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([transform(one) for one in pictures]), normalize=True)
    np.testing.assert_allclose(encoded(open_encoder(str(tmp_path / "out")), pictures), expected, atol=1e-5)


@pytest.mark.parametrize("config", [CLIP, SIGLIP, WIDE, COCA], ids=["clip", "siglip", "wide", "coca"])
def test_the_picture_half_of_any_open_clip_model_gives_its_rows_and_its_patches(
    config: dict[str, Any], tmp_path: Path
) -> None:
    source = find_openclip(f"openclip:{save_clip(tmp_path / 'clip', config)}")
    spec = clip_spec(source, "image.safetensors")
    document = json.loads(json.dumps(EncoderConfig("x", 16, (spec,), None, (), {}, {}).to_json()))
    tower = ImageTower(EncoderConfig.from_json(document, tmp_path).image)
    tower.trunks[0].model.load_state_dict(visual_weights(source))
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in ((40, 90), (33, 17))]
    prepared = [tower.prepare(one) for one in pictures]
    expected = rows_of_open_clip(tmp_path / "clip", pictures)
    rows, grids = tower.with_grids(prepared, [0])
    for found in (tower.features(prepared), rows.numpy()):
        np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), expected, atol=1e-5)
    assert grids[0].shape == (2, 24 if config is WIDE else 16, 32)


@pytest.mark.parametrize(
    ("image", "lines", "message"),
    [
        ('model = "ViT-B-32"', {}, "image.model is 'ViT-B-32'; allowed are openclip:ARCH/TAG, openclip:ARCH@PATH"),
        (f"{MODEL}\nunlocked_groups = 1", {}, "image.unlocked_groups has no place beside image.model"),
        (f"{MODEL}\ntrunk_dropout = 0.2", {}, "image.trunk_dropout has no place beside image.model"),
        (f"{MODEL}\n[image.head]\nhidden = 8", {}, "image.head has no place beside image.model"),
        (
            f'{MODEL}\n[[image.trunks]]\narch = "test_vit"\nreadout = "pooled"\nweights = "x"',
            {},
            "image.trunks has no place beside image.model",
        ),
        (MODEL, {"__end__": "[hubness]\nbank = 8\nneighbours = 2\n"}, "hubness would change the embeddings"),
        ("", {}, "image.trunks is empty; name at least one trunk, or a CLIP as image.model"),
    ],
)
def test_what_would_change_the_clips_rows_is_refused(
    studio: Path, image: str, lines: dict[str, str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(combined(studio, "refused", image, **lines))


def test_another_width_than_the_clips_is_refused_and_its_own_is_taken(studio: Path) -> None:
    path = combined(studio, "width")
    assert load_recipe(path).dim == 16
    for dim, allowed in ((16, True), (24, False)):
        path.write_text(path.read_text().replace("seed = 7\n", f"seed = 7\ndim = {dim}\n"))
        if allowed:
            assert load_recipe(path).dim == 16
            path.write_text(path.read_text().replace("dim = 16\n", ""))
            continue
        with pytest.raises(RecipeError, match="dim is 24, and openclip:clip has 16; leave dim out"):
            load_recipe(path)


def test_a_clip_that_is_not_there_or_does_not_fit_is_named(studio: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"none.pt is not there; correct the path after @"):
        load_recipe(combined(studio, "gone", 'model = "openclip:ViT-B-32@none.pt"'))
    other = save_clip(studio / "other", {**CLIP, "vision_cfg": {**VISION, "layers": 1}})
    shutil.copy(studio / "clip" / "open_clip_model.safetensors", other)
    with pytest.raises(WeightsCorrupt, match="is no checkpoint of other"):
        train_dual(load_recipe(combined(studio, "misfit", 'model = "openclip:other"')), tmp_path / "out")


def test_a_whole_clip_stands_alone(tmp_path: Path) -> None:
    spec = clip_spec(find_openclip(f"openclip:{save_clip(tmp_path / 'clip')}"), "x")
    with pytest.raises(ModelError, match="clip is a whole CLIP model; leave the other trunks out"):
        ImageTower([spec, TrunkSpec("test_vit", "pooled", "y", size_px=160, fit="crop")])


def test_weights_changed_after_training_are_noticed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "out")
    config = read_config(tmp_path / "out")
    file = tmp_path / "out" / config.image[0].weights
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    encoder = open_encoder(str(tmp_path / "out"))
    with pytest.raises(WeightsCorrupt, match=config.image[0].weights):
        encoder.prepare_image(Image.new("RGB", (8, 8)))


def test_a_preprocessing_of_another_kind_is_another_encoder(trained: Path) -> None:
    config = read_config(trained)
    (spec,) = config.image
    assert isinstance(spec, ClipSpec)
    other = replace(config, image=(replace(spec, preprocess={**spec.preprocess, "resize_mode": "shortest"}),))
    assert other.fingerprint != config.fingerprint
    assert open_encoder(str(trained)).fingerprint == config.fingerprint


def test_the_right_model_is_taken_after_a_first_index_run_with_a_wrong_one(tmp_path: Path) -> None:
    save_clip(tmp_path / "good")
    save_clip(tmp_path / "wrong", {**CLIP, "embed_dim": 8})
    shutil.copy(tmp_path / "good" / "open_clip_model.safetensors", tmp_path / "wrong")
    (tmp_path / "media").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "media" / "a.png")
    done = []
    for name in ("wrong", "good"):  # in processes of their own: nothing is imported yet
        command = [
            sys.executable, "-m", "trimodal.cli", "index", str(tmp_path / "media"), "--model",
            f"openclip:{tmp_path / name}", "--collection", str(tmp_path / "c"),
        ]  # fmt: skip
        done.append(subprocess.run(command, capture_output=True, text=True, check=False, timeout=300))
    assert done[0].returncode == 3 and "is no checkpoint of wrong" in done[0].stderr
    assert (tmp_path / "c" / "collection.json").is_file()  # it is left behind, empty
    assert done[1].returncode == 0, done[1].stderr[-2000:]
    with Collection.open(tmp_path / "c") as collection:
        assert (collection.count, collection.dim) == (1, 16)


def test_the_recipe_that_ships_is_whole() -> None:
    recipe = read_recipe(ROOT / "data/recipes/combined.toml")
    assert recipe.image.model.startswith("openclip:") and recipe.audio is not None and recipe.dim == 0
