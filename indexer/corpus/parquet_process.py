"""Batches of a parquet file, unfolded by ``parquet_worker.py`` within limits of memory and time. Knows no rows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from indexer.errors import ManifestError
from indexer.files import one_line
from indexer.limits import TABLE_BYTES, TABLE_S

_WORKER = Path(__file__).with_name("parquet_worker.py")
#: Of a batch, as its file states it.
_BATCH_BYTES = 16_000_000
_OUT_OF_MEMORY = 2


def read_batches(file: BinaryIO, shown: str, check: Callable[[Any, str], None]) -> Iterator[Any]:
    """``pyarrow.RecordBatch`` after another, texts as dictionaries. ``check`` raises for a schema that is of no use.

    Raises ``ManifestError`` for what is no parquet file, is damaged, or is over a limit.
    """
    import pyarrow as pa

    os.lseek(file.fileno(), 0, os.SEEK_SET)
    # The system's allocator gives back what is freed and reserves nothing, so that the limit means what it says.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, str(_WORKER), str(TABLE_BYTES), str(TABLE_S), str(_BATCH_BYTES)]
    with (
        tempfile.TemporaryFile() as complaint,
        subprocess.Popen(
            command, stdin=file.fileno(), stdout=subprocess.PIPE, stderr=complaint, env=environment
        ) as worker,
    ):
        assert worker.stdout is not None
        failure: Exception | None = None
        try:
            with pa.ipc.open_stream(worker.stdout) as stream:
                check(stream.schema, shown)
                yield from stream
        except (pa.ArrowException, OSError, ValueError) as error:
            failure = error
        finally:
            worker.stdout.close()  # a worker that is still writing ends
        # A stream that ends between two batches looks whole: what the worker says of it decides.
        code = worker.wait()
        if code or failure is not None:
            complaint.seek(0)
            output = complaint.read(10_000).decode("utf-8", "replace")
            raise ManifestError(f"{shown}: {_reason(code, one_line(output or failure))}") from failure


def _reason(code: int, error: str) -> str:
    if code in (0, 1):
        return f"is not a parquet file that can be read ({error})"
    memory = f"{TABLE_BYTES / 1e9:g} GB of memory"
    limit = memory if code == _OUT_OF_MEMORY else f"{memory} or {TABLE_S} s"
    return f"takes over {limit} to read; split it into several or write it as .jsonl"
