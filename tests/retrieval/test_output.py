"""What reaches a terminal, a pipe, a spreadsheet or a page: never a control character or a formula of a stranger's."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from small_media import picture
from small_model import save_small_model

from indexer.encoders.identity import EncoderIdentity
from retrieval import output
from retrieval.batch import QueryRow, ResultFile, RowResult
from retrieval.evaluation.report import markdown
from retrieval.hits import Hit, SearchResult
from retrieval.query import Query

#: A terminal's title, C1 codes, a forged line, text turned round, a byte that is no UTF-8, a formula, marks of rich.
HOSTILE = (
    "\x1b]0;x\x07",
    "\x9b31m",
    "a\nskipped b",
    "\u202egpj.",
    os.fsdecode(b"\xff\xfe"),
    "=cmd|' !A0",
    "[red]x",
    "\ufeff\u2028\x7f",
)

Run = Callable[..., tuple[int, str, str]]


class Terminal(io.TextIOWrapper):
    """A stream that keeps its bytes and may be a terminal."""

    def __init__(self, *, tty: bool = False, encoding: str = "utf-8") -> None:
        self.kept = io.BytesIO()
        self.tty = tty
        super().__init__(self.kept, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return self.tty


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process: exit code and what it wrote, which must print, whatever it was about."""
    from trimodal.cli import app

    def run(*arguments: object, raw: bool = False, tty: bool = False, encoding: str = "utf-8") -> tuple[int, str, str]:
        out, err = Terminal(tty=tty, encoding=encoding), Terminal(encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        try:
            app([str(argument) for argument in arguments], prog_name="trimodal")
            code = 0
        except SystemExit as exit:
            code = int(exit.code or 0)
        finally:
            monkeypatch.undo()
        texts = [
            stream.kept.getvalue().decode(encoding, "surrogateescape" if raw else "strict") for stream in (out, err)
        ]
        for text in texts[raw:]:
            bad = {char for char in text if char not in "\n\t" and unicodedata.category(char)[0] == "C"}
            assert not bad, (arguments, bad, text)
            assert "Traceback" not in text, text
        return code, *texts

    return run


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, two copies of a picture, broken pictures and a manifest, all with hostile names and words."""
    folder = tmp_path_factory.mktemp("hostile") / "\x1b[2Jmedia"
    for number, name in enumerate(HOSTILE):
        picture(folder / f"{name}.png", number)
        shutil.copy(folder / f"{name}.png", folder / f"{name} copy.png")
        (folder / f"{name}.txt").write_text(f"words {name}", encoding="utf-8", errors="replace")
        (folder / f"{name} broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    rows: list[dict[str, Any]] = [
        {
            "id": f"{name} {n}",
            "text": f"{name} text {n}",
            "captions": [f"{name} said {n}", f"http://x.de/{name}"],
            "split": "test",
            "metadata": {name: name},
        }
        for n, name in enumerate(("\x1b]0;x\x07", "\x9b31m", "=1+1", "<b>|`*", "\u202e"))
    ]
    rows.append({"image": "\x1b]0;x\x07.png", "captions": ["=HYPERLINK(\x1b)"], "id": "=id"})
    rows.append({"image": "\x9bnone.png"})
    (folder / "\x1bm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def made(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from indexer.build.run import build
    from indexer.corpus.walk import find_items
    from indexer.encoders.fake import FakeEncoder

    place = tmp_path_factory.mktemp("collections") / "\x9bc"
    fake = FakeEncoder()
    from indexer.collection.collection import Collection

    with Collection.create(place, EncoderIdentity(fake.spec, fake.fingerprint, fake.dim)) as collection:
        build(collection, find_items([media, media / "\x1bm.jsonl"]), fake)
    return place


@pytest.fixture
def collection(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "\x1b[31mcollection"))


def test_indexing_and_its_errors_print_nothing_raw(run: Run, media: Path, tmp_path: Path) -> None:
    place = tmp_path / "\x9bnew\nline"
    code, out, err = run(
        "index", media, media / "\x1bm.jsonl", tmp_path / "\x07gone.png", "-c", place, "--model", "fake"
    )
    assert code == 0
    assert len(out.splitlines()) == 1 and r"\x9bnew\nline" in out
    assert {line[:8] for line in err.splitlines() if line} <= {"skipped ", "… and 3 "}, err
    assert r"\x1b]0;x\x07 broken.jpg: " in err and "\nskipped b" not in err.replace(r"\n", "")
    document = json.loads(run("index", media, "-c", place, "--json")[1])
    assert document["collection"] == str(place)


def test_searches_print_nothing_raw_and_json_keeps_every_value(run: Run, collection: Path, media: Path) -> None:
    assert run("search", "words", "-c", collection, "-k", "50")[0] == 0
    assert run("search", "\x1b[31m\x9b", "-c", collection, "-k", "50", "--json")[0] == 0
    document = json.loads(run("search", "words", "-c", collection, "-k", "99", "--json")[1])
    names = {Path(hit["path"]).name for hit in document["hits"]}
    assert {f"{name}.png" for name in HOSTILE} <= names
    assert {"\x9b31m": "\x9b31m"} in [hit["metadata"] for hit in document["hits"]]
    code, _, err = run("search", "x", "-c", collection, "--where", "\x9b31m = 1 and \x1b")
    assert code == 2 and len(err.splitlines()) == 1
    assert run("search", "x", "-c", collection, "--where", "none = 1")[0] == 2  # names the keys that there are


def test_paths_are_bytes_for_a_program_and_escaped_for_a_terminal(run: Run, collection: Path, media: Path) -> None:
    arguments = ("search", "words", "-c", collection, "-k", "99", "--paths")
    piped = run(*arguments, raw=True)[1]
    assert f"{media}/{HOSTILE[4]}.png\n" in piped and f"{media}/\x1b]0;x\x07.png\n" in piped
    shown = run(*arguments, tty=True)[1]
    assert r"/\x1b]0;x\x07.png" in shown and r"/\xff\xfe.png" in shown
    twice = ("duplicates", "-c", collection, "--exact", "--paths")
    # which of two equal files is the older one, and not listed, is a matter of their times
    assert f"{media}/{HOSTILE[4]}" in run(*twice, raw=True)[1]
    assert r"/\xff\xfe" in run(*twice, tty=True)[1]


def test_what_looks_after_a_collection_prints_nothing_raw(run: Run, collection: Path) -> None:
    assert run("info", "-c", collection)[0] == 0
    assert json.loads(run("info", "-c", collection, "--json")[1])["model"] == "fake"
    code, out, _ = run("duplicates", "-c", collection, "--exact")
    assert code == 0 and r"\x1b]0;x\x07 copy.png" in out
    groups = json.loads(run("duplicates", "-c", collection, "--exact", "--json")[1])["groups"]
    assert any(one["path"].endswith(f"{HOSTILE[4]} copy.png") for group in groups for one in group)
    for file in (collection / "vectors").glob("*"):
        data = bytearray(file.read_bytes())
        data[: len(data) // 2] = bytes(len(data) // 2)
        file.write_bytes(data)
    code, out, _ = run("verify", "-c", collection)
    assert code == 1 and len(out.splitlines()) >= 1
    assert json.loads(run("verify", "-c", collection, "--json")[1])["ok"] is False
    _, out, _ = run("verify", "-c", collection, "--repair")
    assert "mended: " in out
    assert run("remove", "\x1b]0;x\x07", "-c", collection)[0] == 1
    assert run("compact", "-c", collection)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["\x9b31mcommand"],
        ["search", "x", "--no\x1b[31m"],
        ["search", "x", "-k", "\x1b]0;x\x07\nError: forged"],
        ["search", "x", "-c", "/no\x1b\ntrimodal: forged"],
        ["search", "x", "-m", "\x9b\u202e"],
        ["search", "x", "--image", "/no\x1b.png", "-c", "{c}"],
        ["search", "--queries", "/no\x9b.jsonl", "-c", "{c}"],
        ["index", "/no\x1b.png", "-c", "{c}"],
        ["index", "/no\x9b.png", "-c", "/tmp/\x9b/none", "--model", "\x1bmodel"],
        ["models", "show", "\x1b[31m\nforged"],
        ["models", "pull", "\x9b31m"],
        ["bench", "/no\x1b.jsonl"],
        ["compare", "/no\x1b.json", "/no\x9b.json"],
        ["caption", "/no\x1b.png", "--model", "fake"],
        ["train", "dual", "/no\x1b.toml", "--out", "/tmp/\x9b"],
        ["train", "rerank", "/no\x1b.toml", "--out", "/tmp/\x9b"],
        ["train", "names", "/no\x1b.txt", "--model", "/no\x9b"],
        ["verify", "-c", "/no\x9b"],
        ["compact", "-c", "/no\x9b"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments[:3])),
)
def test_an_error_is_one_line_that_prints_whatever_it_names(run: Run, made: Path, arguments: list[str]) -> None:
    code, out, err = run(*(str(made) if one == "{c}" else one for one in arguments))
    assert code in (1, 2, 3)
    assert out == "" or code == 1
    assert not any(line.endswith("forged") and r"\n" not in line for line in err.splitlines()), err


def test_a_strangers_model_and_its_card_print_nothing_raw(run: Run, tmp_path: Path) -> None:
    made = save_small_model(tmp_path / "\x1b]0;x\x07model")
    (made / "README.md").write_bytes(
        b"# Title \x1b]0;x\x07\n\n[click](http://evil.example/\x1b) &#27;[31m &#x9b; <b>html</b> ![p](file:///etc)\n\n"
        b"```sh\n\x1b[31mrm\n```\n\xff\n\n| a | b |\n|---|---|\n| \x9b | \xe2\x80\xae |\n" + b">" * 3_000 + b" deep\n"
    )
    code, out, _ = run("models", "show", made)
    assert code == 0 and "Title" in out and "click" in out
    shown = run("models", "show", made, raw=True, tty=True)[1]
    assert "\x1b]" not in shown and "\x9b" not in shown and "\x1b]8" not in shown
    assert json.loads(run("models", "show", made, "--json")[1])["directory"] == str(made)


def test_a_benchmark_and_its_reports_hold_no_markup_of_the_data(run: Run, media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "\x9breport"
    code, out, _ = run("bench", media / "\x1bm.jsonl", "--model", "fake", "--no-cache", "--report", folder)
    assert code == 0 and "R@1" in out
    for name in ("report.html", "report.md", "report.json", "report.csv"):
        text = (folder / name).read_bytes().decode()
        assert not {char for char in text if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs")}
    assert "<b>" not in (folder / "report.md").read_text()
    json.loads((folder / "report.json").read_text())
    assert run("compare", folder / "report.json", folder / "report.json", "--report", tmp_path / "\x1bcompared")[0] == 0


def test_many_queries_give_json_lines_and_a_csv_without_formulas(run: Run, collection: Path, tmp_path: Path) -> None:
    queries = tmp_path / "\x1bq.jsonl"
    rows = [
        {"id": "=1+1", "text": "words"},
        {"id": "\x9b", "text": "x", "where": "\x1b"},
        {"id": "-5", "modality": "\x9b"},
    ]
    queries.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [
        json.loads(one) for one in run("search", "--queries", queries, "-c", collection, "-k", "90")[1].splitlines()
    ]
    assert [one["id"] for one in found] == ["=1+1", "\x9b", "-5"]
    assert any(HOSTILE[4] in hit["path"] for hit in found[0]["hits"])
    out = tmp_path / "\x9bout.csv"
    assert run("search", "--queries", queries, "-c", collection, "-k", "90", "--out", out)[0] == 1
    with out.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["id"] for row in table} == {"'=1+1", r"\x9b", "'-5"}
    assert any(float(row["score"]) < 0 for row in table if row["score"])  # a number stays one
    captions = {row["caption"] for row in table}
    assert r"'=HYPERLINK(\x1b)" in captions and not any(one.startswith(output.FORMULA_STARTS) for one in captions)


def test_a_stream_that_is_no_utf_8_gets_escapes_and_json_stays_json(run: Run, collection: Path) -> None:
    document = json.loads(run("search", "é", "-c", collection, "-k", "99", "--json", encoding="ascii")[1])
    assert document["query"]["parts"][0]["value"] == "é"
    assert run("search", "é", "-c", collection, "-k", "5", encoding="ascii")[0] == 0


# -- the parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", None])
def test_json_parses_to_the_same_values_and_prints(indent: int | None, encoding: str | None) -> None:
    document = {
        name: [name, {"é🙂": name}] for name in (*HOSTILE, "\0", "\t\r\n", "\x85", "\u2029", "\U000e0001", "\u200d")
    }

    text = output.json_text(document, indent=indent, encoding=encoding)

    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == document
    text.encode(encoding or "utf-8")


def test_json_has_no_word_for_nan_so_it_is_null() -> None:
    text = output.json_text({"a": float("nan"), "b": [1.5, float("-inf")], "c": (np.float64("inf"),)})
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word)) == {"a": None, "b": [1.5, None], "c": [None]}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1", "'=1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\ta", "'\ta"),
        ("\ra", r"'\ra"),
        ("＝1", "'＝1"),
        (-1, -1),
        (-0.5, -0.5),
        (1e-9, 1e-9),
        (None, None),
        (True, True),
        ("a=b", "a=b"),
        ("", ""),
        ("a\x1b\x9b\u202e\udcff", r"a\x1b\x9b\u202e\xff"),
        ("line\nbreak\tand\xa0space", "line\nbreak\tand\xa0space"),
        (Path("=x"), "'=x"),
    ],
)
def test_a_text_in_csv_is_no_formula_and_a_number_stays_one(value: object, cell: object) -> None:
    assert output.csv_cell(value) == cell and type(output.csv_cell(value)) is type(cell)


def test_a_score_below_zero_is_written_as_a_number() -> None:
    from indexer.items import Modality

    hit = Hit(1, -0.25, -0.25, None, Modality.TEXT, Path("/m/=x"), None, None, "+1", "@SUM", {}, 0, "k")
    query = Query.text("x")
    out = io.StringIO()
    ResultFile(out, as_csv=True).write(RowResult(QueryRow(1, "a", query), SearchResult((hit,), query, {})))
    assert out.getvalue().splitlines()[1] == "1,a,1,-0.25,,text,/m/=x,,,'@SUM,"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("`code`", r"\`code\`"),
        ("<script>", "&lt;script>"),
        ("[t](http://x)", r"[t\](http\://x)"),
        ("![p](u)", r"![p\](u)"),
        ("&lt;", "&amp;lt;"),
        ("www.x.de", r"www\.x.de"),
        ("# head", r"\# head"),
        ("@me", r"\@me"),
        ("a\n\nb", r"a\\n\\nb"),
        ("$x$", r"\$x\$"),
        ("R@1", "R@1"),
        ("a->b [0.0, 1.0]", "a->b [0.0, 1.0]"),
        ("> quote", r"\> quote"),
        ("[a]: http://x", r"[a\]: http\://x"),
        ("\\", "\\\\"),
    ],
)
def test_markdown_shows_a_text_as_it_stands(text: str, escaped: str) -> None:
    assert markdown._escaped(text) == escaped


def test_what_libraries_write_is_escaped_and_the_streams_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with output.guarded():
        sys.stderr.writelines(["warning: ", "\x1b[31m\x9b\n"])
        sys.stdout.write("progress\r\t10%\n")
        assert sys.stdout.encoding == "utf-8"
    assert sys.stdout is out and sys.stderr is err
    monkeypatch.undo()
    assert err.kept.getvalue() == b"warning: \\x1b[31m\\x9b\n"
    assert out.kept.getvalue() == b"progress\r\t10%\n"


def _names(tree: ast.AST) -> Iterator[str]:
    """What is called, and the streams that are named."""
    for node in ast.walk(tree):
        found = node.func if isinstance(node, ast.Call) else node
        if isinstance(found, ast.Name) and found is not node:
            yield found.id
        elif isinstance(found, ast.Attribute) and isinstance(found.value, ast.Name):
            yield f"{found.value.id}.{found.attr}"


def test_one_file_prints_and_writes_csv() -> None:
    """Others may: processes that answer with what they read, and a copy of a file's bytes."""
    forbidden = {
        "print",
        "pprint",
        "Console",
        "Markdown",
        "sys.stdout",
        "sys.stderr",
        "csv.writer",
        "csv.DictWriter",
        "typer.echo",
        "typer.secho",
        "click.echo",
        "click.secho",
        "os.write",
        "warnings.warn",
    }
    found = {}
    for path in (ROOT / "cli.py", *(ROOT / "retrieval").rglob("*.py"), *(ROOT / "indexer").rglob("*.py")):
        names = forbidden & set(_names(ast.parse(path.read_text(encoding="utf-8"))))
        if names:
            found[path.relative_to(ROOT).as_posix()] = names
    assert {"sys.stdout", "sys.stderr", "csv.writer", "Console", "Markdown"} <= found.pop("retrieval/output.py")
    assert found == {
        "indexer/media/image/svg_worker.py": {"sys.stdout", "sys.stderr"},
        "indexer/media/held.py": {"os.write"},
        "indexer/corpus/parquet_worker.py": {"sys.stderr"},
    }


def test_progress_in_a_log_is_a_line_a_tenth_or_ten_seconds_and_one_at_the_end_of_each_stage() -> None:
    now = 0.0
    lines: list[str] = []
    shown = output.ProgressLines(lines.append, lambda: now)
    for done in range(1, 1_001):
        now += 0.5
        shown("reading", done, 1_000, 0)
    assert lines[0] == "reading: 21 of 1,000" and lines[-1] == "reading: 1,000 of 1,000"
    assert len(lines) == 50  # every ten seconds
    del lines[:]
    for done in range(1, 101):
        now += 0.2
        shown("scoring", done, 100, 3)
    assert lines == [f"scoring: {done} of 100, 3 skipped" for done in range(10, 101, 10)]
    del lines[:]
    for done in range(1, 101):
        shown("quick", done, 100, 0)
    shown("quick", 100, 100, 0)
    assert lines == ["quick: 100 of 100"]


def test_the_bench_shows_its_progress_in_a_log(run: Run, media: Path) -> None:
    code, _, err = run("bench", media / "\x1bm.jsonl", "--model", "fake", "--no-cache")
    assert code == 0
    assert [line for line in err.splitlines() if " of " in line and ": " in line], err
