"""Where the scripts of this folder write, and the JSON lines that they write and read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packages import PackageError, cache_root


def out_folder(description: str | None, name: str, arguments: Sequence[str] | None = None) -> Path:
    """Parse ``--out DIR``, a script's one option, and make the folder: ``datasets/NAME`` in the per-user cache."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help=f"folder to write (default: datasets/{name} in the per-user cache)")
    out: Path = parser.parse_args(arguments).out or cache_root() / "datasets" / name
    out.mkdir(parents=True, exist_ok=True)
    return out


def read_lines(manifest: Path) -> list[dict[str, Any]]:
    """Rows of the pool's manifest, or of one made like it. Raises `PackageError` where there is none."""
    if not manifest.is_file():
        raise PackageError(f"{manifest}: not there; build it with `python benchmarks/datasets/pool.py`")
    return [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]


def write_lines(lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Write a JSON object a line, by way of a temporary name."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    partial.replace(path)
