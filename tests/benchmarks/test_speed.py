"""benchmarks/speed: what an input takes is the difference of two runs, and the page says it of every program."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.processes import Measured, measured
from benchmarks.speed import inputs, page, run


def test_what_an_input_takes_leaves_the_start_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measured", lambda command: Measured(0.2 + 0.002 * int(command[0]), 0.4, 100.0))
    programs: dict[str, run.Run] = {
        "the tower alone": lambda inputs, count, output: [str(count)],
        "trimodal index": lambda inputs, count, output: [str(2 * count)],
    }
    found = run.compared(programs, tmp_path, tmp_path, 200, 3, tmp_path)
    assert found["the tower alone"] == {"cpu_ms": 2.0, "wall_ms": 0.0, "start_cpu_s": 0.26, "peak_mb": 100.0}
    assert found["trimodal index"]["cpu_ms"] == 4.0


def test_a_program_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        measured([sys.executable, "-c", "raise ValueError('no such thing')"])


def test_pictures_differ_and_are_the_same_each_time(tmp_path: Path) -> None:
    first = inputs.make_pictures(tmp_path / "a", 3, (64, 48))
    second = inputs.make_pictures(tmp_path / "b", 3, (64, 48))
    pixels = [[np.asarray(Image.open(path)) for path in sorted(folder.iterdir())] for folder in (first, second)]
    assert all((one == other).all() for one, other in zip(*pixels, strict=True))
    assert not (pixels[0][0] == pixels[0][1]).all()
    assert len(list(inputs.some_of(first, tmp_path / "few", 2).iterdir())) == 2


def test_texts_are_files_and_the_same_lines(tmp_path: Path) -> None:
    folder = inputs.make_texts(tmp_path, 5)
    lines = folder.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())] == lines
    assert len(set(lines)) == 5 and all(20 <= len(line.split()) <= 100 for line in lines)


def test_the_page_compares_every_program_with_the_towers() -> None:
    one = {"cpu_ms": 50.0, "wall_ms": 25.0, "start_cpu_s": 1.0, "peak_mb": 900.0}
    facts = {"hardware": "a processor", "dtype": "float32", "commit": "0123456789abcdef"}
    programs = {"the tower alone": one, "trimodal index": {**one, "cpu_ms": 55.0}, "rclip": {**one, "cpu_ms": 110.0}}
    found = {"pictures": {"facts": facts, "rounds": 3, "found": {"640 x 480": programs}}}
    text = page.page(found)
    assert "| trimodal index | 55.0 | 0.91 | 1.00 |" in text
    assert "| rclip | 110.0 | 0.45 | 2.00 |" in text
    assert "a processor, float32, commit 0123456789" in text


def test_memory_is_that_of_the_process_and_not_of_the_one_that_starts_it() -> None:
    held = np.ones(300_000_000, dtype=np.uint8)
    assert measured([sys.executable, "-S", "-c", "pass"]).peak_mb < 100
    assert held[-1] == 1
