"""kill -9 at every call that reaches the disk, and at random moments: what was committed is there, and work goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from paths import SUPPORT
from small_media import found_by_itself, index, new_collection, picture, pictures

from indexer.collection.collection import Collection
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity

CRASHING = str(SUPPORT / "crashing.py")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")


def crash(work: str, source: Path, media: Path, every: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What was found after each death, and at the end of the work that followed."""
    command = [sys.executable, CRASHING, "steps", work, str(source), str(media), str(every)]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    # the last one lived to its end: what it made is what all the others have to come to
    assert [death["died"] for death, _ in pairs] == [True] * (len(pairs) - 1) + [False]
    return pairs


def small_library(folder: Path) -> Path:
    """12 pictures, two of them the same, and a file that is none."""
    pictures(folder, 11)
    shutil.copy(folder / "0003.png", folder / "copy.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def changed_library(folder: Path, collection: Path) -> Path:
    """The library as it was indexed, then changed in every way there is."""
    small_library(folder)
    with new_collection(collection, tokens=FakeEncoder.token_spec) as made:
        index(made, folder)
    (folder / "0000.png").rename(folder / "moved.png")
    shutil.copy(folder / "0001.png", folder / "copied.png")
    picture(folder / "0002.png", 1_002)
    (folder / "0004.png").unlink()
    os.utime(folder / "0005.png", ns=(0, 10_000))
    picture(folder / "new.png", 50)
    picture(folder / "bad.png", 51)
    (folder / "0006.png").write_bytes(b"rubbish")
    return folder


def check(pairs: list[tuple[dict[str, Any], dict[str, Any]]], *, before: dict[str, int]) -> dict[str, int]:
    """After every death: whole, nothing unheard of; in the end always the same."""
    expected: dict[str, int] = pairs[-1][1]["end"]
    for death, end in pairs:
        if death["exists"]:
            assert (death["problems"], death["warnings"]) == ([], []), death
            for name, held in death["held"].items():
                assert held in (expected.get(name), before.get(name)), (death["step"], name)
        assert (end["end"], end["problems"]) == (expected, []), death
        assert end["left"] == ["scratch"], death
        assert end["index"] == end["dead"] + len(expected)
    return expected


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_first_build_killed_at_any_call_is_whole_and_continued(tmp_path: Path, every: int) -> None:
    media = small_library(tmp_path / "media")

    pairs = crash("create", tmp_path / "none", media, every)

    expected = check(pairs, before={})
    assert len(expected) == 12
    assert not pairs[0][0]["exists"]
    if every == 1:
        assert len(pairs) > 50
        sizes = [len(death["held"]) for death, _ in pairs if death["exists"]]
        assert sizes == sorted(sizes)
        assert len(set(sizes)) >= 3  # commits on the way


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_an_update_killed_at_any_call_is_whole_and_continued(tmp_path: Path, every: int) -> None:
    media = changed_library(tmp_path / "media", tmp_path / "c")
    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 12

    pairs = crash("update", tmp_path / "c", media, every)

    expected = check(pairs, before=pairs[0][0]["held"])
    present = {path.name for path in media.iterdir()} - {"0006.png"}
    assert set(expected) == present


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_compacting_killed_at_any_call_loses_nothing(tmp_path: Path, every: int) -> None:
    media = changed_library(tmp_path / "media", tmp_path / "c")
    with Collection.open(tmp_path / "c", writable=True) as opened:
        index(opened, media, prune=True)
        assert opened.stats()["vectors"]["dead"] > 0

    pairs = crash("compact", tmp_path / "c", media, every)

    expected = check(pairs, before={})
    assert all(death["held"] == expected for death, _ in pairs)
    assert all(end["dead"] == 0 for _, end in pairs)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rebuild_killed_at_any_call_leaves_the_old_collection_or_the_new_one(tmp_path: Path, every: int) -> None:
    media = changed_library(tmp_path / "media", tmp_path / "c")

    pairs = crash("rebuild", tmp_path / "c", media, every)

    expected = check(pairs, before=pairs[0][0]["held"])
    old = pairs[0][0]["held"]
    assert all(death["exists"] and death["held"] in (old, expected) for death, _ in pairs)


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_a_build_killed_at_random_moments_has_everything_once_in_the_end(tmp_path: Path, kills: int) -> None:
    paths = pictures(tmp_path / "media", 200)
    place = tmp_path / "c"
    chance = random.Random(kills)
    held: set[str] = set()
    deaths = 0
    for _ in range(kills):
        worker = subprocess.Popen(
            [sys.executable, CRASHING, "index", str(place), str(tmp_path / "media")],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        time.sleep(chance.uniform(0.0, 0.12))
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        deaths += worker.stdout.read() == ""
        worker.stdout.close()
        if not Collection.exists(place):
            continue
        for shard in (place / "vectors" / "000001-000000.f32", place / "tokens" / "000001-000000.u8"):
            if shard.exists():  # and a write that was cut in the middle of a row
                with shard.open("ab") as file:
                    file.write(chance.randbytes(chance.randrange(300)))
        with Collection.open(place) as opened:
            assert opened.verify() == []
            now = opened.catalog.keys()
            assert len(now) == len(set(now)) == opened.count
            assert held <= set(now) <= set(map(str, paths))
            held = set(now)
            if held:
                some = Path(chance.choice(sorted(held)))
                assert found_by_itself(opened, some) == [str(some)]
    assert deaths >= 1

    with Collection.open_or_create(place, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)) as made:
        report = index(made, tmp_path / "media")
        assert report.unchanged == len(held)
        assert made.verify() == []
        assert sorted(made.catalog.keys()) == sorted(map(str, paths))
        assert made.count == 200
        for path in paths:
            assert found_by_itself(made, path) == [str(path)]
