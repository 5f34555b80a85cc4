"""The reranker's model and training on small models."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_model import save_language_model
from studio import build_studio
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.encoders import open_encoder
from indexer.encoders.specs import LoraSpec
from indexer.encoders.tokens.compressor import Compressor, CompressorSpec, fill_part
from indexer.encoders.tokens.config import read_reranker
from indexer.encoders.tokens.format import TokenSpec, token_encoder
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError, RecipeError, UsageError, WeightsCorrupt
from indexer.items import Modality
from indexer.training.dual import train_dual
from indexer.training.loading import load_recipe
from retrieval.rerank import open_reranker
from retrieval.rerank.calibration import expected_calibration_error, platt
from retrieval.rerank.captioning import beam_search, likeliest
from retrieval.rerank.guesses import Guess
from retrieval.rerank.names import NAMES, load_names
from retrieval.rerank.reader import Reader
from retrieval.rerank.scorer import Scorer, ScorerSpec
from retrieval.rerank.trained import TrainedReranker
from retrieval.rerank.training.heldout import best_cosine_weight, hit_rates
from retrieval.rerank.training.recipe import load_rerank_recipe
from retrieval.rerank.training.train import train_reranker

PROMPT = 'It shows "{text}" in one word: "'
TEXTS = ["red", "a red square", "a green square on a red one"]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("lm") / "llama", "llama")


@pytest.fixture(scope="module")
def reader(language_model: Path) -> Reader:
    return Reader(language_model, layers=0, lower=1, prompt=PROMPT)


def scorer_of(reader: Reader, interaction: str = "bidirectional", *, open_gates: bool = True) -> Scorer:
    torch.manual_seed(3)
    spec = ScorerSpec(reader.width, len(reader.upper_layers), 12, 5, 16, 2, 8, interaction)  # type: ignore[arg-type]
    scorer = Scorer(spec).eval()
    scorer.whiten(torch.randn(60, reader.width))
    torch.nn.init.normal_(scorer.judge[-1].weight)  # type: ignore[arg-type]
    if open_gates and len(scorer.gates):
        torch.nn.init.constant_(scorer.gates, 0.04)
        torch.nn.init.constant_(scorer.caption_gates, 0.03)
        torch.nn.init.constant_(scorer.back_gate, 0.04)
    return scorer


def whole_states(language_model: Path, reader: Reader, text: str) -> torch.Tensor:
    """What transformers' own model gives for the prompt, ``(t, width)``."""
    ensure_torchvision()
    from transformers import AutoModel

    model = AutoModel.from_pretrained(language_model, dtype=torch.float32)
    with torch.inference_mode():
        states: torch.Tensor = model(input_ids=torch.tensor([reader.token_ids(text)])).last_hidden_state[0]
    return states


def test_with_closed_gates_the_last_token_is_that_of_the_unchanged_language_model(
    language_model: Path, reader: Reader
) -> None:
    scorer = scorer_of(reader, open_gates=False)
    keys = scorer._keys(torch.randn(3, 5, 12))
    with torch.inference_mode():
        last, text = reader.read(reader.states(TEXTS), 1, lambda n, x: scorer._interact(n, x, keys, scorer.gates))
    for row, words in enumerate(TEXTS):
        whole = whole_states(language_model, reader, words)
        torch.testing.assert_close(last[row, 0], whole[-1], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(text[row, : len(whole)], whole, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("interaction", ["none", "one-way", "bidirectional"])
def test_a_pair_scores_the_same_alone_and_in_any_batch(reader: Reader, interaction: str) -> None:
    scorer = scorer_of(reader, interaction)
    media = torch.randn(4, 5, 12)
    with torch.inference_mode():
        batch = scorer(reader, reader.states(TEXTS), media.expand(3, -1, -1, -1))
        for row, words in enumerate(TEXTS):
            for column in range(4):
                alone = scorer(reader, reader.states([words]), media[None, column : column + 1])
                torch.testing.assert_close(batch[row, column], alone[0, 0], atol=2e-5, rtol=1e-4)
    assert len(set(batch.flatten().tolist())) == 12


def test_media_reach_the_language_model_only_where_it_attends_to_them(reader: Reader) -> None:
    media = torch.randn(2, 5, 12)
    for interaction, alike in (("none", True), ("one-way", False)):
        scorer = scorer_of(reader, interaction)
        keys = scorer._keys(media)
        states = reader.states(["red"])
        with torch.inference_mode():
            last, _ = reader.read(states, 2, lambda layer, rows, s=scorer, k=keys: s._interact(layer, rows, k, s.gates))
        assert torch.equal(last[0, 0], last[0, 1]) is alike


def test_the_caption_loss_is_that_of_the_language_model_over_the_captions_own_tokens(
    language_model: Path, reader: Reader
) -> None:
    scorer = scorer_of(reader, open_gates=False)
    states = reader.states(TEXTS[1:2])
    with torch.inference_mode():
        found = scorer.caption_loss(reader, states, torch.randn(1, 5, 12)).item()
        whole = whole_states(language_model, reader, TEXTS[1])
        chances = reader.logits(whole).log_softmax(dim=-1)
    ids = reader.token_ids(TEXTS[1])
    start, stop = len(reader.before), len(ids) - len(reader.after) + 1  # with the mark that ends it
    expected = -np.mean([chances[at - 1, ids[at]].item() for at in range(start, stop)])
    assert found == pytest.approx(expected, abs=1e-4)


def test_telling_opens_its_own_gates_and_leaves_judging_as_it_was(reader: Reader) -> None:
    scorer, media = scorer_of(reader, open_gates=False), torch.randn(3, 5, 12)
    scorer.lock_projections()
    before = {name: value.clone() for name, value in scorer.state_dict().items()}
    optimiser = torch.optim.SGD([one for one in scorer.parameters() if one.requires_grad], 0.1)
    states = reader.states(TEXTS)
    judged = scorer(reader, states, media.expand(3, -1, -1, -1))
    first = scorer.caption_loss(reader, states, media)
    for _ in range(20):
        optimiser.zero_grad()
        loss = scorer.caption_loss(reader, states, media)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss < first
    moved = {name for name, value in scorer.state_dict().items() if not torch.equal(value, before[name])}
    assert "tell_gates" in moved and all(name.startswith(("cross.", "tell_gates")) for name in moved)
    assert torch.equal(scorer(reader, states, media.expand(3, -1, -1, -1)), judged)


def test_one_beam_is_greedy_decoding(reader: Reader) -> None:
    scorer, media = scorer_of(reader, "one-way"), torch.randn(1, 5, 12)
    words: list[int] = []
    ending = reader.tokenizer.decode(reader.after[:1])[:1]
    with torch.inference_mode():
        for _ in range(5):
            hidden = scorer.caption_states(reader, reader.states_of([[*reader.before, *words]]), media)[0, -1]
            ranked = reader.logits(hidden).argsort(descending=True).tolist()
            best = ranked[0]
            if reader.tokenizer.decode([best]).startswith(ending) and words:
                break
            words.append(best if not reader.tokenizer.decode([best]).startswith(ending) else ranked[1])
        assert beam_search(reader, scorer, media, beams=1, max_tokens=5) == [reader.tokenizer.decode(words).strip()]


def slow_beams(reader: Reader, scorer: Scorer, media: torch.Tensor, beams: int, max_tokens: int) -> str:
    """One media ``(1, count, width)``; every word runs the whole text again."""
    ending = reader.tokenizer.decode(reader.after[:1])[:1]
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for _ in range(max_tokens):
        found = []
        for total, words in live:
            hidden = scorer.caption_states(reader, reader.states_of([[*reader.before, *words]]), media)[0, -1]
            best = reader.logits(hidden).float().log_softmax(dim=-1).topk(beams + 1)
            found += [
                (total + v, [*words, t]) for v, t in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        found.sort(key=lambda one: -one[0])
        live = []
        for total, words in found:
            if reader.tokenizer.decode(words[-1:]).startswith(ending):
                ended += [(total / len(words), words[:-1])] if len(words) > 1 else []
            elif len(live) < beams:
                live.append((total, words))
        if len(ended) >= beams or not live:
            break
    best_words = max(ended or [(total / len(words), words) for total, words in live], key=lambda one: one[0])[1]
    return str(reader.tokenizer.decode(best_words)).strip()


@pytest.mark.parametrize("interaction", ["none", "one-way"])
def test_captions_told_side_by_side_are_those_told_alone_and_anew(reader: Reader, interaction: str) -> None:
    scorer, media = scorer_of(reader, interaction), torch.randn(5, 5, 12)
    with torch.inference_mode():
        together = beam_search(reader, scorer, media, beams=3, max_tokens=6)
        assert together == [slow_beams(reader, scorer, one[None], 3, 6) for one in media]
        assert together == [beam_search(reader, scorer, one[None], beams=3, max_tokens=6)[0] for one in media]
    assert beam_search(reader, scorer, media[:0], beams=3) == []


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_language_model_that_cannot_be_run_layer_by_layer_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    place = save_language_model(tmp_path / kind, kind)
    with pytest.raises(ModelError, match=r"rotary|causal"):
        Reader(place, layers=0, lower=1, prompt=PROMPT)


def test_qwen2_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    place = save_language_model(tmp_path / "qwen", "qwen2")
    reader = Reader(place, layers=0, lower=1, prompt=PROMPT)
    with torch.inference_mode():
        last, _ = reader.read(reader.states(TEXTS), 1, lambda layer, rows: rows)
    for row, words in enumerate(TEXTS):
        torch.testing.assert_close(last[row, 0], whole_states(place, reader, words)[-1], atol=2e-5, rtol=1e-4)


def test_the_compressor_sums_up_the_pooled_rows_first_and_then_gives_its_queries() -> None:
    torch.manual_seed(0)
    spec = CompressorSpec(((1, 6), (9, 4)), queries=3, width=8, heads=2, summary=1, whitened=4, hidden=8)
    compressor = Compressor(spec).eval()
    compressor.whiten(torch.randn(30, 6))
    one, other = torch.randn(2, 1, 6), torch.randn(2, 9, 4)
    with torch.inference_mode():
        tokens = compressor([one, other])
        changed = compressor([one, other + torch.randn_like(other)])
    assert tokens.shape == (2, 4, 8) and spec.count == 4
    assert torch.equal(tokens[:, 0], changed[:, 0]) and not torch.equal(tokens[:, 1:], changed[:, 1:])


def test_a_trunk_dropped_in_training_is_read_as_its_mean() -> None:
    torch.manual_seed(0)
    spec = CompressorSpec(((1, 6), (1, 4)), queries=1, width=8, heads=2, summary=1, whitened=4, hidden=8)
    compressor = Compressor(spec, trunk_dropout=1.0)
    compressor.whiten(torch.randn(30, 10))
    rows = [torch.randn(64, 1, 6), torch.randn(64, 1, 4)]
    with torch.inference_mode():
        tokens = compressor.train()(rows)
        mean = compressor.head.mean
        without_first = compressor.eval()([mean[:6].expand(64, 1, 6), rows[1]])
        without_second = compressor([rows[0], mean[6:].expand(64, 1, 4)])
    lost = [torch.isclose(tokens, other, atol=1e-5).all(dim=(1, 2)) for other in (without_first, without_second)]
    assert (lost[0] ^ lost[1]).all() and lost[0].any() and lost[1].any()


def test_packed_tokens_come_back_within_half_a_step() -> None:
    spec = TokenSpec(3, 8, "x")
    tokens = np.random.default_rng(0).normal(size=(5, 3, 8)).astype(np.float32) * 40
    tokens[0, 0] = 0
    packed = spec.pack(tokens)
    assert packed.dtype == np.uint8 and packed.shape == (5, 3 * 10) == (5, spec.row_bytes)
    steps = np.abs(tokens).max(axis=2, keepdims=True) / 127
    assert (np.abs(spec.unpack(packed) - tokens) <= 0.5 * steps + 0.07 * steps + 1e-9).all()
    assert not spec.unpack(packed)[0, 0].any()


# ------------------------------------------------------------------------------------------- training

RECIPE = """
dual = "recipe.toml"
model = "dual"
seed = 5
depth = 8
[compressor]
grids = [0]
queries = 3
width = 16
heads = 2
dropout = 0.1
[language_model]
source = "{lm}"
layers = 0
lower = 1
prompt = 'It shows "{{text}}" in one word: "'
[scorer]
inner = 16
heads = 2
joint = 12
[shares]
audio = 0.6
text = 0.6
[align]
steps = 4
batch = 6
evaluate_every = 2
[tell]
steps = 4
batch = 4
evaluate_every = 2
[match]
steps = 4
batch = 4
near = 1
evaluate_every = 2
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studio with a dual encoder that has a reranker."""
    place = build_studio(tmp_path_factory.mktemp("rerank"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMODAL_CACHE", str(place / "cache"))
        train_dual(load_recipe(place / "recipe.toml"), place / "dual")
        (place / "rerank.toml").write_text(RECIPE.format(lm=place / "lm"))
        train_reranker(load_rerank_recipe(place / "rerank.toml"), place / "dual")
    return place


def test_a_trained_reranker_scores_pairs_and_tells_captions(trained: Path) -> None:
    encoder = open_encoder(str(trained / "dual"))
    maker, reranker = token_encoder(encoder), open_reranker(encoder)
    assert maker is not None and reranker is not None
    pictures = [
        encoder.prepare_image(Image.open(trained / "pool" / f"{name}0.png")) for name in ("red", "blue", "green")
    ]
    vectors, tokens = maker.encode_images_with_tokens(pictures)
    np.testing.assert_allclose(vectors, encoder.encode_images(pictures), atol=1e-2)
    assert tokens.shape == (3, reranker.token_spec.row_bytes)
    scores = reranker.score_media("red", tokens, Modality.IMAGE)
    assert scores.shape == (3,) and np.isfinite(scores).all()
    texts = ["red", "a blue square", "green"]
    matrix = np.stack([reranker.score_media(text, tokens, Modality.IMAGE) for text in texts])
    other = np.stack([reranker.score_texts(tokens[n : n + 1], texts, Modality.IMAGE) for n in range(3)], axis=1)
    np.testing.assert_allclose(matrix, other, atol=0.2)  # bfloat16 where the machine has it
    chances = reranker.probability(np.array([-5.0, 0.0, 5.0], dtype=np.float32), Modality.IMAGE)
    assert ((chances > 0) & (chances < 1)).all()
    assert len(reranker.caption(tokens, beams=2, max_words=4)) == 3
    assert isinstance(reranker, TrainedReranker)
    silent = TrainedReranker(trained / "dual", replace(reranker.config, captions=False))
    with pytest.raises(ModelError, match="not trained enough to caption"):
        silent.caption(tokens)


def test_captions_choose_from_the_names_that_a_model_was_given(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "dual"
    shutil.copytree(trained / "dual", model)
    (tmp_path / "names.txt").write_text("red\nblue\ngreen\na blue square\nyellow\n")
    run = CliRunner().invoke
    told = run(app, ["train", "names", str(tmp_path / "names.txt"), "--model", str(model)])
    assert told.exit_code == 0 and "captions choose from 5 names" in told.output
    encoder = open_encoder(str(model))
    maker, reranker = token_encoder(encoder), open_reranker(encoder)
    assert maker is not None and isinstance(reranker, TrainedReranker)
    assert reranker.token_spec == open_reranker(open_encoder(str(trained / "dual"))).token_spec  # type: ignore[union-attr]
    paths = [trained / "pool" / f"{name}0.png" for name in ("red", "blue", "green")]
    vectors, tokens = maker.encode_images_with_tokens([encoder.prepare_image(Image.open(path)) for path in paths])
    names = {"red", "blue", "green", "a blue square", "yellow"}
    assert set(reranker.caption(tokens)) <= names and set(reranker.caption(tokens, vectors)) <= names

    # of equally near ones the likeliest to be told, of equally likely ones the nearest
    parts, scorer = reranker.pair_model.language
    media = torch.from_numpy(reranker.token_spec.unpack(tokens))[0]
    states = parts.states(["red", "red", "green"])
    with torch.inference_mode():
        assert likeliest(parts, scorer, states, media, [0.1, 0.5, -9.0]) == 1
        alone = [float(-scorer.caption_loss(parts, parts.states([text]), media[None])) for text in ("red", "green")]
        counts = [len(parts.token_ids(text)) - len(parts.before) - len(parts.after) + 1 for text in ("red", "green")]
        best = int(np.argmax([mean * count for mean, count in zip(alone, counts, strict=True)]))
        assert likeliest(parts, scorer, parts.states(["red", "green"]), media, [0.2, 0.2]) == best

    (model / "reranker" / NAMES).write_bytes(b"other")
    with pytest.raises(ModelError, match="names.safetensors: is missing or not the one .* trimodal train names"):
        open_reranker(encoder).caption(tokens)  # type: ignore[union-attr]
    none = run(app, ["train", "names", str(tmp_path / "names.txt"), "--model", str(tmp_path)])
    assert none.exit_code == 3 and "Traceback" not in none.output


def test_train_names_leaves_out_what_no_caption_may_say_and_warns(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "dual"
    shutil.copytree(trained / "dual", model)
    (tmp_path / "names.txt").write_text("red\nrape\nblue\nsuicides\n")
    done = CliRunner().invoke(app, ["train", "names", str(tmp_path / "names.txt"), "--model", str(model)])
    assert done.exit_code == 0 and "captions choose from 2 names" in done.stdout
    assert "warning: 2 names have words that no caption may say and are left out: 'rape', 'suicides'" in done.stderr
    assert load_names(model / "reranker" / NAMES).phrases == ("red", "blue")


def test_a_name_below_the_least_probability_of_the_model_is_not_given(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "dual"
    shutil.copytree(trained / "dual", model)
    (tmp_path / "names.txt").write_text("red\nblue\n")
    run = CliRunner().invoke
    assert run(app, ["train", "names", str(tmp_path / "names.txt"), "--model", str(model)]).exit_code == 0
    encoder = open_encoder(str(model))
    maker, reranker = token_encoder(encoder), open_reranker(encoder)
    assert maker is not None and isinstance(reranker, TrainedReranker)
    vectors, tokens = maker.encode_images_with_tokens(
        [encoder.prepare_image(Image.open(trained / "pool" / "red0.png"))]
    )
    (given,) = reranker.guess(tokens, vectors)
    assert given.words in {"red", "blue"} and given.probability is None
    naming = {"slope": 0.0, "intercept": -1.0, "least": 0.2}
    chance = 1 / (1 + np.exp(1.0))
    sure = TrainedReranker(model, replace(reranker.config, naming=naming))
    assert sure.guess(tokens, vectors)[0] == Guess(given.words, pytest.approx(chance))
    doubtful = TrainedReranker(model, replace(reranker.config, naming={**naming, "least": 0.3}))
    assert doubtful.guess(tokens, vectors)[0] == Guess("", pytest.approx(chance))
    assert doubtful.caption(tokens, vectors) == [""]
    assert doubtful.token_spec == reranker.token_spec


@pytest.mark.parametrize("naming", [{"least": 0.5}, {"slope": 1, "intercept": 0, "least": 0.5, "x": 1}])
def test_a_naming_that_is_not_whole_is_refused(trained: Path, tmp_path: Path, naming: dict[str, float]) -> None:
    shutil.copytree(trained / "dual" / "reranker", tmp_path / "reranker")
    path = tmp_path / "reranker" / "reranker.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "naming": naming}))
    with pytest.raises(ModelError, match="naming"):
        read_reranker(tmp_path, document["encoder"])


def test_a_recipe_names_what_captions_choose_from(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(trained / "cache"))
    recipe = trained / "named.toml"
    recipe.write_text(RECIPE.format(lm=trained / "lm").replace("seed = 5", 'seed = 5\nnames = "words.txt"'))
    out = tmp_path / "out"
    shutil.copytree(trained / "dual", out)
    with pytest.raises(UsageError, match="words.txt: cannot be read"):
        train_reranker(load_rerank_recipe(recipe), out)
    (trained / "words.txt").write_text("red\nblue\n")
    train_reranker(load_rerank_recipe(recipe), out)
    encoder = open_encoder(str(out))
    config = read_reranker(out, encoder.fingerprint)
    assert config is not None and config.names and load_names(out / "reranker" / NAMES).phrases == ("red", "blue")


def test_sounds_and_texts_are_judged_where_they_were_trained_on(trained: Path, tmp_path: Path) -> None:
    encoder = open_encoder(str(trained / "dual"))
    maker, reranker = token_encoder(encoder), open_reranker(encoder)
    assert maker is not None and reranker is not None
    image, audio, text = Modality.IMAGE, Modality.AUDIO, Modality.TEXT
    assert all(reranker.supports(*pair) for pair in [(text, image), (audio, text), (text, audio), (text, text)])
    assert not reranker.supports(image, audio) and not reranker.supports(image, image)
    windows = [np.sin(np.arange(n) / 9).astype(np.float32) for n in (8_000, 16_000)]
    prepared = [encoder.prepare_audio(window) for window in windows]
    vectors, tokens = maker.encode_audio_with_tokens(prepared)
    np.testing.assert_allclose(vectors, encoder.encode_audio(prepared), atol=1e-2)
    alone = maker.encode_audio_with_tokens(prepared[1:])[1]
    near = [reranker.token_spec.unpack(rows) for rows in (tokens[1:], alone)]
    np.testing.assert_allclose(near[0], near[1], atol=0.1)
    assert len(set(reranker.score_media("red", tokens, audio).tolist())) == 2
    texts = ["a red square", "blue", "green"]
    pairs = reranker.score_pairs("red", texts)
    single = [reranker.score_pairs("red", [one])[0] for one in texts]
    np.testing.assert_allclose(pairs, single, atol=0.2)
    assert len(set(pairs.tolist())) == 3
    alike = [reranker.probability(np.zeros(1, np.float32), modality)[0] for modality in (image, audio, text)]
    assert all(0 < chance < 1 for chance in alike)


def test_without_shares_only_pictures_are_judged(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(trained / "cache"))
    shutil.copytree(trained / "dual", tmp_path / "dual")
    path = trained / "pictures.toml"
    path.write_text((trained / "rerank.toml").read_text().replace("audio = 0.6\ntext = 0.6", ""))
    train_reranker(load_rerank_recipe(path), tmp_path / "dual")
    encoder = open_encoder(str(tmp_path / "dual"))
    maker, reranker = token_encoder(encoder), open_reranker(encoder)
    assert maker is not None and reranker is not None
    assert reranker.supports(Modality.IMAGE, Modality.TEXT) and not reranker.supports(Modality.TEXT, Modality.AUDIO)
    assert not reranker.supports(Modality.TEXT, Modality.TEXT)
    window = encoder.prepare_audio(np.ones(8_000, np.float32))
    assert not maker.encode_audio_with_tokens([window])[1].any()


def test_adapters_in_the_upper_layers_are_trained_kept_and_folded_in(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(trained / "cache"))
    shutil.copytree(trained, tmp_path / "studio")
    place = tmp_path / "studio"
    lora = "learning_rate = 0.05\n[lora]\nrank = 2\ntargets = ['q_proj', 'o_proj']\n"
    (place / "rerank.toml").write_text((place / "rerank.toml").read_text() + lora)
    shutil.rmtree(place / "dual" / "reranker")
    train_reranker(load_rerank_recipe(place / "rerank.toml"), place / "dual")
    encoder = open_encoder(str(place / "dual"))
    maker, reranker = token_encoder(encoder), open_reranker(encoder)
    assert maker is not None and isinstance(reranker, TrainedReranker) and reranker.config.lora is not None
    _, tokens = maker.encode_images_with_tokens([encoder.prepare_image(Image.open(place / "pool" / "red0.png"))])
    merged, _ = reranker.pair_model.language
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    adapted = reranker.score_media("red", tokens, Modality.IMAGE)
    locked = TrainedReranker(place / "dual", replace(reranker.config, lora=None))
    assert not np.allclose(adapted, locked.score_media("red", tokens, Modality.IMAGE), atol=1e-3)
    beside = locked.pair_model.language[0]
    beside.add_lora(LoraSpec(2, 16.0, 0.1, ("q_proj", "o_proj")))
    fill_part(place / "dual", reranker.config, "lora", beside.upper_layers)
    beside.eval()
    np.testing.assert_allclose(adapted, locked.score_media("red", tokens, Modality.IMAGE), atol=0.2)


def test_a_run_that_is_killed_goes_on_to_the_same_weights(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(trained / "cache"))
    recipe = load_rerank_recipe(trained / "rerank.toml")
    whole, broken = trained / "whole", trained / "broken"
    train_reranker(recipe, whole)

    for nth in (2, 3):  # the point at which it dies, each time counted anew: within the first stage, within the second
        told = 0

        def kill(step: int, figures: dict[str, float], nth: int = nth) -> None:
            nonlocal told
            told += 1
            if told == nth:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_reranker(recipe, broken, on_point=kill)
    train_reranker(recipe, broken)
    one, other = (place / "reranker" / "reranker.safetensors" for place in (whole, broken))
    assert one.read_bytes() == other.read_bytes()
    assert not list(broken.glob("*.pt"))


def test_near_duplicates_of_the_evaluation_are_not_trained_on(trained: Path) -> None:
    report = json.loads((trained / "dual" / "reranker" / "training.json").read_text())
    assert report["trained_on"]["image"] == 6 * 5 - 1 and report["heldout"]["image"]["things"] == 2 * 5


def test_a_reranker_of_another_encoder_or_with_other_weights_is_refused(trained: Path, tmp_path: Path) -> None:
    config = read_reranker(trained / "dual", open_encoder(str(trained / "dual")).fingerprint)
    assert config is not None
    with pytest.raises(ModelError, match="another dual encoder"):
        read_reranker(trained / "dual", "0" * 32)
    weights = trained / "dual" / "reranker" / "reranker.safetensors"
    from retrieval.rerank.trained import TrainedReranker

    wrong = TrainedReranker(trained / "dual", replace(config, sha256="0" * 64))
    with pytest.raises(WeightsCorrupt, match=weights.name):
        wrong.score_media("red", np.zeros((1, config.token_spec.row_bytes), np.uint8))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seed = 5", "seeds = 5", "unknown key seeds"),
        ("batch = 4", "batch = 1", "match.batch is 1"),
        ('dual = "recipe.toml"', 'dual = "none.toml"', "none.toml: no such recipe"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_named(trained: Path, tmp_path: Path, old: str, new: str, told: str) -> None:
    path = trained / "wrong.toml"
    path.write_text((trained / "rerank.toml").read_text().replace(old, new))
    with pytest.raises(RecipeError, match=told):
        train_reranker(load_rerank_recipe(path), tmp_path)


# ------------------------------------------------------------------------------------------ figures


def test_platt_finds_the_slope_that_made_the_labels_and_lowers_the_calibration_error() -> None:
    random = np.random.default_rng(3)
    scores = random.normal(0, 3, 20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-(0.5 * scores - 1.0)))
    slope, intercept = platt(scores, labels)
    assert slope == pytest.approx(0.5, abs=0.03) and intercept == pytest.approx(-1.0, abs=0.06)
    after = expected_calibration_error(1 / (1 + np.exp(-(slope * scores + intercept))), labels)
    assert after < 0.02 < expected_calibration_error(1 / (1 + np.exp(-scores)), labels)
    assert all(map(math.isfinite, platt(np.array([0.0, 1.0]), np.array([False, True]))))


def test_held_out_hit_rates_break_ties_by_the_lower_index() -> None:
    scores = np.array([[1.0, 1.0], [0.0, 2.0]], dtype=np.float32)
    relevant = np.array([[False, True], [False, True]])
    assert hit_rates(scores, relevant)["text->image @1"] == 0.5
    weight, figures = best_cosine_weight(np.full((2, 2), -1e4, np.float32), scores, relevant)
    assert figures["text->image @1"] == 0.5 and weight == 1.0
