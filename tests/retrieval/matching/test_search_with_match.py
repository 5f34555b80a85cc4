"""Searches of a calibrated model: probabilities without a reranker, one ranking of kinds, and when nothing matches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_matches import made_up_match
from PIL import Image

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import identity_of
from indexer.errors import UsageError
from indexer.items import Modality
from retrieval import Query, QueryPart, Searcher, SearchResult
from retrieval.matching.model import MatchModel
from retrieval.present import NEAREST, match_in_words, nearest_line

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for colour in COLOURS:
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
    rows = [{"id": f"t{i}", "text": f"words of {colour} things"} for i, colour in enumerate(COLOURS[:4])]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    encoder = FakeEncoder()
    with Collection.create(folder / "c", identity_of(encoder)) as collection:
        build(collection, find_items([folder / "all.jsonl", *sorted(folder.glob("*.png"))]), encoder)
    return folder / "c"


@pytest.fixture(scope="module")
def match() -> MatchModel:
    return made_up_match()


def search(home: Path, match: MatchModel | None, query: str | Query, **options: object) -> SearchResult:
    encoder = FakeEncoder()
    with Collection.open(home) as collection:
        searcher = Searcher(collection, encoder, device="cpu", reranker=None, match=match)
        return searcher.search(query, **options)  # type: ignore[arg-type]


def test_every_hit_has_a_probability_that_falls_with_its_rank_and_does_not_depend_on_k(
    home: Path, match: MatchModel
) -> None:
    few, many = (search(home, match, "red picture", k=k, modalities=["image"]) for k in (2, 8))
    chances = [hit.match_probability for hit in many]
    assert None not in chances
    assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
    assert [hit.match_probability for hit in few] == chances[:2]
    assert (few.match_probability, few.matches) == (many.match_probability, many.matches)
    assert [hit.path for hit in few] == [hit.path for hit in many][:2]


def test_several_kinds_come_by_probability_and_a_page_is_the_beginning_of_a_longer_one(
    home: Path, match: MatchModel
) -> None:
    found = search(home, match, "red picture", k=12)
    assert found.order == "probability"
    assert found.score_kind == "standard"
    assert {hit.modality for hit in found} == {IMAGE, TEXT}
    chances = [hit.match_probability or 0.0 for hit in found]
    assert chances == sorted(chances, reverse=True)
    assert [hit.key for hit in search(home, match, "red picture", k=3)] == [hit.key for hit in found][:3]
    assert found.groups[0].hits[0].key == found[0].key
    again = search(home, match, "red picture", k=12)
    assert [hit.to_json() for hit in again] == [hit.to_json() for hit in found]


def test_a_search_says_whether_anything_matches(home: Path, match: MatchModel) -> None:
    found = search(home, match, "red picture", modalities=["image"])
    nothing = search(home, match, "zzz qqq xxx", modalities=["image"])
    assert found.match_probability is not None and nothing.match_probability is not None
    assert found.match_probability > nothing.match_probability
    assert found.matches is True
    assert nothing.matches is False
    assert nothing.hits
    assert nearest_line(nothing) == NEAREST
    assert nearest_line(found) is None
    assert nothing.to_json()["matches"] is False
    assert match_in_words(nothing[0]).endswith("%")


def test_without_a_calibration_a_search_is_as_it_was(home: Path) -> None:
    found = search(home, None, "red picture")
    assert (found.order, found.matches, found.match_probability) == ("score", None, None)
    assert all(hit.match_probability is None for hit in found)
    assert nearest_line(found) is None


def test_least_probability_needs_no_reranker(home: Path, match: MatchModel) -> None:
    every = search(home, match, "red picture", modalities=["image"])
    least = every[2].match_probability
    assert least is not None
    kept = search(home, match, Query.text("red picture", min_probability=least), modalities=["image"], rerank=False)
    assert [hit.key for hit in kept] == [hit.key for hit in every][:3]
    with pytest.raises(UsageError, match="needs the reranker"):
        search(home, None, Query.text("red picture", min_probability=0.5))


def test_parts_that_are_combined_are_not_calibrated(home: Path, match: MatchModel) -> None:
    query = Query((QueryPart(TEXT, "red"), QueryPart(TEXT, "blue", -0.5)))
    found = search(home, match, query)
    assert (found.matches, found.order) == (None, "score")


def test_a_filter_leaves_its_candidates_alone_to_be_judged(home: Path, match: MatchModel) -> None:
    found = search(home, match, "red picture", modalities=["image"], where="suffix = '.jpg'")
    assert found.hits == ()
    kept = search(home, match, "red picture", modalities=["image"], where="path like '%blue%'")
    assert [hit.path.stem for hit in kept] == ["blue"]
    assert kept.match_probability is not None


def test_a_picture_of_the_collection_is_no_answer_to_itself(home: Path, match: MatchModel) -> None:
    only = frozenset({IMAGE})
    found = search(home, match, Query((QueryPart(IMAGE, home.parent / "blue.png"),), modalities=only))
    # the same picture in memory is not known to be that file, and finds it as an answer
    other = search(home, match, Query((QueryPart(IMAGE, Image.new("RGB", (16, 12), "blue")),), modalities=only))
    assert found[0].is_query
    assert not other[0].is_query
    assert found.match_probability is not None and other.match_probability is not None
    assert found.match_probability < other.match_probability


def test_hits_of_a_reranker_that_the_calibration_does_not_know_keep_its_probability(
    home: Path, match: MatchModel
) -> None:
    with Collection.open(home) as collection:
        found = Searcher(collection, FakeEncoder(), device="cpu", match=match).search(
            "red picture", modalities=["image"]
        )
    assert found.matches is not None
    for hit in found:
        assert hit.match_logit is not None
        assert hit.match_probability == pytest.approx(1 / (1 + np.exp(-(hit.match_logit + hit.cosine))), abs=1e-5)
