"""`make bench-speed`: the page prints what was measured, and what is committed is what its JSON says."""

from __future__ import annotations

import json
import sys

import pytest
from paths import ROOT

from benchmarks import cold_search

BENCH = ROOT / "docs" / "bench"


def test_the_page_prints_ratios_to_importing_torch() -> None:
    one = {"cpu_s": 2.0, "wall_s": 2.5, "peak_mb": 200.0}
    runs = {"import torch": one, "search, ONNX Runtime": {**one, "cpu_s": 1.5}}
    assert "| search, ONNX Runtime | 1.50 | 2.50 | 200 | 0.75 |" in cold_search.page({"rounds": 3, "cold": runs})


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    found = json.loads((BENCH / "cold-search.json").read_text(encoding="utf-8"))
    assert (BENCH / "cold-search.md").read_text(encoding="utf-8") == cold_search.page(found)
    assert found["parity"]["worst_cosine"] > 0.9999


def test_a_process_is_measured_and_one_that_fails_is_named() -> None:
    found = cold_search.measured([sys.executable, "-c", "sum(range(3_000_000))"], "auto")
    assert 0 < found["cpu_s"] < 60 and found["peak_mb"] > 5
    with pytest.raises(SystemExit, match="no such thing"):
        cold_search.measured([sys.executable, "-c", "import sys; sys.exit('no such thing')"], "auto")
