"""Calibrating a model on a manifest: made-up collections, what is relevant, and a whole run of the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_matches import made_up_match
from PIL import Image

from indexer.encoders.fake import FakeEncoder
from indexer.errors import ManifestError
from indexer.items import Modality
from retrieval.evaluation.any_modality import Pool
from retrieval.evaluation.match_pools import HeldItems, HeldQuery, draw_examples, some_queries, words_of
from retrieval.evaluation.match_training import figure_lines, train_match
from retrieval.evaluation.metrics.ranks import Relevance
from retrieval.matching.features import DEPTH
from retrieval.rerank.fake import FakeReranker

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


def held(count: int = 40) -> HeldItems:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    concepts = np.array([f"c{n % 10}" for n in range(count)])
    words = [frozenset([words_of(f"a {concept} thing")]) for concept in concepts.tolist()]
    return HeldItems(IMAGE, vectors, np.arange(count), concepts, words)


def caption(text: str, concept: str) -> HeldQuery:
    vector = np.ones(8, np.float32) / np.sqrt(8)
    return HeldQuery(TEXT, concept, vector.astype(np.float32), frozenset([words_of(text)]), text=text)


def test_relevant_is_the_concept_and_whatever_a_caption_says_as_much_of() -> None:
    items = held()
    assert set(items.concepts[items.relevant(caption("c3", "elsewhere"))]) == {"c3"}
    assert set(items.concepts[items.relevant(caption("nothing of it", "c4"))]) == {"c4"}
    assert items.relevant(caption("a thing", "c4")).all()
    assert not items.relevant(caption("a red c3 thing", "elsewhere")).any()


def test_half_of_the_collections_hold_no_answer_and_none_holds_the_query_itself() -> None:
    items = held()
    queries = [HeldQuery(IMAGE, str(items.concepts[n]), items.vectors[n], items.words[n], n) for n in range(40)]
    drawn = list(draw_examples({IMAGE: items}, queries, sizes=(5, 20, 100)))
    assert len(drawn) == 120
    assert 0.35 < np.mean([one.answered for one in drawn]) < 0.65
    assert {one.found.count for one in drawn} <= {5, 20, *range(30, 40)}
    assert max(float(one.found.cosines[0]) for one in drawn) < 0.9999
    for one in drawn:
        assert (np.diff(one.found.cosines) <= 0).all()
        assert len(one.found.cosines) == len(one.right) == min(DEPTH, one.found.count)
        assert one.answered or not one.right.any()
    again = list(draw_examples({IMAGE: items}, queries, sizes=(5, 20, 100)))
    assert [one.found.cosines.tolist() for one in again] == [one.found.cosines.tolist() for one in drawn]


def test_a_judge_reorders_one_list_in_four_and_no_concept_has_too_many_queries() -> None:
    queries = some_queries([caption(f"c1 thing {n}", "c1") for n in range(30)])
    assert len(queries) == 8

    def turned(query: HeldQuery, target: Modality, top: object, cosines: np.ndarray) -> np.ndarray:
        return -cosines

    drawn = list(draw_examples({IMAGE: held()}, queries, judge=turned))
    judged = [one for one in drawn if one.found.judged]
    assert len(judged) == len(queries)
    assert len(drawn) == 5 * len(queries)
    for one in judged:
        assert one.found.scores is not None
        assert one.found.scores[-1] == pytest.approx(-one.found.cosines[0])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Pictures of eight colours in three shades each, held out."""
    rows = []
    for colour in COLOURS:
        for n in range(3):
            name = f"{colour}-{n}.png"
            Image.new("RGB", (8 + n, 8), colour).save(tmp_path / name)
            row = {"id": name, "image": name, "captions": [f"{colour} number {n}", f"a {colour} one"], "split": "val"}
            rows.append(row | {"metadata": {"concept": colour}})
    path = tmp_path / "held.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_run_calibrates_every_pair_that_the_rows_give(manifest: Path, tmp_path: Path) -> None:
    also = tmp_path / "also.jsonl"
    lines = [
        {"text": f"{colour} number 0", "also": ["short", f"a long text about {colour} things"]} for colour in COLOURS
    ]
    also.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found, figures = train_match(FakeEncoder(), manifest, paraphrases=[also], reranker=FakeReranker())
    pairs = {(one["query"], one["target"], one["judged"]) for one in figures}
    assert pairs == {
        ("text", "image", False), ("text", "text", False), ("image", "image", False), ("image", "text", False),
        ("text", "image", True), ("image", "text", True),
    }  # fmt: skip
    assert found.encoder == "fake-1"
    # the fake encoder knows colours, so that it can be known whether one is there
    assert next(one for one in figures if (one["query"], one["target"]) == ("text", "image"))["auroc"] > 0.8
    assert any("text -> image: " in line and "AUROC" in line for line in figure_lines(figures))


def test_a_file_of_paraphrases_that_is_none_is_named(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"words": 1}\n', encoding="utf-8")
    with pytest.raises(ManifestError, match=r"bad\.jsonl: a line is not"):
        train_match(FakeEncoder(), manifest, paraphrases=[tmp_path / "bad.jsonl"])


def test_a_pool_of_kinds_is_ranked_by_the_calibration_as_a_search_ranks_it() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    vectors[3] = [0.6, 0.8, 0.0, 0.0]
    starts = np.arange(4)
    pool = Pool(vectors, starts, {IMAGE: slice(0, 3), TEXT: slice(3, 4)}, [0, 1, 2, 3], [IMAGE, IMAGE, IMAGE, TEXT])
    queries = np.eye(4, dtype=np.float32)[:1]
    relevance = Relevance.from_lists([[0]], 4)
    match = made_up_match(kinds=(IMAGE, TEXT))
    ranked, best = pool.ranked(queries, relevance, kind=TEXT, match=match)
    assert ranked.ranks.tolist() == [1]
    assert best[0].tolist()[0] == 0
    own, order = pool.ranked(queries, relevance, np.array([0]), IMAGE, match)
    assert order[0].tolist()[-1] == 0
    assert own.ranks.tolist() == [4]
    # what the calibration does not know is ranked by standard scores
    plain, _ = pool.ranked(queries, relevance)
    unknown, _ = pool.ranked(queries, relevance, kind=Modality.AUDIO, match=match)
    assert plain.ranks.tolist() == unknown.ranks.tolist()
