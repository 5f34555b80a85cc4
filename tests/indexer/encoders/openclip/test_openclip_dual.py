"""Models of open_clip: real architectures with random weights, saved as open_clip and the hub lay them out.

Most are tiny; open_clip's own calls on the same files are what the rows are compared with.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openclip_layout import HALVES, NATIVE, SIGLIP, save_layout
from PIL import Image
from safetensors.torch import save_file

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.openclip.dual import OpenClipEncoder
from indexer.encoders.openclip.pictures import Pictures
from indexer.encoders.openclip.weights import fitting_archs
from indexer.encoders.registry import describe_model, pull_model
from indexer.encoders.weights.base_weights import sha256_of
from indexer.encoders.weights.digests import cached_sha256
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, UsageError, WeightsCorrupt, WeightsMissing
from indexer.items import Modality

ensure_torchvision()
import open_clip  # noqa: E402
from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: E402

TEXTS = ["a dog", "A Cat, on the MAT!", "rain", "word " * 300, ""]


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small_archs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more architectures in open_clip's list, as small as tests want them."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "Tiny-ViT", NATIVE)
    other = {**NATIVE, "vision_cfg": {**NATIVE["vision_cfg"], "patch_size": 16}}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "Tiny-ViT-16", other)


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40 + 9 * n, 60 - 7 * n, 3), dtype=np.uint8)) for n in range(count)]


def rows_of_open_clip(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """open_clip's own calls on a directory in its layout."""
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{directory}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{directory}")
    model.eval()
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(one) for one in pictures()]), normalize=True)
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    return images.numpy(), texts.numpy()


def rows_of(encoder: DualEncoder) -> tuple[np.ndarray, np.ndarray]:
    images = encoder.encode_images([encoder.prepare_image(one) for one in pictures()])
    return images, encoder.encode_passages(TEXTS)


@pytest.mark.parametrize("config", [NATIVE, SIGLIP], ids=["clip", "siglip"])
@pytest.mark.parametrize("preprocess", [{}, HALVES], ids=["shortest", "squash"])
def test_rows_of_a_directory_are_those_of_open_clips_own_calls(
    config: dict[str, Any], preprocess: dict[str, Any], tmp_path: Path
) -> None:
    directory = save_layout(tmp_path / "model", config, preprocess)
    encoder = open_encoder(f"openclip:{directory}")
    assert isinstance(encoder, DualEncoder)
    assert encoder.modalities == {Modality.IMAGE, Modality.TEXT} and encoder.dim == config["embed_dim"]
    images, texts = rows_of(encoder)
    expected_images, expected_texts = rows_of_open_clip(directory)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(images, expected_images, atol=1e-5)
    np.testing.assert_allclose(texts, expected_texts, atol=1e-5)
    assert np.abs(images[0] - images[1]).max() > 1e-3 and np.abs(texts[0] - texts[2]).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(np.vstack([images, texts]), axis=1), 1.0, atol=1e-5)
    assert encoder.encode_images([]).shape == encoder.encode_queries([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("suffix", ["pt", "bin", "safetensors", "wrapped.pt"])
def test_rows_of_a_checkpoint_are_those_of_open_clips_own_calls(suffix: str, small_archs: None, tmp_path: Path) -> None:
    path = tmp_path / f"epoch.{suffix}"
    torch.manual_seed(3)
    state = open_clip.create_model("Tiny-ViT").state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    elif suffix == "wrapped.pt":  # as open_clip's training writes it, of several processes
        torch.save({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        torch.save(state, path)
    model, transform = open_clip.create_model_from_pretrained("Tiny-ViT", pretrained=str(path))
    tokenizer = open_clip.get_tokenizer("Tiny-ViT")
    images, texts = rows_of(open_encoder(f"openclip:Tiny-ViT@{path}"))
    with torch.inference_mode():
        expected = model.eval().encode_image(torch.stack([transform(one) for one in pictures()]), normalize=True)
        np.testing.assert_allclose(images, expected.numpy(), atol=1e-5)
        np.testing.assert_allclose(texts, model.encode_text(tokenizer(TEXTS), normalize=True).numpy(), atol=1e-5)


def test_siglips_texts_are_read_without_capitals_and_punctuation_and_clips_are_cut_at_its_context(
    tmp_path: Path,
) -> None:
    siglip = open_encoder(f"openclip:{save_layout(tmp_path / 'siglip', SIGLIP)}")
    plain, shouted, other = siglip.encode_queries(["a cat on the mat", "A Cat, on the MAT!", "a dog on the mat"])
    np.testing.assert_array_equal(plain, shouted)
    assert np.abs(plain - other).max() > 1e-3
    clip = open_encoder(f"openclip:{save_layout(tmp_path / 'clip', NATIVE)}")
    cut, longer = clip.encode_queries(["word " * 18, "word " * 40])
    np.testing.assert_array_equal(cut, longer)
    for encoder in (clip, siglip):
        measure = encoder.open_text_measure()  # type: ignore[attr-defined]
        words = measure.max_tokens
        rows = encoder.encode_queries(["dog " * words, "dog " * words + "cat", "dog " * (words - 1) + "cat"])
        np.testing.assert_array_equal(rows[0], rows[1])  # the last word is not read
        assert np.abs(rows[0] - rows[2]).max() > 1e-4
        assert measure.read_chars(" ".join(["dog"] * words), 1_000) == 4 * words - 1
        assert measure.read_chars(" ".join(["dog"] * (words + 1)), 1_000) <= 4 * words
        assert measure.read_chars("dog " * words, 3) <= 12


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_picture_prepared_in_two_halves_has_the_pixels_of_open_clips_transform(mode: str, interpolation: str) -> None:
    settings = {"size": [48, 48], "mean": [0.48, 0.45, 0.4], "std": [0.26, 0.25, 0.27], "resize_mode": mode}
    whole = image_transform_v2(
        PreprocessCfg(
            size=(48, 48), mean=(0.48, 0.45, 0.4), std=(0.26, 0.25, 0.27), interpolation=interpolation, resize_mode=mode
        ),
        is_train=False,
    )
    halves = Pictures({**settings, "interpolation": interpolation})
    rng = np.random.default_rng(1)
    for height, width in ((300, 200), (48, 48), (17, 90), (31, 333), (200, 13)):
        picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        prepared = halves.prepare(picture)
        assert prepared.dtype == np.uint8 and prepared.shape == (48, 48, 3)
        pixels = halves.pixels([prepared], torch.device("cpu"), torch.float32)[0]
        np.testing.assert_allclose(pixels.numpy(), whole(picture).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": (40, 56), "resize_mode": "shortest", "interpolation": "bilinear"},
        {"size": (40, 56), "resize_mode": "longest", "fill_color": 127},
        {"size": (40, 56), "resize_mode": "squash", "interpolation": "random"},
        {"size": 24},
    ],
)
def test_oblong_towers_and_grounds_of_a_colour_are_open_clips_too(settings: dict[str, Any]) -> None:
    whole = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    halves = Pictures({name: list(one) if isinstance(one, tuple) else one for name, one in settings.items()})
    rng = np.random.default_rng(2)
    for height, width in ((300, 200), (40, 56), (17, 90), (90, 17), (7, 9)):
        picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        pixels = halves.pixels([halves.prepare(picture)], torch.device("cpu"), torch.float32)[0]
        np.testing.assert_allclose(pixels.numpy(), whole(picture).numpy(), atol=1e-6)


def test_a_very_long_strip_is_no_gigapixel_on_its_way() -> None:
    halves = Pictures({"size": [224, 224], "resize_mode": "shortest", "interpolation": "bicubic"})
    assert halves.prepare(Image.new("RGB", (1, 60_000), "red")).shape == (224, 224, 3)
    assert halves.prepare(Image.new("L", (60_000, 1), "white")).shape == (224, 224, 3)


def test_pictures_are_prepared_by_several_threads_at_once_as_by_one(tmp_path: Path) -> None:
    directory = save_layout(tmp_path / "model", NATIVE)
    fresh, many = open_encoder(f"openclip:{directory}"), pictures(5) * 8
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(fresh.prepare_image, many))
    one = open_encoder(f"openclip:{directory}")
    for prepared, picture in zip(together, many, strict=True):
        np.testing.assert_array_equal(prepared, one.prepare_image(picture))


def test_a_tags_preprocessing_holds_for_a_checkpoint_without_one(tmp_path: Path, no_hub: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"never read here")
    mobile = OpenClipEncoder(f"openclip:MobileCLIP2-S0@{path}")
    assert mobile.source.preprocess["mean"] == [0.0, 0.0, 0.0]
    assert mobile.source.preprocess["interpolation"] == "bilinear" and mobile.source.preprocess["size"] == [256, 256]
    clip = OpenClipEncoder(f"openclip:ViT-B-32@{path}")
    assert clip.source.preprocess["mean"][0] == pytest.approx(0.48145466) and "quick_gelu" not in clip.source.config
    openai = OpenClipEncoder(f"openclip:ViT-B/32/openai@{path}")
    assert openai.spec == f"openclip:ViT-B-32/openai@{path}"
    assert openai.source.config["quick_gelu"] is True, "the activation that those weights were trained with"
    # where published weights disagree, open_clip's own default holds, and a tag says whose it is
    assert OpenClipEncoder(f"openclip:ViT-L-14@{path}").source.preprocess_from == "open_clip's default"
    laion = OpenClipEncoder(f"openclip:ViT-L-14/laion2b_s32b_b82k@{path}")
    assert laion.source.preprocess["mean"] == [0.5, 0.5, 0.5]


def test_the_fingerprint_is_of_weights_architecture_preprocessing_and_tokenizer_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save_layout(tmp_path / "one", SIGLIP)
    print_of = {"first": open_encoder(f"openclip:{first}").fingerprint}
    moved = Path(shutil.copytree(first, tmp_path / "moved"))
    assert open_encoder(f"openclip:{moved}").fingerprint == print_of["first"]
    monkeypatch.setenv("TRIMODAL_DTYPE", "bfloat16")
    assert open_encoder(f"openclip:{moved}").fingerprint == print_of["first"]

    document = json.loads((moved / "open_clip_config.json").read_text())
    (moved / "open_clip_config.json").write_text(json.dumps({**document, "preprocess_cfg": HALVES}))
    print_of["preprocessing"] = open_encoder(f"openclip:{moved}").fingerprint
    document["model_cfg"]["quick_gelu"] = True
    (moved / "open_clip_config.json").write_text(json.dumps(document))
    print_of["architecture"] = open_encoder(f"openclip:{moved}").fingerprint
    words = (moved / "tokenizer.json").read_text()
    (moved / "tokenizer.json").write_text(words.replace('"rain"', '"snow"'))
    print_of["tokenizer"] = open_encoder(f"openclip:{moved}").fingerprint
    weights = moved / "open_clip_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    print_of["weights"] = open_encoder(f"openclip:{moved}").fingerprint
    assert len(set(print_of.values())) == len(print_of)


def test_a_files_digest_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexer.encoders.weights import digests

    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(digests, "sha256_of", counted)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"one")
    first = cached_sha256(file)
    assert cached_sha256(file) == first == sha256_of(file) and len(read) == 1
    _written(tmp_path / "other", b"two").replace(file)  # of the same size
    assert cached_sha256(file) == sha256_of(file) != first and len(read) == 2
    for note in (tmp_path / "cache" / "digests").iterdir():
        note.write_text("{broken")
    assert cached_sha256(file) == sha256_of(file) and len(read) == 3


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_opening_reads_no_weights_and_a_collection_remembers_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_archs: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(b"no weights at all")
    encoder = open_encoder("openclip:Tiny-ViT@w.pt")
    assert encoder.spec == f"openclip:Tiny-ViT@{tmp_path / 'w.pt'}" and encoder.fingerprint
    assert encoder.prepare_image(pictures()[0]).shape == (32, 32, 3)
    with pytest.raises(WeightsCorrupt, match=r"w\.pt: is no file of weights"):
        encoder.encode_queries(["a"])


def test_lower_precision_gives_nearly_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = save_layout(tmp_path / "model", NATIVE)
    exact = rows_of(open_encoder(f"openclip:{directory}"))
    for dtype in ("bfloat16", "float16"):
        monkeypatch.setenv("TRIMODAL_DTYPE", dtype)
        for rough, wanted in zip(rows_of(open_encoder(f"openclip:{directory}")), exact, strict=True):
            np.testing.assert_allclose(rough, wanted, atol=0.02)
            assert np.abs(rough - wanted).max() > 0
    monkeypatch.setenv("TRIMODAL_DTYPE", "int8")
    with pytest.raises(UsageError, match="TRIMODAL_DTYPE=int8: use auto, float32, bfloat16, float16"):
        open_encoder(f"openclip:{directory}").encode_queries(["a"])


@pytest.mark.gpu
def test_rows_on_the_gpu_are_those_on_the_cpu(tmp_path: Path) -> None:
    directory = save_layout(tmp_path / "model", NATIVE)
    ours = rows_of(open_encoder(f"openclip:{directory}", device="cuda"))
    for found, wanted in zip(ours, rows_of(open_encoder(f"openclip:{directory}", device="cpu")), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_sounds_are_refused_with_a_model_that_hears(tmp_path: Path) -> None:
    encoder = open_encoder(f"openclip:{save_layout(tmp_path / 'model', NATIVE)}")
    for call in (lambda: encoder.prepare_audio(np.zeros(9, np.float32)), lambda: encoder.encode_audio([])):
        with pytest.raises(ModelError, match="has no audio tower; it reads image, text; use --model starter"):
            call()


def test_a_collection_is_built_with_it_and_found_again(tmp_path: Path) -> None:
    spec = f"openclip:{save_layout(tmp_path / 'model', NATIVE)}"
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pictures()):
        picture.save(tmp_path / "pictures" / f"{number}.png")
    encoder = open_encoder(spec)
    with Collection.open_or_create(
        tmp_path / "c", EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim)
    ) as collection:
        report = build(collection, find_items([tmp_path / "pictures"]), encoder)
        assert report.added == 3 and report.skipped == []
        stored = collection.vectors.get(np.arange(3))
    expected, _ = rows_of_open_clip(tmp_path / "model")
    np.testing.assert_allclose(stored, expected, atol=1e-5)
    reopened = open_encoder(Collection.open(tmp_path / "c").encoder_spec)
    assert reopened.fingerprint == encoder.fingerprint


def test_a_repository_in_the_hubs_cache_needs_no_connection(tmp_path: Path, no_hub: Path) -> None:
    place = no_hub / "models--someone--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    directory = save_layout(place / "snapshots" / commit, SIGLIP, HALVES)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    encoder = open_encoder("openclip:hf-hub:someone/tiny")
    assert encoder.spec == "openclip:hf-hub:someone/tiny"
    for found, wanted in zip(rows_of(encoder), rows_of_open_clip(directory), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_published_weights_are_taken_from_the_hubs_cache(tmp_path: Path, no_hub: Path) -> None:
    place = no_hub / "models--timm--vit_base_patch32_clip_224.openai"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "snapshots" / commit / "open_clip_model.safetensors").write_bytes(b"as it were")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    encoder = OpenClipEncoder("openclip:ViT-B-32/openai")
    assert encoder.source.checkpoint.name == "open_clip_model.safetensors"
    assert encoder.source.config["quick_gelu"] is True
    assert encoder.source.preprocess_from == "open_clip's ViT-B-32/openai"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("ViT-B-32/openai", ["timm/vit_base_patch32_clip_224.openai can't be fetched and is not in {hub}",
                             "use --model openclip:ViT-B-32/openai@FILE"]),
        ("hf-hub:timm/ViT-B-16-SigLIP2", ["timm/ViT-B-16-SigLIP2 can't be fetched", "use --model openclip:DIR"]),
        ("ViT-B-33/openai", ["open_clip has no architecture ViT-B-33; near ones are ViT-B-32"]),
        ("qqq", ["open_clip has no architecture qqq; see open_clip.list_models(), as ViT-B-32"]),
        ("ViT-B-32/laion", ["publishes no weights laion of ViT-B-32; its tags are laion2b_e16", "and 19 more"]),
        ("ViT-B-32", ["names no weights; add one of open_clip's tags, as openclip:ViT-B-32/openai"]),
        ("", ["names no architecture; use openclip:ARCH/TAG or openclip:ARCH@PATH"]),
        ("ViT-B-32@", ["names no path after @"]),
        ("ViT-B-32@{tmp}/none.pt", ["{tmp}/none.pt is not there; correct the path after @"]),
        ("ViT-B-32@{tmp}/notes.txt", ["notes.txt is neither .safetensors"]),
        ("ViT-B-32@{tmp}/empty", ["empty holds no weights; put open_clip_model.safetensors"]),
        ("{tmp}/empty", ["holds no open_clip_config.json; name the architecture: openclip:ARCH@{tmp}/empty"]),
        ("local-dir:{tmp}/none", ["{tmp}/none is no directory"]),
        ("ViT-B-16-SigLIP2@{tmp}/some.pt", ["its tokenizer: ", "timm/ViT-B-16-SigLIP2 can't be fetched",
                                            "put its tokenizer.json and tokenizer_config.json beside the checkpoint"]),
    ],
)  # fmt: skip
def test_what_a_spec_lacks_is_said_in_one_line_with_the_remedy(
    spec: str, said: list[str], tmp_path: Path, no_hub: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "some.pt").write_bytes(b"weights")
    with pytest.raises(ModelError) as caught:
        open_encoder(f"openclip:{spec.format(tmp=tmp_path)}")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in said:
        assert part.format(tmp=tmp_path, hub=no_hub) in message


def test_a_checkpoint_of_another_architecture_is_said_to_be_one_and_which(tmp_path: Path, small_archs: None) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(open_clip.create_model("Tiny-ViT-16").state_dict(), path)
    with pytest.raises(WeightsCorrupt) as caught:
        open_encoder(f"openclip:Tiny-ViT@{path}").encode_queries(["a"])
    assert str(caught.value).startswith(
        f"{path}: is no checkpoint of Tiny-ViT: visual.conv1.weight is (32, 3, 16, 16), not (32, 3, 8, 8); it looks "
        f"like Tiny-ViT-16; use openclip:Tiny-ViT-16@{path}"
    )
    save_file({"something": torch.zeros(2)}, path)
    with pytest.raises(WeightsCorrupt, match="it lacks .*; name the architecture that it was trained as") as caught:
        open_encoder(f"openclip:Tiny-ViT@{path}").encode_queries(["a"])
    assert len(str(caught.value).splitlines()) == 1


def test_the_architecture_of_weights_is_told_by_their_shapes() -> None:
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    with torch.device("meta"):
        model = open_clip.CLIP(**configs["ViT-M-16"])
        coca = open_clip.CoCa(**{key: value for key, value in configs["coca_base"].items() if key != "custom_text"})
    assert fitting_archs(model.state_dict(), configs) == ["ViT-M-16"]
    assert fitting_archs(coca.state_dict(), configs) == ["coca_base"]
    assert fitting_archs({"visual.trunk.norm.weight": torch.zeros(3)}, configs) == []


def test_a_pickle_of_code_and_a_file_cut_short_are_refused(tmp_path: Path, small_archs: None) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Path("x")}, path)
    with pytest.raises(WeightsCorrupt, match="is a pickle of more than tensors, which is not run; save its state dict"):
        open_encoder(f"openclip:Tiny-ViT@{path}").encode_queries(["a"])
    torch.save(open_clip.create_model("Tiny-ViT").state_dict(), path)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(WeightsCorrupt, match=r"weights\.pt: is no file of weights, or not a whole one; fetch it"):
        open_encoder(f"openclip:Tiny-ViT@{path}").encode_queries(["a"])


def test_show_tells_whose_preprocessing_holds_and_fetches_nothing(tmp_path: Path, no_hub: Path) -> None:
    directory = save_layout(tmp_path / "model", NATIVE, HALVES)
    here = describe_model(f"openclip:{directory}")
    assert here.state == "ready" and here.dim == 16 and here.modalities == ["image", "text"]
    assert here.fingerprint == open_encoder(f"openclip:{directory}").fingerprint
    assert here.towers == {"image": "2 layers of 32, 32 px", "text": "2 layers of 16, 20 tokens"}
    assert str(directory / "open_clip_config.json") in here.sources["preprocessing"]
    assert "resize_mode squash" in here.sources["preprocessing"]
    far = describe_model("openclip:ViT-B-16-SigLIP2/webli")
    assert far.state == "needs `trimodal models pull openclip:ViT-B-16-SigLIP2/webli`" and far.dim == 768
    assert far.towers["image"] == "vit_base_patch16_siglip_224, 224 px"
    for spec in ("openclip:hf-hub:someone/far", "clap:someone/far"):
        said = f"someone/far of the hub is not in {no_hub}; run `trimodal models pull`, or put"
        with pytest.raises(WeightsMissing, match=said):
            describe_model(spec)
    assert pull_model(f"openclip:{directory}") == {f"openclip:{directory}": directory}
    with pytest.raises(WeightsMissing, match="can't be fetched"):
        pull_model("openclip:ViT-B-16-SigLIP2/webli")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["ViT-B-32", "ViT-B-16-SigLIP2", "MobileCLIP2-S0"])
def test_rows_of_real_architectures_are_those_of_open_clip(arch: str, tmp_path: Path) -> None:
    """The whole size, random weights, in the hub's layout; SigLIP2's tokenizer is a small one, its own being far."""
    config = open_clip.get_model_config(arch)
    tag = open_clip.list_pretrained_tags_by_model(arch)[-1]
    published = open_clip.get_pretrained_cfg(arch, tag)
    preprocess = {name: published[name] for name in ("mean", "std", "interpolation", "resize_mode")}
    directory = save_layout(tmp_path / "model", config, preprocess)
    expected = rows_of_open_clip(directory)
    for spec in (f"openclip:{directory}", f"openclip:{arch}@{directory}", f"openclip:{arch}/{tag}@{directory}"):
        if spec.startswith("openclip:ViT-B-32/"):
            continue  # those were trained with another activation than the directory says
        for kind, found, wanted in zip(("image", "text"), rows_of(open_encoder(spec)), expected, strict=True):
            difference = float(np.abs(found - wanted).max())
            assert difference < 1e-5, f"{spec}: {kind} {difference:.1e}"
