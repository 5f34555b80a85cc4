"""``index --caption``: pictures get captions from their stored media tokens, are found by them, and keep them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.build import captioning
from indexer.build.captioning import fill_captions, require_captionable
from indexer.build.report import BuildReport, CaptionReport
from indexer.build.run import build
from indexer.collection.catalog.records import GENERATED_BY, ItemRow
from indexer.collection.collection import Collection
from indexer.collection.entries import CaptionEntry
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.errors import CollectionError, EncoderMismatch, ModelError
from indexer.items import Embeddings, Modality
from retrieval import Searcher
from retrieval.rerank.fake import FakeReranker

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")
SPEC = FakeEncoder.token_spec
assert SPEC is not None


class Teller:
    """The fake's captions, counting the pictures that it is asked for; may be interrupted."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked = 0
        self.stop_at = stop_at

    def __call__(self, tokens: TokenRows, vectors: Embeddings) -> list[str]:
        if self.stop_at is not None and self.asked >= self.stop_at:
            raise KeyboardInterrupt
        assert vectors.shape == (len(tokens), FakeEncoder.dim)
        self.asked += len(tokens)
        return FakeReranker().caption(tokens)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for colour in COLOURS:
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
    (folder / "note.txt").write_text("a note on other things", encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "collection"


def index(home: Path, *paths: Path, prune: bool = False) -> BuildReport:
    with Collection.open_or_create(home, EncoderIdentity("fake", "fake-1", 64, SPEC)) as collection:
        return build(collection, find_items(paths), FakeEncoder(), prune=prune)


def fill(home: Path, teller: Any = None) -> CaptionReport:
    with Collection.open(home, writable=True) as collection:
        return fill_captions(collection, FakeEncoder(), teller or Teller())


def rows(home: Path) -> dict[str, ItemRow]:
    """The items by file name; the collection is whole."""
    with Collection.open(home) as collection:
        assert collection.verify() == []
        return {row.path.name: row for row in collection.catalog.items()}


def captions(home: Path) -> dict[str, tuple[str, ...]]:
    return {name: row.captions for name, row in rows(home).items() if row.modality is Modality.IMAGE}


def found_as_text(home: Path, words: str, k: int = 20) -> list[str]:
    with Searcher(Collection.open(home), FakeEncoder(), device="cpu") as searcher:
        return [hit.path.name for hit in searcher.search(words, k=k, modalities=["text"])]


EVERY = {f"{colour}.png": (f"a {colour} picture",) for colour in COLOURS}


# -- filling --------------------------------------------------------------------------------------------------


def test_every_picture_without_a_caption_gets_one_and_is_marked(home: Path, media: Path) -> None:
    index(home, media)
    report = fill(home)
    assert (report.captioned, report.without_words, report.interrupted) == (8, 0, False)
    assert captions(home) == EVERY
    held = rows(home)
    assert held["red.png"].caption == "a red picture"
    assert all(row.metadata == {GENERATED_BY: "fake"} for row in held.values() if row.modality is Modality.IMAGE)
    assert dict(held["note.txt"].metadata) == {}


def test_no_file_is_opened_again(home: Path, media: Path) -> None:
    index(home, media)
    shutil.rmtree(media)
    assert fill(home).captioned == 8


def test_a_second_run_captions_nothing(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    before = rows(home)
    teller = Teller()
    assert fill(home, teller).captioned == 0
    assert teller.asked == 0
    assert rows(home) == before


def test_captions_of_a_manifest_are_left_alone(home: Path, media: Path) -> None:
    manifest = media / "m.jsonl"
    lines = [{"image": "red.png", "captions": ["by hand"]}, {"image": "blue.png", "metadata": {"year": 2020}}]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    index(home, manifest)
    assert fill(home).captioned == 1
    held = rows(home)
    assert (held["red.png"].captions, dict(held["red.png"].metadata)) == (("by hand",), {})
    assert held["blue.png"].captions == ("a blue picture",)
    assert dict(held["blue.png"].metadata) == {"year": 2020, GENERATED_BY: "fake"}


def test_copies_are_told_once(home: Path, media: Path) -> None:
    shutil.copy(media / "red.png", media / "copy.png")
    index(home, media)
    teller = Teller()
    assert fill(home, teller).captioned == 9
    assert teller.asked == 8
    assert captions(home) == {**EVERY, "copy.png": ("a red picture",)}
    shutil.copy(media / "blue.png", media / "later.png")
    index(home, media)
    assert captions(home)["later.png"] == ()
    assert fill(home, teller).captioned == 1
    assert teller.asked == 8
    assert captions(home)["later.png"] == ("a blue picture",)


def test_an_interrupted_run_keeps_what_is_told_and_the_next_one_goes_on(
    home: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioning, "_AT_ONCE", 2)
    index(home, media)
    report = fill(home, Teller(stop_at=4))
    assert (report.captioned, report.interrupted) == (4, True)
    assert sum(bool(told) for told in captions(home).values()) == 4
    teller = Teller()
    assert fill(home, teller).captioned == 4
    assert teller.asked == 4
    assert captions(home) == EVERY


def test_a_run_that_dies_leaves_what_it_committed(home: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioning, "_AT_ONCE", 1)
    monkeypatch.setattr(captioning, "_COMMIT_EVERY", 2)
    index(home, media)
    told = Teller()

    def dies(tokens: TokenRows, vectors: Embeddings) -> list[str]:
        if told.asked >= 5:
            raise OSError("the power fails")
        return told(tokens, vectors)

    with pytest.raises(OSError):
        fill(home, dies)
    assert sum(bool(told) for told in captions(home).values()) == 4
    assert fill(home).captioned == 4
    assert captions(home) == EVERY


def test_a_picture_of_which_nothing_is_said_stays_without(home: Path, media: Path) -> None:
    index(home, media)
    report = fill(home, lambda tokens, vectors: [" "] * len(tokens))
    assert (report.captioned, report.without_words) == (0, 8)
    assert fill(home, lambda tokens, vectors: ["two\n lines"] * len(tokens)).captioned == 8
    assert captions(home)["red.png"] == ("two lines",)


def test_a_teller_or_an_encoder_that_answers_otherwise_is_refused(home: Path, media: Path) -> None:
    index(home, media)
    with pytest.raises(ModelError, match="wrote 1 captions for 8 pictures"):
        fill(home, lambda tokens, vectors: ["one"])

    class Long(FakeEncoder):
        def encode_passages(self, texts: Sequence[str]) -> Embeddings:
            return np.full((len(texts), 64), 2.0, dtype=np.float32)

    with Collection.open(home, writable=True) as collection, pytest.raises(ModelError, match="gave no unit vectors"):
        fill_captions(collection, Long(), Teller())
    assert set(captions(home).values()) == {()}


def test_what_a_collection_needs_is_said_with_the_remedy(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with (
        Collection.create(tmp_path / "plain", EncoderIdentity("fake", "fake-1", 64)) as collection,
        pytest.raises(CollectionError, match=r"holds no media tokens.*trimodal index --rebuild --caption PATH"),
    ):
        require_captionable(collection, encoder, FakeReranker.token_spec)
    with Collection.create(tmp_path / "tokens", EncoderIdentity("fake", "fake-1", 64, SPEC)) as collection:
        require_captionable(collection, encoder, FakeReranker.token_spec)
        with pytest.raises(EncoderMismatch, match="another reranker"):
            require_captionable(collection, encoder, TokenSpec(4, 16, "other"))


# -- searching ------------------------------------------------------------------------------------------------


def test_a_picture_is_found_as_text_by_its_generated_caption(home: Path, media: Path) -> None:
    index(home, media)
    assert found_as_text(home, "a red picture") == ["note.txt"]
    fill(home)
    assert found_as_text(home, "a red picture", k=1) == ["red.png"]
    with Searcher(Collection.open(home), FakeEncoder(), device="cpu") as searcher:
        hit = searcher.search("a red picture", k=1, modalities=["text"])[0]
        assert (hit.modality, hit.text, hit.caption) == (Modality.TEXT, "a red picture", "a red picture")
        assert hit.key == str(media / "red.png")
        assert hit.cosine == pytest.approx(1.0, abs=1e-5)
        assert hit.metadata[GENERATED_BY] == "fake"
        marked = searcher.search("red", modalities=["image"], where=f"{GENERATED_BY} = 'fake'")
        assert len(marked) == 8


def test_a_picture_is_one_hit_however_it_is_found(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    with Searcher(Collection.open(home), FakeEncoder(), device="cpu") as searcher:
        for rerank in (False, None):
            every = searcher.search("a red picture", k=50, rerank=rerank)
            assert sorted(hit.path.name for hit in every) == sorted([*EVERY, "note.txt"])
            assert [hit.rank for hit in every] == list(range(1, 10))
            assert [hit.score for hit in every] == sorted((hit.score for hit in every), reverse=True)
            some = searcher.search("a red picture", k=3, rerank=rerank)
            assert [hit.key for hit in some] == [hit.key for hit in every][:3]


# -- indexing again -------------------------------------------------------------------------------------------


def test_indexing_again_keeps_generated_captions(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    before = rows(home)
    report = index(home, media, prune=True)
    assert (report.unchanged, report.changed) == (9, 0)
    assert rows(home) == before
    (media / "red.png").touch()  # another time: it is read, and found to be the same
    assert index(home, media).unchanged == 9
    assert captions(home) == EVERY
    assert found_as_text(home, "a red picture", k=1) == ["red.png"]


def test_a_moved_picture_takes_its_caption_along(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    (media / "red.png").rename(media / "moved.png")
    assert index(home, media).moved == 1
    assert captions(home)["moved.png"] == ("a red picture",)
    assert found_as_text(home, "a red picture", k=1) == ["moved.png"]
    assert fill(home).captioned == 0


def test_a_picture_that_changed_loses_the_words_about_the_old_one(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    Image.new("RGB", (20, 20), "blue").save(media / "red.png")
    index(home, media)
    held = rows(home)
    assert (held["red.png"].captions, dict(held["red.png"].metadata)) == ((), {})
    assert "red.png" not in found_as_text(home, "a red picture")
    assert fill(home).captioned == 1
    assert captions(home)["red.png"] == ("a blue picture",)


def test_a_picture_replaced_by_a_copy_of_another_loses_them_too(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    shutil.copy(media / "blue.png", media / "red.png")
    index(home, media)
    assert captions(home)["red.png"] == ()
    assert "red.png" not in found_as_text(home, "a red picture")


def test_a_manifest_replaces_a_generated_caption_and_its_words(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    manifest = media / "m.jsonl"
    lines = [{"image": "red.png", "captions": ["by hand"]}, {"image": "blue.png", "metadata": {"year": 2020}}]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    index(home, manifest)
    held = rows(home)
    assert (held["red.png"].captions, dict(held["red.png"].metadata)) == (("by hand",), {})
    assert held["blue.png"].captions == ("a blue picture",)
    assert dict(held["blue.png"].metadata) == {"year": 2020, GENERATED_BY: "fake"}
    assert "red.png" not in found_as_text(home, "a red picture")
    assert "blue.png" in found_as_text(home, "a blue picture")
    index(home, media)  # and the folder alone changes nothing
    assert rows(home) == held


def test_a_manifest_that_holds_the_mark_itself_keeps_its_captions(home: Path, media: Path) -> None:
    manifest = media / "m.jsonl"
    line = {"image": "red.png", "captions": ["told before"], "metadata": {GENERATED_BY: "elsewhere"}}
    manifest.write_text(json.dumps(line) + "\n", encoding="utf-8")
    index(home, manifest)
    Image.new("RGB", (20, 20), "blue").save(media / "red.png")
    index(home, manifest)
    assert captions(home) == {"red.png": ("told before",)}
    assert fill(home).captioned == 0


def test_removing_and_compacting_take_the_words_along(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    (media / "red.png").unlink()
    assert index(home, media, prune=True).pruned == 1
    with Collection.open(home, writable=True) as collection:
        assert collection.compact() == (17, 15)
    assert "red.png" not in found_as_text(home, "a red picture")
    assert found_as_text(home, "a blue picture", k=1) == ["blue.png"]
    assert len(rows(home)) == 8


def test_verify_finds_words_that_are_not_the_caption(home: Path, media: Path) -> None:
    index(home, media)
    fill(home)
    with Collection.open(home, writable=True) as collection:
        raw: Any = collection.catalog._connection.connection.driver_connection
        raw.execute("UPDATE items SET caption = 'other' WHERE name = 'red.png'")
        assert any("another modality" in problem.what for problem in collection.verify())
        collection.repair()
    assert len(rows(home)) == 8


# -- the command line -----------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_captions_and_tells_how_many(home: Path, media: Path) -> None:
    first = run("index", media, "-c", home, "--model", "fake", "--caption", "--caption-beams", "2")
    assert first.exit_code == 0, first.stderr
    assert "8 captioned" in first.stdout
    again = json.loads(run("index", media, "-c", home, "--caption", "--json").stdout)
    assert (again["unchanged"], again["captions"]["captioned"]) == (9, 0)
    assert json.loads(run("index", media, "-c", home, "--json").stdout)["captions"] is None
    found = json.loads(run("search", "a red picture", "-c", home, "-m", "text", "-k", "1", "--json").stdout)
    assert found["hits"][0]["path"] == str(media / "red.png")
    assert found["hits"][0]["metadata"] == {GENERATED_BY: "fake"}
    told = json.loads(run("info", "-c", home, "--json").stdout)
    assert (told["items"]["text"], told["segments"]["text"]) == (1, 9)


def test_rebuilding_captions_the_new_collection(home: Path, media: Path) -> None:
    run("index", media, "-c", home, "--model", "fake")
    assert run("index", media, "-c", home, "--model", "fake", "--rebuild", "--caption").exit_code == 0
    assert captions(home) == EVERY


def test_a_model_without_a_reranker_is_said_before_anything_is_read(
    home: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.rerank.stage.open_reranker", lambda encoder, device: None)
    done = run("index", media, "-c", home, "--model", "fake", "--caption")
    assert done.exit_code == 3
    assert "model fake: has no reranker; use a model that has one, or train one" in done.stderr
    assert not Collection.exists(home)


def test_a_collection_without_media_tokens_says_how_to_add_them(home: Path, media: Path) -> None:
    Collection.create(home, EncoderIdentity("fake", "fake-1", 64)).close()
    done = run("index", media, "-c", home, "--caption")
    assert done.exit_code == 3
    assert "holds no media tokens, so its pictures can't be captioned" in done.stderr


@pytest.mark.parametrize("vector", [np.full(64, 2.0), np.full(64, np.nan), np.eye(64)[0, :63]])
def test_a_caption_with_a_vector_that_is_none_is_refused_and_nothing_is_stored(
    home: Path, media: Path, vector: NDArray[np.float64]
) -> None:
    index(home, media)
    with Collection.open(home, writable=True) as collection:
        good = CaptionEntry(1, "a picture", "fake", np.eye(64, dtype=np.float32)[0])
        bad = CaptionEntry(2, "a picture", "fake", vector.astype(np.float32))
        rows = collection.vectors.count
        with pytest.raises(ValueError, match="caption of item 2: needs a unit vector of shape"):
            collection.commit((), [good, bad])
        assert collection.vectors.count == rows
    assert not any(captions(home).values())
