"""Libraries that open models: kept quiet, and what they raise stated in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from indexer.encoders.weights.tensor_files import first_line
from indexer.errors import ModelError, StorageError
from indexer.reading import failed_reads


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars (the command line shows what matters) and no reports of weights that are not used."""
    from transformers import logging

    log: Any = logging
    log.disable_progress_bar()
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(before)


@contextlib.contextmanager
def rust_panics_as_errors() -> Iterator[None]:
    """A panic of a library in Rust (tokenizers) is no ``Exception``: raise it as a ``ValueError`` with its words."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(first_line(error)) from None


@contextlib.contextmanager
def stated_errors(model: object) -> Iterator[None]:
    """Say in one line what a library could not do with a model."""
    try:
        with rust_panics_as_errors(), failed_reads(Path(str(model))):
            yield
    except (ModelError, StorageError):
        raise
    except Exception as error:  # tokenizers raises bare Exception, safetensors its own: no narrower class holds them
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"language model {model}: can't be opened ({text}); fetch it again, or give another one"
        ) from error
