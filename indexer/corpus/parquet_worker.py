"""Reads one parquet table: the file on stdin, an Arrow stream on stdout. Started by ``parquet_process.py``.

A parquet file of some kilobytes can unfold to gigabytes in a page, and Arrow says so only when it has taken them. So
it is unfolded here, within limits of memory and time. Texts are sent as dictionaries: one that a million rows repeat is
sent once. Arguments: bytes of memory, seconds of processor time, bytes of a batch. Imports nothing of trimodal, so that
it starts quickly.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

ROWS = 1024


def main() -> int:
    """Exit code 0 with a stream, 1 with one line on stderr, 2 for memory; anything else is a limit that was hit."""
    memory_bytes, cpu_s, batch_bytes = (int(argument) for argument in sys.argv[1:4])
    import pyarrow as pa
    from pyarrow import parquet

    _limit(memory_bytes, cpu_s)
    try:
        with os.fdopen(0, "rb") as file, os.fdopen(os.dup(1), "wb") as out:
            _send(pa, parquet, file, out, batch_bytes)
    except (pa.ArrowMemoryError, MemoryError):
        return 2
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if "alloc" in str(error) or "emory" in str(error):
            return 2
        sys.stderr.write(" ".join(str(error).split()))
        return 1
    return 0


def _limit(memory_bytes: int, cpu_s: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not everywhere are there such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        # The libraries alone map a lot.
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))


def _send(pa: Any, parquet: Any, file: Any, out: Any, batch_bytes: int) -> None:
    plain = parquet.ParquetFile(file)
    columns = [plain.schema.column(number) for number in range(len(plain.schema))]
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    metadata = plain.metadata
    stated = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows = max(1, min(ROWS, batch_bytes * max(1, metadata.num_rows) // max(1, stated)))
    table = parquet.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
    with pa.ipc.new_stream(out, table.schema_arrow) as stream:
        for batch in table.iter_batches(batch_size=rows, use_threads=False):
            stream.write_batch(batch)


if __name__ == "__main__":
    sys.exit(main())
