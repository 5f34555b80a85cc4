"""Where the repository's own files are, for tests that read them or start a process in it."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
SNAPSHOTS = SUPPORT / "snapshots"
ROOT = SUPPORT.parents[1]
DEMO = ROOT / "data" / "demo"
