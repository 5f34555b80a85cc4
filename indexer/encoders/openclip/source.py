"""What an ``openclip:`` spec names: architecture, checkpoint, preprocessing and tokenizer, found on disk or fetched.

    openclip:ARCH/TAG            weights that open_clip publishes (``open_clip.list_pretrained()``)
    openclip:ARCH@PATH           a checkpoint, or a directory that holds one
    openclip:ARCH/TAG@PATH       the same, preprocessed and activated as those published under TAG
    openclip:DIR                 a directory in open_clip's layout: open_clip_config.json beside the weights
    openclip:hf-hub:NAME[@REV]   a repository of the hub in that layout

Preprocessing is TAG's; else that of an ``open_clip_config.json`` beside the checkpoint; else what all published tags of
the architecture agree on; else open_clip's default. Loads no weights and builds no model.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexer.encoders.openclip.config import check_config, published_names
from indexer.encoders.weights.hub import TOKENIZER_FILES, hub_file, hub_snapshot
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import read_json_object
from indexer.errors import ModelError, WeightsMissing

PREFIX = "openclip:"
CONFIG = "open_clip_config.json"
_HUB, _DIRECTORY = "hf-hub:", "local-dir:"  # open_clip's own prefixes
#: The names under which open_clip looks for weights in a directory, best first.
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".npz")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class OpenClipSource:
    """A model that is on this machine: everything that is needed to build it, without a network."""

    spec: str
    """The spec with its path absolute, as a collection remembers it."""
    arch: str
    """open_clip's name, or the directory's or repository's."""
    config: dict[str, Any]
    """open_clip's ``model_cfg``: ``embed_dim``, ``vision_cfg``, ``text_cfg``, …"""
    preprocess: dict[str, Any]
    """open_clip's ``PreprocessCfg``."""
    preprocess_from: str
    """In words, whose preprocessing it is."""
    checkpoint: Path
    tokenizer: Path | None = None
    """Directory of a tokenizer of transformers; ``None``: open_clip's own BPE."""
    vocabulary: tuple[Path, ...] = field(default=())
    """The files that the tokenizer's words are in."""

    @property
    def dim(self) -> int:
        """Width of the space."""
        return int(self.config["embed_dim"])


def find_openclip(spec: str, *, fetch: bool = True) -> OpenClipSource:
    """Find what ``spec`` names; with ``fetch`` what the hub has and this machine lacks is fetched.

    Raises :class:`ModelError` for a spec that names nothing, with near names, and :class:`WeightsMissing` for files
    that are not there, with where to put them.
    """
    body = spec.removeprefix(PREFIX)
    if body.startswith(_HUB):
        return _from_hub(spec, body.removeprefix(_HUB), fetch)
    if body.startswith(_DIRECTORY) or _is_openclip_directory(body):
        return _from_directory(spec, Path(body.removeprefix(_DIRECTORY)).expanduser().absolute(), fetch)
    name, at, place = body.partition("@")
    arch, tag = _arch_and_tag(spec, name)
    if at:
        return _from_path(spec, arch, tag, place, fetch)
    return _published(spec, arch, tag, fetch)


def published_config(spec: str) -> dict[str, Any] | None:
    """``model_cfg`` of ``openclip:ARCH/TAG``, which needs no files; ``None`` for every other kind of spec."""
    body = spec.removeprefix(PREFIX)
    if "@" in body or body.startswith((_HUB, _DIRECTORY)) or _is_openclip_directory(body):
        return None
    arch, tag = _arch_and_tag(spec, body)
    return _config(arch, _tags(arch)[tag]) if tag else None


def _is_openclip_directory(body: str) -> bool:
    path = Path(body).expanduser()
    return (path / CONFIG).is_file() or (path.is_absolute() and path.is_dir())


# -- the four kinds --------------------------------------------------------------------------------------------------


def _from_hub(spec: str, name: str, fetch: bool) -> OpenClipSource:
    repository, _, revision = name.partition("@")
    remedy = f"put its {CONFIG}, {_WEIGHTS[0]} and tokenizer files into a directory and use --model {PREFIX}DIR"
    what = f"model {spec}"
    directory = hub_snapshot(
        repository,
        revision,
        patterns=(CONFIG, "config.json", *TOKENIZER_FILES),
        what=what,
        remedy=remedy,
        fetch=fetch,
        whole=lambda found: (found / CONFIG).is_file(),
    )
    document = _read_config(spec, directory)
    checkpoint = hub_file(repository, (_WEIGHTS[0], _WEIGHTS[2]), revision, what=what, remedy=remedy, fetch=fetch)
    return _described(spec, repository, document, directory, checkpoint, fetch)


def _from_directory(spec: str, directory: Path, fetch: bool) -> OpenClipSource:
    if not directory.is_dir():
        raise WeightsMissing(f"model {spec}: {directory} is no directory; correct the path")
    document = _read_config(spec, directory)
    checkpoint = _checkpoint_in(spec, directory)
    return _described(f"{PREFIX}{directory}", directory.name, document, directory, checkpoint, fetch)


def _described(
    spec: str, arch: str, document: dict[str, Any], directory: Path, checkpoint: Path, fetch: bool
) -> OpenClipSource:
    """A model whose own ``open_clip_config.json`` says all of it."""
    config = _with_text_tower_of(directory, document["model_cfg"])
    overlay = document.get("preprocess_cfg") or {}
    tokenizer = _tokenizer(spec, config, directory, fetch)
    return OpenClipSource(
        spec=spec,
        arch=arch,
        config=config,
        preprocess=_preprocess(config, overlay),
        preprocess_from=f"{directory / CONFIG}",
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        vocabulary=_vocabulary(tokenizer),
    )


def _from_path(spec: str, arch: str, tag: str, place: str, fetch: bool) -> OpenClipSource:
    if not place:
        raise ModelError(f"model {spec}: names no path after @; use {PREFIX}{arch}@/path/to/checkpoint")
    path = Path(place).expanduser().absolute()
    if not path.exists():
        raise WeightsMissing(f"model {spec}: {path} is not there; correct the path after @")
    directory = path if path.is_dir() else path.parent
    checkpoint = _checkpoint_in(spec, path) if path.is_dir() else path
    if checkpoint.suffix not in _SUFFIXES:
        raise ModelError(f"model {spec}: {path} is neither {', '.join(_SUFFIXES)} nor a directory with such a file")
    published = _tags(arch)
    config = _config(arch, published.get(tag, {}))
    if tag:
        overlay, whose = published[tag], f"open_clip's {arch}/{tag}"
    elif (directory / CONFIG).is_file() and "preprocess_cfg" in (document := _read_config(spec, directory)):
        overlay, whose = document["preprocess_cfg"], f"{directory / CONFIG}"
    else:
        overlay, whose = _agreed(arch, published)
    config = _with_text_tower_of(directory, config)
    tokenizer = _tokenizer(spec, config, directory, fetch)
    named = f"{arch}/{tag}" if tag else arch
    return OpenClipSource(
        spec=f"{PREFIX}{named}@{path}",
        arch=arch,
        config=config,
        preprocess=_preprocess(config, overlay),
        preprocess_from=whose,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        vocabulary=_vocabulary(tokenizer),
    )


def _published(spec: str, arch: str, tag: str, fetch: bool) -> OpenClipSource:
    tags = _tags(arch)
    if not tag:
        some = f"add one of open_clip's tags, as {PREFIX}{arch}/{next(iter(tags))}, " if tags else ""
        raise ModelError(f"model {spec}: names no weights; {some}or a checkpoint: {PREFIX}{arch}@/path/to/checkpoint")
    published = tags[tag]
    repository, _, file = str(published["hf_hub"]).rpartition("/")
    file = file or _WEIGHTS[2]
    safe = _WEIGHTS[0] if file == _WEIGHTS[2] else str(Path(file).with_suffix(".safetensors"))
    checkpoint = hub_file(
        repository,
        tuple(dict.fromkeys((safe, file))),
        what=f"model {spec}",
        fetch=fetch,
        remedy=f"fetch the file elsewhere and use --model {PREFIX}{arch}/{tag}@FILE",
    )
    config = _config(arch, published)
    tokenizer = _tokenizer(spec, config, None, fetch)
    whose = f"open_clip's {arch}/{tag}"
    return OpenClipSource(
        spec=f"{PREFIX}{arch}/{tag}",
        arch=arch,
        config=config,
        preprocess=_preprocess(config, published),
        preprocess_from=whose,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        vocabulary=_vocabulary(tokenizer),
    )


# -- architectures and tags ------------------------------------------------------------------------------------------


def _arch_and_tag(spec: str, name: str) -> tuple[str, str]:
    """``ARCH`` or ``ARCH/TAG``, where open_clip also writes ``ViT-B/32`` for ``ViT-B-32``."""
    known = _open_clip().list_models()
    whole = name.replace("/", "-")
    if whole in known:
        return whole, ""
    arch, _, tag = name.rpartition("/")
    arch = arch.replace("/", "-")
    if arch in known:
        tags = _tags(arch)
        if tag in tags:
            return arch, tag
        raise ModelError(
            f"model {spec}: open_clip publishes no weights {tag} of {arch}; {_tag_hint(arch, tag, list(tags))}"
        )
    wanted = arch or whole
    if not wanted:
        raise ModelError(f"model {spec}: names no architecture; use {PREFIX}ARCH/TAG or {PREFIX}ARCH@PATH")
    near = _near(wanted, known)
    hint = f"near ones are {', '.join(near)}" if near else "see open_clip.list_models(), as ViT-B-32 or ViT-L-14"
    raise ModelError(f"model {spec}: open_clip has no architecture {wanted}; {hint}")


def _tag_hint(arch: str, wanted: str, known: list[str]) -> str:
    if not known:
        return f"it publishes none; use {PREFIX}{arch}@/path/to/checkpoint"
    shown = _near(wanted, known) or known[:5]
    more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    return f"its tags are {', '.join(shown)}{more}"


def _near(wanted: str, known: Sequence[str]) -> list[str]:
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in difflib.get_close_matches(wanted.lower(), list(by_lower), 5, 0.5)]


def _tags(arch: str) -> dict[str, dict[str, Any]]:
    library = _open_clip()
    return {tag: dict(library.get_pretrained_cfg(arch, tag)) for tag in library.list_pretrained_tags_by_model(arch)}


def _config(arch: str, published: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = _open_clip().get_model_config(arch)
    if published.get("quick_gelu"):  # the activation that the weights were trained with; open_clip itself only warns
        config["quick_gelu"] = True
    return config


def _agreed(arch: str, published: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], str]:
    settings = [{**cfg, "url": None, "hf_hub": None, "quick_gelu": None} for cfg in published.values()]
    if settings and all(one == settings[0] for one in settings):
        return settings[0], f"all of open_clip's {arch}"
    return {}, "open_clip's default"


def _preprocess(config: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """open_clip's own merging: its defaults, what the weights need, the size that the tower has."""
    from dataclasses import asdict

    ensure_torchvision()
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    size = config["vision_cfg"].get("image_size", 224)
    merged: dict[str, Any] = merge_preprocess_dict(asdict(PreprocessCfg()), overlay)
    merged["size"] = list(size) if isinstance(size, list | tuple) else [size, size]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in merged.items()}


def _open_clip() -> Any:
    ensure_torchvision()
    import open_clip

    return open_clip


# -- files -----------------------------------------------------------------------------------------------------------


def _read_config(spec: str, directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not path.is_file():
        raise ModelError(
            f"model {spec}: {directory} holds no {CONFIG}; name the architecture: {PREFIX}ARCH@{directory}"
        )
    try:
        document = read_json_object(path)
        config = document["model_cfg"]
        whole = all(isinstance(config[part], dict) for part in ("vision_cfg", "text_cfg"))
        if not whole or not isinstance(config["embed_dim"], int):
            raise TypeError("model_cfg has no vision_cfg, text_cfg and embed_dim")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model {spec}: {path} can't be read ({error}); fetch it again") from error
    check_config(config, f"model {spec}: {path}")
    return document


def _checkpoint_in(spec: str, directory: Path) -> Path:
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    others = sorted(path for path in directory.glob("*") if path.suffix in _SUFFIXES)
    if len(others) == 1:
        return others[0]
    found = f"several checkpoints ({', '.join(path.name for path in others[:4])}); name one" if others else "no weights"
    raise WeightsMissing(
        f"model {spec}: {directory} holds {found}" + ("" if others else f"; put {_WEIGHTS[0]} or {_WEIGHTS[2]} into it")
    )


def _tokenizer(spec: str, config: dict[str, Any], beside: Path | None, fetch: bool) -> Path | None:
    """Directory of the tokenizer that ``text_cfg`` names: the checkpoint's own if it is there, else the hub's."""
    name = config["text_cfg"].get("hf_tokenizer_name")
    if not name:
        return None
    if beside is not None and _vocabulary(beside):
        return beside
    where = f"beside the checkpoint, into {beside}" if beside else "beside a checkpoint, and name that with @"
    return other_repository(
        spec,
        "tokenizer",
        name,
        patterns=("config.json", *TOKENIZER_FILES),
        fetch=fetch,
        whole=lambda found: bool(_vocabulary(found)),
        remedy=f"put its tokenizer.json and tokenizer_config.json {where}",
    )


def other_repository(
    spec: str, part: str, name: str, *, patterns: Sequence[str], whole: Callable[[Path], bool], remedy: str, fetch: bool
) -> Path:
    """Files of a further repository that a configuration names for a ``part`` of the model.

    Taken from the hub's cache; fetched only where open_clip's own architectures name it too. Raises
    :class:`WeightsMissing`.
    """
    listed = name in published_names()
    try:
        return hub_snapshot(
            name,
            patterns=patterns,
            what=f"model {spec}: its {part}",
            whole=whole,
            remedy=remedy,
            fetch=fetch and listed,
        )
    except WeightsMissing:
        if listed:
            raise
        raise WeightsMissing(
            f"model {spec}: its {part} is {name} of the hub, which is none that open_clip itself uses, and is not "
            f"fetched for a model's file; {remedy}"
        ) from None


def _vocabulary(directory: Path | None) -> tuple[Path, ...]:
    """``tokenizer.json`` holds all of a tokenizer; where there is none, the files it would be made of."""
    if directory is None:
        return ()
    found = tuple(directory / name for name in _VOCABULARIES if (directory / name).is_file())
    return found[:1] if found and found[0].name == _VOCABULARIES[0] else found


def _with_text_tower_of(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A text tower of transformers is built from its ``config.json``: the one beside the weights, if it is there."""
    text = dict(config["text_cfg"])
    if not text.get("hf_model_name"):
        return config
    ensure_torchvision()
    from open_clip.hf_configs import arch_dict

    try:
        kind = read_json_object(directory / "config.json").get("model_type")
    except (OSError, ValueError):
        return config
    return {**config, "text_cfg": {**text, "hf_model_name": str(directory)}} if kind in arch_dict else config
