"""A search in a process of its own that may import nothing heavy, beside the same search in torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from paths import ROOT
from trimodal.cli import app
from typer.testing import CliRunner

HEAVY = "torch", "torchvision", "transformers", "open_clip", "timm", "onnx", "pyarrow"
_SEARCH = (
    "import sys; from trimodal.cli import app\n"
    "try: app()\n"
    f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
)


def light_search(collection: Path, *query: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The five best hits without torch, and with it."""
    search = ["search", *query, "-c", str(collection), "--json", "-k", "5"]
    command = [sys.executable, "-c", _SEARCH, *search]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]", f"heavy modules were imported: {done.stderr}"
    torchs = CliRunner().invoke(app, search, env={"TRIMODAL_RUNTIME": "torch"})
    return json.loads(done.stdout)["hits"], json.loads(torchs.stdout)["hits"]
