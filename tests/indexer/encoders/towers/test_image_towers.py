"""Picture trunks of timm and open_clip: read-outs, preprocessing, unlocking, and where weights come from.

Real architectures of the two libraries, the smallest there are, with random weights.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from indexer.encoders.fitting import crop_square
from indexer.encoders.specs import EncoderConfig, TrunkSpec
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.load import load_image_tower, load_trunk_weights
from indexer.encoders.towers.trunk import Trunk
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing

ensure_torchvision()
import open_clip  # noqa: E402
import timm  # noqa: E402
from open_clip.transform import image_transform  # noqa: E402

VIT = TrunkSpec("test_vit", "cls+mean", "vit.safetensors", size_px=160)
CNN = TrunkSpec("test_efficientnet", "pooled", "cnn.safetensors", size_px=160)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = TrunkSpec("tiny-clip", "pooled", "clip.safetensors", 32, "open_clip", CLIP_MEAN, CLIP_STD, "crop")
TEXT = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 3, "width": 32, "patch_size": 8, "head_width": 16}


@pytest.fixture(autouse=True, scope="module")
def small_open_clip_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small configurations beside open_clip's published ones."""
    directory = tmp_path_factory.mktemp("configs")
    configs = {
        "tiny-clip": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
        "tiny-clip-quickgelu": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
        "tiny-resnet-clip": {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
            "text_cfg": TEXT,
        },
        "tiny-timm-clip": {
            "embed_dim": 24,
            "vision_cfg": {"timm_model_name": "test_vit", "image_size": 160, "timm_pool": "token"},
            "text_cfg": {"hf_model_name": "nobody/only-on-the-hub", "hf_tokenizer_name": "nobody/only-on-the-hub"},
        },
        "tiny-coca": {
            "embed_dim": 24,
            "custom_text": True,
            "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
            "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
            "text_cfg": {**TEXT, "embed_cls": True},
        },
    }
    for name, config in configs.items():
        (directory / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(directory)


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (70, 50)) -> list[Image.Image]:
    """Smooth coloured pictures, each another."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC) for pixels in small]


def random_tower(*specs: TrunkSpec, seed: int = 0) -> ImageTower:
    torch.manual_seed(seed)
    return ImageTower(specs)


def saved(path: Path, state: dict[str, torch.Tensor]) -> str:
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    return str(path)


@pytest.mark.parametrize("arch", [name for name in timm.list_models("test_*") if "evos" not in name])
def test_the_width_that_a_trunk_promises_is_the_width_of_its_rows(arch: str) -> None:
    for readout in ("pooled", "logits"):
        tower = random_tower(TrunkSpec(arch, readout, "", size_px=160))
        assert tower.features([tower.prepare(picture) for picture in pictures(2)]).shape == (2, tower.width)


def test_pooled_and_logits_join_what_timm_gives_before_and_after_its_classifier() -> None:
    tower = random_tower(replace(CNN, readout="pooled+logits"))
    prepared = [tower.prepare(picture) for picture in pictures(3)]
    rows = tower.features(prepared)
    trunk = tower.trunks[0]
    with torch.inference_mode():
        pixels = trunk.pixels(torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).float() / 255)
        tokens = trunk.model.forward_features(pixels)
        pooled, logits = trunk.model.forward_head(tokens, pre_logits=True), trunk.model(pixels)
    assert rows.shape == (3, 256 + 1000)
    np.testing.assert_allclose(rows[:, :256], pooled.numpy(), atol=1e-6)
    np.testing.assert_allclose(rows[:, 256:], logits.numpy(), atol=1e-6)


def test_a_tag_of_the_architecture_sets_the_number_of_classes() -> None:
    assert Trunk(TrunkSpec("vit_tiny_patch16_224.augreg_in21k", "logits", "")).width == 21843


def test_a_trunk_is_built_for_the_asked_picture_size() -> None:
    vit, cnn = random_tower(replace(VIT, size_px=64)), random_tower(replace(CNN, size_px=96))
    assert vit.trunks[0].model.patch_embed.grid_size == (4, 4)
    assert vit.features([vit.prepare(picture) for picture in pictures(2)]).shape == (2, 128)
    assert cnn.features([cnn.prepare(picture) for picture in pictures(2)]).shape == (2, 256)


def test_open_clips_projected_embedding_is_what_its_encode_image_gives() -> None:
    torch.manual_seed(0)
    whole = open_clip.create_model("tiny-clip", pretrained=None).eval()
    tower = ImageTower([CLIP])
    tower.trunks[0].model.load_state_dict(whole.visual.state_dict())
    some = pictures(3)
    preprocess = image_transform(32, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)
    with torch.inference_mode():
        expected = whole.encode_image(torch.stack([preprocess(picture) for picture in some])).numpy()
    np.testing.assert_allclose(tower.features([tower.prepare(p) for p in some]), expected, atol=1e-5)
    assert np.abs(np.linalg.norm(expected, axis=1) - 1).min() > 0.01  # not normalised


def test_cls_and_mean_of_an_open_clip_vit_come_after_its_last_norm() -> None:
    tower = random_tower(replace(CLIP, readout="cls+mean"))
    prepared = [tower.prepare(picture) for picture in pictures(2)]
    visual, trunk = tower.trunks[0].model, tower.trunks[0]
    with torch.inference_mode():
        pixels = trunk.pixels(torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).float() / 255)
        tokens = visual.ln_post(visual.transformer(visual._embeds(pixels)))
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
    np.testing.assert_allclose(tower.features(prepared), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "readout", "width"),
    [("tiny-timm-clip", "pooled", 24), ("tiny-timm-clip", "cls+mean", 128), ("tiny-coca", "pooled", 24)],
)
def test_open_clips_other_visual_halves_give_rows_without_their_text_half(arch: str, readout: str, width: int) -> None:
    tower = random_tower(replace(CLIP, arch=arch, readout=readout, size_px=160 if "timm" in arch else 32))
    rows = tower.features([tower.prepare(picture) for picture in pictures(2)])
    assert rows.shape == (2, width) and np.abs(rows[0] - rows[1]).max() > 1e-4


def test_an_open_clip_trunk_reads_another_size_than_its_configurations() -> None:
    for arch, size in (("tiny-clip", 64), ("tiny-timm-clip", 96)):
        tower = random_tower(replace(CLIP, arch=arch, size_px=size))
        assert tower.features([tower.prepare(picture) for picture in pictures(2)]).shape == (2, 24)


@pytest.mark.parametrize("size", [(70, 50), (50, 71), (32, 32), (33, 500), (9, 5), (1, 3), (321, 320)])
def test_a_cropped_picture_has_the_pixels_of_open_clips_own_transform(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    expected = image_transform(32, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)(picture)
    ours = Trunk(CLIP).pixels(torch.from_numpy(crop_square(picture, 32).copy()).permute(2, 0, 1)[None].float() / 255)
    np.testing.assert_allclose(ours[0].numpy(), expected.numpy(), atol=1e-6)


def test_a_picture_as_thin_as_a_line_is_not_blown_up_on_the_way_to_its_centre(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *rest: object) -> Image.Image:
        sizes.append(size)
        return resize(self, size, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", watched)
    line = Image.new("RGB", (1, 40_000), "red")
    line.paste((0, 0, 255), (0, 19_990, 1, 20_010))
    assert (crop_square(line, 224) == (0, 0, 255)).all()
    assert max(max(size) for size in sizes) <= 16 * 224


def test_trunks_side_by_side_read_one_picture_at_their_own_sizes_and_means() -> None:
    other = replace(CNN, size_px=96, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    both = random_tower(VIT, other)
    some = pictures(2, size=(400, 300))
    prepared = [both.prepare(picture) for picture in some]
    assert prepared[0].shape == (160, 160, 3) and prepared[0].dtype == np.uint8
    rows = both.features(prepared)
    assert rows.shape == (2, 128 + 256) and both.width == 384

    tensors = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).float() / 255
    shrunk = torch.nn.functional.interpolate(tensors, size=(96, 96), mode="bicubic", antialias=True)
    normalised = (shrunk - torch.tensor(other.mean).view(3, 1, 1)) / torch.tensor(other.std).view(3, 1, 1)
    with torch.inference_mode():
        expected = both.trunks[1].model(normalised)
    np.testing.assert_allclose(rows[:, 128:], expected.numpy(), atol=1e-4)


def test_rows_do_not_depend_on_the_batch_and_no_pictures_give_no_rows() -> None:
    tower = random_tower(VIT, CNN)
    prepared = [tower.prepare(picture) for picture in pictures(3)]
    together = tower.features(prepared)
    alone = np.concatenate([tower.features([one]) for one in prepared])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert tower.features([]).shape == (0, tower.width)


def test_trunks_that_fit_pictures_differently_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"test_vit \(fit = 'pad'\) and tiny-clip \(fit = 'crop'\)"):
        ImageTower([VIT, CLIP])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(VIT, arch="test_vti"), "timm has no such architecture; did you mean test_vit"),
        (replace(VIT, arch="test_vit.of_nobody"), "can't be built at 160 px .*of_nobody"),
        (replace(VIT, arch="hf-hub:timm/test_vit"), "timm has no such architecture"),
        (replace(CLIP, arch="ViT-B-23"), "open_clip has no such architecture; did you mean ViT-B-32"),
        (replace(CNN, readout="cls+mean"), "test_efficientnet: gives no class token to read cls.mean from"),
        (replace(CLIP, arch="tiny-resnet-clip", readout="cls+mean"), "gives no class token"),
        (replace(CLIP, arch="tiny-coca", readout="cls+mean"), "gives no class token"),
        (replace(CLIP, readout="logits"), "open_clip models have no classifier; read it out as pooled"),
        (replace(VIT, arch="vit_small_patch14_dinov2", readout="logits", size_px=28), "has no classifier"),
        (replace(VIT, mean=(0.5,)), "mean has 1 values; red, green, blue are 3"),
        (replace(VIT, size_px=0), "size_px 0 is no size"),
        (replace(VIT, readout="cls"), "readout cls is none of cls.mean, pooled, logits"),
        (replace(VIT, library="tim"), "library tim is none of timm, open_clip"),
        (replace(VIT, fit="squash"), "fit squash is none of pad, crop"),
    ],
)
def test_a_trunk_that_cannot_be_is_refused_in_one_line(spec: TrunkSpec, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        ImageTower([spec])
    assert "\n" not in str(caught.value)


def test_a_tower_of_no_trunks_is_refused() -> None:
    with pytest.raises(ModelError, match="has no trunk"):
        ImageTower([])


# --- unlocking


def trained(tower: ImageTower) -> set[str]:
    return {name for name, parameter in tower.named_parameters() if parameter.requires_grad}


def test_a_tower_is_locked_until_its_last_blocks_and_final_norm_are_unlocked() -> None:
    tower = random_tower(VIT)
    assert trained(tower) == set() and tower.trained_state() == {}
    tower.unlock(2)
    blocks = len(tower.trunks[0].model.blocks)
    starts = (f"trunks.0.model.blocks.{blocks - 1}.", f"trunks.0.model.blocks.{blocks - 2}.", "trunks.0.model.norm.")
    everything = {name for name, _ in tower.named_parameters()}
    assert trained(tower) == {name for name in everything if name.startswith(starts)}
    tower.unlock(0)
    assert trained(tower) == set()
    tower.unlock(1000)
    assert trained(tower) == everything


def test_an_open_clip_vit_is_unlocked_as_its_own_lock_does() -> None:
    tower = random_tower(CLIP)
    tower.unlock(2)
    whole = open_clip.create_model("tiny-clip", pretrained=None)
    whole.lock_image_tower(unlocked_groups=2)
    expected = {f"trunks.0.model.{name}" for name, p in whole.visual.named_parameters() if p.requires_grad}
    assert trained(tower) == expected and "trunks.0.model.proj" in expected


def test_an_open_clip_trunk_of_timm_trains_its_projection_with_its_last_group_and_is_locked_whole_by_0() -> None:
    tower = random_tower(replace(CLIP, arch="tiny-timm-clip", size_px=160))
    tower.unlock(1)
    names = {name.removeprefix("trunks.0.model.") for name in trained(tower)}
    assert any(name.startswith("head.proj") for name in names) and "trunk.norm.weight" in names
    assert not any(name.startswith("trunk.blocks.0.") for name in names)
    tower.unlock(0)
    assert trained(tower) == set()


def test_a_trunk_without_groups_and_a_negative_number_are_refused() -> None:
    tower = random_tower(replace(CLIP, arch="tiny-resnet-clip"))
    tower.unlock(0)
    with pytest.raises(ModelError, match="tiny-resnet-clip: has no groups of layers"):
        tower.unlock(1)
    with pytest.raises(ModelError, match="-1 groups can't be unlocked"):
        random_tower(VIT).unlock(-1)


def test_batchnorm_statistics_move_in_unlocked_parts_and_stay_in_locked_ones() -> None:
    tower = random_tower(CNN)
    tower.unlock(2)
    unlocked = {name.rpartition(".")[0] for name in trained(tower)}
    before = {name: value.clone() for name, value in tower.state_dict().items() if "running_" in name}
    tower.train()
    tower([tower.prepare(picture) for picture in pictures(4)])
    moved = {name for name, value in before.items() if not torch.equal(value, tower.state_dict()[name])}
    norms = {name for name in before if name.rpartition(".")[0] in unlocked}
    assert moved == norms and 0 < len(norms) < len(before)
    assert moved <= set(tower.trained_state())

    tower.eval()
    assert not any(part.training for part in tower.modules())


def test_a_locked_tower_gives_the_same_rows_in_training_mode() -> None:
    tower = random_tower(VIT, CNN)
    prepared = [tower.prepare(picture) for picture in pictures(2)]
    rows = tower.features(prepared)
    tower.train()
    assert (tower.features(prepared) == rows).all()


def test_training_changes_the_unlocked_part_alone_and_its_state_brings_the_rows_back() -> None:
    tower = random_tower(VIT, CNN)
    tower.unlock(1)
    start = {name: value.clone() for name, value in tower.state_dict().items()}
    tower.train()
    prepared = [tower.prepare(picture) for picture in pictures(4)]
    optimiser = torch.optim.SGD([p for p in tower.parameters() if p.requires_grad], lr=0.1)
    rows = tower(prepared)
    assert rows.shape == (4, tower.width) and rows.dtype == torch.float32
    rows.square().mean().backward()
    optimiser.step()
    tower.eval()
    state = tower.trained_state()
    changed = {name for name, value in tower.state_dict().items() if not torch.equal(value, start[name])}
    assert changed and changed <= set(state) < set(start)

    other = random_tower(VIT, CNN)
    assert np.abs(other.features(prepared) - tower.features(prepared)).max() > 1e-4
    other.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(other.features(prepared), tower.features(prepared))


# --- weights


def load(source: str, spec: TrunkSpec, at: Path) -> dict[str, torch.Tensor]:
    return load_trunk_weights(source, spec, lambda path: at / path)


def same(weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> bool:
    return weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in state)


def test_weights_are_read_from_safetensors_and_from_checkpoints_however_wrapped(tmp_path: Path) -> None:
    state = random_tower(VIT, seed=5).trunks[0].model.state_dict()
    saved(tmp_path / "a.safetensors", state)
    torch.save(state, tmp_path / "bare.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": v for name, v in state.items()}}, tmp_path / "dist.pth")
    torch.save({"model": state, "optimizer": {}}, tmp_path / "model.bin")
    for file in ("a.safetensors", "bare.pt", "dist.pth", "model.bin"):
        assert same(load(file, VIT, tmp_path), state), file
    halves = {name: value.half() for name, value in state.items()}
    assert {v.dtype for v in load(saved(tmp_path / "h.safetensors", halves), VIT, tmp_path).values()} == {torch.float32}


def test_the_visual_half_is_taken_from_a_whole_clip_checkpoint_and_from_a_visual_one(tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = open_clip.create_model("tiny-clip", pretrained=None)
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "whole.pt")
    saved(tmp_path / "visual.safetensors", whole.visual.state_dict())
    for file in ("whole.pt", "visual.safetensors"):
        assert same(load(file, CLIP, tmp_path), whole.visual.state_dict()), file


def test_positions_of_another_picture_size_are_interpolated(tmp_path: Path) -> None:
    saved(tmp_path / "vit.safetensors", random_tower(VIT).trunks[0].model.state_dict())
    smaller = replace(VIT, size_px=96)
    weights = load("vit.safetensors", smaller, tmp_path)
    assert weights["pos_embed"].shape == random_tower(smaller).trunks[0].model.pos_embed.shape
    torch.save(open_clip.create_model("tiny-clip", pretrained=None).state_dict(), tmp_path / "clip.pt")
    larger = load("clip.pt", replace(CLIP, size_px=64), tmp_path)
    assert larger["positional_embedding"].shape == (65, 32)


def test_a_checkpoints_classifier_is_left_out_where_it_is_not_read_and_kept_where_it_is(tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet").state_dict()
    saved(tmp_path / "whole.safetensors", state)
    assert same(load("whole.safetensors", replace(CNN, readout="logits"), tmp_path), state)
    without = load("whole.safetensors", CNN, tmp_path)
    assert set(state) - set(without) == {"classifier.weight", "classifier.bias"}


def test_loaded_weights_make_the_tower_that_an_encoder_directory_opens(tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = open_clip.create_model("tiny-clip", pretrained=None).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pt")
    saved(tmp_path / CLIP.weights, load("whole.pt", CLIP, tmp_path))
    config = EncoderConfig("x", 8, (CLIP,), None, (), {}, {})
    reread = EncoderConfig.from_json(json.loads(json.dumps(config.to_json())), tmp_path)
    assert reread == config
    tower = load_image_tower(tmp_path, reread)
    prepared = [tower.prepare(picture) for picture in pictures(2)]
    with torch.inference_mode():
        pixels = tower.trunks[0].pixels(torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).float() / 255)
        expected = whole.encode_image(pixels).numpy()
    np.testing.assert_allclose(tower.features(prepared), expected, atol=1e-5)


def test_weights_that_do_not_fit_are_refused_naming_the_first_that_differs(tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet", num_classes=7).state_dict()
    saved(tmp_path / "seven.safetensors", state)
    with pytest.raises(WeightsCorrupt, match=r"classifier.weight is \(7, 256\), not \(1000, 256\) and 1 more"):
        load("seven.safetensors", replace(CNN, readout="logits"), tmp_path)
    with pytest.raises(WeightsCorrupt, match=r"does not fit test_vit at 160 px: cls_token is not there"):
        load("seven.safetensors", VIT, tmp_path)
    saved(tmp_path / "more.safetensors", {**state, "another": torch.zeros(1)})
    with pytest.raises(WeightsCorrupt, match="another has no place"):
        load("more.safetensors", CNN, tmp_path)
    saved(tmp_path / "text.safetensors", {"text.weight": torch.zeros(1)})
    with pytest.raises(WeightsCorrupt, match="does not fit tiny-clip"):
        load("text.safetensors", CLIP, tmp_path)


class Harmful:
    """Pickles to a call: unpickling it would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", ["code", "torchscript", "torn", "empty", "text", "no tensors", "another ending"])
def test_a_file_that_holds_no_plain_weights_is_refused_and_nothing_in_it_is_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("w.npz" if kind == "another ending" else "w.pt")
    buffer = io.BytesIO()
    if kind == "code":
        path.write_bytes(pickle.dumps({"state_dict": Harmful()}, protocol=2))
    elif kind == "torchscript":
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    elif kind == "torn":
        torch.save({"a": torch.zeros(1000)}, buffer)
        path.write_bytes(buffer.getvalue()[:2000])
    elif kind == "no tensors":
        torch.save({"epoch": 3}, path)
    else:
        path.write_bytes(b"" if kind == "empty" else b"not weights at all")
    with pytest.raises(WeightsCorrupt) as caught:
        load(path.name, VIT, tmp_path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_what_may_be_given_instead(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"nothing.safetensors: is missing; give a file .* hub or hub:TAG"):
        load("nothing.safetensors", VIT, tmp_path)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine that reaches no hub and has an empty cache, without the wait for retries."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    ("source", "spec", "address"),
    [
        ("hub", VIT, "timm/test_vit.r160_in1k/resolve/main/model.safetensors"),
        ("hub:r160_in1k", VIT, "timm/test_vit.r160_in1k/resolve/main/model.safetensors"),
        (
            "hub:laion2b_s34b_b79k",
            replace(CLIP, arch="ViT-B-32", size_px=64),
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/open_clip_model.safetensors",
        ),
    ],
)
def test_an_unreachable_hub_is_one_line_with_the_address_and_what_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], source: str, spec: TrunkSpec, address: str
) -> None:
    with pytest.raises(WeightsMissing) as caught:
        load(source, spec, tmp_path)
    message = str(caught.value)
    assert f"https://huggingface.co/{address}" in message and "give its path as weights" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("source", "spec", "message"),
    [
        ("hub:of_nobody", VIT, "timm publishes no weights test_vit.of_nobody there; its tags are r160_in1k"),
        ("hub:of_nobody", replace(CLIP, arch="RN50", size_px=64), "no of_nobody for RN50; give hub:TAG, of openai"),
        ("hub", CLIP, "publishes 0 of them for tiny-clip; give hub:TAG, of none; or a path"),
        ("hub:openai", replace(CLIP, arch="RN50", size_px=64), "set arch to RN50-quickgelu"),
    ],
)  # fmt: skip
def test_weights_that_nobody_publishes_are_refused_with_those_there_are(
    tmp_path: Path, source: str, spec: TrunkSpec, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load(source, spec, tmp_path)


def test_weights_in_the_hubs_cache_are_read_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = random_tower(VIT, seed=9).trunks[0].model.state_dict()
    snapshot = tmp_path / "hub" / "models--timm--test_vit.r160_in1k"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("0" * 40)
    (snapshot / "snapshots" / ("0" * 40)).mkdir(parents=True)
    saved(snapshot / "snapshots" / ("0" * 40) / "model.safetensors", state)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    real = huggingface_hub.hf_hub_download
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda name, file: real(name, file, cache_dir=tmp_path / "hub")
    )
    assert same(load("hub", VIT, tmp_path), state)
