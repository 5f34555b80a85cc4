"""The tokenizer that an open_clip model was trained with, from files that are here.

The choice is open_clip's, and so are the settings, those that a configuration may set; only the place of the files is
ours, so that nothing is fetched and no code beside them is run. Knows nothing of towers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from indexer.encoders.openclip.source import OpenClipSource
from indexer.encoders.weights.library_errors import rust_panics_as_errors
from indexer.encoders.weights.tensor_files import first_line
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import NO_REMOTE_CODE, clean_folder
from indexer.errors import ModelError
from indexer.media.text.measure import CountMeasure, TextMeasure


def open_tokenizer(source: OpenClipSource) -> Any:
    """A callable: list of texts -> int64 ``(n, context_length)``. Raises :class:`ModelError` for unreadable files."""
    ensure_torchvision()
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text = source.config["text_cfg"]
    settings: dict[str, Any] = dict(text.get("tokenizer_kwargs") or {})
    context = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    try:
        if source.tokenizer is None:
            return SimpleTokenizer(context_length=context, **settings)
        with rust_panics_as_errors(), clean_folder(source.tokenizer) as folder:
            return HFTokenizer(
                str(folder),
                context_length=context,
                tokenizer_mode=text.get("tokenizer_mode"),
                **settings,
                **NO_REMOTE_CODE,
            )
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(
            f"model {source.spec}: its tokenizer {source.tokenizer or ''} can't be opened ({first_line(error)}); "
            f"fetch its files again"
        ) from error


def measure_of(tokenizer: Any, lock: AbstractContextManager[Any]) -> TextMeasure:
    """What is left of a text by a tokenizer that :func:`open_tokenizer` gave; it is used under ``lock``.

    open_clip cleans a text before it reads it, so that a token's place in it is not known: tokens are counted.
    """
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:  # CLIP's own
        return CountMeasure(lambda text: len(tokenizer.encode(text)), max(1, tokenizer.context_length - 2))

    def count(text: str) -> int:
        with lock:
            return len(inner(tokenizer.clean_fn(text), add_special_tokens=False, truncation=False).input_ids)

    # open_clip's mode "clips" puts three around a text, whatever the tokenizer would
    special = 3 if tokenizer.tokenizer_mode == "clips" else int(inner.num_special_tokens_to_add())
    return CountMeasure(count, max(1, tokenizer.context_length - special))
