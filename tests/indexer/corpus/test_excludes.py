"""Leaving out: --exclude, .trimodalignore, what nobody means by default, links; and the counts of what is not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_media import index, new_collection, picture, pictures, snapshot
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.build.run import build
from indexer.corpus.not_indexed import counts_line, unread_kind
from indexer.corpus.walk import Corpus, find_items
from indexer.encoders.fake import FakeEncoder
from indexer.errors import UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def found(folder: Path, corpus: Corpus) -> list[str]:
    return [item.path.relative_to(folder).as_posix() for item in corpus.items]


NOBODY_MEANS = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    ".thumbnails",
    "node_modules",
    "lost+found",
    "__pycache__",
    ".git",
    ".cache",
    ".Trash-1000",
    ".venv",
    "@Recycle",
    "LOST.DIR",
]


@pytest.mark.parametrize("name", NOBODY_MEANS)
def test_what_nobody_means_is_left_out_and_counted_at_any_depth(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.jpg", f"{name}/b.jpg", f"sub/{name}/deep/c.jpg")

    corpus = find_items([tmp_path])
    assert (found(tmp_path, corpus), corpus.n_excluded, corpus.excluded) == (["a.jpg"], 2, frozenset())

    lifted = find_items([tmp_path], default_excludes=False)
    assert (len(lifted.items), lifted.n_excluded) == (3, 0)


def test_a_folder_with_a_cache_tag_is_left_out_by_default(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "derived/b.jpg", "other/c.jpg", "other/CACHEDIR.TAG")
    (tmp_path / "derived" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n")

    assert found(tmp_path, find_items([tmp_path])) == ["a.jpg", "other/c.jpg"]
    assert found(tmp_path, find_items([tmp_path / "derived"])) == ["derived/b.jpg"]
    assert len(find_items([tmp_path], default_excludes=False).items) == 3


def test_a_path_given_by_name_is_never_left_out_by_default(tmp_path: Path) -> None:
    touch(tmp_path, "node_modules/a.jpg", "@eaDir/b.jpg", ".hidden.jpg")
    corpus = find_items([tmp_path / "node_modules", tmp_path / "@eaDir" / "b.jpg", tmp_path / ".hidden.jpg"])
    assert found(tmp_path, corpus) == ["node_modules/a.jpg", "@eaDir/b.jpg", ".hidden.jpg"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.png"], ["a.jpg", "drafts/c.jpg", "drafts/x/d.jpg", "sub/drafts/e.jpg"]),
        (["drafts/"], ["a.jpg", "b.png"]),
        (["/drafts"], ["a.jpg", "b.png", "sub/drafts/e.jpg"]),
        (["drafts/*.jpg"], ["a.jpg", "b.png", "drafts/x/d.jpg", "sub/drafts/e.jpg"]),
        (["**/x/*.jpg"], ["a.jpg", "b.png", "drafts/c.jpg", "sub/drafts/e.jpg"]),
        (["*.jpg", "!a.jpg"], ["a.jpg", "b.png"]),
        (["[ab].*"], ["drafts/c.jpg", "drafts/x/d.jpg", "sub/drafts/e.jpg"]),
        (["*.JPG"], ["a.jpg", "b.png", "drafts/c.jpg", "drafts/x/d.jpg", "sub/drafts/e.jpg"]),
    ],
)
def test_exclude_takes_the_patterns_of_gitignore(tmp_path: Path, patterns: list[str], left: list[str]) -> None:
    touch(tmp_path, "a.jpg", "b.png", "drafts/c.jpg", "drafts/x/d.jpg", "sub/drafts/e.jpg")
    assert found(tmp_path, find_items([tmp_path], exclude=patterns)) == left
    (tmp_path / ".trimodalignore").write_text("\n".join(["# words", "", *patterns]), encoding="utf-8")
    assert found(tmp_path, find_items([tmp_path])) == left


def test_exclude_takes_a_whole_path(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "raw/b.jpg", "sub/raw/c.jpg")
    assert found(tmp_path, find_items([tmp_path], exclude=[f"{tmp_path}/raw"])) == ["a.jpg", "sub/raw/c.jpg"]


def test_a_deeper_ignore_file_decides_and_exclude_before_all(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg", "sub/c.jpg", "sub/deep/d.jpg")
    (tmp_path / ".trimodalignore").write_text("*.jpg\n")
    (tmp_path / "sub" / ".trimodalignore").write_text("!*.jpg\n/c.jpg\n")
    assert found(tmp_path, find_items([tmp_path])) == ["sub/b.jpg", "sub/deep/d.jpg"]
    assert found(tmp_path, find_items([tmp_path], exclude=["deep", "!a.jpg"])) == ["a.jpg", "sub/b.jpg"]


def test_a_pattern_with_an_exclamation_mark_takes_back_a_default(tmp_path: Path) -> None:
    touch(tmp_path, "node_modules/a.jpg", "@eaDir/b.jpg", "sub/@eaDir/c.jpg")
    assert found(tmp_path, find_items([tmp_path], exclude=["!node_modules"])) == ["node_modules/a.jpg"]


def test_patterns_meet_names_in_either_form_of_unicode(tmp_path: Path) -> None:
    touch(tmp_path, "cafe\u0301/a.jpg", "b.jpg")
    assert found(tmp_path, find_items([tmp_path], exclude=["caf\u00e9/"])) == ["b.jpg"]


@pytest.mark.parametrize("pattern", ["", "!", "# words", "a\\", "/"])
def test_a_pattern_that_is_none_is_a_usage_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="--exclude .* is no pattern"):
        find_items([tmp_path], exclude=[pattern])


def test_an_ignore_file_that_cannot_be_used_is_reported_and_leaves_nothing_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.jpg", "b/two.jpg", "c/three.jpg", "d/four.jpg")
    (tmp_path / "a" / ".trimodalignore").write_bytes(b"\xef\xbb\xbf*.png\r\n!\r\n\xff*.gif\r\n")
    (tmp_path / "b" / ".trimodalignore").mkdir()
    os.mkfifo(tmp_path / "c" / ".trimodalignore")
    (tmp_path / "d" / ".trimodalignore").write_text("*\n" * 600_000)
    corpus = find_items([tmp_path])
    assert len(corpus.items) == 4
    assert [skipped.path.removeprefix(f"{tmp_path}/") for skipped in corpus.skipped] == [
        "a/.trimodalignore:2",
        "b/.trimodalignore",
        "c/.trimodalignore",
        "d/.trimodalignore",
    ]


def test_rows_of_a_manifest_and_files_given_by_name_are_left_out_by_exclude_only(tmp_path: Path) -> None:
    touch(tmp_path, "@eaDir/a.png", "drafts/b.png", "c.png")
    rows = tmp_path / "list.jsonl"
    rows.write_text("".join(json.dumps({"image": name}) + "\n" for name in ("@eaDir/a.png", "drafts/b.png")))
    assert found(tmp_path, find_items([rows, tmp_path / "c.png"])) == ["@eaDir/a.png", "drafts/b.png", "c.png"]
    corpus = find_items([rows, tmp_path / "c.png"], exclude=["drafts/", "c.*"])
    assert (found(tmp_path, corpus), corpus.n_excluded) == (["@eaDir/a.png"], 2)


def test_prune_takes_what_the_users_own_words_exclude_and_not_what_defaults_do(tmp_path: Path) -> None:
    media = tmp_path / "media"
    pictures(media / "drafts", 2)
    pictures(media / "@eaDir", 2, first=10)
    picture(media / "a.png", 20)
    with new_collection(tmp_path / "c") as made:
        build(made, find_items([media], default_excludes=False), FakeEncoder())
        assert index(made, media, prune=True).pruned == 0
        report = build(made, find_items([media], exclude=["drafts"]), FakeEncoder(), prune=True)
        assert (report.pruned, report.excluded) == (2, 2)
        (media / ".trimodalignore").write_text("/a.png\ndrafts/\n")
        assert index(made, media, prune=True).pruned == 1
        assert all("@eaDir" in key for key in snapshot(made))


# -- links ----------------------------------------------------------------------------------------------------------


def test_links_are_not_followed_without_being_counted(tmp_path: Path) -> None:
    touch(tmp_path, "outside/a.jpg", "in/b.jpg")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "c.jpg").symlink_to(tmp_path / "outside" / "a.jpg")
    (tmp_path / "in" / "c.pdf").symlink_to(tmp_path / "outside" / "a.jpg")
    corpus = find_items([tmp_path / "in"], follow_links=False)
    assert (found(tmp_path, corpus), corpus.links_not_followed) == (["in/b.jpg"], 2)
    assert find_items([tmp_path / "in"]).links_not_followed == 0


def test_a_pattern_for_folders_holds_for_a_link_to_one(tmp_path: Path) -> None:
    touch(tmp_path, "outside/a.jpg", "in/b.jpg")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "outside")
    assert found(tmp_path, find_items([tmp_path / "in"], exclude=["out/"])) == ["in/b.jpg"]
    assert found(tmp_path, find_items([tmp_path / "in"])) == ["in/b.jpg", "in/out/a.jpg"]


# -- what is not read -----------------------------------------------------------------------------------------------


def test_files_that_nothing_reads_are_counted_by_suffix(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.jpg", "b.PDF", "sub/c.pdf", "d.mov", "e.cr2", "f", "g.xmp", ".h.pdf", "Thumbs.db", "x/y.d/z.docx"
    )
    (tmp_path / "linked.pdf").symlink_to(tmp_path / "b.PDF")
    corpus = find_items([tmp_path])
    assert corpus.not_indexed == {".pdf": 3, "(none)": 1, ".cr2": 1, ".docx": 1, ".mov": 1, ".xmp": 1}
    assert found(tmp_path, corpus) == ["a.jpg"]


def test_a_manifest_that_was_read_is_not_among_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "list.jsonl").write_text('{"image": "a.jpg"}\n')
    assert find_items([tmp_path, tmp_path / "list.jsonl"]).not_indexed == {}
    assert find_items([tmp_path]).not_indexed == {".jsonl": 1}


def test_the_counts_are_one_line_with_known_kinds_by_name() -> None:
    assert counts_line({}) == ""
    assert counts_line({".pdf": 12, ".docx": 3, ".mov": 2, ".xmp": 30, ".db": 10}) == (
        "not indexed: 12 PDF, 3 DOCX, 2 MOV, 40 others (.xmp, .db)"
    )
    assert counts_line({".a": 1, ".b": 1, ".c": 1, ".d": 1200}) == "not indexed: 1,203 others (.d, .a, .b, …)"
    assert counts_line({"(none)": 1}) == "not indexed: 1 other (no suffix)"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.pdf", "export its text"),
        ("a.DOCX", "export its text"),
        ("a.mov", "ffmpeg -i FILE -vn sound.flac"),
        ("a.MP4", "ffmpeg"),
        ("a.cr2", "convert it to JPEG"),
        ("a.dng", "convert it to JPEG"),
        ("a.psd", "as PNG"),
        ("a.zip", "unpack it"),
        ("a.mid", "render it"),
        ("a.ape", "convert it: ffmpeg"),
        ("a.html", "export its text"),
    ],
)
def test_a_path_given_by_name_gets_the_remedy_for_its_kind(tmp_path: Path, name: str, remedy: str) -> None:
    touch(tmp_path, name)
    (skipped,) = find_items([tmp_path / name]).skipped
    assert remedy in skipped.reason
    assert "\n" not in skipped.reason


def test_a_kind_that_is_read_has_no_remedy() -> None:
    from indexer.media.formats import known_suffixes

    assert [suffix for suffix in known_suffixes().split() if unread_kind(suffix)] == []


def test_the_command_shows_the_counts_in_words_and_in_json(tmp_path: Path) -> None:
    media = tmp_path / "media"
    pictures(media, 1)
    touch(media, "a.pdf", "b.pdf", "c.mov", "node_modules/d.png", "raw/e.png")
    (media / "linked").symlink_to(tmp_path)
    command = [
        "index",
        str(media),
        "--model",
        "fake",
        "-c",
        str(tmp_path / "c"),
        "--exclude",
        "raw",
        "--no-follow-links",
    ]
    shown = CliRunner().invoke(app, command).stdout
    assert "1 added, 2 excluded, 1 links not followed" in shown
    assert "not indexed: 2 PDF, 1 MOV" in shown.splitlines()
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (document["not_indexed"], document["excluded"]) == ({".pdf": 2, ".mov": 1}, 2)
    assert document["links_not_followed"] == 1
    assert CliRunner().invoke(app, [*command, "--exclude", "!"]).exit_code == 2
