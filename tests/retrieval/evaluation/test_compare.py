"""Runs compared query by query, and the runs that must not be compared."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import SNAPSHOTS
from rich.console import Console
from typer.testing import CliRunner

from indexer.errors import UsageError
from retrieval.evaluation.compare import RunComparison, compare_runs
from retrieval.evaluation.metrics import statistics
from retrieval.evaluation.report.comparison import as_csv, render, write_comparison
from retrieval.evaluation.runs import load_runs

COUNT = 40


def result(ranks: list[int], direction: str = "text->image", stage: str = "dual", **details: Any) -> dict[str, Any]:
    first = np.array(ranks)
    rates = {f"{name}_at_{k}": float(np.mean(first <= k)) for name in ("hit_rate", "recall") for k in (1, 5, 10)}
    curve = [float(np.mean(first <= k)) for k in range(1, 101)]
    return {
        "direction": direction, "stage": stage, "queries": "captions", "candidates": "pictures",
        "n_queries": len(ranks), "n_candidates": 50, "captions_per_item": 1.0, **rates,
        "mrr": float(np.mean(1 / first)), "chance": {"hit_rate_at_1": 0.02},
        "ci95": {name: [value, value] for name, value in rates.items()},
        "details": {
            "queries_sha256": "q", "candidates_sha256": "c", "per_query": {"first_rank": ranks},
            "curve": {"hit_rate": curve, "recall": curve}, "similarities": None, "misses": [], "hits": [], **details,
        },
    }  # fmt: skip


def report(path: Path, *results: dict[str, Any], **changes: Any) -> Path:
    document = {
        "dataset": "d/m.jsonl", "manifest": {"name": "m.jsonl", "sha256": "a" * 64}, "split": None,
        "items": {"image": 50, "captions": COUNT}, "captions_per_item": 1.0, "encoder": "one",
        "encoder_fingerprint": "f", "reranker": None, "results": list(results), "captions": None, "skipped": [],
        "warnings": [], "seconds": 1.0, "provenance": None, **changes,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def compared(*paths: Path) -> list[RunComparison]:
    return compare_runs(load_runs(paths))


def test_differences_are_paired_over_the_queries(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(1, 20, COUNT), rng.integers(1, 12, COUNT)
    a = report(tmp_path / "a.json", result(before.tolist()))
    b = report(tmp_path / "b.json", result(after.tolist()), encoder="two")
    (comparison,) = compared(a, b)
    assert [one.metric for one in comparison.differences] == [
        "hit_rate_at_1", "hit_rate_at_5", "hit_rate_at_10", "mrr",
    ]  # fmt: skip
    at_5 = comparison.differences[1]
    change = (after <= 5).astype(float) - (before <= 5).astype(float)
    assert at_5.difference == pytest.approx(change.mean())
    assert at_5.ci95 == statistics.bootstrap_ci95(change)
    assert at_5.p_value == statistics.sign_flip_p_value(change)
    assert (at_5.better, at_5.worse, at_5.n_queries) == ((change > 0).sum(), (change < 0).sum(), COUNT)
    assert at_5.value - at_5.baseline == pytest.approx(at_5.difference)


def test_a_run_against_itself_differs_in_nothing(tmp_path: Path) -> None:
    a = report(tmp_path / "a.json", result(list(range(1, COUNT + 1))))
    (comparison,) = compared(a, a)
    assert {one.difference for one in comparison.differences} == {0.0}
    assert {one.p_value for one in comparison.differences} == {1.0}
    assert comparison.baseline.label != comparison.run.label


def test_with_several_relevant_ones_recall_is_compared_too(tmp_path: Path) -> None:
    def several(ranks: list[int], at_1: list[int], at_5: list[int], at_10: list[int]) -> dict[str, Any]:
        kept = {"first_rank": ranks, "relevant": [2, 2], "found_at_1": at_1, "found_at_5": at_5, "found_at_10": at_10}
        return result(ranks, per_query=kept)

    a = report(tmp_path / "a.json", several([1, 7], [1, 0], [1, 0], [2, 1]))
    b = report(tmp_path / "b.json", several([1, 2], [1, 0], [2, 1], [2, 2]))
    by_name = {one.metric: one for one in compared(a, b)[0].differences}
    assert by_name["recall_at_5"].difference == pytest.approx((1.0 + 0.5) / 2 - (0.5 + 0.0) / 2)
    assert by_name["recall_at_10"].difference == pytest.approx(0.25)


def test_stages_are_compared_with_their_like_and_the_last_with_the_last(tmp_path: Path) -> None:
    ranks = [1] * COUNT
    a = report(tmp_path / "a.json", result(ranks))
    b = report(tmp_path / "b.json", result(ranks), result(ranks, stage="rerank"))
    pairs = [(one.baseline_stage, one.stage) for one in compared(a, b)[0].differences if one.metric == "mrr"]
    assert pairs == [("dual", "dual"), ("dual", "rerank")]
    pairs = [(one.baseline_stage, one.stage) for one in compared(b, b)[0].differences if one.metric == "mrr"]
    assert pairs == [("dual", "dual"), ("rerank", "rerank")]


def test_directions_of_one_run_alone_are_named_and_left_out(tmp_path: Path) -> None:
    a = report(tmp_path / "a.json", result([1, 2]), result([1, 2], "text->audio"))
    b = report(tmp_path / "b.json", result([1, 2]), encoder="two")
    assert compared(a, b)[0].left_out == ("text->audio: only one measured it",)
    alone = report(tmp_path / "c.json", result([1, 2], "text->audio"))
    with pytest.raises(UsageError, match=r"c\.json: has no direction that .*b\.json has"):
        compared(b, alone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest": {"name": "m.jsonl", "sha256": "b" * 64}}, r"sha256 bbbbbbbbbbbb.*aaaaaaaaaaaa.*one dataset"),
        ({"split": "val"}, r"measured on split val, .* on split none; compare runs of one split"),
    ],
)
def test_runs_of_other_data_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    a = report(tmp_path / "a.json", result([1, 2]))
    b = report(tmp_path / "b.json", result([1, 2]), **changes)
    with pytest.raises(UsageError, match=message):
        compared(a, b)


@pytest.mark.parametrize("name", ["queries", "candidates"])
def test_other_queries_or_another_pool_are_refused(tmp_path: Path, name: str) -> None:
    a = report(tmp_path / "a.json", result([1, 2]))
    b = report(tmp_path / "b.json", result([1, 2], **{f"{name}_sha256": "other"}))
    with pytest.raises(UsageError, match=rf"the {name} of text->image are not those of .*a\.json"):
        compared(a, b)


def test_a_report_without_ranks_is_refused_with_the_remedy(tmp_path: Path) -> None:
    bare = result([1, 2])
    del bare["details"]
    a, b = report(tmp_path / "a.json", result([1, 2])), report(tmp_path / "b.json", bare)
    with pytest.raises(UsageError, match=r"b\.json: holds no ranks of single queries; give the report\.json"):
        compared(a, b)


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    a = report(tmp_path / "a.json", result([1, 2]))
    (tmp_path / "words.json").write_text("words")
    (tmp_path / "list.json").write_text("[]")
    for other, message in (("words.json", "is no JSON"), ("list.json", "no report"), ("none.json", "cannot be read")):
        with pytest.raises(UsageError, match=message):
            compared(a, tmp_path / other)
    with pytest.raises(UsageError, match="1 reports: two to 6"):
        compared(a)
    for ranks in ([0, 2], [1], ["x", 2]):
        with pytest.raises(UsageError, match="damaged"):
            compared(a, report(tmp_path / "b.json", result([1, 2], per_query={"first_rank": ranks})))
    with pytest.raises(UsageError, match="damaged"):
        compared(a, report(tmp_path / "b.json", manifest=None))


def test_runs_of_one_model_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    a = report(tmp_path / "old" / "report.json", result([1]))
    b = report(tmp_path / "new" / "report.json", result([1]))
    assert [run.label for run in load_runs([a, b])] == ["one (old)", "one (new)"]
    assert [run.label for run in load_runs([a.parent, b])] == ["one (old)", "one (new)"]
    other = report(tmp_path / "new" / "report.json", result([1]), encoder="/somewhere/on/a/disk/mine")
    assert [run.label for run in load_runs([a, other])] == ["one", "mine"]


def test_a_comparison_is_a_page_json_and_csv(tmp_path: Path) -> None:
    a = report(tmp_path / "a.json", result([3] * COUNT))
    b = report(tmp_path / "b.json", result([1] * COUNT), encoder="<b>two")
    comparisons = compared(a, b)
    paths = write_comparison(comparisons, tmp_path / "out")
    assert [path.name for path in paths] == ["comparison.html", "comparison.json", "comparison.csv"]
    page = paths[0].read_text(encoding="utf-8")
    assert 'id="differences"' in page and "&lt;b&gt;two" in page and "<b>two" not in page
    assert "+100.0 [+100.0, +100.0]" in page and "&lt; 0.001" in page
    rows = list(csv.DictReader(StringIO(as_csv(comparisons))))
    assert (rows[0]["metric"], float(rows[0]["difference"])) == ("hit_rate_at_1", 1.0)
    assert json.loads(paths[1].read_text(encoding="utf-8"))["comparisons"][0]["run"] == "<b>two"


def test_a_damaged_report_is_one_line_and_no_page(tmp_path: Path) -> None:
    a = report(tmp_path / "a.json", result([3] * COUNT))
    b = report(tmp_path / "b.json", {**result([1] * COUNT), "ci95": {}}, encoder="two")
    with pytest.raises(UsageError, match=r"a\.json, .*b\.json: one of them is damaged \('hit_rate_at_1'\)"):
        write_comparison(compared(a, b), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_differences_and_refuses_with_one_line(tmp_path: Path) -> None:
    from trimodal.cli import app

    a = report(tmp_path / "a.json", result([3] * COUNT))
    b = report(tmp_path / "b.json", result([1] * COUNT), encoder="two")
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--report", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "two against one" in done.output and "+100.0 [+100.0, +100.0]" in done.output
    assert (tmp_path / "out" / "comparison.html").is_file()
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--json"])
    assert json.loads(done.stdout)["comparisons"][0]["differences"][0]["metric"] == "hit_rate_at_1"
    words = tmp_path / "words.jsonl"
    words.write_text(json.dumps({"text": "words", "captions": ["words"]}) + "\n")
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--dataset", str(words)])
    assert done.exit_code == 2 and "is not what" in done.stderr
    other = report(tmp_path / "c.json", result([1]), split="val")
    done = CliRunner().invoke(app, ["compare", str(a), str(other)])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("trimodal: ")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_comparison_fits_its_terminal_and_no_figure_is_cut(tmp_path: Path, width: int) -> None:
    a = report(tmp_path / "a.json", result([3] * COUNT))
    b = report(tmp_path / "b.json", result([3] * COUNT), result([1] * COUNT, stage="rerank"), encoder="two")
    console = Console(width=width, color_system=None)
    with console.capture() as printed:
        console.print(render(compared(a, b)))
    lines = [line.rstrip() for line in printed.get().splitlines()]
    assert "\n".join(lines) + "\n" == (SNAPSHOTS / f"compare_{width}.txt").read_text(encoding="utf-8")
    assert max(map(len, lines)) <= width
    assert "+100.0 [+100.0, +100.0]" in printed.get() and "dual -> rerank" in printed.get()


def test_what_a_user_gets_of_either_run_is_printed_first(tmp_path: Path) -> None:
    ranks = [3] * COUNT
    a = report(tmp_path / "a.json", result(ranks))
    b = report(tmp_path / "b.json", result(ranks), result([1] * COUNT, stage="rerank"), encoder="two")
    console = Console(width=120, color_system=None)
    with console.capture() as printed:
        console.print(render(compared(a, b)))
    rows = [line for line in printed.get().splitlines() if line.startswith("text->image")]
    assert ["->" in row.removeprefix("text->image") for row in rows] == [True] * 4 + [False] * 4
