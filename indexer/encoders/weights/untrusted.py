"""What the files of a model may decide: the keys on the lists of this page, and nothing else.

A model's configuration comes from whoever made the model. Libraries pass what they find in it on as arguments: with
``trust_remote_code``, ``auto_map``, ``attn_implementation`` or ``adapter_config.json`` among them, opening a model runs
code from its folder or from the hub. So no library reads a model's folder here. It reads a clean folder: links to
weights and vocabularies, and copies of the JSON files that hold only listed keys. Knows nothing of particular models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from indexer.errors import ModelError
from indexer.nesting import is_deeper
from indexer.reading import failed_reads
from indexer.validation import Mistake, validated

#: Names for what runs a model's own code, passed to every call of transformers that opens something.
NO_REMOTE_CODE = {"local_files_only": True, "trust_remote_code": False}

#: A configuration is a few kilobytes; a shard index of the largest models is under 10 MB.
_MAX_JSON_BYTES = 32_000_000
#: What transformers writes as a tokenizer's length where there is none is 1e30.
_ENDLESS = 1e31
#: Deeper configurations than this do not exist.
_MAX_DEPTH = 12

_VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "bpe.codes",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
)
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Of ``tokenizer_config.json`` and of open_clip's ``tokenizer_kwargs``: how a text is split, never where files are.
TOKENIZER_KEYS = frozenset(
    (
        *_TOKENS,
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "add_dummy_prefix_space",
        "added_tokens_decoder",
        "additional_special_tokens",
        "clean_up_tokenization_spaces",
        "do_basic_tokenize",
        "do_lower_case",
        "errors",
        "extra_ids",
        "extra_special_tokens",
        "fix_mistral_regex",
        "keep_accents",
        "language",
        "legacy",
        "max_length",
        "model_input_names",
        "model_max_length",
        "model_specific_special_tokens",
        "never_split",
        "normalization",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "padding_side",
        "remove_space",
        "spaces_between_special_tokens",
        "split_by_punct",
        "split_special_tokens",
        "strip_accents",
        "stride",
        "tokenize_chinese_chars",
        "tokenizer_class",
        "trim_offsets",
        "truncation_side",
        "truncation_strategy",
        "use_default_system_prompt",
        "use_fast",
        "vocab_type",
        "wordpieces_prefix",
    )
)
_ADDED_TOKEN_KEYS = frozenset(("__type", "content", "lstrip", "normalized", "rstrip", "single_word", "special"))
#: What configurations of transformers read beside their declared fields: names of older versions of the same settings.
_OLDER_KEYS = frozenset(
    (
        "attention_windows",
        "block_ff_dim",
        "dense_intermediate_size",
        "first_k_dense_replace",
        "full_attention_interval",
        "global_attn_every_n_layers",
        "global_head_dim",
        "global_rope_theta",
        "hybrid_override_pattern",
        "layer_types",
        "local_rope_theta",
        "max_position_embeddings",
        "model_type",
        "moe_layer_freq",
        "n_embed",
        "num_experts",
        "num_global_key_value_heads",
        "num_labels",
        "pad_token_id",
        "partial_rotary_factor",
        "pooler_hidden_size",
        "qk_rope_head_dim",
        "rope_local_base_freq",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "rotary_dim",
        "rotary_emb_base",
        "rotary_pct",
        "sliding_window_pattern",
        "sliding_window_size",
        "swa_rope_theta",
        "tie_embedding",
        "tie_word_embeddings",
        "tokenizer_class",
        "use_sliding_window",
    )
)
#: Their values are chosen here or not at all: a number format is ours, and tasks are not what a tower is for.
_NOT_TAKEN = frozenset(("dtype", "torch_dtype", "task_specific_params", "label2id"))
#: Bytes of towers in float32 for one of their file's, which may hold eight bits a number; small ones always pass.
SPREAD, SLACK_BYTES = 8, 100_000_000
_WORDS_OF_EXTRACTORS = frozenset(("truncation", "padding"))
_SIZES_OF_EXTRACTORS = frozenset(("feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size"))
#: No rate, window or frequency of an extractor is near this.
_MOST_OF_EXTRACTORS = 1e7
#: Model types that name a further model, to be looked up elsewhere.
_NAMES_ANOTHER = frozenset(("timm_wrapper", "timm_backbone", "auto", "encoder-decoder", "vision-encoder-decoder"))


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model's file.

    Raises ``OSError`` where there is none, ``ValueError`` for what is no object, too big or too deep, and
    ``StorageError`` where the system does not give the file.
    """
    with failed_reads(path):
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"is over {_MAX_JSON_BYTES / 1e6:g} MB, the limit of a configuration")
        text = path.read_text(encoding="utf-8")
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("is no JSON object")
    if is_deeper(document, _MAX_DEPTH):
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels")
    return document


def require_keys(given: Mapping[str, Any], listed: Collection[str], where: str) -> None:
    """Raise :class:`ModelError` naming the first key of ``given`` that is not on the list."""
    for key in given:
        if key not in listed:
            some = difflib.get_close_matches(str(key), sorted(listed), 3) or sorted(listed)[:6]
            raise ModelError(
                f"{where}: key {str(key)[:100]!r} is not one that a model's file may set; remove it (there are "
                f"{len(listed)}, as {', '.join(some)})"
            )


def require_types(kind: type, document: Mapping[str, Any], where: object) -> None:
    """Raise :class:`ModelError` naming the first value of ``document`` that the dataclass ``kind`` cannot have.

    Numbers are not taken from texts, nor texts from numbers; keys that ``kind`` has not are left alone.
    """
    try:
        validated(kind, document)
    except Mistake as mistake:
        raise ModelError(f"{where}: {mistake}; correct it, or fetch the model again") from None


def require_size(numbers: int, weights: Path, where: object) -> None:
    """Raise :class:`ModelError` for modules of far more ``numbers`` than the file of their weights can hold."""
    held = weights.stat().st_size if weights.is_file() else 0
    if 4 * numbers > SPREAD * held + SLACK_BYTES:
        raise ModelError(
            f"{where}: describes towers of {4 * numbers / 1e9:,.1f} GB, and {weights} holds {held / 1e9:,.3f} GB; "
            "one of the two is of another model"
        )


@contextlib.contextmanager
def clean_folder(directory: Path, *, weights: bool = False) -> Iterator[Path]:
    """A temporary folder with what transformers may read of a model's ``directory``; links, so nothing is copied.

    ``config.json``, the tokenizer's files, the sound extractor's settings, and with ``weights`` the safetensors. JSON
    files hold listed keys only; code, adapters, chat templates and generation settings stay out. Raises
    :class:`ModelError` naming a file that cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="trimodal-model-") as work:
        folder = Path(work)
        for name in _VOCABULARIES:
            _link(directory / name, folder / name)
        if weights:
            for file in sorted(directory.glob("*.safetensors")):
                _link(file, folder / file.name)
            for index in sorted(directory.glob("*.safetensors.index.json")):
                _write(folder / index.name, _shards(_read(index), index))
        for name, clean in _CLEANED.items():
            if (directory / name).is_file():
                _write(folder / name, clean(_read(directory / name), directory / name))
        yield folder


@contextlib.contextmanager
def alone(file: Path) -> Iterator[Path]:
    """A temporary folder that holds a link to ``file`` and nothing else: no neighbour of it can be read with it."""
    with tempfile.TemporaryDirectory(prefix="trimodal-model-") as work:
        link = Path(work) / f"model{file.suffix}"
        _link(file, link)
        yield link


def clean_config(document: Mapping[str, Any], where: Path, config_class: Any = None) -> dict[str, Any]:
    """The settings of a configuration of transformers that its own class declares, down to its sub-configurations.

    ``config_class``: the class, else that of ``model_type``; an unknown type keeps its name alone.
    """
    kind = document.get("model_type")
    if isinstance(kind, str) and kind in _NAMES_ANOTHER:
        raise ModelError(f"{where}: a {kind} names another model to be opened with it; give that model itself")
    if config_class is None or config_class.__name__ == "AutoConfig":
        config_class = _class_of(kind)
    if config_class is None:
        return {key: document[key] for key in ("model_type", "tokenizer_class") if isinstance(document.get(key), str)}
    declared = {one.name for one in dataclasses.fields(config_class)} if dataclasses.is_dataclass(config_class) else ()
    listed = ({*declared, *config_class.attribute_map} | _OLDER_KEYS) - _NOT_TAKEN
    nested = config_class.sub_configs
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key not in listed:
            continue
        found[key] = clean_config(value, where, nested[key]) if key in nested and isinstance(value, dict) else value
    return found


def extractor_settings(document: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Of a ``preprocessor_config.json`` or ``processor_config.json`` the values called ``names``.

    Raises :class:`ModelError` for a value that is none of an extractor: all are numbers but the ways to cut and to pad.
    """
    inner = document.get("feature_extractor")
    source = inner if isinstance(inner, dict) else document
    given = {name: source[name] for name in names if source.get(name) is not None}
    for name, value in given.items():
        if name in _WORDS_OF_EXTRACTORS:
            fits = isinstance(value, str)
        else:
            least = 1 if name in _SIZES_OF_EXTRACTORS else -_MOST_OF_EXTRACTORS
            fits = isinstance(value, int | float) and least <= value <= _MOST_OF_EXTRACTORS
        if not fits:
            raise ModelError(f"the sound extractor's {name} is {str(value)[:80]!r}; fetch the model again")
    return given


def file_name(value: object, where: str) -> str:
    """``value`` where it names a file beside the one that says so. Raises :class:`ModelError` for a path elsewhere."""
    name = str(value)
    elsewhere = name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name
    if not isinstance(value, str) or elsewhere:
        raise ModelError(f"{where}: {name!r} is no name of a file beside it; a model's files lie in one folder")
    return name


# -- one file each ---------------------------------------------------------------------------------------------------


def _config(document: dict[str, Any], where: Path) -> dict[str, Any]:
    return clean_config(document, where)


def _tokenizer_config(document: dict[str, Any], where: Path) -> dict[str, Any]:
    listed = {key: value for key, value in document.items() if key in TOKENIZER_KEYS or key.endswith("_token")}
    if not isinstance(listed.get("tokenizer_class", ""), str):
        raise ModelError(f"{where}: tokenizer_class is no name; correct it or remove it")
    longest = listed.get("model_max_length")
    if longest is not None and not (isinstance(longest, int | float) and 0 < longest <= _ENDLESS):
        raise ModelError(f"{where}: model_max_length is {str(longest)[:80]!r}; it is a number of tokens")
    return {key: _plain_tokens(value) for key, value in listed.items()}


def _special_tokens(document: dict[str, Any], _where: Path) -> dict[str, Any]:
    kept = {key: value for key, value in document.items() if key.endswith(("_token", "special_tokens"))}
    return {key: _plain_tokens(value) for key, value in kept.items()}


def _added_tokens(document: dict[str, Any], _where: Path) -> dict[str, Any]:
    return {key: value for key, value in document.items() if isinstance(value, int)}


def _plain_tokens(value: Any) -> Any:
    """A setting of a tokenizer; objects in it are tokens, with the keys that a token has."""
    if isinstance(value, list):
        return [_plain_tokens(one) for one in value]
    if isinstance(value, dict):
        if "content" in value or "__type" in value:
            return {key: one for key, one in value.items() if key in _ADDED_TOKEN_KEYS}
        return {key: _plain_tokens(one) for key, one in value.items()}
    return value


def _shards(document: dict[str, Any], where: Path) -> dict[str, Any]:
    names = document.get("weight_map")
    if not isinstance(names, dict):
        raise ModelError(f"{where}: has no weight_map; fetch the model again")
    total = document.get("metadata")
    size = total.get("total_size") if isinstance(total, dict) else None
    metadata = {"total_size": size} if isinstance(size, int) else {}
    return {"metadata": metadata, "weight_map": {str(key): file_name(one, str(where)) for key, one in names.items()}}


_CLEANED = {
    "config.json": _config,
    "tokenizer_config.json": _tokenizer_config,
    "special_tokens_map.json": _special_tokens,
    "added_tokens.json": _added_tokens,
}


# -- files -----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"{path}: can't be opened ({reason}); fetch the model again, or give another one") from error


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _link(file: Path, link: Path) -> None:
    if file.is_file():
        link.symlink_to(file.resolve())


def _class_of(kind: object) -> Any:
    """transformers' own class of a model type; ``None`` for a type that it has not."""
    from transformers import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[kind] if isinstance(kind, str) else None
    except KeyError:
        return None
