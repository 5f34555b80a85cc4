"""Pictures and sounds of trained models in ONNX Runtime against torch; and a search by either that imports no torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from light_search import light_search
from PIL import Image
from safetensors.torch import save_file
from small_clap import save_clap
from small_media import pictures
from small_model import TRUNK, WHISPER, save_small_model
from torch import nn
from trimodal.cli import app
from typer.testing import CliRunner

import indexer
from indexer.encoders.clap.tower import clap_from_directory
from indexer.encoders.onnx import exporting
from indexer.encoders.onnx.exporting import export_module, least_cosine
from indexer.encoders.onnx.few import Few
from indexer.encoders.onnx.graph import GraphBuilder
from indexer.encoders.onnx.media_side import OnnxMediaSide, has_onnx_form
from indexer.encoders.onnx.session import GraphSession, open_session
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.specs import CONFIG, HeadSpec, HubnessSpec, TrunkSpec, read_config
from indexer.encoders.tokens.compressor import Compressor, CompressorSpec
from indexer.encoders.tokens.config import MediaSources
from indexer.encoders.towers import graphs
from indexer.encoders.towers.audio import AudioTower
from indexer.encoders.towers.heads import open_head
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.load import save_heads
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights.base_weights import sha256_of
from indexer.errors import WeightsCorrupt
from indexer.items import Modality


def some_pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(7)
    return [Image.fromarray(random.integers(0, 256, (40 + n, 61, 3), dtype=np.uint8)) for n in range(count)]


def some_sounds() -> list[np.ndarray]:
    return [(0.3 * np.sin(np.arange(count) / 5)).astype(np.float32) for count in (400, 9_000, 32_000)]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    monkeypatch.delenv("TRIMODAL_RUNTIME", raising=False)
    return save_small_model(tmp_path / "model")


# graphs of modules


def test_trunks_of_several_sizes_and_their_grids_are_those_of_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = replace(TRUNK, size_px=96, weights="b", mean=(0.5, 0.5, 0.5), std=(0.2, 0.3, 0.4))
    tower = ImageTower([TRUNK, other, TrunkSpec("resnet10t", "pooled", "c", size_px=64)])
    graphs.write_image_tower(tower, (1, 2), tmp_path)
    prepared = [tower.prepare(picture) for picture in some_pictures(2)]
    rows, grids = tower.with_grids(prepared, (1, 2))
    session = open_session(tmp_path / "tower.onnx")
    for number, one in enumerate(prepared):
        found = session.run(None, {"x": one[None]})
        assert least_cosine(found[0], rows[number : number + 1].numpy()) > 0.9999
        for ours, theirs in zip(found[1:], grids, strict=True):
            np.testing.assert_allclose(ours[0], theirs[number].numpy(), atol=1e-3)


def test_whispers_features_and_frames_are_those_of_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = AudioTower(WHISPER)
    graphs.write_audio_tower(tower, (0,), tmp_path)
    session = open_session(tmp_path / "tower.onnx")
    for sound in some_sounds():
        rows, grids = tower.with_grids([tower.prepare(sound)])
        found = session.run(None, {"x": tower.prepare(sound)[None]})
        np.testing.assert_allclose(found[0], rows.numpy(), atol=1e-4)
        np.testing.assert_allclose(found[1], grids[0].numpy(), atol=1e-4)


def test_media_tokens_are_those_of_the_compressor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sources = MediaSources(rows=(12, 8), grids=(1,), tokens=(9,), widths=(8,))
    module = Compressor(CompressorSpec(sources.sources, 3, 16, 2, 2, 12, 10)).eval()
    module.whiten(torch.randn(50, 20))
    graphs.write_tokens(module, sources, tmp_path)
    rows, grid = torch.randn(1, 20), torch.randn(1, 9, 8)
    with torch.inference_mode():
        expected = module(sources.split(rows, [grid]))
    inputs = {"source-0": rows.numpy(), "source-1": grid.numpy()}
    (found,) = open_session(tmp_path / "tokens.onnx").run(["out"], inputs)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_module_that_changes_with_its_input_or_cannot_be_traced_has_no_graph(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if float(x.sum()) > 0 else x[:, [1, 0, 2]]

    class Sorts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x[0].T @ x[0]).real[None]

    up, down = np.array([[3, 1, 2]], np.float32), np.array([[-3, -1, -2]], np.float32)
    with pytest.raises(NoOnnxForm, match=r"Branches: its graph gives something else \(cosine"):
        export_module(Branches(), tmp_path / "a.onnx", [[up], [down]])
    with pytest.raises(NoOnnxForm, match="Sorts: can't be traced"):
        export_module(Sorts(), tmp_path / "b.onnx", [[up]])


def test_cosines_are_of_rows_and_zeros_agree_with_zeros_alone() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert least_cosine(rows, rows) == 1.0
    assert least_cosine(rows, np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.0
    assert least_cosine(rows, np.array([[1.0, 1.0], [0.0, 0.0]])) == pytest.approx(0.5**0.5)


def test_single_queries_are_always_few_and_batches_are_until_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.encoders.onnx.few.favours_graphs", lambda: False)
    few = Few(at_once=4, in_all=10)
    assert [few.takes(count) for count in (0, 5, 4, 1, 4)] == [False, False, True, True, True]
    assert all(few.takes(1) for _ in range(100))
    assert not few.takes(4) and not few.takes(1), "an index run has begun"


def test_nothing_is_too_much_where_graphs_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.encoders.onnx.few.favours_graphs", lambda: True)
    few = Few(at_once=4, in_all=10, or_more=True)
    assert [few.takes(count) for count in (0, 1, 5, 1_000)] == [False, True, True, True]


def test_each_of_several_inputs_gives_what_it_gives_alone(tmp_path: Path) -> None:
    graph = GraphBuilder(tmp_path / "tower.onnx")
    x = graph.input("x", "float", [1, "n"])
    graph.save({"out": (graph.node("Mul", [x, x]), [1, "n"])})
    session = GraphSession(tmp_path / "tower.onnx", "")
    inputs = [{"x": np.full((1, n), n, dtype=np.float32)} for n in (3, 1, 7, 2)]
    alone = [session.run(["out"], one)[0] for one in inputs]
    each = session.run_each(["out"], inputs)
    assert all((one == other).all() for one, (other,) in zip(alone, each, strict=True))
    assert session.run_each(["out"], []) == []
    assert session.shape("x") == [1, "n"]


# a whole model


def with_hubness(directory: Path) -> None:
    """Give a small model a correction against hubs, which its head file then holds the banks of."""
    from safetensors.torch import load_file

    config = read_config(directory)
    weights = load_file(directory / "heads.safetensors")
    for name in ("texts", "pictures"):
        weights[f"hubness.{name}"] = nn.functional.normalize(torch.randn(7, config.dim), dim=1).half()
    save_file(weights, directory / "heads.safetensors")
    sha256 = {**config.sha256, "heads.safetensors": sha256_of(directory / "heads.safetensors")}
    changed = replace(config, dim=config.dim + 6, hubness=HubnessSpec(7, 3, 0.4), sha256=sha256)
    (directory / CONFIG).write_text(json.dumps(changed.to_json()), encoding="utf-8")


@pytest.mark.parametrize("hubness", [False, True])
def test_a_models_pictures_and_sounds_are_those_of_torch(model: Path, hubness: bool) -> None:
    if hubness:
        with_hubness(model)
    torchs = TrainedDualEncoder(model)
    images = [torchs.prepare_image(picture) for picture in some_pictures(3)]
    sounds = [torchs.prepare_audio(sound) for sound in some_sounds()]
    expected = torchs.encode_images(images), torchs.encode_audio(sounds)
    TrainedDualEncoder(model).prepare_queries()
    encoder = TrainedDualEncoder(model)
    for one, other in zip(images, some_pictures(3), strict=True):
        np.testing.assert_array_equal(encoder.prepare_image(other), one)
    for one, other in zip(sounds, some_sounds(), strict=True):
        np.testing.assert_array_equal(encoder.prepare_audio(other), one)
    assert least_cosine(encoder.encode_images(images), expected[0]) > 0.9999
    assert least_cosine(encoder.encode_audio(sounds), expected[1]) > 0.9999
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    assert not encoder._loaded, "torch towers were loaded"
    # more than a few are worth torch, which then reads the few, too
    encoder.encode_images(images * 3)
    assert set(encoder._loaded) == {Modality.IMAGE} and encoder._graph(Modality.IMAGE) is None


def test_a_clap_as_sound_tower_has_a_graph(model: Path, tmp_path: Path) -> None:
    save_clap(tmp_path / "clap", rate_hz=16_000)
    spec, weights = clap_from_directory(tmp_path / "clap")
    save_file({name: value.clone() for name, value in weights.items()}, model / spec.weights)
    config = read_config(model)
    heads = {"audio": HeadSpec(12, 0, 0, 12)}  # CLAP's space itself
    sha256 = {**config.sha256, spec.weights: sha256_of(model / spec.weights)}
    sha256["heads.safetensors"] = save_heads(model, {name: open_head(one) for name, one in heads.items()})
    changed = replace(config, dim=12, image=(), audio=spec, text=(), heads=heads, sha256=sha256)
    (model / CONFIG).write_text(json.dumps(changed.to_json()), encoding="utf-8")
    torchs = TrainedDualEncoder(model)
    expected = torchs.encode_audio([torchs.prepare_audio(sound) for sound in some_sounds()])
    torchs.prepare_queries(loaded=True)
    encoder = TrainedDualEncoder(model)
    found = encoder.encode_audio([encoder.prepare_audio(sound) for sound in some_sounds()])
    assert not encoder._loaded and least_cosine(found, expected) > 0.9999


def test_a_search_by_picture_or_sound_imports_no_torch_and_finds_what_torch_finds(model: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "media", 12)
    for number, sound in enumerate(some_sounds()):
        soundfile.write(tmp_path / "media" / f"{number}.wav", sound, 16_000)
    place, runner = tmp_path / "c", CliRunner()
    index = ["index", str(tmp_path / "media"), "-c", str(place), "--model", str(model)]
    done = runner.invoke(app, index)
    assert done.exit_code == 0, done.output  # the run has loaded the towers, and leaves their graphs
    assert len(list((tmp_path / "cache" / "onnx").glob("*/tower.onnx"))) == 2
    queries = (["--image", str(tmp_path / "media" / "0003.png")], ["--audio", str(tmp_path / "media" / "1.wav")])
    for query in queries:
        ours, theirs = light_search(place, *query)
        assert [hit["path"] for hit in ours] == [hit["path"] for hit in theirs]
        np.testing.assert_allclose(*([hit["score"] for hit in hits] for hits in (ours, theirs)), atol=1e-3)


def test_graphs_are_made_once_and_not_at_all_where_torch_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "media", 2)
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")
    indexer.index(tmp_path / "media", tmp_path / "a", str(model))
    assert not (tmp_path / "cache" / "onnx").exists()
    monkeypatch.setenv("TRIMODAL_RUNTIME", "auto")
    indexer.index(tmp_path / "media", tmp_path / "b", str(model), device="cpu")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "onnx").rglob("*.onnx")}
    assert len(made) == 2, "the sound tower was not loaded"
    indexer.index(tmp_path / "media", tmp_path / "c", str(model))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "onnx").rglob("*.onnx")} == made


def test_a_tower_without_a_graph_is_not_tried_at_every_run_but_again_at_a_pull(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def none(*_: object, **__: object) -> None:
        tried.append("once more")
        raise NoOnnxForm("it has none")

    monkeypatch.setattr(graphs, "export_module", none)
    for _ in range(2):
        TrainedDualEncoder(model).prepare_queries()
    assert len(tried) == 2, "a picture tower and a sound tower, once each"
    assert TrainedDualEncoder(model)._graph(Modality.IMAGE) is None
    reasons = list((tmp_path / "cache" / "onnx").rglob("no-graph.txt"))
    assert [reason.read_text() for reason in reasons] == ["it has none\n"] * 2
    monkeypatch.setattr(graphs, "export_module", exporting.export_module)
    TrainedDualEncoder(model).prepare_queries(again=True)
    assert isinstance(TrainedDualEncoder(model)._graph(Modality.IMAGE), OnnxMediaSide)


def test_a_full_disk_does_not_fail_an_index_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "media", 2)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "onnx").write_text("in the way")
    report = indexer.index(tmp_path / "media", tmp_path / "c", str(model))
    assert report.added == 2
    assert [line for line in report.warnings if "searches will take longer to start" in line and "onnx" in line]


def test_a_damaged_graph_of_pictures_is_named_with_the_command_that_mends_it(model: Path, tmp_path: Path) -> None:
    TrainedDualEncoder(model).prepare_queries()
    (file,) = (tmp_path / "cache" / "onnx").glob("image-*/tower.bin")
    with file.open("r+b") as damaged:
        damaged.write(b"other bytes")
    with pytest.raises(WeightsCorrupt, match=r"tower\.bin: is damaged .* trimodal models pull"):
        TrainedDualEncoder(model).prepare_image(some_pictures(1)[0])
    TrainedDualEncoder(model).prepare_queries()
    assert TrainedDualEncoder(model)._graph(Modality.IMAGE) is not None
    graph = next((tmp_path / "cache" / "onnx").glob("image-*/tower.onnx"))
    graph.write_bytes(b"no graph at all")
    with pytest.raises(WeightsCorrupt, match=r"tower\.onnx: can't be run by this ONNX Runtime .*; pull it"):
        open_session(graph, "pull it")


def test_weights_without_a_promised_sha256_have_no_graph(model: Path) -> None:
    config = read_config(model)
    assert has_onnx_form(config, "image") and has_onnx_form(config, "audio")
    known = {name: digest for name, digest in config.sha256.items() if name != TRUNK.weights}
    assert not has_onnx_form(replace(config, sha256=known), "image")
    assert not has_onnx_form(replace(config, audio=None, heads={"image": config.heads["image"]}), "audio")
