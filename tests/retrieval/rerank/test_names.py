"""Names that a caption may be: what is kept of their places, what is near, what is refused, how they are listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_media import unit_rows

from indexer.errors import ModelError, UsageError
from retrieval.rerank.names import AXES, NAMES, load_names, save_names
from retrieval.rerank.naming import read_names


def test_names_are_found_again_by_their_own_rows_and_by_both_spaces(tmp_path: Path) -> None:
    match, dual = unit_rows(40, 24, seed=1), unit_rows(40, 12, seed=2)
    phrases = [f"thing {n}" for n in range(40)]
    save_names(tmp_path / NAMES, phrases, match, dual)
    names = load_names(tmp_path / NAMES)
    assert names.phrases == tuple(phrases)
    assert [own[0][0] for own in names.nearest(match, None, 3)] == phrases
    assert [own[0][0] for own in names.nearest(match, dual, 3)] == phrases
    # what the match space cannot tell apart, the dual encoder's does
    near = names.nearest(np.repeat(match[:1], 2, axis=0), dual[:2], 40)
    assert near[0][0][0] == "thing 0" and dict(near[1])["thing 1"] > dict(near[0])["thing 1"]
    assert abs(near[0][0][1] - 1.0) < 0.02 and all(len(own) == 40 for own in near)


def test_wide_spaces_are_kept_on_their_first_axes_and_keep_their_neighbours(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = (draw.standard_normal((300, 60)) @ draw.standard_normal((60, 400))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    save_names(
        tmp_path / NAMES, [str(n) for n in range(300)], rows, rows[:, :8] / np.linalg.norm(rows[:, :8], axis=1)[:, None]
    )
    names = load_names(tmp_path / NAMES)
    assert names.spaces["match"].rows.shape == (300, AXES)
    exact = np.sort(rows @ rows.T, axis=1)[:, ::-1][:, :5]
    found = np.array([[near for _, near in own] for own in names.nearest(rows, None, 5)])
    assert np.allclose(found, exact, atol=0.02)


@pytest.mark.parametrize("content", [b"", b"no names at all", b"\x00" * 400])
def test_what_is_no_file_of_names_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAMES).write_bytes(content)
    with pytest.raises(ModelError, match="names.safetensors: cannot be read as names"):
        load_names(tmp_path / NAMES)
    (tmp_path / NAMES).unlink()
    with pytest.raises(ModelError, match="names.safetensors"):
        load_names(tmp_path / NAMES)


def test_a_file_of_names_is_read_a_line_a_name(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red  door\n\nboat\nred door\n éclair \n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ["red door", "boat", "éclair"]
    with pytest.raises(UsageError, match="nowhere.txt: cannot be read"):
        read_names(tmp_path / "nowhere.txt")
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="write a name a line, in UTF-8"):
        read_names(tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("one\n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds 1 names; give 2 to 50,000"):
        read_names(tmp_path / "names.txt")
