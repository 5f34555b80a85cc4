"""Every bad file of ``bad_files.py``: one line with a name and a remedy, and nothing else harmed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from bad_files import (
    GOOD_FILES,
    BadFile,
    make_bad_files,
    picture_bytes,
    png_bomb,
    sound_bytes,
    svg_bytes,
    wav_bytes,
)
from paths import ROOT

from indexer import files
from indexer.corpus.walk import Corpus, find_items
from indexer.errors import MediaError
from indexer.files import display_path
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.content_hash import content_hash
from indexer.media.decode import decode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[BadFile]]:
    pytest.importorskip("resvg_py")
    folder = tmp_path_factory.mktemp("bad") / "files"
    return folder, make_bad_files(folder)


@pytest.fixture(scope="module")
def corpus(made: tuple[Path, list[BadFile]]) -> Corpus:
    return find_items([made[0]])


@pytest.fixture(scope="module")
def said(made: tuple[Path, list[BadFile]], corpus: Corpus) -> dict[str, str]:
    """What is said of each path that cannot be used, by its shown name."""
    folder, _ = made
    lines = {skipped.path: skipped.reason for skipped in corpus.skipped}
    for item in corpus.items:
        try:
            decode(item)
        except MediaError as error:
            lines[error.path] = error.reason
    return {path.removeprefix(f"{display_path(folder)}/"): reason for path, reason in lines.items()}


def test_each_bad_file_is_named_with_what_is_wrong_and_what_to_do(
    made: tuple[Path, list[BadFile]], said: dict[str, str]
) -> None:
    for bad in made[1]:
        reason = said.get(bad.name)
        assert reason is not None, f"{bad.name}: nothing was said"
        for words in bad.says:
            assert words in reason, f"{bad.name}: {reason}"


def test_nothing_but_the_bad_files_is_complained_of(made: tuple[Path, list[BadFile]], said: dict[str, str]) -> None:
    assert said.keys() == {bad.name for bad in made[1]}


def test_each_line_is_one_printable_line_that_any_file_can_hold(said: dict[str, str]) -> None:
    for name, reason in said.items():
        line = f"{name}: {reason}"
        assert line.isprintable(), line
        line.encode("utf-8")
        assert len(reason) < 400


def test_the_good_files_among_them_are_read_as_if_alone(made: tuple[Path, list[BadFile]], corpus: Corpus) -> None:
    by_name = {item.path.name: item for item in corpus.items}
    assert set(GOOD_FILES) <= by_name.keys()
    for name in GOOD_FILES:
        decoded = decode(by_name[name])
        assert len(decoded.segments) == 1
        assert len(content_hash(by_name[name])) == 40
    streamed = [decode(by_name[f"streamed-{end}.wav"]).segments[0].payload for end in ("ffffffff", "zero")]
    whole = decode(by_name["good sound.wav"]).segments[0].payload
    assert all(np.array_equal(samples, whole) for samples in streamed)


def test_system_files_and_the_link_to_the_parent_give_no_items(
    made: tuple[Path, list[BadFile]], corpus: Corpus
) -> None:
    assert {item.path.parent for item in corpus.items} == {made[0]}


def test_bad_files_that_are_asked_for_by_name_are_reported_the_same(made: tuple[Path, list[BadFile]]) -> None:
    folder, _ = made
    names = ["pipe.wav", "socket.jpg", "device.wav", "dangling.jpg", "circle.jpg"]
    corpus = find_items([folder / name for name in names])
    assert corpus.items == []
    assert corpus.roots == ()
    assert [skipped.path for skipped in corpus.skipped] == [str(folder / name) for name in names]


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    item = Item("a", Modality.TEXT, tmp_path / "a.txt")
    for read in (decode, content_hash):
        with pytest.raises(MediaError, match=r"is a FIFO \(named pipe\)"):
            read(item)


def test_a_file_that_is_gone_since_it_was_found_is_reported(tmp_path: Path) -> None:
    for modality, name in ((Modality.IMAGE, "a.jpg"), (Modality.AUDIO, "a.wav"), (Modality.TEXT, "a.txt")):
        with pytest.raises(MediaError, match="does not exist; check the path"):
            decode(Item("a", modality, tmp_path / name))


def test_a_file_that_may_not_be_opened_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("words")

    def refuse(path: object, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "open", refuse)
    item = Item("a", Modality.TEXT, tmp_path / "a.txt")
    for read in (decode, content_hash):
        with pytest.raises(MediaError, match=r"a\.txt: cannot be opened: permission denied; make it readable"):
            read(item)


def test_a_disk_that_fails_while_reading_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("words")

    def fail(path: object, flags: int) -> int:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(files.os, "open", fail)
    with pytest.raises(MediaError, match=r"a\.txt: cannot be read \(Input/output error\); check the disk"):
        decode(Item("a", Modality.TEXT, tmp_path / "a.txt"))


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_another_users_files_and_folders_are_reported_and_the_rest_is_found() -> None:
    program = """
import os, sys
from pathlib import Path
from indexer.corpus.walk import find_items
from indexer.errors import MediaError
from indexer.media.decode import decode
if os.getuid() == 0:  # root may read everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
corpus = find_items([Path(sys.argv[1])])
for skipped in corpus.skipped:
    print("skipped", Path(skipped.path).name, skipped.reason)
for item in corpus.items:
    try:
        decode(item)
        print("read", item.path.name)
    except MediaError as error:
        print("refused", item.path.name, error.reason)
"""
    # Not tmp_path: its parents are closed to others, and everything would be refused for that.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mine.txt").write_text("words")
        (folder / "theirs.txt").write_text("words")
        (folder / "closed").mkdir()
        (folder / "closed" / "a.txt").write_text("words")
        for path, mode in ((folder / "theirs.txt", 0), (folder / "closed", 0), (folder, 0o755)):
            path.chmod(mode)
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, folder], capture_output=True, text=True, cwd=ROOT, check=False
            )
        finally:
            (folder / "closed").chmod(0o700)
    assert done.stdout.splitlines() == [
        "skipped closed folder cannot be opened: permission denied; make it readable (chmod +r) or leave it out",
        "read mine.txt",
        "refused theirs.txt cannot be opened: permission denied; make it readable (chmod +r) or leave it out",
    ], done.stderr


def seeds() -> dict[str, bytes]:
    """A small valid file of each format."""
    named_alike = ("png", "webp", "gif", "bmp", "ico", "ppm", "avif")
    pictures = {"jpg": "JPEG", "tif": "TIFF"} | {name: name.upper() for name in named_alike}
    sounds = {
        "wav": ("WAV", "PCM_16"),
        "flac": ("FLAC", "PCM_16"),
        "ogg": ("OGG", "VORBIS"),
        "opus": ("OGG", "OPUS"),
        "mp3": ("MP3", "MPEG_LAYER_III"),
        "aiff": ("AIFF", "PCM_16"),
        "caf": ("CAF", "ALAC_16"),
    }
    found = {suffix: picture_bytes(format, size=(24, 16)) for suffix, format in pictures.items()}
    found |= {suffix: sound_bytes(*kind, seconds=0.2) for suffix, kind in sounds.items()}
    return found | {"txt": "A text.\n\nOf two parts, größe.".encode() * 3, "svg": svg_bytes("<rect id='a'/>")}


def damaged(content: bytes, generator: random.Random) -> bytes:
    """One of: some bytes changed, a piece cut out, repeated or filled with one value, the end missing."""
    raw = bytearray(content)
    start = generator.randrange(min(len(raw), generator.choice((32, 400, len(raw)))))
    end = min(len(raw), start + generator.randrange(1, 40))
    way = generator.randrange(5)
    if way == 0:
        for _ in range(generator.randrange(1, 8)):
            raw[generator.randrange(start, len(raw))] = generator.randrange(256)
    elif way == 1:
        del raw[start:end]
    elif way == 2:
        raw[start:start] = raw[start:end]
    elif way == 3:
        raw[start:end] = bytes([generator.choice((0, 255, 127, 128))]) * (end - start)
    else:
        del raw[start:]
    return bytes(raw)


@pytest.mark.parametrize("suffix", sorted(seeds()))
def test_no_damage_of_any_kind_raises_anything_but_media_errors(suffix: str, tmp_path: Path) -> None:
    content = seeds()[suffix]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    (item,) = find_items([path]).items
    limits = MediaLimits(max_megapixels=4, max_audio_hours=0.01)
    assert decode(item, limits).segments
    generator = random.Random(suffix)
    # A drawing that passes the check costs a process.
    for _ in range(8 if suffix == "svg" else 60):
        path.write_bytes(damaged(content, generator))
        try:
            decoded = decode(item, limits)
        except MediaError as error:
            assert str(error).startswith(str(path)) and str(error).isprintable()
        else:
            assert decoded.segments
            if item.modality is Modality.AUDIO:
                assert all(np.isfinite(part.payload).all() for part in decoded.segments)


def test_all_damage_to_a_wav_header_is_survived(tmp_path: Path) -> None:
    content = wav_bytes(np.zeros(400, np.int16))
    path = tmp_path / "a.wav"
    item = Item("a", Modality.AUDIO, path)
    for at in range(44):
        for value in (0, 1, 127, 255):
            path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            try:
                decoded = decode(item)
            except MediaError:
                continue
            assert decoded.segments[0].segment.end_s <= 0.4  # never more than the bytes can hold, at 1,000 Hz


def test_decoding_a_bomb_takes_no_time(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_bomb())
    started = time.perf_counter()
    with pytest.raises(MediaError, match="raise --max-megapixels"):
        decode(Item("a", Modality.IMAGE, tmp_path / "bomb.png"))
    assert time.perf_counter() - started < 1
