"""A reranker in ONNX Runtime against its torch model: logits, LoRA, texts against texts, and a search without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from light_search import light_search
from small_media import pictures
from small_reranker import install_small_qwen, save_small_reranked_model
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders.specs import LoraSpec
from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.weights.base_weights import GGUF_NAME
from indexer.errors import WeightsCorrupt
from indexer.items import Modality
from retrieval.rerank import graph_making, onnx_pairs
from retrieval.rerank.graph_cache import make_graphs, open_graphs
from retrieval.rerank.onnx_pairs import OnnxPairModel
from retrieval.rerank.pair_model import PairModel
from retrieval.rerank.trained import TrainedReranker

TEXTS = ["a dog", "A Dog.", "rain on a tin roof", "", "word " * 90, "x", "zwölf: ein hund"]


@pytest.fixture
def language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    return install_small_qwen(tmp_path / "cache", monkeypatch)


def media(config: RerankerConfig, count: int = 9) -> np.ndarray:
    spec = config.token_spec
    rows = np.random.default_rng(2).normal(size=(count, spec.count, spec.width)).astype(np.float32)
    return spec.pack(rows)


def both(model: Path, config: RerankerConfig) -> tuple[OnnxPairModel, PairModel]:
    graphs = make_graphs(model, config)
    assert graphs is not None
    return graphs, PairModel(model, config, "cpu")


def assert_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert theirs.std() > 0.01  # else nothing is compared
    np.testing.assert_allclose(ours, theirs, atol=0.01 * theirs.std() + 1e-4)


@pytest.mark.parametrize("interaction", ["none", "one-way", "bidirectional"])
def test_pairs_have_the_logits_that_torch_gives(interaction: str, language_model: Path, tmp_path: Path) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model, interaction=interaction)
    ours, theirs = both(model, config)
    tokens = media(config)
    for text in TEXTS:
        assert_alike(ours.score_media(text, tokens), theirs.score_media(text, tokens))
    assert_alike(ours.score_texts(tokens[:1], TEXTS), theirs.score_texts(tokens[:1], TEXTS))
    assert_alike(ours.score_pairs(TEXTS[0], TEXTS), theirs.score_pairs(TEXTS[0], TEXTS))
    assert_alike(ours.joint_texts(TEXTS), theirs.joint_texts(TEXTS))
    assert ours.score_media("x", tokens[:0]).shape == (0,)


@pytest.mark.parametrize("quants", ["F32", "Q4_0", "Q4_1", "Q4_1+Q6_K"])
def test_a_llama_of_any_format_has_the_logits_that_torch_gives(
    quants: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    language_model = install_small_qwen(tmp_path / "cache", monkeypatch, "llama", quants)
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    ours, theirs = both(model, config)
    for text in TEXTS[:3]:
        assert_alike(ours.score_media(text, media(config)), theirs.score_media(text, media(config)))


def test_adapters_are_a_branch_beside_the_blocks(language_model: Path, tmp_path: Path) -> None:
    lora = LoraSpec(2, 16.0, 0.1, ("q_proj", "o_proj", "down_proj"))
    model, config = save_small_reranked_model(tmp_path / "m", language_model, lora=lora)
    ours, theirs = both(model, config)
    tokens = media(config)
    assert_alike(ours.score_media("a dog", tokens), theirs.score_media("a dog", tokens))
    plain, without = save_small_reranked_model(tmp_path / "plain", language_model)
    assert np.abs(ours.score_media("a dog", tokens) - both(plain, without)[0].score_media("a dog", tokens)).max() > 0.05


def test_a_text_has_the_same_logits_alone_and_beside_others(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    ours, _ = both(model, config)
    tokens = media(config, 5)
    fresh = [OnnxPairModel(config, ours._folder, ours.lower, ours.prompt, "") for _ in TEXTS]
    alone = np.stack([one.score_media(text, tokens) for one, text in zip(fresh, TEXTS, strict=True)])
    ours.read(TEXTS)
    np.testing.assert_allclose(np.stack([ours.score_media(text, tokens) for text in TEXTS]), alone, atol=1e-3)
    monkeypatch.setattr(onnx_pairs, "_PAIRS", 2)
    monkeypatch.setattr("indexer.encoders.onnx.lower_reader.TOKENS_AT_ONCE", 30)
    few = OnnxPairModel(config, ours._folder, ours.lower, ours.prompt, "")
    np.testing.assert_allclose(few.score_texts(tokens[:1], TEXTS), alone[:, 0], atol=1e-3)


def test_a_text_is_read_once_and_no_more_stay_than_fit(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    ours, _ = both(model, config)
    read: list[int] = []
    states = ours.lower.states
    monkeypatch.setattr(ours.lower, "states", lambda ids, past: (read.append(len(ids)), states(ids, past))[1])
    ours.read(["a", "b", "a"])
    ours.score_media("b", media(config))
    ours.score_texts(media(config, 1), ["b", "a", "c"])
    assert [n for n in read if n] == [2, 1]
    monkeypatch.setattr(onnx_pairs, "_KEPT_TOKENS", ours._read["a"].tokens * 2)
    ours.read(["d", "e", "f"])
    assert list(ours._read) == ["e", "f"]


def test_a_reranker_judges_in_torch_where_that_is_named_or_there_are_no_graphs(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    tokens = media(config)
    assert isinstance(TrainedReranker(model, config, "cpu")._judging, PairModel)  # no graphs yet
    expected = TrainedReranker(model, config, "cpu").score_media("a dog", tokens, Modality.IMAGE)
    make_graphs(model, config)
    ours = TrainedReranker(model, config, "cpu")
    assert isinstance(ours._judging, OnnxPairModel)
    assert_alike(ours.score_media("a dog", tokens, Modality.IMAGE), expected)
    assert len(ours.caption(tokens[:2], beams=2, max_words=3)) == 2  # from the GGUF, in torch
    assert isinstance(TrainedReranker(model, config, "cuda")._judging, PairModel)
    monkeypatch.setenv("TRIMODAL_RUNTIME", "torch")
    assert isinstance(TrainedReranker(model, config, "cpu")._judging, PairModel)
    monkeypatch.delenv("TRIMODAL_RUNTIME")
    (language_model / GGUF_NAME).unlink()
    assert open_graphs(config) is None


def test_graphs_that_give_other_logits_are_not_kept(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    monkeypatch.setattr(graph_making, "MOST_APART", -1.0)
    assert make_graphs(model, config) is None and open_graphs(config) is None


def test_a_damaged_graph_is_named_and_pulling_makes_it_again(language_model: Path, tmp_path: Path) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    make_graphs(model, config)
    for name in ("lower.bin", "judge.bin"):
        (file,) = (tmp_path / "cache" / "onnx").rglob(name)
        with file.open("r+b") as damaged:
            damaged.seek(5_000)
            damaged.write(b"other bytes")
        with pytest.raises(WeightsCorrupt, match=rf"{name}: is damaged .* trimodal models pull qwen"):
            TrainedReranker(model, config, "cpu").score_media("a dog", media(config))
        make_graphs(model, config)
        assert len(TrainedReranker(model, config, "cpu").score_media("a dog", media(config))) == 9


def test_a_graph_that_this_onnx_runtime_can_not_run_names_the_command_of_its_own_model(
    language_model: Path, tmp_path: Path
) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    ours, _ = both(model, config)
    for session, name in ((ours.lower._session, "lower"), (ours._upper, "upper")):
        session._path.write_bytes(b"no graph")
        with pytest.raises(WeightsCorrupt, match=rf"{name}\.onnx: can't be run .* trimodal models pull qwen"):
            session.run(None, {})


def test_a_reranked_search_imports_no_torch_and_finds_what_torch_finds(language_model: Path, tmp_path: Path) -> None:
    model, config = save_small_reranked_model(tmp_path / "m", language_model)
    pictures(tmp_path / "media", 12)
    place, runner = tmp_path / "c", CliRunner()
    index = ["index", str(tmp_path / "media"), "-c", str(place), "--model", str(model)]
    assert runner.invoke(app, index).exit_code == 0
    pulled = runner.invoke(app, ["models", "pull", str(model)])
    assert pulled.exit_code == 0, pulled.output
    assert open_graphs(config) is not None
    ours, theirs = light_search(place, "a dog", "--rerank")
    assert [hit["path"] for hit in ours] == [hit["path"] for hit in theirs]
    chances = [[hit["match_probability"] for hit in hits] for hits in (ours, theirs)]
    np.testing.assert_allclose(*chances, atol=0.02)
    assert len(set(chances[0])) == 5
