"""Queries of open_clip and CLAP models in ONNX Runtime against torch, and searches that import neither library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from light_search import light_search
from openclip_layout import HALVES, NATIVE, SIGLIP, save_layout
from PIL import Image
from small_clap import save_clap
from small_media import pictures
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders import open_encoder
from indexer.encoders.onnx import library_side
from indexer.encoders.onnx.cleaning import cleaning
from indexer.encoders.onnx.exporting import least_cosine
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.onnx.texts import TEXTS, Reading, write_texts
from indexer.encoders.openclip import graphs, source_notes
from indexer.encoders.openclip.dual import OpenClipEncoder
from indexer.encoders.openclip.source import find_openclip
from indexer.encoders.openclip.texts import open_tokenizer
from indexer.errors import ModelError
from indexer.items import Modality

WORDS = ["a dog", "A Dog, on the mat", "", "naïve — “ok” &amp; so", "word " * 90]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    monkeypatch.delenv("TRIMODAL_RUNTIME", raising=False)
    return tmp_path / "cache"


def some_pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(7)
    return [Image.fromarray(random.integers(0, 256, (40 + n, 61, 3), dtype=np.uint8)) for n in range(count)]


def some_sounds() -> list[np.ndarray]:
    return [(0.3 * np.sin(np.arange(count) / 5)).astype(np.float32) for count in (400, 9_000, 20_000)]


def saved(kind: str, directory: Path) -> str:
    """A small model in a directory; its spec."""
    if kind in ("native", "siglip"):
        save_layout(directory, NATIVE if kind == "native" else SIGLIP, HALVES if kind == "siglip" else None)
        return f"openclip:{directory}"
    save_clap(directory, fused=kind == "fused", rate_hz=16_000 if kind == "fused" else 48_000)
    return f"clap:{directory}"


def encoded(encoder: Any, kind: str) -> tuple[np.ndarray, np.ndarray]:
    texts = encoder.encode_queries(WORDS)
    if kind in ("native", "siglip"):
        return texts, encoder.encode_images([encoder.prepare_image(picture) for picture in some_pictures(7)])
    return texts, encoder.encode_audio([encoder.prepare_audio(sound) for sound in some_sounds()])


@pytest.mark.parametrize("kind", ["native", "siglip", "clap", "fused"])
def test_pulling_a_model_makes_graphs_that_give_its_embeddings(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = saved(kind, tmp_path / "model")
    assert CliRunner().invoke(app, ["models", "pull", spec]).exit_code == 0
    encoder = open_encoder(spec)
    ours = encoded(encoder, kind)
    measure = encoder.open_text_measure()  # type: ignore[attr-defined]
    loaded = {"_model", "_audio_tower", "_text_tower", "_tokenizer"} & set(encoder.__dict__)
    assert not loaded, "torch was not needed"
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")
    torchs = open_encoder(spec)
    assert torchs.fingerprint == encoder.fingerprint
    for one, other in zip(ours, encoded(torchs, kind), strict=True):
        assert one.dtype == np.float32 and least_cosine(one, other) > 0.9999
    theirs = torchs.open_text_measure()  # type: ignore[attr-defined]
    assert measure.max_tokens == theirs.max_tokens
    for text in (*WORDS, *TEXTS):
        assert measure.read_chars(text, 6) == theirs.read_chars(text, 6)


@pytest.mark.parametrize("kind", ["native", "clap"])
def test_a_search_imports_neither_torch_nor_the_library_and_finds_what_torch_finds(kind: str, tmp_path: Path) -> None:
    spec, media = saved(kind, tmp_path / "model"), tmp_path / "media"
    if kind == "clap":
        media.mkdir()
        for number, sound in enumerate(some_sounds()):
            soundfile.write(media / f"{number}.wav", sound, 16_000)
        query = ["--audio", str(media / "1.wav")]
    else:
        pictures(media, 12)
        query = ["--image", str(media / "0003.png")]
    done = CliRunner().invoke(app, ["index", str(media), "-c", str(tmp_path / "c"), "--model", spec])
    assert done.exit_code == 0, done.output
    CliRunner().invoke(app, ["models", "pull", spec])  # a run that saw no texts has not loaded CLAP's text half
    for options in (query, ["a dog"]):
        ours, theirs = light_search(tmp_path / "c", *options)
        assert [hit["path"] for hit in ours] == [hit["path"] for hit in theirs]
        np.testing.assert_allclose(*([hit["score"] for hit in hits] for hits in (ours, theirs)), atol=1e-3)


@pytest.mark.parametrize("kind", ["native", "clap"])
def test_an_index_run_leaves_graphs_of_the_model_that_it_loaded_unless_it_is_large(
    kind: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = saved(kind, tmp_path / "model")
    pictures(tmp_path / "media", 3)
    (tmp_path / "media" / "words.txt").write_text("a dog on the mat")
    index = ["index", str(tmp_path / "media"), "--model", spec, "-c"]
    monkeypatch.setattr(library_side, "LARGE_BYTES", 1_000)
    assert CliRunner().invoke(app, [*index, str(tmp_path / "a")]).exit_code == 0
    assert not (cache / "onnx").exists()
    monkeypatch.undo()
    monkeypatch.setenv("TRIMODAL_CACHE", str(cache))
    assert CliRunner().invoke(app, [*index, str(tmp_path / "b")]).exit_code == 0
    made = len(list((cache / "onnx").glob("library-*/tower.onnx")))
    if kind == "clap":
        assert made == 1, "it has read a text, and heard nothing"
        return
    assert made == 2
    encoder = open_encoder(spec)
    encoder.encode_queries(["a dog"])
    assert "_model" not in encoder.__dict__


def test_another_model_in_the_same_place_does_not_use_the_graphs_of_the_first(tmp_path: Path) -> None:
    spec = saved("native", tmp_path / "model")
    open_encoder(spec).prepare_queries()  # type: ignore[attr-defined]
    before = open_encoder(spec).encode_queries(["a dog"])
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model" / "open_clip_model.safetensors")
    weights["text_projection"] = torch.randn_like(weights["text_projection"])
    save_file(weights, tmp_path / "model" / "open_clip_model.safetensors")
    changed = open_encoder(spec)
    assert np.abs(changed.encode_queries(["a dog"]) - before).max() > 1e-2
    assert "_model" in changed.__dict__


def test_many_pictures_go_through_a_graph_together_and_rows_are_those_of_one_by_one(tmp_path: Path) -> None:
    encoder = open_encoder(saved("native", tmp_path / "model"))
    encoder.prepare_queries()  # type: ignore[attr-defined]
    encoder = open_encoder(encoder.spec)
    prepared = [encoder.prepare_image(picture) for picture in some_pictures(7)]
    graph = encoder._graph(Modality.IMAGE)  # type: ignore[attr-defined]
    sizes: list[int] = []
    run_each = graph._session.run_each

    def counting(outputs: Any, inputs: Any) -> Any:
        sizes.extend(len(one["x"]) for one in inputs)
        return run_each(outputs, inputs)

    graph._session.run_each = counting
    together = encoder.encode_images(prepared)
    assert sizes == [4, 3]
    alone = np.concatenate([encoder.encode_images([one]) for one in prepared])
    assert least_cosine(together, alone) > 0.999999
    assert "_model" not in encoder.__dict__


# what an openclip spec names


def test_a_note_of_a_source_holds_until_a_file_beside_it_changes(tmp_path: Path) -> None:
    spec = saved("siglip", tmp_path / "model")
    assert source_notes.noted_source(spec) is None
    source = find_openclip(spec)
    source_notes.write_note(source)
    assert source_notes.noted_source(spec) == source
    other = tmp_path / "model" / "readme.md"
    other.write_text("of no matter")
    assert source_notes.noted_source(spec) == source
    config = tmp_path / "model" / "open_clip_config.json"
    config.write_text(config.read_text() + " ")
    assert source_notes.noted_source(spec) is None
    source_notes.write_note(source)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"another file that could be the weights")
    assert source_notes.noted_source(spec) is None


def test_a_note_of_another_open_clip_or_a_damaged_one_counts_for_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = saved("native", tmp_path / "model")
    source_notes.write_note(find_openclip(spec))
    (note,) = (cache / "sources").iterdir()
    for content in ("{", "[]", '{"version": 1}', note.read_text().replace('"checkpoint"', '"other"')):
        whole = note.read_text()
        note.write_text(content)
        assert source_notes.noted_source(spec) is None
        note.write_text(whole)
    monkeypatch.setattr(source_notes, "version", lambda name: "0.0")
    assert source_notes.noted_source(spec) is None


def test_a_configuration_that_was_made_dangerous_since_is_refused(tmp_path: Path) -> None:
    spec = saved("siglip", tmp_path / "model")
    open_encoder(spec).prepare_queries()  # type: ignore[attr-defined]
    config = tmp_path / "model" / "open_clip_config.json"
    document = json.loads(config.read_text())
    document["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    config.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="'trust_remote_code' is not one that a model's file may set"):
        open_encoder(spec)


# texts


@pytest.mark.parametrize("name", ["lower", "canonicalize", "whitespace"])
def test_texts_are_cleaned_as_open_clip_cleans_them(name: str) -> None:
    from open_clip.tokenizer import get_clean_fn

    odd = [
        "",
        " a\tb\n",
        "A_B-c d's",
        "schÃ¶n &amp;lt; naïve",
        "&lt;b&gt; ﬁne “x”",
        "\x1b[31mred\x1b[0m",
        "İ ß Ⅷ ½",
        "a & b",
    ]
    for text in (*TEXTS, *odd):
        assert cleaning(name)(text) == get_clean_fn(name)(text), text


def test_clips_byte_pairs_are_read_as_open_clip_reads_them(tmp_path: Path) -> None:
    spec = saved("native", tmp_path / "model")
    open_encoder(spec).prepare_queries()  # type: ignore[attr-defined]
    graph = OpenClipEncoder(spec)._graph(Modality.TEXT)
    assert graph is not None
    theirs = open_tokenizer(find_openclip(spec))
    random = np.random.default_rng(3)
    alphabet = [*"aeinst' ,.!?019-_$%@#äß思ж🎈\n", "the ", "ing "]
    for _ in range(300):
        text = "".join(random.choice(alphabet, size=int(random.integers(1, 24))))
        assert graph.texts.ids(text).tolist() == theirs([text]).tolist(), text
    assert not graph.texts.reads("so <End_of_text> here") and graph.texts.reads("so end of text here")


def test_a_text_that_spells_a_special_token_is_read_by_open_clip_itself(tmp_path: Path) -> None:
    spec = saved("native", tmp_path / "model")
    open_encoder(spec).prepare_queries()  # type: ignore[attr-defined]
    encoder = OpenClipEncoder(spec)
    encoder.encode_queries(["a dog <end_of_text> cat"])
    assert "_model" in encoder.__dict__


@pytest.mark.parametrize("settings", [{"reduction_mask": "simple"}, {"clean": "whitespace"}])
def test_a_tokenizer_with_settings_that_are_not_known_here_leaves_texts_to_torch(
    settings: dict[str, str], tmp_path: Path
) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    with pytest.raises(NoOnnxForm, match="read by open_clip alone"):
        graphs._clips_own(SimpleTokenizer(context_length=8, **settings))  # type: ignore[arg-type]


def test_a_tokenizer_that_reads_otherwise_has_no_form(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"dog": 0, "<unk>": 1}, unk_token="<unk>"))
    with pytest.raises(NoOnnxForm, match="reads 'a photo of a red bicycle in the snow' otherwise"):
        write_texts(tmp_path, tokenizer, Reading("", [2], [3], 5), lambda text: [2, 7, 3])
