"""The command line, as a process of its own: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from paths import ROOT
from PIL import Image
from processes import run_program

from retrieval import Searcher


def trimodal(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does; the console script only calls ``app``."""
    return run_program([str(argument) for argument in arguments], cwd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in colours, a tone, a text and a broken picture."""
    folder = tmp_path_factory.mktemp("things")
    for name, colour in {"red": (255, 0, 0), "green": (0, 150, 0), "blue": (0, 0, 255)}.items():
        Image.new("RGB", (60, 40), colour).save(folder / f"{name}.png")
    soundfile.write(folder / "tone.wav", 0.5 * np.sin(np.arange(16_000) * 2 * np.pi * 1500 / 16_000), 16_000)
    (folder / "notes.txt").write_text("the blue door of the old house")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


@pytest.fixture(scope="module")
def collection(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("collections") / "things"
    done = trimodal("index", folder, "--collection", place, "--model", "fake")
    assert done.returncode == 0, done.stderr
    assert "5 added, 1 skipped" in done.stdout
    assert "broken.jpg" in done.stderr
    assert "broken.jpg" not in done.stdout
    return place


def test_help_names_every_command_and_each_has_its_own() -> None:
    whole = trimodal("--help")
    assert whole.returncode == 0
    for command in ("index", "search", "bench", "info", "verify", "remove", "compact", "models", "train"):
        assert command in whole.stdout
        own = trimodal(command, "--help")
        assert own.returncode == 0
        assert "Usage" in own.stdout


def test_a_search_prints_a_table_and_json_prints_one_document(collection: Path) -> None:
    table = trimodal("search", "red", "--collection", collection, "-m", "image")
    assert table.returncode == 0
    assert "red.png" in table.stdout.splitlines()[1]
    document = json.loads(trimodal("search", "red", "-c", collection, "--json", "-k", "2").stdout)
    assert set(document) >= {"query", "hits", "timings_ms"}
    assert set(document["hits"][0]) >= {
        "rank", "score", "match_probability", "modality", "path", "start_s", "end_s", "text", "caption", "metadata",
    }  # fmt: skip
    assert len(document["hits"]) == 2


def test_paths_are_what_the_next_program_can_open(collection: Path, folder: Path) -> None:
    done = trimodal("search", "blue", "-c", collection, "-m", "image", "--paths", "-k", "1", cwd=folder)
    assert done.stdout == "blue.png\n"


def test_a_picture_and_a_sound_are_queries_too_and_parts_combine(collection: Path, folder: Path) -> None:
    by_picture = trimodal("search", "--image", folder / "green.png", "-c", collection, "--json", "-m", "image")
    assert json.loads(by_picture.stdout)["hits"][0]["path"].endswith("green.png")
    by_sound = trimodal("search", "--audio", folder / "tone.wav", "-c", collection, "--json", "-m", "audio")
    assert json.loads(by_sound.stdout)["hits"][0]["path"].endswith("tone.wav")
    both = trimodal("search", "red", "--plus", "2:blue", "--minus", "red", "-c", collection, "--json", "-m", "image")
    assert json.loads(both.stdout)["hits"][0]["path"].endswith("blue.png")


def test_the_library_gives_the_hits_of_the_command_line(collection: Path) -> None:
    printed = json.loads(trimodal("search", "a red thing", "-c", collection, "--json", "-k", "5").stdout)["hits"]
    hits = Searcher.open(collection).search("a red thing", k=5)
    assert [hit.to_json() for hit in hits] == printed
    assert len(hits) == 5


def test_a_second_index_run_reads_nothing_and_names_the_broken_file_again(collection: Path, folder: Path) -> None:
    again = trimodal("index", folder, "-c", collection, "--json")
    document = json.loads(again.stdout)
    assert document["unchanged"] == 5
    assert document["added"] == document["changed"] == 0
    assert "broken.jpg" in document["skipped"][0]["path"]
    assert trimodal("index", folder, "-c", collection, "--strict").returncode == 1


def test_where_filters_and_its_mistakes_are_usage_errors(collection: Path) -> None:
    some = trimodal("search", "red", "-c", collection, "--where", "suffix = '.png' and name <> 'red.png'", "--json")
    assert {Path(hit["path"]).name for hit in json.loads(some.stdout)["hits"]} == {"green.png", "blue.png"}
    bad = trimodal("search", "red", "-c", collection, "--where", "1; drop table items")
    assert bad.returncode == 2
    assert len(bad.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "x", "-c", "{tmp}/none"], 3, "no collection there"),
        (["search", "-c", "{collection}"], 2, "the query is empty"),
        (["search", "x", "-c", "{collection}", "--image", "{tmp}/none.png"], 3, "none.png"),
        (["search", "x", "-c", "{collection}", "-m", "video"], 2, "no modality 'video'"),
        (["index", "{tmp}", "-c", "{collection}", "--model", "nonsense"], 3, "model nonsense: no such model"),
        (["index", "{tmp}/nowhere", "-c", "{collection}"], 1, "does not exist"),
        (["index", "{tmp}/empty", "-c", "{collection}"], 1, "holds nothing readable"),
        (["bench", "{tmp}/none.jsonl"], 3, "none.jsonl"),
        (["models", "show", "nonsense"], 3, "no such model"),
        (["train", "dual", "{tmp}/none.toml", "--out", "{tmp}/out"], 2, "no such recipe"),
        (["remove", "{tmp}/never-indexed.png", "-c", "{collection}"], 1, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    collection: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [argument.format(tmp=tmp_path, collection=collection) for argument in arguments]
    done = trimodal(*filled)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if message and message in line]) == (1 if message else 0)


def test_another_model_is_refused_with_the_command_that_helps_and_rebuild_does_it(folder: Path, tmp_path: Path) -> None:
    from small_model import save_small_model

    place = tmp_path / "made by fake"
    trimodal("index", folder, "-c", place, "--model", "fake")
    small = save_small_model(tmp_path / "small")
    refused = trimodal("index", folder, "-c", place, "--model", small)
    assert refused.returncode == 3
    assert "--rebuild" in refused.stderr
    rebuilt = trimodal("index", folder, "-c", place, "--model", small, "--rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert json.loads(trimodal("info", "-c", place, "--json").stdout)["model"] == str(small)
    assert trimodal("search", "anything", "-c", place).returncode == 0


def test_remove_compact_and_verify_go_together(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "some"
    trimodal("index", folder, "-c", place, "--model", "fake")
    assert trimodal("remove", folder / "red.png", "-c", place).stdout == "removed 1 items\n"
    found = trimodal("search", "red", "-c", place, "--paths")
    assert "red.png" not in found.stdout
    assert "5 rows before, 4 after" in trimodal("compact", "-c", place).stdout
    verified = trimodal("verify", "-c", place)
    assert verified.returncode == 0
    (place / "index.faiss").write_bytes(b"nonsense")
    damaged = trimodal("verify", "-c", place)
    assert damaged.returncode == 1
    assert "--repair" in damaged.stdout
    assert trimodal("search", "green", "-c", place, "-m", "image", "--paths", "-k", "1").stdout.endswith("green.png\n")
    assert trimodal("verify", "--repair", "-c", place).returncode == 0


def test_bench_prints_both_directions_and_writes_a_report(folder: Path, tmp_path: Path) -> None:
    rows = [{"image": f"{name}.png", "captions": [f"a {name} square", name]} for name in ("red", "green", "blue")]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = trimodal("bench", manifest, "--model", "fake", "--json", "--report", tmp_path / "report")
    manifest.unlink()
    document = json.loads(done.stdout)
    assert {result["direction"] for result in document["results"]} == {"text->image", "image->text"}
    assert all(result["hit_rate_at_1"] == 1.0 for result in document["results"])
    assert (tmp_path / "report" / "report.json").is_file()


def test_the_models_are_listed_with_their_licences() -> None:
    listed = json.loads(trimodal("models", "list", "--json").stdout)
    assert listed[0]["spec"] == "starter"
    assert listed[0]["modalities"] == ["audio", "image", "text"]
    assert "Apache-2.0" in listed[0]["licence"]
    assert "SmolLM2" in trimodal("models", "show", "starter").stdout


def test_a_reader_that_closes_the_pipe_early_is_no_error(collection: Path) -> None:
    code = "from trimodal.cli import app; app()"
    command = f"{sys.executable} -c '{code}' search red -c '{collection}' --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_the_default_collection_is_the_users_own(folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    code = "from trimodal.cli import app; app()"
    for arguments in (
        ["index", str(folder), "--model", "fake"],
        ["search", "red", "-m", "image", "--paths", "-k", "1"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("red.png\n")
    assert (tmp_path / "trimodal" / "collection" / "collection.json").is_file()
