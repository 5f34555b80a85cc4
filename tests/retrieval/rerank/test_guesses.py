"""Captions that are not given: an unwanted word, a probability below the least; how each command says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_media import unit_rows
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.build.captioning import fill_captions
from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenRows
from indexer.errors import ModelError, UsageError
from indexer.items import Embeddings
from retrieval.rerank.captions import Captioned, caption_files
from retrieval.rerank.fake import FakeReranker
from retrieval.rerank.guesses import Guess, guesses, naming_probability, weighed
from retrieval.rerank.names import NAMES, keep_names, load_names, save_names
from retrieval.rerank.naming import dropped_line, sayable


class Says(FakeReranker):
    """Gives the same words for every picture."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        return [self.words for _ in tokens]


class Doubts(FakeReranker):
    """Sure of red alone."""

    def guess(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[Guess]:
        return [weighed(words, 0.9 if "red" in words else 0.2, 0.5) for words in super().caption(tokens, vectors)]

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        return [one.words for one in self.guess(tokens, vectors)]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
    return folder


# -- what is given ----------------------------------------------------------------------------------------------


def test_words_below_the_least_probability_are_not_given() -> None:
    assert weighed("a poet", 0.3, 0.5) == Guess("", 0.3)
    assert weighed("a poet", 0.5, 0.5) == Guess("a poet", 0.5)
    assert weighed("a poet") == Guess("a poet", None)
    assert Guess("", 0.3).unsure and not Guess("a poet").unsure


def test_words_that_no_caption_may_say_are_not_given_however_probable() -> None:
    assert weighed("a rape", 0.99, 0.5) == Guess("", 0.99)


def test_the_probability_of_a_name_rises_with_its_nearness() -> None:
    naming = {"slope": 10.0, "intercept": -2.0, "least": 0.5}
    assert naming_probability(naming, 0.2) == pytest.approx(0.5)
    assert naming_probability(naming, 0.4) == pytest.approx(1 / (1 + np.exp(-2)))
    assert naming_probability({**naming, "slope": 1e9}, 1.0) == pytest.approx(1.0)


def test_a_free_caption_with_an_unwanted_word_is_unsure(media: Path) -> None:
    tokens = np.zeros((2, Says("").token_spec.row_bytes), np.uint8)
    assert guesses(Says("scene of a murder"), tokens, None, beams=3) == [Guess("", None), Guess("", None)]
    found = list(caption_files([media / "red.png"], FakeEncoder(), Says("scene of a murder")))
    assert found == [Captioned(media / "red.png", "")]
    assert found[0].to_json() == {"path": str(media / "red.png"), "caption": None, "unsure": True}


def test_a_picture_below_the_least_probability_has_a_probability_and_no_caption(media: Path) -> None:
    found = list(caption_files([media / "red.png", media / "blue.png"], FakeEncoder(), Doubts()))
    assert [one.to_json() for one in found if isinstance(one, Captioned)] == [
        {"path": str(media / "red.png"), "caption": "a red picture", "probability": 0.9},
        {"path": str(media / "blue.png"), "caption": None, "unsure": True, "probability": 0.2},
    ]


# -- commands ---------------------------------------------------------------------------------------------------


def test_caption_prints_unsure_and_gives_null_in_json(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.rerank.fake.FakeReranker", Doubts)
    arguments = ["caption", str(media / "red.png"), str(media / "blue.png"), "--model", "fake"]
    plain = CliRunner().invoke(app, arguments)
    assert plain.exit_code == 0
    lines = plain.stdout.splitlines()
    assert lines[0].endswith("red.png: a red picture") and lines[1].endswith("blue.png: unsure")
    rows = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["captions"]
    assert [(row["caption"], row.get("unsure"), row["probability"]) for row in rows] == [
        ("a red picture", None, 0.9),
        (None, True, 0.2),
    ]


def test_index_stores_no_caption_that_is_unsure_or_unwanted(media: Path, tmp_path: Path) -> None:
    def fill(reranker: FakeReranker) -> tuple[int, int]:
        with Collection.open(tmp_path / "home", writable=True) as collection:
            report = fill_captions(collection, FakeEncoder(), reranker.caption)
        return report.captioned, report.without_words

    spec = FakeReranker().token_spec
    with Collection.open_or_create(tmp_path / "home", EncoderIdentity("fake", "fake-1", 64, spec)) as collection:
        build(collection, find_items([media]), FakeEncoder())
    assert fill(Says("scene of a murder")) == (0, 2)
    assert fill(Doubts()) == (1, 1)
    with Collection.open(tmp_path / "home") as collection:
        assert {row.path.name: row.caption for row in collection.catalog.items()} == {
            "red.png": "a red picture",
            "blue.png": None,
        }


# -- files of names ---------------------------------------------------------------------------------------------


def test_an_unwanted_name_of_a_file_made_before_is_left_out_when_it_is_read(tmp_path: Path) -> None:
    match, dual = unit_rows(4, 24, seed=1), unit_rows(4, 12, seed=2)
    save_names(tmp_path / NAMES, ["bridge", "rape", "bee", "suicides"], match, dual)
    names = load_names(tmp_path / NAMES)
    assert names.phrases == ("bridge", "bee")
    near = names.nearest(match, dual, 4)
    assert [own[0][0] for own in near[::2]] == ["bridge", "bee"] and all(len(own) == 2 for own in near)


def test_a_file_of_unwanted_names_alone_is_read_and_has_none(tmp_path: Path) -> None:
    rows = unit_rows(2, 12, seed=1)
    save_names(tmp_path / NAMES, ["rape", "corpse"], rows, rows)
    assert load_names(tmp_path / NAMES).nearest(rows, None, 8) == [[], []]


def test_names_that_are_no_texts_are_named(tmp_path: Path) -> None:
    rows = unit_rows(2, 12, seed=1)
    save_names(tmp_path / NAMES, ["a", 7], rows, rows)  # type: ignore[list-item]
    with pytest.raises(ModelError, match="cannot be read as names"):
        load_names(tmp_path / NAMES)


def test_kept_names_keep_their_own_rows(tmp_path: Path) -> None:
    match, dual = unit_rows(30, 24, seed=1), unit_rows(30, 12, seed=2)
    save_names(tmp_path / NAMES, [f"thing {n}" for n in range(30)], match, dual)
    before = load_names(tmp_path / NAMES)
    assert keep_names(tmp_path / NAMES, lambda name: int(name.split()[1]) % 3 == 0) == (30, 10)
    after = load_names(tmp_path / NAMES)
    assert after.phrases == before.phrases[::3]
    for space in ("match", "dual"):
        np.testing.assert_array_equal(after.spaces[space].rows, before.spaces[space].rows[::3])
        np.testing.assert_array_equal(after.spaces[space].basis, before.spaces[space].basis)


def test_names_left_out_are_counted_and_listed() -> None:
    assert sayable(["boat", "rape", "bee"]) == (["boat", "bee"], ["rape"])
    assert dropped_line(["rape"]) == "1 names have words that no caption may say and are left out: 'rape'"
    assert dropped_line(["x"] * 25).endswith("'x' and 5 more")
    with pytest.raises(UsageError, match="1 is left: give 2 or more"):
        sayable(["boat", "rape"])
