"""Texts and tables that unfold or that are slow to cut, and rows and files with values outside of a column."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attack.bombs import TABLE_LIMIT_S, TABLE_MB, TEXT_RUN_S, TEXT_S, Bomb
from benchmarks.attack.media_seeds import pictures


def bombs() -> list[Bomb]:
    """All of them."""
    texts: dict[str, Callable[[], bytes]] = {
        "3 MB of dots": lambda: b"." * 3_000_000,
        "3 MB of dots and quotes": lambda: ".”".encode() * 750_000,
        "3 MB of question marks, one letter between": lambda: b"?!a" * 1_000_000,
        "3 MB of ideographic stops": lambda: "。".encode() * 1_000_000,
        "49 MB of one letter": lambda: b"a" * 49_000_000,
        "49 MB of spaces, a word": lambda: b" " * 49_000_000 + b"a",
        "49 MB of line ends, words": lambda: b"\n" * 24_000_000 + b"a\n \t \n" * 4_000_000,
        "49 MB of words": lambda: b"word. " * 8_000_000,
        "49 MB of paragraphs": lambda: b"w\n\n" * 16_000_000,
        "UTF-32, 49 MB": lambda: "🧨".encode("utf-32") * 1 + ("🧨" * 12_000_000).encode("utf-32-le"),
        "combining marks, 6 MB": lambda: ("e" + "\u0301" * 1_000).encode() * 3_000,
        "separators that are spaces, 6 MB": lambda: "\u2028\u2029\u00a0".encode() * 700_000 + b"x",
    }
    found = [
        Bomb(f"text: {name}", partial(_write, "bomb.txt", make), seconds=TEXT_S, run_s=TEXT_RUN_S)
        for name, make in texts.items()
    ]
    tables: dict[str, tuple[str, Callable[[], bytes]]] = {
        "JSONL, a line of 15 MB of brackets": ("m.jsonl", lambda: b"[" * 15_000_000),
        "JSONL, a line of 200 MB": ("m.jsonl", lambda: b'{"text": "' + b"a" * 200_000_000 + b'"}'),
        "JSONL, a row of 1,000,000 captions": ("m.jsonl", partial(_row, text="x", captions=["a"] * 1_000_000)),
        "JSONL, 1,000,000 keys": ("m.jsonl", partial(_row, text="x", metadata={f"k{n}": n for n in range(700_000)})),
        "JSONL, 1,000,000 small rows": ("m.jsonl", lambda: b'{"text": "a"}\n' * 1_000_000),
        "JSONL, metadata nested 950 deep": ("m.jsonl", lambda: _nested(950)),
        "JSONL, metadata nested 90,000 deep": ("m.jsonl", lambda: _nested(90_000)),
        "JSONL, a number of 5,000 digits": ("m.jsonl", lambda: b'{"text": "a", "n": ' + b"9" * 5_000 + b"}"),
        "JSONL, a key of 5,000 digits": ("m.jsonl", lambda: b'{"text": "a", "caption_' + b"9" * 5_000 + b'": "b"}'),
        "JSONL, an id of 10 MB": ("m.jsonl", partial(_row, text="x", id="i" * 10_000_000)),
        "JSONL, awkward values": ("m.jsonl", lambda: _awkward()),
        "CSV, a field of 15 MB": ("m.csv", lambda: b'text\n"' + b"a" * 15_000_000 + b'"\n'),
        "CSV, a quote that never ends, 60 MB": ("m.csv", lambda: b'text\n"' + b"line\n" * 12_000_000),
        "CSV, 7,000,000 columns": ("m.csv", lambda: b"text" + b"," * 7_000_000 + b"\n"),
        "parquet, a text of 1 GB": ("m.parquet", partial(_parquet_text, 10**9)),
        "parquet, 20,000,000 captions in a cell": ("m.parquet", partial(_parquet_list, 20_000_000)),
        "parquet, 1,000 rows of 2 MB": ("m.parquet", _parquet_rows),
        "parquet, 20,000 columns": ("m.parquet", _parquet_columns),
    }
    found += [
        Bomb(f"table: {name}", partial(_write, file, make), alone=False, seconds=TABLE_LIMIT_S, run_mb=TABLE_MB)
        for name, (file, make) in tables.items()
    ]
    found += [
        Bomb(f"file dated {year}", partial(_dated, seconds), alone=False)
        for year, seconds in (("2400", 13_569_465_600), ("1850", -3_786_825_600), ("2262", 9_223_372_037))
    ]
    return [*found, Bomb("file names of 255 bytes, control characters, formulas", _names, alone=False)]


def _write(name: str, make: Callable[[], bytes], folder: Path) -> None:
    (folder / name).write_bytes(make())


def _row(**values: Any) -> bytes:
    good = json.dumps({"text": "a good row"}).encode() + b"\n"
    return json.dumps(values).encode() + b"\n" + good


def _nested(depth: int) -> bytes:
    return b'{"text": "a", "metadata": {"deep": ' + b"[" * depth + b"]" * depth + b'}}\n{"text": "a good row"}\n'


def _awkward() -> bytes:
    """A row for every value that some column may not take."""
    values = (
        "1e400",
        "-1e400",
        "NaN",
        "9223372036854775808",
        "-9223372036854775809",
        "1" + "0" * 400,
        '"\\ud800"',
        '"\\u0000"',
        "true",
        "[[[1]]]",
        '{"": 1}',
        '{"a.b": {"c": {"d": 1}}}',
        '"\\u009b31m"',
        "1e-400",
        "0.1e1",
    )
    names = ("year", "", "a b", "\\u0000", "\\ud800", "metadata.x", "caption_" + "9" * 30, "Year", "key", "x" * 9_000)
    rows = [f'{{"text": "row {n}", "id": "i{n}", "k": {value}}}' for n, value in enumerate(values)]
    rows += [f'{{"text": "row", "id": "n{n}", "{name}": "v"}}' for n, name in enumerate(names)]
    rows += [
        f'{{"text": "row", "id": {value}}}' for value in ("12345678901234567890", '"\\ud800"', '"a\\u0000b"', "-0")
    ]
    return "\n".join(rows).encode()


def _parquet(columns: dict[str, Any], **options: Any) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="zstd", **options)
    return file.getvalue()


def _parquet_text(size: int) -> bytes:
    return _parquet({"text": ["a" * size]})


def _parquet_list(count: int) -> bytes:
    import pyarrow as pa

    words = pa.repeat("x", count)
    return _parquet({"text": ["a"], "captions": pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), words)})


def _parquet_columns() -> bytes:
    return _parquet({"text": ["a"], **{f"c{n}": [n] for n in range(20_000)}})


def _parquet_rows() -> bytes:
    import pyarrow as pa

    index = pa.array([0] * 1_000, pa.int32())
    return _parquet({"text": pa.DictionaryArray.from_arrays(index, pa.array(["a" * 2_000_000]))})


def _dated(seconds: int, folder: Path) -> None:
    for name, content in (("bomb.png", pictures()["png"]), ("bomb.txt", b"words")):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (seconds, seconds))


def _names(folder: Path) -> None:
    for name in (
        "a" * 251 + ".txt",
        "\x1b[2J.txt",
        "=cmd|'\\C calc'!A0.txt",
        "a\nb.txt",
        "\u009b31m.txt",
        "<script>.txt",
        os.fsdecode(b"\xff\xfe.txt"),
        "%s%n.txt",
        " .txt",
        "-rf.txt",
        "'; drop table items;--.txt",
    ):
        (folder / name).write_bytes(name.encode("utf-8", "replace"))
