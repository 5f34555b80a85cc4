"""`make bench-speed`: the page prints what was measured, and what is committed is what its JSON says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from paths import ROOT
from small_media import entry, new_collection, unit_rows

from benchmarks import cold_search

BENCH = ROOT / "docs" / "bench"


def test_the_page_prints_ratios_to_importing_torch() -> None:
    one = {"cpu_s": 2.0, "wall_s": 2.5, "peak_mb": 200.0}
    runs = {"import torch": one, "search, ONNX Runtime": {**one, "cpu_s": 1.5}}
    assert "| search, ONNX Runtime | 1.50 | 2.50 | 200 | 0.75 |" in cold_search.page({"rounds": 3, "cold": runs})


def test_parity_counts_equal_top_tens_and_the_worst_cosine(tmp_path: Path) -> None:
    with new_collection(tmp_path / "c", dim=8) as collection:
        collection.commit([entry(f"{n}.png", unit_rows(1, 8, seed=n)) for n in range(12)])
    ours = unit_rows(3, 8, seed=99)
    torchs = ours.copy()
    torchs[2] = -ours[2]
    found = cold_search.parity(tmp_path / "c", {"auto": [ours[:1], ours[1:]], "torch": [torchs]})
    assert found["count"] == 3 and found["vectors"] == 12 and found["worst_cosine"] == -1.0
    assert found["equal_top_tens"] == 2 == found["first_equal"]
    rows = {"rounds": 1, "cold": {"import torch": {"cpu_s": 1.0, "wall_s": 1.0, "peak_mb": 1.0}}}
    assert "| 3 pictures | -1.0 | 2 | 2 |" in cold_search.page({**rows, "parity": {"pictures": found}})


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    found = json.loads((BENCH / "cold-search.json").read_text(encoding="utf-8"))
    assert (BENCH / "cold-search.md").read_text(encoding="utf-8") == cold_search.page(found)
    assert "captions" in found["parity"]
    assert all(both["worst_cosine"] > 0.9999 for both in found["parity"].values())


def test_a_process_is_measured_and_one_that_fails_is_named() -> None:
    found = cold_search.run([sys.executable, "-c", "sum(range(3_000_000))"], "auto")
    assert 0 < found["cpu_s"] < 60 and found["peak_mb"] > 5
    with pytest.raises(SystemExit, match="no such thing"):
        cold_search.run([sys.executable, "-c", "import sys; sys.exit('no such thing')"], "auto")
