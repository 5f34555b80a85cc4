"""Names that the output's encoding does not hold, and words that are no text: no command fails because of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from small_media import index, new_collection, picture

from indexer.errors import UsageError
from retrieval.query import Query, QueryPart, build_query, parse_part

NAMES = (os.fsdecode(b"caf\xe9"), "café", "日本 😀", "plain")
MARK = b"\n=====\n"
#: Runs commands one after the other, in one process: exit code and a mark after each.
DRIVER = """
import json, os, sys
from trimodal.cli import app
for arguments in json.load(open(sys.argv[1], "rb")):
    code = 0
    try:
        app([os.fsdecode(os.fsencode(one)) for one in arguments], prog_name="trimodal")
    except SystemExit as exit:
        code = exit.code or 0
    sys.stdout.flush()
    os.write(1, b"\\n=====\\n%d\\n=====\\n" % code)
"""
#: Each is a process that runs every command; the others of these take no other way through the code.
OTHERS = [
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    *(
        pytest.param(variables, marks=pytest.mark.slow)
        for variables in (
            {"PYTHONIOENCODING": "utf-8"},
            {"PYTHONIOENCODING": "latin-1"},
            {"PYTHONIOENCODING": "ascii"},
            {"LC_ALL": "C"},
            {"PYTHONIOENCODING": "utf-16"},
        )
    ),
]


def commands(variables: dict[str, str], folder: Path, *all_arguments: list[str]) -> list[tuple[int, bytes]]:
    """Exit code and stdout of each."""
    script = folder / "commands.json"
    script.write_text(json.dumps(all_arguments))
    run = [sys.executable, "-c", DRIVER, str(script)]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(run, cwd=ROOT, env=given, capture_output=True, check=False, timeout=300)
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    parts = done.stdout.split(MARK)
    return [(int(code), shown) for shown, code in zip(parts[:-1:2], parts[1::2], strict=True)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection "c" of pictures and their copies, of a text and of a broken file, with names of all kinds."""
    folder = tmp_path_factory.mktemp("encodings")
    media = folder / "media"
    for number, name in enumerate(NAMES):
        picture(media / f"{name}.png", number)
        shutil.copy(media / f"{name}.png", media / f"{name} copy.png")
    (media / f"{NAMES[0]} broken.png").write_bytes(b"x")
    (media / "日本.txt").write_text("words 日本 😀 “quoted”", encoding="utf-8")
    with new_collection(folder / "c") as collection:
        index(collection, media)
    return folder


@pytest.mark.parametrize("variables", OTHERS, ids=lambda variables: " ".join(map("=".join, variables.items())))
def test_no_command_fails_because_of_the_outputs_encoding(
    made: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    c = ["-c", str(made / "c")]
    media = str(made / "media")
    tried = commands(
        variables,
        tmp_path,
        ["search", "red", *c, "-k", "20", "--no-rerank", "--paths"],
        ["search", "red", *c, "-k", "20", "--no-rerank", "--json"],
        ["search", "red", *c, "-k", "20", "--no-rerank"],
        ["duplicates", *c, "--json"],
        ["duplicates", *c, "--paths"],
        ["duplicates", *c],
        ["info", *c, "--json"],
        ["info", *c],
        ["verify", *c],
        ["models", "list"],
        ["index", media, "-c", str(tmp_path / "new"), "--model", "fake", "--json"],
        ["index", media, "-c", str(tmp_path / "new"), "--model", "fake"],
        ["remove", f"{media}/none", *c],
    )
    assert [code for code, _ in tried] == [0] * 12 + [1]
    paths = tried[0][1]
    for name in (os.fsencode(path.name) for path in (made / "media").iterdir()):
        if b"broken" not in name:
            assert os.fsencode(media) + b"/" + name + b"\n" in paths
    if variables.get("PYTHONIOENCODING") != "utf-16":
        hits, groups = json.loads(tried[1][1]), json.loads(tried[3][1])
        assert len(hits["hits"]) == 9
        assert len(groups["groups"]) == 4


def test_words_that_are_no_text_are_a_usage_error_in_every_form() -> None:
    bad = os.fsdecode(b"caf\xe9")
    for ask in (
        lambda: Query.text(bad),
        lambda: build_query("a", plus=[bad]),
        lambda: parse_part(f"0.5:text:{bad}"),
        lambda: Query.text("a", where=f"name = '{bad}'"),
        lambda: Query.text("half \ud83d"),
    ):
        with pytest.raises(UsageError, match="is no text"):
            ask()
    assert QueryPart("image", bad + ".png").value == Path(bad + ".png")  # type: ignore[arg-type]


@pytest.mark.parametrize("query", [["caf\udce9"], ["a", "--plus", "\udcff"], ["a", "--where", "name = '\udce9'"]])
def test_a_query_with_bytes_that_are_no_text_exits_with_2(made: Path, query: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from trimodal.cli import app; app()", "search", *query, "-c", str(made / "c")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is no text" in done.stderr
    assert len(done.stderr.splitlines()) == 1
