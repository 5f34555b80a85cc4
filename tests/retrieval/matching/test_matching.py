"""The calibration of searches: features by hand, fits that find what made the labels, the file, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_matches import made_up_examples, made_up_match

from indexer.encoders.fake import FakeEncoder
from indexer.errors import ModelError
from indexer.items import Modality
from indexer.logistic import fit_logistic, sigmoid
from retrieval.matching.features import CandidateList, gaps, list_features
from retrieval.matching.file import NAME, open_match, read_match, write_match
from retrieval.matching.fitting import fit_matches
from retrieval.matching.model import MatchModel

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT


@pytest.fixture(scope="module")
def model() -> MatchModel:
    return made_up_match()


def plain(best: float, others: float = 0.1, count: int = 20) -> CandidateList:
    cosines = np.concatenate([[best], np.linspace(others + 0.08, others - 0.08, count - 1)])
    return CandidateList(np.sort(cosines)[::-1], cosines, count)


def test_features_are_the_best_its_margins_and_the_cohort() -> None:
    given = CandidateList(np.array([0.9, 0.5, 0.4]), np.array([0.1, 0.3, 0.5]), 50, np.array([2.0, -1.0]))
    found = dict(zip(given.names, list_features(given).tolist(), strict=True))
    spread = float(np.std([0.1, 0.3, 0.5]))
    assert found["stands_out"] == pytest.approx((0.9 - 0.3) / spread)
    assert (found["margin_2"], found["margin_5"], found["margin_10"]) == pytest.approx((0.4, 0.5, 0.5))
    assert (found["score_best"], found["score_margin_2"], found["score_margin_10"]) == (2.0, 3.0, 3.0)
    assert (found["score_mean"], found["score_spread"]) == (0.5, 1.5)
    assert found["log_count"] == pytest.approx(np.log(50))
    assert gaps(given, np.array([2.0, -1.0])).tolist() == [0.0, 3.0]


def test_a_list_of_one_item_has_features() -> None:
    assert np.isfinite(list_features(CandidateList(np.array([0.2]), np.array([0.2]), 1))).all()


def test_logistic_regression_finds_the_coefficients_that_made_the_labels() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((20_000, 2))
    labels = (random.random(20_000) < sigmoid(rows @ [1.5, -0.5] + 0.3)).astype(float)
    assert fit_logistic(rows, labels, np.zeros(3), 1.0) == pytest.approx([1.5, -0.5, 0.3], abs=0.1)


def test_few_rows_stay_near_the_prior_and_labels_that_part_are_finite() -> None:
    prior = np.array([2.0, -1.0])
    assert fit_logistic(np.zeros((1, 1)), np.ones(1), prior, 20.0)[0] == pytest.approx(2.0)
    parted = fit_logistic(np.array([[-1.0], [1.0]]), np.array([0.0, 1.0]), np.zeros(2), 1.0)
    assert np.isfinite(parted).all()
    assert parted[0] > 0


def test_a_list_with_an_answer_is_more_probable_and_hits_fall_with_their_cosines(model: MatchModel) -> None:
    values = np.array([0.5, 0.3, 0.1])
    yes = model.judge(TEXT, IMAGE, plain(0.5), values)
    no = model.judge(TEXT, IMAGE, plain(0.2), np.array([0.2, 0.15]))
    assert yes.matches
    assert not no.matches
    assert yes.probability > 0.8 > 0.2 > no.probability
    assert (np.diff(yes.log_odds) < 0).all()
    assert yes.probabilities[0] > 0.7 > 0.1 > yes.probabilities[1]


def test_figures_are_of_concepts_that_were_not_fitted_and_beat_the_cosine() -> None:
    _, figures = fit_matches(made_up_examples(), encoder="e")
    assert len(figures) == 9
    for one in figures:
        assert one["auroc"] > 0.95
        assert one["false_shows"] < 0.2
    # labels without any meaning: a fit that is measured on what it saw would look better than chance
    lists = made_up_examples(300, kinds=(TEXT,), seed=3)
    shuffled = np.random.default_rng(0).permutation([one.answered for one in lists]).tolist()
    lists = [type(one)(**{**vars_of(one), "answered": label}) for one, label in zip(lists, shuffled, strict=True)]
    (figure,) = fit_matches(lists, encoder="e")[1]
    assert figure["auroc"] < 0.6


def vars_of(one: object) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}  # type: ignore[attr-defined]


def test_the_threshold_shows_nine_of_ten_that_have_an_answer(model: MatchModel) -> None:
    fresh = [one for one in made_up_examples(400, seed=5) if one.answered]
    shown = [model.judge(one.query, one.target, one.found, one.found.cosines).matches for one in fresh]
    assert 0.82 < np.mean(shown) < 0.97


def test_judged_lists_have_a_fit_of_their_own() -> None:
    lists = made_up_examples() + made_up_examples(judged=True)
    found, _ = fit_matches(lists, encoder="e", reranker="r")
    assert found.knows(TEXT, IMAGE, judged=True)
    one = next(one for one in lists if one.found.judged and one.answered)
    assert one.found.scores is not None
    assert found.judge(one.query, one.target, one.found, one.found.scores).log_odds[0] > 0


def test_several_lists_together_need_more_than_one_alone(model: MatchModel) -> None:
    assert model.anything(TEXT, {}) is None
    nothing = {kind: model.judge(TEXT, kind, plain(0.2), np.array([0.2])) for kind in (IMAGE, AUDIO)}
    something = nothing | {IMAGE: model.judge(TEXT, IMAGE, plain(0.6), np.array([0.6]))}
    assert model.anything(TEXT, nothing) is False
    assert model.anything(TEXT, something) is True


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_matches([], encoder="e")


class InDirectory(FakeEncoder):
    reranker_config = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory


def test_the_file_gives_back_what_was_written_and_belongs_to_its_encoder(model: MatchModel, tmp_path: Path) -> None:
    assert open_match(InDirectory(tmp_path)) is None
    assert open_match(FakeEncoder()) is None
    write_match(tmp_path / NAME, model)
    found = open_match(InDirectory(tmp_path))
    assert found is not None
    given = plain(0.4)
    ours, theirs = (one.judge(TEXT, AUDIO, given, given.cosines) for one in (model, found))
    assert ours.probability == theirs.probability
    np.testing.assert_array_equal(ours.log_odds, theirs.log_odds)
    write_match(tmp_path / NAME, MatchModel("another", None, model.fits, model.mixed))
    with pytest.raises(ModelError, match=r"match\.json: is of another dual encoder; .* trimodal train match"):
        open_match(InDirectory(tmp_path))


def test_what_another_reranker_gave_is_left_out(tmp_path: Path) -> None:
    found, _ = fit_matches(made_up_examples(60) + made_up_examples(60, judged=True), encoder="fake-1", reranker="r")
    write_match(tmp_path / NAME, found)
    opened = open_match(InDirectory(tmp_path))
    assert opened is not None
    assert opened.knows(TEXT, IMAGE)
    assert not opened.knows(TEXT, IMAGE, judged=True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"encoder": "edited"}, "sha256"),
        ({"format": 9}, "not format 1"),
        ({"fits": None}, "sha256"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    model: MatchModel, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    path = tmp_path / NAME
    write_match(path, model)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=complaint) as refused:
        read_match(path)
    assert "trimodal train match" in str(refused.value)
    path.write_text("{")
    with pytest.raises(ModelError, match="can't be used"):
        read_match(path)
