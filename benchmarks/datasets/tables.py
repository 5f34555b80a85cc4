"""Read the tables of this folder's TOML files: words and names that are too many for code."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def read_tables(name: str) -> dict[str, Any]:
    """The tables of ``name``, a file beside this one."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
