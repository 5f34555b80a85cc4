"""indexer.index: indexing from Python, as the command line does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from small_media import picture
from typer.testing import CliRunner

import indexer
from cli import app
from indexer.encoders.identity import EncoderIdentity
from indexer.errors import EncoderMismatch, ModelError, ModelNotConfirmed, UsageError
from indexer.items import Modality
from retrieval import Searcher
from retrieval.rerank import open_reranker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a text, and something that is no picture."""
    place = tmp_path / "media"
    for seed in (1, 2):
        picture(place / f"{seed}.png", seed)
    (place / "note.txt").write_text("a red door")
    (place / "bad.png").write_bytes(b"no picture")
    return place


def test_a_folder_is_indexed_and_searched_in_four_calls(folder: Path, tmp_path: Path) -> None:
    report = indexer.index(folder, tmp_path / "c", "fake")
    assert (report.added, report.found, len(report.skipped)) == (3, 4, 1)
    assert "bad.png" in report.skipped[0].path
    with Searcher.open(tmp_path / "c") as searcher:
        assert searcher.search("a red door", k=1, modalities=["text"])[0].path == folder / "note.txt"
    again = indexer.index([str(folder)], str(tmp_path / "c"))  # the collection knows its model
    assert (again.added, again.unchanged) == (0, 3)


def test_it_does_what_the_command_line_does(folder: Path, tmp_path: Path) -> None:
    arguments = ["index", str(folder), "-c", str(tmp_path / "cli"), "--model", "fake", "--modality", "image", "--json"]
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--exclude", "2.*"]).stdout)
    options = indexer.CorpusOptions(frozenset({Modality.IMAGE}), exclude=("2.*",))
    report = indexer.index(folder, tmp_path / "api", "fake", corpus=options)
    assert {name: printed[name] for name in ("added", "found", "excluded", "segments")} == {
        "added": report.added, "found": report.found, "excluded": report.excluded, "segments": report.segments,
    } == {"added": 1, "found": 2, "excluded": 1, "segments": 1}  # fmt: skip
    stored = []
    for name in ("cli", "api"):
        with indexer.Collection.open(tmp_path / name) as opened:
            stored.append((list(opened.catalog.keys()), opened.fingerprint, opened.token_spec, opened.passage_rule))
    assert stored[0] == stored[1]


def test_pruning_rebuilding_limits_and_progress_are_options(folder: Path, tmp_path: Path) -> None:
    place, stages = tmp_path / "c", []
    indexer.index(folder, place, "fake", on_progress=lambda stage, *_: stages.append(stage))
    assert stages[0] == "indexing" and "saving" in stages
    (folder / "1.png").unlink()
    report = indexer.index(folder, place, update=indexer.UpdateOptions(prune=True))
    assert (report.pruned, report.unchanged) == (1, 2)
    report = indexer.index(folder, place, "fake", update=indexer.UpdateOptions(rebuild=True))
    assert (report.added, report.unchanged) == (2, 0)
    limits = indexer.MediaLimits(max_text_mb=1e-6)
    report = indexer.index(folder, tmp_path / "other", "fake", limits=limits)
    assert any("raise --max-text-mb" in skip.reason for skip in report.skipped)


def test_captions_are_filled_in_by_the_captioner_that_is_given(folder: Path, tmp_path: Path) -> None:
    opened: list[Any] = []

    def open_captioner(encoder: Any) -> Any:
        opened.append(open_reranker(encoder))
        return opened[-1]

    report = indexer.index(folder, tmp_path / "c", "fake", captions=indexer.CaptionOptions(open_captioner))
    assert report.captions is not None and report.captions.captioned == 2 and len(opened) == 1


def test_what_cannot_be_is_said_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no paths to index"):
        indexer.index([], tmp_path / "c", "fake")
    with pytest.raises(ModelError, match="no such model"):
        indexer.index(folder, tmp_path / "c", "nonesuch")
    assert not (tmp_path / "c").exists()
    indexer.index(folder, tmp_path / "c", "fake")
    with pytest.raises(EncoderMismatch):
        indexer.index(folder, tmp_path / "c", "starter")


def test_a_collections_model_that_was_never_named_here_is_not_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMODAL_CACHE", str(tmp_path / "cache"))
    indexer.Collection.create(tmp_path / "c", EncoderIdentity(str(tmp_path / "model"), "ab" * 32, 8)).close()
    with pytest.raises(ModelNotConfirmed):
        indexer.index(folder, tmp_path / "c")


def test_importing_the_package_is_cheap_and_its_names_are_lazy() -> None:
    code = (
        "import indexer, sys; assert not {'numpy', 'torch', 'sqlalchemy', 'faiss'} & set(sys.modules);"
        "assert set(indexer.__all__) <= set(dir(indexer)); indexer.index; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = indexer.nonesuch
