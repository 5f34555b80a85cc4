"""The second stage of the benchmark: ranks against a slow obvious ranking, gains, calibration and the JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from printed import as_text

from indexer.encoders.fake import FakeEncoder
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.items import Modality
from retrieval.evaluation.datasets.benchmark import Benchmark, load_benchmark
from retrieval.evaluation.directions import RerankInput
from retrieval.evaluation.metrics import statistics
from retrieval.evaluation.metrics.ranks import Relevance, RelevantRanks, best_first
from retrieval.evaluation.report.markdown import as_markdown
from retrieval.evaluation.reranking import judge_direction
from retrieval.evaluation.runner import run_benchmark
from retrieval.evaluation.second_stage import gains
from retrieval.rerank import calibration, open_reranker

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
SPEC = TokenSpec(1, 2, "numbers")


class Table:
    """Logits from a table: pictures are numbered by their tokens, texts by their words."""

    token_spec = SPEC
    identity = ""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.table = logits  # (texts, pictures)
        self.n_pairs = 0

    def supports(self, query: Modality, candidate: Modality) -> bool:
        return {query, candidate} == {TEXT, IMAGE}

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        self.n_pairs += len(tokens)
        return self.table[int(text), tokens[:, 0].astype(int)]

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        assert len(set(texts)) == len(texts)
        self.n_pairs += len(texts)
        return self.table[[int(text) for text in texts], int(tokens[0, 0])]

    def missing(self) -> str | None:
        return None

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError

    def cosine_weight(self, modality: Modality) -> float:
        return 1.0

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        return np.asarray(1.0 / (1.0 + np.exp(-scores)), dtype=np.float32)

    def read(self, texts: Sequence[str]) -> None:
        pass


def numbered(n: int) -> TokenRows:
    rows = np.zeros((n, SPEC.row_bytes), dtype=np.uint8)
    rows[:, 0] = np.arange(n)
    return rows


def slow_ranks(cosines: NDArray[Any], logits: NDArray[Any], relevance: Relevance, depth: int) -> list[list[int]]:
    """Of each query the ranks of its relevant ones, by sorting the whole pool with tuples."""
    found = []
    for query, row in enumerate(cosines):
        dual = sorted(range(len(row)), key=lambda i: (-row[i], i))
        top = sorted(dual[:depth], key=lambda i: (-(np.float32(logits[query, i]) + row[i]), i))
        order = top + dual[depth:]
        relevant = relevance.candidates[relevance.offsets[query] : relevance.offsets[query + 1]]
        found.append(sorted(order.index(i) + 1 for i in relevant))
    return found


@pytest.mark.parametrize("depth", [1, 4, 64])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_agree_with_sorting_everything(depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts, pictures = 24, 30
    # coarse numbers, exact in float32: many ties of cosines, of logits and of their sums
    words = rng.integers(-2, 3, size=(texts, 3)).astype(np.float32)
    items = rng.integers(-2, 3, size=(pictures, 3)).astype(np.float32)
    table = rng.integers(-3, 4, size=(texts, pictures)).astype(np.float32)
    relevant = Relevance.from_lists([rng.choice(pictures, rng.integers(1, 4), replace=False) for _ in words], pictures)
    names = [str(i) for i in range(texts)]
    there = judge_direction(
        words, items, relevant, RerankInput(TEXT, IMAGE, names, numbered(pictures)), Table(table), depth=depth
    )
    expected = slow_ranks(words @ items.T, table, relevant, depth)
    assert there.ranks.ranks.tolist() == [rank for ranks in expected for rank in ranks]
    assert len(there.labels) == len(there.logits) == len(there.scores) == texts * min(depth, pictures)
    back = Relevance.from_lists([rng.choice(texts, rng.integers(1, 4), replace=False) for _ in items], texts)
    here = judge_direction(
        items, words, back, RerankInput(IMAGE, TEXT, names, numbered(pictures)), Table(table), depth=depth
    )
    expected = slow_ranks(items @ words.T, table.T, back, depth)
    assert here.ranks.ranks.tolist() == [rank for ranks in expected for rank in ranks]


def test_equal_captions_are_scored_once_a_picture() -> None:
    words, items = np.ones((6, 1), np.float32), np.ones((4, 1), np.float32)
    names = ["0", "1", "0", "0", "1", "2"]
    table = Table(np.zeros((3, 4), np.float32))
    every = Relevance.from_lists([[0]] * 6, 4)
    found = judge_direction(words, items, every, RerankInput(TEXT, IMAGE, names, numbered(4)), table, depth=4)
    assert found.n_scored == table.n_pairs == 3 * 4
    assert len(found.labels) == 6 * 4
    table = Table(np.zeros((3, 4), np.float32))
    own = Relevance.from_lists([[0, 2, 3]] * 4, 6)
    found = judge_direction(items, words, own, RerankInput(IMAGE, TEXT, names, numbered(4)), table, depth=6)
    assert found.n_scored == table.n_pairs == 4 * 3
    assert found.labels.reshape(4, 6).sum(axis=1).tolist() == [3, 3, 3, 3]


def test_the_best_come_first_and_ties_by_the_lower_index() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 17, 50):
        row = rng.integers(0, 5, size=n).astype(np.float32)
        for depth in (1, 3, 50, 99):
            assert best_first(row, depth).tolist() == sorted(range(n), key=lambda i: (-row[i], i))[:depth]


# ------------------------------------------------------------------------------------------------ gains


def ranks_of(*first: int) -> RelevantRanks:
    return RelevantRanks(np.array(first, dtype=np.int64), np.arange(len(first) + 1, dtype=np.int64))


def test_gains_are_paired_over_the_queries() -> None:
    before, after = ranks_of(*[1] * 50, *[2] * 50), ranks_of(*[1] * 90, *[2] * 10)
    found = gains(before, after, (1, 5))
    gain = found["hit_rate_at_1"]
    assert gain.gain == pytest.approx(0.4)
    assert gain.ci95[0] < 0.4 < gain.ci95[1]
    assert gain.ci95 == pytest.approx((0.4 - 1.96 * 0.049, 0.4 + 1.96 * 0.049), abs=0.02)
    assert gain.p_value < 0.001
    assert (found["hit_rate_at_5"].gain, found["hit_rate_at_5"].p_value) == (0.0, 1.0)
    # paired: as many won as lost is no gain, though the queries differ
    assert gains(ranks_of(*[1] * 20, *[2] * 20), ranks_of(*[2] * 20, *[1] * 20), (1,))["hit_rate_at_1"].p_value > 0.5


@pytest.mark.parametrize(("won", "lost"), [(3, 0), (8, 2), (5, 5), (1, 6)])
def test_the_p_value_is_that_of_all_signs(won: int, lost: int) -> None:
    changes = np.array([1.0] * won + [-1.0] * lost + [0.0] * 7)
    n = won + lost
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    exact = float(np.mean(np.abs(signs.sum(axis=1)) >= abs(won - lost)))
    assert statistics.sign_flip_p_value(changes) == pytest.approx(exact, abs=0.02)
    assert statistics.sign_flip_p_value(0.3 * changes) == statistics.sign_flip_p_value(changes)


# ------------------------------------------------------------------------------------------ calibration


def slow_error(probabilities: NDArray[Any], labels: NDArray[Any], bins: int) -> float:
    total = 0.0
    for i in range(bins):
        inside = [
            j for j, p in enumerate(probabilities) if i / bins <= p < (i + 1) / bins or (p == 1.0 and i == bins - 1)
        ]
        if inside:
            total += abs(sum(labels[j] for j in inside) - sum(probabilities[j] for j in inside))
    return total / len(labels)


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_and_auroc_agree_with_slow_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chances = np.concatenate([rng.integers(0, 65, size=120) / 64.0, [0.0, 1.0, 1.0]])
    labels = rng.random(len(chances)) < chances**2
    for bins in (1, 4, 15):
        found = calibration.expected_calibration_error(chances, labels, bins)
        assert found == pytest.approx(slow_error(chances, labels, bins))
    above = [(a > b) + 0.5 * (a == b) for a in chances[labels] for b in chances[~labels]]
    assert calibration.auroc(chances, labels) == pytest.approx(np.mean(above))
    assert sum(one.n for one in calibration.reliability_bins(chances, labels)) == len(chances)


def test_calibration_refuses_what_it_cannot_judge() -> None:
    assert calibration.auroc([0.1, 0.2], [1, 1]) is None
    for bad in (([], []), ([1.2], [1]), ([0.5], [2]), ([float("nan")], [0]), ([0.5, 0.5], [1])):
        with pytest.raises(ValueError):
            calibration.expected_calibration_error(*bad)
    empty = calibration.reliability_bins([0.1], [1], 2)[1]
    assert (empty.n, empty.mean_probability, empty.share_true) == (0, None, None)


def test_platt_finds_the_line_that_made_the_labels_and_stays_finite_without_fault() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(3.0, 4.0, size=40_000)
    labels = rng.random(len(scores)) < 1 / (1 + np.exp(-(0.7 * scores - 2.0)))
    slope, intercept = calibration.platt(scores, labels)
    assert (slope, intercept) == pytest.approx((0.7, -2.0), abs=0.06)
    chances = 1 / (1 + np.exp(-(slope * scores + intercept)))
    assert calibration.expected_calibration_error(chances, labels) < 0.01
    slope, intercept = calibration.platt([-1.0, -2.0, 1.0, 2.0], [0, 0, 1, 1])
    assert np.isfinite([slope, intercept]).all() and slope > 0


# ---------------------------------------------------------------------------------------- the whole bench


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("bench")
    rows = []
    for colour in ("red", "green", "blue", "yellow", "white", "black"):
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "captions": [f"a {colour} picture", "a picture"]})
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_benchmark(folder / "m.jsonl")


def test_a_reranker_adds_a_second_result_after_the_first_of_each_direction(benchmark: Benchmark) -> None:
    encoder = FakeEncoder()
    told: list[tuple[int, int, str]] = []
    result = run_benchmark(
        benchmark, encoder, reranker=open_reranker(encoder), rerank_depth=3,
        progress=lambda stage, done, total: told.append((done, total, stage)),
    )  # fmt: skip
    assert [(one.direction, one.stage) for one in result.results] == [
        ("text->image", "dual"), ("text->image", "rerank"), ("image->text", "dual"), ("image->text", "rerank"),
    ]  # fmt: skip
    assert (18, 18, "rerank") in told
    plain = run_benchmark(benchmark, encoder)
    assert [one.to_json() for one in result.results if one.stage == "dual"] == [one.to_json() for one in plain.results]
    assert plain.reranker is None and plain.to_json()["reranker"] is None
    document = json.loads(json.dumps(result.to_json()))
    assert set(document["reranker"]) == {"fingerprint", "rerank_depth", "seconds", "pairs_per_s"}
    assert (document["reranker"]["fingerprint"], document["reranker"]["rerank_depth"]) == ("fake-tokens-1", 3)
    dual, second = document["results"][:2]
    assert set(second) - set(dual) == {"gain", "calibration"}
    assert set(second["gain"]) == {"hit_rate_at_1", "hit_rate_at_5", "hit_rate_at_10"}
    assert set(second["gain"]["hit_rate_at_1"]) == {"gain", "ci95", "p_value"}
    assert second["gain"]["hit_rate_at_1"]["gain"] == pytest.approx(second["hit_rate_at_1"] - dual["hit_rate_at_1"])
    assert set(second["calibration"]) == {"pairs", "relevant", "auroc", "before", "after"}
    assert second["calibration"]["pairs"] == 12 * 3
    assert len(second["calibration"]["after"]["bins"]) == 15
    assert set(document["seconds_by_stage"]) == {"encode", "score", "rerank"}


def test_a_direction_that_it_does_not_support_has_no_second_result(benchmark: Benchmark) -> None:
    class OneWay(Table):
        def supports(self, query: Modality, candidate: Modality) -> bool:
            return False

    result = run_benchmark(benchmark, FakeEncoder(), reranker=OneWay(np.zeros((1, 1), np.float32)))
    assert [one.stage for one in result.results] == ["dual", "dual"]
    assert result.reranker is None


def test_the_report_tells_the_gain_and_the_calibration(benchmark: Benchmark) -> None:
    encoder = FakeEncoder()
    result = run_benchmark(benchmark, encoder, reranker=open_reranker(encoder), rerank_depth=3)
    text = as_text(result, width=200)
    assert "text->image (rerank)" in text
    assert "text->image, gain by reranking: R@1 " in text
    assert "text->image, match probability: ECE " in text
    assert "reranker fake-tokens-: the 3 best of each query" in text
    assert "gain by reranking" in as_markdown(replace(result, dataset=str(Path("x"))))
