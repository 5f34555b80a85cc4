"""A stranger's models: every key and file of which a library would run code, if it were allowed to."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attack import model_dirs
from benchmarks.attack.strangers import BAIT, Case, Place
from indexer.encoders.identity import EncoderIdentity

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: What the user types; the model's spec follows.
_INDEX = ("index", "media", "-c", "collection", "--device", "cpu", "--model")

Change = Callable[[Place, Path], None]


def cases() -> list[Case]:
    """Directories by every command, repositories of the hub, and collections that name either."""
    found = []
    for name, change in OPENCLIP.items():
        found.append(Case(f"openclip: {name}", partial(_openclip, change)))
    for name, change in CLAP.items():
        found.append(Case(f"clap: {name}", partial(_clap, change)))
    for name, change in TRAINED.items():
        found.append(Case(f"trained: {name}", partial(_trained, change)))
    worst, clap = OPENCLIP["code in the tokenizer, allowed by tokenizer_kwargs"], CLAP["code in the tokenizer"]
    found += [
        Case("openclip: models show", partial(_openclip, worst, command=("models", "show"))),
        Case("openclip: models pull", partial(_openclip, worst, command=("models", "pull"))),
        Case("clap: models show", partial(_clap, clap, command=("models", "show"))),
        Case("clap: models pull", partial(_clap, clap, command=("models", "pull"))),
        Case("openclip: a repository of the hub", partial(_openclip_repository, worst)),
        Case("clap: a repository of the hub", partial(_clap_repository, clap)),
        Case("a collection that names an open_clip directory", partial(_collection, "openclip", worst)),
        Case("a collection that names a CLAP directory", partial(_collection, "clap", clap)),
        Case("a collection that names a repository of the hub", partial(_collection, "hub", worst)),
        Case("a collection that names a trained directory", partial(_collection, "trained", _code_in_tower)),
        Case("a collection of another width than its model", partial(_collection, "clap", clap, width=99)),
        Case("a collection that names a repository nobody has", _collection_of_nobody),
        Case("index into a stranger's collection", partial(_collection, "openclip", worst, index=True)),
    ]
    return found


# -- what is put into the files --------------------------------------------------------------------------------------


def payload(place: Place) -> str:
    """Python that leaves a trace."""
    return f"open({str(place.canary)!r}, 'w').write('ran')\n"


class _Reduced:
    """Unpickled, it writes the canary."""

    def __init__(self, place: Place) -> None:
        self.source = payload(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (self.source,))


def pickled(place: Place) -> bytes:
    """A pickle that runs."""
    return pickle.dumps({"state_dict": _Reduced(place)})


def zipped_pickle(place: Place) -> bytes:
    """The same in PyTorch's archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(place))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def object_arrays(place: Place) -> bytes:
    """NumPy's archive with an array of objects."""
    import numpy as np

    file = io.BytesIO()
    np.savez(file, weight=np.array([_Reduced(place)], dtype=object))
    return file.getvalue()


def torchscript() -> bytes:
    """A TorchScript archive: code by design."""
    import torch

    class Evil(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Evil()), file)
    return file.getvalue()


def _edit(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**document, **changes}))


def _code(place: Place, folder: Path, *names: str) -> None:
    """Modules with the classes that configurations name."""
    for name in names or ("evil",):
        classes = "".join(
            f"class {kind}:\n    @classmethod\n    def from_pretrained(cls, *a, **k):\n        raise ValueError()\n"
            for kind in ("EvilTokenizer", "EvilConfig", "EvilModel", "EvilProcessor")
        )
        (folder / f"{name}.py").write_text(payload(place) + classes)


def _auto_map(place: Place, folder: Path) -> None:
    """Every configuration file of transformers names code beside it."""
    _code(place, folder)
    _edit(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]},
        tokenizer_class="EvilTokenizer",
    )
    for name in ("config.json", "preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            maps = {
                "AutoConfig": "evil.EvilConfig",
                "AutoModel": "evil.EvilModel",
                "AutoProcessor": "evil.EvilProcessor",
                "AutoModelForCausalLM": "evil.EvilModel",
                "AutoFeatureExtractor": "evil.EvilProcessor",
            }
            _edit(folder / name, auto_map=maps, trust_remote_code=True)


# -- open_clip -------------------------------------------------------------------------------------------------------


def _text_cfg(folder: Path, **changes: Any) -> None:
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    document["model_cfg"]["text_cfg"].update(changes)
    path.write_text(json.dumps(document))


def _model_cfg(folder: Path, **changes: Any) -> None:
    path = folder / "open_clip_config.json"
    document = json.loads(path.read_text())
    document["model_cfg"].update(changes)
    path.write_text(json.dumps(document))


def _allowed(place: Place, folder: Path) -> None:
    _auto_map(place, folder)
    _text_cfg(folder, tokenizer_kwargs={"trust_remote_code": True})


def _other_directory(place: Place, folder: Path) -> None:
    other = place.stranger / "other"
    model_dirs.save_tokenizer(other)
    _auto_map(place, other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    _text_cfg(folder, hf_tokenizer_name=str(other), tokenizer_kwargs={"trust_remote_code": True, "use_fast": False})


def _repository_of_code(place: Place, folder: Path) -> None:
    _auto_map(place, folder)
    maps = {"AutoTokenizer": ["evil/code--evil.EvilTokenizer", None]}
    _edit(folder / "tokenizer_config.json", auto_map=maps)
    _text_cfg(folder, tokenizer_kwargs={"trust_remote_code": True, "code_revision": "main", "force_download": True})


def _text_tower(place: Place, folder: Path) -> None:
    other = place.stranger / "tower"
    other.mkdir()
    _code(place, other)
    _edit(other / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.EvilConfig"}, trust_remote_code=True)
    _text_cfg(
        folder, hf_model_name=str(other), hf_proj_type="mlp", hf_pooler_type="mean_pooler", hf_model_pretrained=True
    )


def _text_tower_beside(place: Place, folder: Path) -> None:
    _code(place, folder)
    _edit(
        folder / "config.json",
        model_type="roberta",
        auto_map={"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"},
        attn_implementation="evil/kernel",
        _attn_implementation="evil/kernel",
        trust_remote_code=True,
    )
    _text_cfg(folder, hf_model_name="evil/model", hf_proj_type="mlp", hf_pooler_type="mean_pooler")


def _text_tower_of_the_hub(place: Place, folder: Path) -> None:
    _text_cfg(folder, hf_model_name="evil/model", hf_tokenizer_name="evil/tokenizer", hf_model_pretrained=True)


def _timm(name: str, place: Place, folder: Path) -> None:
    other = place.stranger / "timm"
    other.mkdir()
    (other / "config.json").write_text(
        json.dumps(
            {
                "architecture": "resnet18",
                "num_classes": 0,
                "model_args": {},
                "pretrained_cfg": {"custom_load": True, "url": "http://127.0.0.1:9/x", "file": str(place.root / BAIT)},
            }
        )
    )
    (other / "pytorch_model.bin").write_bytes(zipped_pickle(place))
    vision = {
        "timm_model_name": name.format(dir=other),
        "timm_model_pretrained": True,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 32,
    }
    _model_cfg(folder, vision_cfg=vision)


def _weights(name: str, make: Callable[[Place], bytes], place: Place, folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    (folder / name).write_bytes(make(place))


def _settings(place: Place, folder: Path) -> None:
    settings = {
        "clean": "canonicalize",
        "strip_sep_token": True,
        "language": "x",
        "cache_dir": str(place.root / "evil-cache"),
        "tokenizer_file": str(place.root / BAIT),
        "gguf_file": str(place.root / BAIT),
        "proxies": {"https": "http://127.0.0.1:9"},
        "token": "x",
        "use_auth_token": True,
        "local_files_only": False,
        "subfolder": "..",
    }
    _text_cfg(folder, tokenizer_kwargs=settings)


def _template(place: Place, folder: Path) -> None:
    attack = "{{ cycler.__init__.__globals__.os.system('touch " + str(place.canary) + "') }}"
    _edit(folder / "tokenizer_config.json", chat_template=attack)
    (folder / "chat_template.jinja").write_text(attack)


def _link(place: Place, folder: Path) -> None:
    for name in ("tokenizer.json", "open_clip_model.safetensors"):
        (folder / name).unlink()
        (folder / name).symlink_to(place.root / BAIT)


OPENCLIP: dict[str, Change] = {
    "code in the tokenizer, allowed by tokenizer_kwargs": _allowed,
    "code in the tokenizer": _auto_map,
    "code in another directory, named by hf_tokenizer_name": _other_directory,
    "code of a repository, named by auto_map": _repository_of_code,
    "hf_model_name is a directory of code": _text_tower,
    "a config.json beside the weights with code and a kernel": _text_tower_beside,
    "hf_model_name is of the hub": _text_tower_of_the_hub,
    "timm_model_name is a directory with a pickle": partial(_timm, "local-dir:{dir}"),
    "timm_model_name is of the hub": partial(_timm, "hf-hub:evil/model"),
    "timm_model_name is of the hub, other prefix": partial(_timm, "hf_hub:evil/model@main"),
    "timm_model_pretrained": partial(_timm, "resnet18"),
    "weights are a pickle": partial(_weights, "open_clip_pytorch_model.bin", pickled),
    "weights are an archive with a pickle": partial(_weights, "open_clip_pytorch_model.pth", zipped_pickle),
    "weights are TorchScript": partial(_weights, "model.pt", lambda place: torchscript()),
    "weights are arrays of objects": partial(_weights, "weights.npz", object_arrays),
    "weights called .safetensors are a pickle": partial(_weights, "model.safetensors", pickled),
    "settings of from_pretrained in tokenizer_kwargs": _settings,
    "a chat template with an attack": _template,
}


def _openclip(change: Change, place: Place, command: tuple[str, ...] = _INDEX) -> list[str]:
    folder = _ready(place.stranger / "model", "openclip")
    change(place, folder)
    return [*command, f"openclip:{folder}"]


# -- CLAP ------------------------------------------------------------------------------------------------------------


def _clap_pickle(name: str, make: Callable[[Place], bytes], place: Place, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(make(place))


def _config(place: Place, folder: Path, **changes: Any) -> None:
    _edit(folder / "config.json", **changes)


def _kernel(place: Place, folder: Path) -> None:
    document = json.loads((folder / "config.json").read_text())
    for part in (document, document["text_config"], document["audio_config"]):
        part.update(
            attn_implementation="evil/kernel",
            _attn_implementation="evil/kernel",
            _attn_implementation_internal="evil/kernel",
            experts_implementation="evil/kernel",
        )
    (folder / "config.json").write_text(json.dumps(document))


def _adapter(place: Place, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "base_model_name_or_path": "evil/base",
                "task_type": "CAUSAL_LM",
                "r": 2,
                "target_modules": ["q_proj"],
                "auto_mapping": {"base_model_class": "EvilModel", "parent_library": "evil"},
            }
        )
    )
    (folder / "adapter_model.bin").write_bytes(zipped_pickle(place))


def _quantised(place: Place, folder: Path) -> None:
    _config(place, folder, quantization_config={"quant_method": "gptq", "bits": 4, "tokenizer": "evil/tokenizer"})


def _sharded(place: Place, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": f"../../{BAIT}"}})
    )
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": f"../../{BAIT}"}})
    )
    (folder / "pytorch_model.bin").write_bytes(zipped_pickle(place))


CLAP: dict[str, Change] = {
    "code in the tokenizer": _auto_map,
    "weights are a pickle": partial(_clap_pickle, "pytorch_model.bin", pickled),
    "weights are an archive with a pickle": partial(_clap_pickle, "pytorch_model.bin", zipped_pickle),
    "an attention kernel of the hub": _kernel,
    "an adapter of another model": _adapter,
    "quantised by code of elsewhere": _quantised,
    "shards outside of the directory": _sharded,
    "a chat template with an attack": _template,
    "from TensorFlow": lambda place, folder: _config(place, folder, from_tf=True, torch_dtype="evil"),
}


def _clap(change: Change, place: Place, command: tuple[str, ...] = _INDEX) -> list[str]:
    folder = _ready(place.stranger / "clap", "clap")
    change(place, folder)
    return [*command, f"clap:{folder}"]


# -- what `trimodal train` writes ------------------------------------------------------------------------------------


def _encoder(folder: Path, **changes: Any) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _text_source(source: str, place: Place, folder: Path, **more: Any) -> None:
    document = json.loads((folder / "encoder.json").read_text())
    document["text"][0].update(source=source.format(dir=folder / "lm"), **more)
    _encoder(folder, text=document["text"])


def _code_in_tower(place: Place, folder: Path) -> None:
    _auto_map(place, folder / "lm")
    _text_source("{dir}", place, folder)


def _tower_kernel(place: Place, folder: Path) -> None:
    _edit(folder / "lm" / "config.json", attn_implementation="evil/kernel", _attn_implementation="evil/kernel")
    _text_source("{dir}", place, folder)


def _tower_adapter(place: Place, folder: Path) -> None:
    _adapter(place, folder / "lm")
    _text_source("{dir}", place, folder)


def _tower_quantised(place: Place, folder: Path) -> None:
    _quantised(place, folder / "lm")
    _text_source("{dir}", place, folder)


def _tower_pickle(place: Place, folder: Path) -> None:
    (folder / "lm" / "model.safetensors").unlink()
    (folder / "lm" / "pytorch_model.bin").write_bytes(zipped_pickle(place))
    _text_source("{dir}", place, folder)


def _tower_code_by_type(place: Place, folder: Path) -> None:
    _code(place, folder / "lm", "evil", "configuration_evil", "modeling_evil", "tokenization_evil", "generate")
    (folder / "lm" / "custom_generate").mkdir()
    _code(place, folder / "lm" / "custom_generate", "generate")
    _edit(folder / "lm" / "config.json", model_type="evil", architectures=["EvilModel"])
    _text_source("{dir}", place, folder)


def _outside(place: Place, folder: Path) -> None:
    document = json.loads((folder / "encoder.json").read_text())
    document["image"][0]["weights"] = f"../../{BAIT}"
    document["sha256"][f"../../{BAIT}"] = "0" * 64
    _encoder(folder, **document)


def _outside_adapter(place: Place, folder: Path) -> None:
    _text_source("{dir}", place, folder, adapter=str(place.root / BAIT), lora={"rank": 2, "targets": ["all-linear"]})


def _timm_arch(name: str, place: Place, folder: Path) -> None:
    document = json.loads((folder / "encoder.json").read_text())
    document["image"][0]["arch"] = name.format(dir=place.stranger / "timm")
    (place.stranger / "timm").mkdir()
    (place.stranger / "timm" / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 0}))
    (place.stranger / "timm" / "pytorch_model.bin").write_bytes(zipped_pickle(place))
    _encoder(folder, image=document["image"])


def _gguf_template(place: Place, folder: Path) -> None:
    model_dirs.gguf_file(folder / "evil.gguf")
    _auto_map(place, folder)
    _text_source(str(folder / "evil.gguf"), place, folder)


TRAINED: dict[str, Change] = {
    "code in the tower": _code_in_tower,
    "code in the tower by its type": _tower_code_by_type,
    "an attention kernel of the hub": _tower_kernel,
    "an adapter of another model": _tower_adapter,
    "quantised by code of elsewhere": _tower_quantised,
    "the tower's weights are a pickle": _tower_pickle,
    "the tower is of the hub": partial(_text_source, "hub:evil/model"),
    "the tower is a directory elsewhere": partial(_text_source, "/etc"),
    "a GGUF beside code": _gguf_template,
    "weights outside of the directory": _outside,
    "an adapter outside of the directory": _outside_adapter,
    "a picture trunk of the hub": partial(_timm_arch, "hf-hub:evil/model"),
    "a picture trunk of a directory": partial(_timm_arch, "local-dir:{dir}"),
    "a prompt with a format attack": partial(_text_source, "{dir}", prompt="{text.__class__.__mro__} {text}"),
}


def _trained(change: Change, place: Place, command: tuple[str, ...] = _INDEX) -> list[str]:
    folder = _ready(place.stranger / "trained", "trained")
    change(place, folder)
    return [*command, str(folder)]


# -- the hub, and collections ----------------------------------------------------------------------------------------


def _in_hub(place: Place, name: str, source: Path) -> None:
    """As if the repository ``name`` had been fetched."""
    repository = place.hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(_COMMIT)
    (repository / "snapshots").mkdir()
    shutil.copytree(source, repository / "snapshots" / _COMMIT)


def _openclip_repository(change: Change, place: Place) -> list[str]:
    _openclip(change, place)
    _in_hub(place, "evil/model", place.stranger / "model")
    return [*_INDEX, "openclip:hf-hub:evil/model"]


def _clap_repository(change: Change, place: Place) -> list[str]:
    _clap(change, place)
    _in_hub(place, "evil/clap", place.stranger / "clap")
    return [*_INDEX, "clap:evil/clap"]


def _collection(kind: str, change: Change, place: Place, *, index: bool = False, width: int = 0) -> list[str]:
    """A collection as a stranger gives it away: its ``collection.json`` names the model, with the right fingerprint."""
    if kind == "hub":
        arguments = _openclip_repository(change, place)
    else:
        arguments = {"openclip": _openclip, "clap": _clap, "trained": _trained}[kind](change, place)
    spec = arguments[-1]
    make_collection(place.collection, spec, width)
    if index:
        return ["index", "media", "-c", "collection"]
    return ["search", "a dog", "-c", "collection"]


def _collection_of_nobody(place: Place) -> list[str]:
    make_collection(place.collection, "openclip:hf-hub:evil/model")
    return ["search", "a dog", "-c", "collection"]


def make_collection(path: Path, spec: str, width: int = 0) -> None:
    """One row of a collection that claims to be made with ``spec``; ``width``: of the row, where not the model's."""
    import numpy as np

    from indexer.collection.collection import Collection, Entry
    from indexer.items import Item, Modality, Segment

    fingerprint, dim = _facts(spec)
    dim = width or dim
    row = np.eye(1, dim, dtype=np.float32)
    with Collection.create(path, EncoderIdentity(spec, fingerprint, dim)) as made:
        item = Item("/media/a.txt", Modality.TEXT, Path("/media/a.txt"))
        made.commit([Entry(item, "0" * 40, {}, (Segment(0, text="a"),), row)])


def _facts(spec: str) -> tuple[str, int]:
    """The model's fingerprint and width, as a stranger would have them; nothing of the model is run for them."""
    from indexer.encoders.registry import describe_model
    from indexer.errors import TrimodalError

    try:
        found = describe_model(spec)
    except TrimodalError:
        return "0" * 32, 16
    return found.fingerprint, found.dim


_MADE: dict[str, Path] = {}


def prepare() -> None:
    """Make a whole model of every kind."""
    import tempfile

    for kind in ("openclip", "clap", "trained"):
        _ready(Path(tempfile.mkdtemp()) / "m", kind)


def _ready(target: Path, kind: str) -> Path:
    """A whole model of this kind at ``target``; made once a process and copied."""
    import tempfile

    if kind not in _MADE:
        make = {
            "openclip": model_dirs.openclip_directory,
            "clap": model_dirs.clap_directory,
            "trained": model_dirs.small_model,
        }[kind]
        with model_dirs.quiet():
            _MADE[kind] = make(Path(tempfile.mkdtemp(prefix=f"{kind}-")) / "m")
    shutil.copytree(_MADE[kind], target)
    return target
