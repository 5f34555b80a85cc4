"""Text towers: any language model read out to rows, adapted, saved and merged; on small real checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_gguf import save_gguf
from small_model import save_language_model, save_small_model
from torch import nn

from indexer.encoders.specs import LoraSpec, TextSpec, read_config
from indexer.encoders.towers.language_model import open_language_model
from indexer.encoders.towers.load import language_model_directory, load_text_towers
from indexer.encoders.towers.text import TextTower, TextTowers
from indexer.encoders.weights.base_weights import is_pulled, sha256_of
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing

DECODERS = ("llama", "qwen2", "gpt2")
ENCODERS = ("bert", "roberta", "modernbert")
TEXTS = ["a dog", "a cat on a mat", "rain", "", "word " * 100, "a cat on a mat"]
LORA = LoraSpec(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directory of a small checkpoint of an architecture, made once."""
    place, made = tmp_path_factory.mktemp("lm"), dict[str, Path]()

    def directory(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_language_model(place / kind, kind)
        return made[kind]

    return directory


@pytest.fixture
def tower(models: Callable[[str], Path]) -> Callable[..., TextTower]:
    def make(kind: str, **changes: Any) -> TextTower:
        return TextTower(TextSpec(str(models(kind)), **changes), models(kind))

    return make


Make = Callable[..., TextTower]


def disturb(tower: TextTower, scale: float = 0.05) -> None:
    """Stand in for training: move everything that is trainable."""
    torch.manual_seed(5)
    with torch.no_grad():
        for tensor in tower.trained_state().values():
            tensor.add_(torch.randn_like(tensor) * scale)


def states(tower: TextTower, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return tower._states(torch.tensor([ids]), None)[0]


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
@pytest.mark.parametrize("readout", ["last", "mean", "learned"])
def test_every_architecture_gives_finite_rows_that_differ(tower: Make, kind: str, readout: str) -> None:
    made = tower(kind, readout=readout, prompt="so: {text}. it", max_tokens=30)
    rows = made.features(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), made.width) == (6, 16)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[1], rows[5], atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 1e-2
    assert made.features([]).shape == (0, 16)
    assert made.forward([]).shape == (0, 16)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
@pytest.mark.parametrize("attention", ["native", "bidirectional"])
@pytest.mark.parametrize("readout", ["last", "mean", "learned"])
def test_padding_changes_no_row(tower: Make, kind: str, attention: str, readout: str) -> None:
    made = tower(kind, attention=attention, readout=readout, prompt="so: {text}. it", max_tokens=30)
    made.unlock(None)
    disturb(made, 1.0)  # of the learned query
    alone = torch.cat([made.forward([text]) for text in TEXTS])
    torch.testing.assert_close(made.forward(TEXTS), alone, atol=1e-4, rtol=0)
    np.testing.assert_allclose(made.features(TEXTS), alone.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_bidirectional_lets_the_first_token_see_the_last_and_native_does_not(tower: Make, kind: str) -> None:
    for attention, sees in (("native", False), ("bidirectional", True)):
        made = tower(kind, attention=attention)
        one, other = states(made, [5, 6, 7, 8]), states(made, [5, 6, 7, 9])
        assert (one[0] - other[0]).abs().max().item() > 1e-3 if sees else torch.equal(one[0], other[0])
        assert not torch.equal(one[-1], other[-1])


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_bidirectional_by_nature(tower: Make, kind: str) -> None:
    native, asked = tower(kind), tower(kind, attention="bidirectional")
    assert (states(native, [2, 6, 7, 3])[0] - states(native, [2, 6, 8, 3])[0]).abs().max() > 1e-3
    np.testing.assert_array_equal(native.features(TEXTS), asked.features(TEXTS))


def test_a_decoder_with_a_prompt_gives_what_the_plain_model_gives_for_its_last_token(
    tower: Make, models: Callable[[str], Path]
) -> None:
    from transformers import AutoModel

    made = tower("llama", prompt='This: "{text}" is "', max_tokens=3, lowercase=True)
    plain = AutoModel.from_pretrained(models("llama"))
    ids = made.tokenizer('This: "').input_ids + made.tokenizer("cat").input_ids + made.tokenizer('" is "').input_ids
    assert made.token_ids("Cats.") == ids
    with torch.inference_mode():
        expected = plain(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    np.testing.assert_allclose(made.features(["Cats."])[0], expected.numpy(), atol=1e-6)


def test_a_decoders_mean_is_over_the_texts_own_tokens_and_not_the_prompts(tower: Make) -> None:
    made = tower("llama", readout="mean", prompt="ab{text}cde")
    own = states(made, made.token_ids("wxyz"))[2:6].mean(dim=0)
    np.testing.assert_allclose(made.features(["wxyz"])[0], own.numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoders_mean_is_the_mean_pooling_of_sentence_transformers(
    tower: Make, models: Callable[[str], Path], kind: str
) -> None:
    """Their Pooling module: sum of the states times the attention mask, over the mask's sum, padded batch."""
    from transformers import AutoModel, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(models(kind))(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        model = AutoModel.from_pretrained(models(kind)).eval()
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    expected = (hidden * mask).sum(1) / mask.sum(1)
    made = tower(kind, readout="mean", max_tokens=500)
    np.testing.assert_allclose(made.features(TEXTS), expected.numpy(), atol=1e-5)


def test_special_tokens_stand_around_the_prompt_and_the_text_is_cut_inside_them(tower: Make) -> None:
    made = tower("bert", prompt="a: {text}.", max_tokens=2)
    cls, a, colon, b, c_inside, stop, sep = made.token_ids("bcdef")
    assert (cls, sep) == (2, 3)
    assert made.tokenizer.convert_ids_to_tokens([a, colon, b, c_inside, stop]) == ["a", ":", "b", "##c", "."]
    assert made.token_ids("") == [2, a, colon, stop, 3]


def test_the_learned_query_starts_as_the_mean_and_learns_which_tokens_count(tower: Make) -> None:
    made = tower("llama", readout="learned", prompt="see {text} ")
    np.testing.assert_allclose(
        made.features(TEXTS[:3]), tower("llama", readout="mean", prompt="see {text} ").features(TEXTS[:3]), atol=1e-6
    )
    made.unlock(None)
    assert list(made.trained_state()) == ["query"]
    target = torch.zeros(3, 16)
    optimiser = torch.optim.SGD(made.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        loss = nn.functional.mse_loss(made(TEXTS[:3]), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_layers_are_cut_from_the_end(tower: Make, kind: str, tmp_path: Path) -> None:
    directory = save_language_model(tmp_path, kind, num_hidden_layers=3)
    cut = TextTower(TextSpec(str(directory), layers=1), directory)
    assert len(cut._language_model.layers) == 1
    whole = TextTower(TextSpec(str(directory)), directory)
    for number, layer in enumerate(whole._language_model.layers):
        if number:
            layer.forward = lambda hidden, *_, **__: hidden
    np.testing.assert_allclose(cut.features(TEXTS), whole.features(TEXTS), atol=1e-6)


def test_locked_as_opened_and_the_models_own_dropout_never_on(tmp_path: Path) -> None:
    directory = save_language_model(tmp_path, "bert", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    made = TextTower(TextSpec(str(directory), readout="mean"), directory)
    assert not any(parameter.requires_grad for parameter in made.parameters())
    still = made.forward(TEXTS[:2])
    made.train()
    assert made.training
    torch.testing.assert_close(made.forward(TEXTS[:2]), still)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_unlocking_changes_nothing_and_trains_only_the_adapters(tower: Make, kind: str) -> None:
    made = tower(kind, readout="mean")
    before = made.features(TEXTS)
    made.unlock(LORA)
    np.testing.assert_array_equal(made.features(TEXTS), before)
    names = list(made.trained_state())
    assert names
    assert all(".lora_" in name for name in names)
    adapted = {name.partition(".lora_")[0] for name in names}
    from transformers.pytorch_utils import Conv1D

    fresh = tower(kind)
    stack = fresh._language_model.stack
    linear = {
        f"model.{name}"
        for name, module in fresh.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.startswith(stack)
    }
    assert adapted == linear
    loss = made.forward(TEXTS).square().sum()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in made.named_parameters() if parameter.grad is not None}
    assert gradients
    assert set(gradients) <= set(names)
    disturb(made)
    assert np.abs(made.features(TEXTS) - before).max() > 1e-3


def test_lora_dropout_is_on_in_training_only_and_never_in_features(tower: Make) -> None:
    made = tower("llama", readout="mean")
    made.unlock(replace(LORA, dropout=0.5))
    disturb(made, 0.3)
    rows = made.features(TEXTS)
    made.train()
    assert not torch.equal(made.forward(TEXTS), made.forward(TEXTS))
    np.testing.assert_array_equal(made.features(TEXTS), rows)
    assert made.training
    assert not torch.equal(made.forward(TEXTS), made.forward(TEXTS))  # features() gave the dropout back
    made.eval()
    torch.testing.assert_close(made.forward(TEXTS), made.forward(TEXTS))


def test_named_targets_are_adapted_alone(tower: Make) -> None:
    made = tower("llama")
    made.unlock(replace(LORA, targets=("q_proj", "v_proj")))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in made.trained_state()} == {"q_proj", "v_proj"}


def test_the_last_layers_and_the_final_norm_are_unlocked(tower: Make) -> None:
    made = tower("llama")
    made.unlock(None, last_layers=1)
    assert {name.split(".")[1] for name in made.trained_state()} == {"layers", "norm"}
    assert {name.split(".")[2] for name in made.trained_state() if "layers" in name} == {"1"}
    loss = made.forward(TEXTS).sum()
    loss.backward()
    assert made.model.get_parameter("layers.0.mlp.up_proj.weight").grad is None
    assert made.model.get_parameter("layers.1.mlp.up_proj.weight").grad is not None


def test_adapters_stay_float32_in_a_bfloat16_tower(tower: Make) -> None:
    made = tower("llama", readout="learned").to(torch.bfloat16)
    made.unlock(LORA)
    assert {tensor.dtype for tensor in made.trained_state().values()} == {torch.float32}
    rows = made.forward(TEXTS)
    assert rows.dtype == torch.float32
    rows.sum().backward()
    assert made.lm_loss(TEXTS).isfinite()
    assert {tensor.dtype for tensor in made.trained_state().values()} == {torch.float32}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize(("lora", "last_layers"), [(LORA, 0), (None, 1), (LORA, 1)])
def test_an_adapter_comes_back_merged_and_gives_the_rows_of_training(
    tower: Make, kind: str, tmp_path: Path, lora: LoraSpec | None, last_layers: int
) -> None:
    spec = {"attention": "bidirectional", "readout": "learned", "lora": lora}
    trained = tower(kind, **spec)
    trained.unlock(lora, last_layers)
    disturb(trained)
    rows = trained.features(TEXTS)
    digest = trained.save_adapter(tmp_path / "text.safetensors")
    assert digest == sha256_of(tmp_path / "text.safetensors")
    assert {tensor.dtype for tensor in load_file(tmp_path / "text.safetensors").values()} == {torch.float16}
    loaded = tower(kind, **spec)
    assert np.abs(loaded.features(TEXTS) - rows).max() > 1e-2
    loaded.load_adapter(tmp_path / "text.safetensors")
    np.testing.assert_allclose(loaded.features(TEXTS), rows, atol=1e-3, rtol=1e-3)  # the file is float16
    assert not loaded.trained_state()
    assert not any("lora" in name for name, _ in loaded.named_modules())
    going_on = tower(kind, **spec)
    going_on.load_adapter(tmp_path / "text.safetensors", merge=False)
    np.testing.assert_allclose(going_on.features(TEXTS), loaded.features(TEXTS), atol=1e-4)
    assert list(going_on.trained_state()) == list(trained.trained_state())


def test_an_adapter_of_another_tower_is_refused_naming_the_difference(tower: Make, tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    trained = tower("llama", lora=LORA)
    trained.unlock(LORA)
    trained.save_adapter(path)
    for kind, changes, message in (
        ("qwen2", {"lora": LORA}, "trained with architecture llama, this tower has qwen2"),
        ("llama", {"lora": LORA, "layers": 1}, "trained with layers 0, this tower has 1"),
        ("llama", {"lora": replace(LORA, rank=2)}, "trained with lora .*'rank': 4.* has .*'rank': 2"),
        ("llama", {}, "trained with lora .* this tower has None"),
    ):
        with pytest.raises(WeightsCorrupt, match=message):
            tower(kind, **changes).load_adapter(path)


def test_a_broken_or_foreign_adapter_file_is_refused(tower: Make, tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    with pytest.raises(WeightsMissing, match=r"text\.safetensors: is missing"):
        tower("llama").load_adapter(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsCorrupt, match="is no whole safetensors file"):
        tower("llama").load_adapter(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsCorrupt, match="is no adapter of a text tower"):
        tower("llama").load_adapter(path)


def test_the_lm_loss_is_that_of_the_whole_causal_model(tower: Make, models: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM

    for kind in DECODERS:
        whole = AutoModelForCausalLM.from_pretrained(models(kind)).eval()
        made = tower(kind, attention="bidirectional", prompt="so {text} it")
        texts, surprises = ["a dog", "a cat on a mat", "x"], []
        for text in texts:
            ids = made.tokenizer(text, return_tensors="pt").input_ids[0]
            with torch.inference_mode():
                logs = whole(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
            surprises += [-logs[n, ids[n + 1]].item() for n in range(len(ids) - 1)]
        assert made.lm_loss(texts).item() == pytest.approx(np.mean(surprises), rel=1e-5)
        assert made.lm_loss(["x", ""]).item() == 0


@pytest.mark.parametrize("kind", DECODERS)
def test_the_lm_loss_trains_the_adapters_that_the_rows_are_read_through(tower: Make, kind: str) -> None:
    made = tower(kind, attention="bidirectional", readout="mean")
    made.unlock(LORA)
    before = made.features(TEXTS)
    optimiser = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    made.train()
    for _ in range(15):
        loss = made.lm_loss(["a cat on a mat", "a dog"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert np.abs(made.features(TEXTS) - before).max() > 1e-2
    assert all(".lora_" in name for name in made.trained_state())  # neither the head nor what it shares


def test_an_encoder_has_no_lm_loss(tower: Make) -> None:
    with pytest.raises(ModelError, match="a BertModel is an encoder, it has no next-token loss"):
        tower("bert").lm_loss(["a dog"])


def test_a_model_saved_without_its_head_has_no_lm_loss(models: Callable[[str], Path], tmp_path: Path) -> None:
    bare = Path(shutil.copytree(models("llama"), tmp_path / "bare"))
    weights = load_file(bare / "model.safetensors")
    save_file({n: t for n, t in weights.items() if "lm_head" not in n}, bare / "model.safetensors", {"format": "pt"})
    made = TextTower(TextSpec(str(bare)), bare)
    with pytest.raises(ModelError, match="holds no language-model head"):
        made.lm_loss(["a dog"])


def test_towers_side_by_side_give_their_rows_joined(tower: Make) -> None:
    llama, bert = tower("llama"), tower("bert", readout="mean")
    both = TextTowers([llama, bert])
    assert both.width == 32
    np.testing.assert_array_equal(
        both.features(TEXTS), np.concatenate([llama.features(TEXTS), bert.features(TEXTS)], axis=1)
    )
    np.testing.assert_allclose(both(TEXTS).numpy(), both.features(TEXTS), atol=1e-4)
    assert both.features([]).shape == (0, 32)
    assert both.train().training
    assert not bert.model.training


def test_a_saved_encoder_opens_its_towers_with_what_was_trained_in_them(tmp_path: Path, tower: Make) -> None:
    model = save_small_model(tmp_path / "model")
    config = read_config(model)
    trained = tower("gpt2", readout="mean")
    trained.unlock(LORA)
    disturb(trained)
    digest = trained.save_adapter(model / "text-1.safetensors")
    second = replace(trained.spec, adapter="text-1.safetensors", lora=LORA)
    config = replace(config, text=(*config.text, second), sha256={**config.sha256, "text-1.safetensors": digest})
    (model / "encoder.json").write_text(json.dumps(config.to_json()), encoding="utf-8")
    towers = load_text_towers(model, read_config(model))
    assert towers.width == 32
    np.testing.assert_allclose(towers.features(TEXTS)[:, 16:], trained.features(TEXTS), atol=1e-3)
    with pytest.raises(WeightsCorrupt, match=r"promises no sha256"):
        load_text_towers(model, replace(config, sha256={}))
    with pytest.raises(WeightsCorrupt, match=r"text-1\.safetensors: sha256 is .* fetch the model again"):
        load_text_towers(model, replace(config, sha256={"text-1.safetensors": "0" * 64}))
    (model / "text-1.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"text-1\.safetensors: is missing"):
        load_text_towers(model, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, "has 2 layers, not 3"),
        ({"prompt": "no place"}, "has no {text}"),
        ({"max_tokens": 600}, "make 600 tokens, over its 512; lower max_tokens"),
    ],
)
@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_spec_that_the_model_can_not_do_is_refused(
    tower: Make, kind: str, changes: dict[str, Any], message: str
) -> None:
    message = message.replace("600 tokens", "602 tokens") if kind == "bert" else message
    with pytest.raises(ModelError, match=message):
        tower(kind, **changes)


def test_a_wish_for_training_that_the_model_can_not_do_is_refused(tower: Make) -> None:
    with pytest.raises(ModelError, match=r"lora target nothing: this model's linear layers are down_proj, .*v_proj"):
        tower("llama").unlock(replace(LORA, targets=("q_proj", "nothing")))
    with pytest.raises(ModelError, match="keeps 2 layers, can't unlock 3"):
        tower("llama").unlock(None, last_layers=3)
    made = tower("llama")
    made.unlock(LORA)
    with pytest.raises(ModelError, match="has LoRA adapters already"):
        made.unlock(LORA)


def test_a_directory_that_holds_no_usable_language_model_is_named(
    models: Callable[[str], Path], tmp_path: Path
) -> None:
    def broken(name: str, change: Callable[[Path], object]) -> Path:
        copy = Path(shutil.copytree(models("llama"), tmp_path / name))
        change(copy)
        return copy

    def without_a_tensor(place: Path) -> None:
        weights = load_file(place / "model.safetensors")
        del weights["model.norm.weight"]
        save_file(weights, place / "model.safetensors", {"format": "pt"})

    def pickled(place: Path) -> None:
        torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
        (place / "model.safetensors").unlink()

    def config(**changes: Any) -> Callable[[Path], None]:
        def change(place: Path) -> None:
            path = place / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

        return change

    def truncated(place: Path) -> None:
        path = place / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    remote = {"auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}, "model_type": "its own"}
    for number, (change, message) in enumerate(
        [
            (lambda place: (place / "config.json").unlink(), "has no config.json"),
            (lambda place: (place / "config.json").write_text("{"), "can't be opened"),
            (pickled, r"has no \*\.safetensors; pickled weights are not read"),
            (without_a_tensor, r"lack 1 tensors, as norm\.weight"),
            (truncated, "can't be opened"),
            (config(model_type="t5", architectures=None), "neither a causal LM nor a BERT-family encoder"),
            (config(**remote), "can't be opened"),
            (lambda place: [path.unlink() for path in place.glob("tokenizer*")], "can't be opened"),
        ]
    ):
        place = broken(str(number), change)
        with pytest.raises(ModelError, match=message) as caught:
            open_language_model(place)
        assert len(str(caught.value).splitlines()) == 1, message
        assert str(place) in str(caught.value)


def test_a_model_whose_mask_can_not_be_taken_away_is_refused(models: Callable[[str], Path], tmp_path: Path) -> None:
    """A recurrent model has none; it must not pass for a bidirectional one."""
    from transformers import MambaConfig, MambaForCausalLM

    copy = Path(shutil.copytree(models("llama"), tmp_path / "mamba"))
    MambaForCausalLM(MambaConfig(vocab_size=256, hidden_size=16, num_hidden_layers=2, state_size=4)).save_pretrained(
        copy
    )
    assert TextTower(TextSpec(str(copy), layers=1, readout="mean"), copy).features(["a dog"]).shape == (1, 16)
    with pytest.raises(ModelError, match="bidirectional"):
        TextTower(TextSpec(str(copy), attention="bidirectional"), copy)


def test_a_source_is_a_name_a_directory_a_gguf_or_of_the_hub(tmp_path: Path) -> None:
    assert language_model_directory(str(tmp_path)) == tmp_path
    with pytest.raises(
        WeightsMissing, match=r"/no/where: neither a directory, a \.gguf file, hub:NAME, nor one of mini"
    ):
        language_model_directory("/no/where")
    (tmp_path / "false.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match=r"false\.gguf: is no GGUF file"):
        language_model_directory(str(tmp_path / "false.gguf"))


def test_a_broken_gguf_is_a_stated_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ModelError, match=r"broken\.gguf: can't be opened") as caught:
        language_model_directory(str(tmp_path / "broken.gguf"))
    assert len(str(caught.value).splitlines()) == 1
    assert list((tmp_path / "cache" / "base").iterdir()) == []


def test_a_hub_out_of_reach_says_in_one_line_what_was_tried_and_where_files_could_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing) as caught:
        language_model_directory("hub:someone/some-model")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "someone/some-model can't be fetched" in message
    assert str(tmp_path) in message
    assert "into a directory and give that as the source" in message
    with pytest.raises(WeightsMissing, match="can't be fetched"):
        language_model_directory("hub:no such name!")


def test_a_model_in_the_hubs_cache_needs_no_connection(
    models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--someone--tiny"
    shutil.copytree(models("bert"), place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    directory = language_model_directory("hub:someone/tiny")
    assert directory == place / "snapshots" / commit
    assert TextTower(TextSpec("hub:someone/tiny"), directory).width == 16


def test_a_gguf_file_is_converted_once_and_gives_the_rows_of_its_safetensors(
    models: Callable[[str], Path], tower: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "small.gguf"
    save_gguf(source, models("llama"))
    directory = language_model_directory(str(source))
    made = TextTower(TextSpec(str(source), prompt="so {text} it"), directory)
    expected = tower("llama", prompt="so {text} it")
    assert made.token_ids("a dog") == expected.token_ids("a dog")
    np.testing.assert_allclose(made.features(TEXTS[:3]), expected.features(TEXTS[:3]), atol=1e-2)  # float16 weights
    assert made.lm_loss(TEXTS[:3]).item() == pytest.approx(expected.lm_loss(TEXTS[:3]).item(), rel=1e-2)
    written = (directory / "model.safetensors").stat().st_mtime_ns
    assert language_model_directory(str(source)) == directory
    assert (directory / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.skipif(not is_pulled("smollm2-135m-instruct"), reason="needs `trimodal models pull starter`")
def test_the_starters_language_model_is_read_by_the_last_token_of_its_prompt_without_special_tokens() -> None:
    from transformers import AutoModel

    name, prompt = "smollm2-135m-instruct", 'This picture: "{text}" means in one word: "'
    directory = language_model_directory(name)
    made = TextTower(TextSpec(name, layers=30, prompt=prompt, lowercase=True), directory)
    parts = ('This picture: "', "a red apple", '" means in one word: "')
    ids = [number for part in parts for number in made.tokenizer(part, add_special_tokens=False).input_ids]
    assert made.token_ids("A red apple.") == ids
    with torch.inference_mode():
        plain = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
        expected = plain(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]
    np.testing.assert_array_equal(made.features(["A red apple."])[0], expected.numpy())
