"""Named drawings of further packages: a line of `more.toml` becomes a row, a sprite becomes a picture on white."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("resvg_py", reason="the recipes render SVG: pip install 'trimodal[svg]'")

import more
from packages import PackageError, load_table
from splits import DEMO, TRAIN, VAL, split_of
from tables import read_tables


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package" / "art" / "items"
    folder.mkdir(parents=True)
    sprite = Image.new("RGBA", (72, 72), (0, 0, 0, 0))
    sprite.paste((200, 30, 30, 255), (20, 30, 50, 50))
    for name in ("key2", "well", "helicopter"):
        sprite.save(folder / f"{name}.png")
    monkeypatch.setattr(more, "fetch", lambda name: tmp_path / "package")
    return folder


def tables(files: str) -> dict[str, object]:
    return {"game": {"package": "game-data", "folder": "art", "license": "CC0-1.0", "items": {"files": files}}}


def test_lines_become_rows_with_the_pools_split(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\nkey2 = golden key; key\nwell\nhelicopter\n"
    monkeypatch.setattr(more, "read_tables", lambda name: tables(lines))
    assert more.main(["--out", str(tmp_path / "out")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [row["captions"] for row in rows[:2]] == [["golden key", "a golden key", "key", "a key"], ["well", "a well"]]
    assert rows[0]["metadata"]["concept"] == "key" and rows[0]["metadata"]["license"] == "CC0-1.0"
    assert [row["split"] for row in rows] == [TRAIN, TRAIN, VAL]
    image = np.asarray(Image.open(tmp_path / "out" / rows[0]["image"]))
    assert image.shape[:2] == (120, 180)  # cut to 20 x 30 pixels, six times as large
    assert image[60, 90, 0] > 180 > 60 > image[60, 90, 1]


def test_a_sprite_is_put_on_white() -> None:
    buffer = io.BytesIO()
    image = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    image.putpixel((49, 49), (0, 0, 255, 255))
    image.save(buffer, format="PNG")
    shown = more.picture(buffer.getvalue())
    assert shown.mode == "RGB" and shown.size == (200, 200) and shown.getpixel((100, 100)) == (255, 255, 255)


def test_a_picture_that_the_package_lacks_is_named(package: Path) -> None:
    with pytest.raises(PackageError, match=r"game: no picture items/lamp; take it out of more\.toml"):
        list(more.samples(tables("lamp = lamp")))


def test_every_table_names_a_pinned_package_and_no_file_twice() -> None:
    pinned = load_table()
    for source, table in read_tables("more.toml").items():
        assert table["package"] in pinned, source
        for folder, own in table.items():
            if isinstance(own, dict):
                files = [line.partition(" = ")[0].strip() for line in own["files"].splitlines() if line.strip()]
                assert len(files) == len(set(files)), folder
    assert split_of("frog") == DEMO
