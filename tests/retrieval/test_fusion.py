"""Merging hits of several modalities whose cosines cannot be compared."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

from indexer.items import Modality
from retrieval import fusion as merge_module
from retrieval.fusion import Background, backgrounds, cohort_ids, merge

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT


def falling(cosines: np.ndarray, k: int) -> np.ndarray:
    return np.sort(cosines)[::-1][:k].astype(np.float32)


def test_the_example_in_the_docstring_is_true() -> None:
    result = doctest.testmod(merge_module)
    assert (result.attempted, result.failed) == (1, 0)


def test_a_gap_of_four_tenths_on_texts_does_not_bury_the_pictures() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(0.15, 0.03, 500)
    pictures[:3] = [0.33, 0.31, 0.30]  # what was asked for
    texts = rng.normal(0.15 + 0.4, 0.03, 500)
    texts[:2] = [0.74, 0.72]
    cohorts = {IMAGE: pictures, TEXT: texts}
    ranking = merge({IMAGE: falling(pictures, 10), TEXT: falling(texts, 10)}, cohorts)
    assert min(texts) > max(pictures)  # by cosine, 500 texts would come first
    first = [(place.modality, place.position) for place in ranking[:5]]
    assert set(first) == {(IMAGE, 0), (IMAGE, 1), (IMAGE, 2), (TEXT, 0), (TEXT, 1)}


def test_shifting_and_stretching_the_cosines_of_a_modality_changes_nothing_much() -> None:
    rng = np.random.default_rng(6)
    pictures, sounds = rng.normal(0.2, 0.05, 900), rng.normal(0.2, 0.05, 900)
    plain = merge({IMAGE: falling(pictures, 20), AUDIO: falling(sounds, 20)}, {IMAGE: pictures, AUDIO: sounds})
    sounds = 0.5 + 1.6 * (sounds - 0.2)
    moved = merge({IMAGE: falling(pictures, 20), AUDIO: falling(sounds, 20)}, {IMAGE: pictures, AUDIO: sounds})
    assert [m.modality for m in plain[:10]].count(AUDIO) == pytest.approx(
        [m.modality for m in moved[:10]].count(AUDIO), abs=1
    )
    assert [m.score for m in plain] == pytest.approx([m.score for m in moved], abs=0.05)


def test_the_order_within_a_modality_never_changes() -> None:
    rng = np.random.default_rng(1)
    for case in range(200):
        found, cohorts = {}, {}
        for modality in Modality:
            n = int(rng.integers(1, 30))
            cosines = rng.normal(rng.uniform(0, 0.6), 10.0 ** rng.uniform(-9, -1), n)
            if case % 2:
                cosines = np.round(cosines, 2)  # ties
            cohorts[modality] = cosines
            found[modality] = falling(cosines, int(rng.integers(1, n + 1)))
        ranking = merge(found, cohorts)
        assert len(ranking) == sum(len(cosines) for cosines in found.values())
        for modality, cosines in found.items():
            positions = [place.position for place in ranking if place.modality is modality]
            assert positions == list(range(len(cosines)))
        scores = [place.score for place in ranking]
        assert scores == sorted(scores, reverse=True)
        assert all(map(math.isfinite, scores))


def test_the_same_input_gives_the_same_ranking_whatever_the_order_of_the_mapping() -> None:
    found = {IMAGE: np.array([0.3, 0.2]), AUDIO: np.array([0.3, 0.2]), TEXT: np.array([0.3, 0.2])}
    there = merge(found, found)
    back = merge(dict(reversed(found.items())), dict(reversed(found.items())))
    assert there == back
    assert [(place.modality, place.position) for place in there] == [
        (IMAGE, 0), (AUDIO, 0), (TEXT, 0), (IMAGE, 1), (AUDIO, 1), (TEXT, 1),
    ]  # fmt: skip


def test_a_modality_of_one_item_scores_nothing_and_neither_crashes_nor_wins() -> None:
    pictures = np.random.default_rng(2).normal(0.15, 0.03, 300)
    ranking = merge({IMAGE: falling(pictures, 10), TEXT: np.array([0.95])}, {IMAGE: pictures, TEXT: np.array([0.95])})
    assert (ranking[-1].modality, ranking[-1].score) == (TEXT, 0.0)
    alone = merge({IMAGE: np.array([0.2]), TEXT: np.array([0.9])}, {IMAGE: np.array([0.2]), TEXT: np.array([0.9])})
    assert [place.score for place in alone] == [0.0, 0.0]


def test_items_that_are_all_the_same_score_nothing() -> None:
    same = np.full(50, 0.7)
    spread = np.linspace(0.0, 0.4, 50)
    ranking = merge({AUDIO: same[:3], IMAGE: falling(spread, 3)}, {AUDIO: same, IMAGE: spread})
    assert [place.modality for place in ranking] == [IMAGE, IMAGE, IMAGE, AUDIO, AUDIO, AUDIO]
    assert ranking[-1].score == pytest.approx(0.0)


def test_the_one_fitting_note_of_three_stands_out_and_three_unfitting_ones_do_not() -> None:
    pictures = np.random.default_rng(3).normal(0.15, 0.03, 300)
    pictures[0] = 0.28
    fitting = np.array([0.9, 0.5, 0.48])
    ranking = merge({IMAGE: falling(pictures, 10), TEXT: fitting}, {IMAGE: pictures, TEXT: fitting})
    assert TEXT in [place.modality for place in ranking[:2]]
    unfitting = np.array([0.53, 0.5, 0.48])
    ranking = merge({IMAGE: falling(pictures, 3), TEXT: unfitting}, {IMAGE: pictures, TEXT: unfitting})
    assert [place.modality for place in ranking] == [IMAGE, IMAGE, IMAGE, TEXT, TEXT, TEXT]


def test_two_items_cannot_stand_out_without_bounds() -> None:
    pair = np.array([0.900001, 0.9])
    ordinary = backgrounds({TEXT: pair, IMAGE: np.full(1_000, 0.1)})
    assert ordinary[TEXT].score(0.900001) < 0.001
    assert all(background.spread >= 0.01 for background in ordinary.values())


def test_a_large_cohort_is_described_by_its_own_median_and_spread() -> None:
    cosines = np.random.default_rng(4).normal(0.3, 0.08, 1_024)
    ordinary = backgrounds({IMAGE: cosines, TEXT: np.random.default_rng(5).normal(0.6, 0.02, 1_024)})
    assert ordinary[IMAGE].centre == pytest.approx(np.median(cosines), abs=1e-3)
    assert ordinary[IMAGE].spread == pytest.approx(cosines.std(), rel=0.01)
    assert Background(0.3, 0.08).score(0.46) == pytest.approx(2.0)


def test_the_cohort_is_spread_evenly_without_repeats_and_is_all_of_a_small_modality() -> None:
    ids = np.sort(np.random.default_rng(7).choice(10**6, 50_000, replace=False)).astype(np.int64)
    chosen = cohort_ids(ids)
    assert (len(chosen), len(np.unique(chosen))) == (1_024, 1_024)
    assert (chosen[0], chosen[-1]) == (ids[0], ids[-1])
    places = np.searchsorted(ids, chosen)
    assert set(np.diff(places)) <= {48, 49}
    assert cohort_ids(ids[:1_024]).tolist() == ids[:1_024].tolist()
    assert len(np.unique(cohort_ids(ids[:1_025]))) == 1_024
    assert cohort_ids(ids[:0]).tolist() == []
