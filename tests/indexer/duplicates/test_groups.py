"""What is there twice: the same bytes, near pictures, sounds part by part; never a chain, never another modality."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_media import entry, new_collection, pictures, unit_rows
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.collection.collection import Collection
from indexer.duplicates.groups import Duplicate, find_duplicates
from indexer.errors import UsageError
from indexer.items import Modality

Rows = NDArray[np.float32]


def towards(row: Rows, other: Rows, cosine: float) -> Rows:
    """A unit vector at ``cosine`` from ``row``, turned towards ``other``."""
    across = other - (other @ row) * row
    across /= np.linalg.norm(across)
    return np.asarray(cosine * row + (1 - cosine**2) ** 0.5 * across, dtype=np.float32)


def told(groups: list[tuple[Duplicate, ...]]) -> list[list[tuple[str, bool]]]:
    return [[(one.item.name, one.same_bytes) for one in group] for group in groups]


@pytest.fixture
def held(tmp_path: Path) -> Collection:
    """Ten pictures, two of them near to 002, one of the bytes of 005, a text and a sound that lie on pictures."""
    rows = unit_rows(10, 64)
    made = new_collection(tmp_path / "c")
    entries = [entry(f"{n:03}.png", rows[n : n + 1]) for n in range(10)]
    entries.append(entry("near.png", towards(rows[2], rows[7], 0.985)[None]))
    entries.append(entry("nearer.png", towards(rows[2], rows[8], 0.995)[None]))
    entries.append(replace(entry("same.png", rows[5:6]), content_hash="hash of 005.png"))
    entries.append(entry("on.txt", rows[3:4], modality=Modality.TEXT))
    two = unit_rows(4, 64, seed=9)
    entries += [
        entry("a.ogg", two[:2], modality=Modality.AUDIO),
        entry("same second, other first.ogg", np.stack([two[3], two[1]]), modality=Modality.AUDIO),
        entry("same first, other second.ogg", np.stack([two[0], two[2]]), modality=Modality.AUDIO),
        entry("longer.ogg", two[:3], modality=Modality.AUDIO),
        entry("b.ogg", np.stack([towards(two[0], two[3], 0.99), towards(two[1], two[3], 0.983)]),
              modality=Modality.AUDIO),
    ]  # fmt: skip
    made.commit(entries)
    made.save_index()
    return made


def test_groups_are_of_one_modality_the_oldest_first_and_all_parts_must_be_near(held: Collection) -> None:
    groups = list(find_duplicates(held))

    assert told(groups) == [
        [("002.png", True), ("nearer.png", False), ("near.png", False)],
        [("005.png", True), ("same.png", True)],
        [("a.ogg", True), ("b.ogg", False)],
    ]
    assert [round(one.cosine, 3) for one in groups[0]] == [1.0, 0.995, 0.985]
    assert groups[2][1].cosine == pytest.approx(0.983, abs=1e-4)  # of its farthest part


def test_the_threshold_and_the_bytes_alone_decide(held: Collection) -> None:
    assert told(list(find_duplicates(held, exact=True))) == [[("005.png", True), ("same.png", True)]]
    strict = told(list(find_duplicates(held, threshold=0.99, modalities=[Modality.IMAGE])))
    assert strict == [[("002.png", True), ("nearer.png", False)], [("005.png", True), ("same.png", True)]]
    for wrong in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(UsageError, match="--threshold"):
            list(find_duplicates(held, threshold=wrong))


def test_a_chain_of_small_steps_is_no_group(tmp_path: Path) -> None:
    angles = np.arange(40) * 0.1  # neighbours at cosine 0.995, the next but one at 0.980, then 0.955
    rows = np.zeros((40, 64), np.float32)
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    with new_collection(tmp_path / "c") as made:
        made.commit([entry(f"{n:02}.png", rows[n : n + 1]) for n in range(40)])
        groups = list(find_duplicates(made, threshold=0.98))
    assert {len(group) for group in groups} <= {2, 3}
    assert all(one.cosine >= 0.98 for group in groups for one in group)


def test_a_crowd_of_equal_things_is_one_group(tmp_path: Path) -> None:
    row = unit_rows(1, 64)
    with new_collection(tmp_path / "c") as made:
        made.commit([entry(f"{n:03}.png", row) for n in range(100)])
        seen: list[tuple[int, int]] = []
        (group,) = find_duplicates(made, on_progress=lambda stage, done, total: seen.append((done, total)))
    assert [one.item.name for one in group] == [f"{n:03}.png" for n in range(100)]
    assert seen[-1] == (100, 100)


def test_removed_items_are_no_duplicates(held: Collection) -> None:
    held.remove(["/media/near.png", "/media/005.png", "/media/b.ogg"])

    assert told(list(find_duplicates(held))) == [[("002.png", True), ("nearer.png", False)]]


def test_the_command_tells_and_removes_nothing(tmp_path: Path) -> None:
    media = tmp_path / "media"
    first, *_ = pictures(media, 4)
    (media / "copy.png").write_bytes(first.read_bytes())
    place = ["--collection", str(tmp_path / "c")]
    run = CliRunner().invoke
    assert run(app, ["index", str(media), "--model", "fake", *place]).exit_code == 0

    done = run(app, ["duplicates", *place])
    assert done.exit_code == 0, done.output
    assert "1 groups, 1 items more than needed" in done.stdout and "nothing was removed" in done.stdout
    assert "same bytes" in done.stdout and str(media / "copy.png") in done.stdout
    document = json.loads(run(app, ["duplicates", "--json", *place]).stdout)
    assert [[one["same_bytes"] for one in group] for group in document["groups"]] == [[True, True]]
    assert run(app, ["duplicates", "--paths", *place]).stdout.splitlines() == [document["groups"][0][1]["path"]]
    assert len(list(media.iterdir())) == 5
    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 5


def test_an_empty_collection_has_none(tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        assert list(find_duplicates(made)) == []
