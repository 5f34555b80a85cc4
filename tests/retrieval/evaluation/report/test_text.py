"""What a benchmark's result looks like to people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paths import SNAPSHOTS
from printed import as_text

from indexer.errors import StorageError
from indexer.items import Skipped
from retrieval.evaluation.ann import AnnResult
from retrieval.evaluation.directions import Comparison
from retrieval.evaluation.measure import measure
from retrieval.evaluation.metrics.ranks import Relevance
from retrieval.evaluation.report.folder import as_csv, as_document, as_html, write_report
from retrieval.evaluation.report.markdown import as_markdown
from retrieval.evaluation.report.rows import more_notes
from retrieval.evaluation.results import BenchmarkResult
from retrieval.evaluation.zero_shot import ZeroShot


def result(*, captions: int = 1, skipped: int = 0) -> BenchmarkResult:
    """Four pictures and their captions; the third and fourth picture are taken for each other."""
    pictures = np.eye(4, dtype=np.float32)
    words = np.repeat(pictures[[0, 1, 3, 2]], captions, axis=0)
    of = [[i // captions] for i in range(4 * captions)]
    back = [list(range(i * captions, (i + 1) * captions)) for i in range(4)]
    pairs = [
        Comparison("text->image", "captions", "pictures", words, pictures, Relevance.from_lists(of, 4)),
        Comparison("image->text", "pictures", "captions", pictures, words, Relevance.from_lists(back, 4 * captions)),
    ]
    return BenchmarkResult(
        dataset="demo/captions.jsonl",
        manifest_name="captions.jsonl",
        manifest_sha256="0123456789abcdef" * 4,
        split=None,
        encoder="fake",
        encoder_fingerprint="fake-1",
        dim=4,
        items={"image": 4, "audio": 0, "text": 0, "captions": 4 * captions},
        captions_per_item=float(captions),
        results=tuple(measure(pair) for pair in pairs),
        skipped=tuple(Skipped(f"{i}.jpg", "is empty") for i in range(skipped)),
        warnings=("a warning",),
        seconds=1.25,
        seconds_by_stage={"encode": 1.0, "score": 0.25},
    )


def test_the_table_gives_every_direction_its_rates_its_interval_and_chance() -> None:
    lines = as_text(result()).splitlines()
    assert lines[0].strip() == "demo/captions.jsonl, model fake"
    row = next(line for line in lines if line.startswith("text->image"))
    assert row.split() == [
        "text->image", "4", "captions", "4", "pictures", "50.0", "[0.0,", "100.0]", "100.0", "100.0", "0.625", "25.00",
    ]  # fmt: skip
    assert any(line.startswith("image->text") for line in lines)
    assert "items: 4 image, 4 captions; 1 captions an item, 1.2 s" in lines
    assert "manifest captions.jsonl sha256 0123456789ab" in lines
    assert "warning: a warning" in lines


def test_recall_is_told_apart_from_the_hit_rate_only_where_they_differ() -> None:
    assert "recall@" not in as_text(result())
    text = as_text(result(captions=5), width=160)
    assert "recall@1" in text
    assert "recall@k: mean share of a query's relevant ones in the top k" in text
    row = next(line for line in text.splitlines() if line.startswith("image->text")).split()
    assert row[-3:] == ["10.0", "50.0", "50.0"]  # two of four pictures find 1, then 5, then 5 of their 5


def test_classification_index_and_cache_are_told_on_every_page() -> None:
    rates = {1: 0.5, 5: 0.75, 10: 1.0}
    plain = result()
    first = replace(plain.results[0], zero_shot=ZeroShot(0.625, None, 0.75))
    ann = AnnResult("text->image", "HNSW", 4, rates, rates, {1: 0.0, 5: 0.0, 10: 0.0}, 0.1, 0.25)
    cache = {"image": {"found": 3, "computed": 1}}
    full = replace(plain, results=(first, *plain.results[1:]), ann=(ann,), cache=cache)
    assert len(more_notes(full)) == 3 and more_notes(plain) == []
    lines = as_text(full, width=300).splitlines()
    for note in more_notes(full):
        assert note in lines
        assert f"- {note}" in as_markdown(full).splitlines()
    assert "zero-shot" not in as_text(plain) and "from the cache" not in as_markdown(plain)


def test_skipped_files_are_named_and_many_are_counted() -> None:
    text = as_text(result(skipped=12))
    assert "skipped: 12" in text
    assert "  0.jpg: is empty" in text
    assert "11.jpg" not in text
    assert "and 2 more; --json lists them all" in text


def test_the_page_is_a_markdown_table_and_escapes_what_would_break_it() -> None:
    page = as_markdown(replace(result(), dataset="a|b<c>*.jsonl"))
    lines = page.splitlines()
    assert lines[0] == r"# a\|b&lt;c>\*.jsonl, model fake"
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|")
    assert lines[4].startswith("| text->image | 4 captions | 4 pictures | 50.0 [0.0, 100.0] |")


def test_a_report_is_pages_and_the_json_and_csv_of_the_same_result(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    html, page, data, rows = write_report(result(), folder)
    assert page.read_text(encoding="utf-8") == as_markdown(result())
    assert json.loads(data.read_text(encoding="utf-8")) == json.loads(json.dumps(as_document(result())))
    assert as_document(result()) == {**result().to_json(), "provenance": None}
    assert html.read_text(encoding="utf-8") == as_html(as_document(result()))
    assert rows.read_text(encoding="utf-8") == as_csv(result())


def test_a_report_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="give another --report folder"):
        write_report(result(), tmp_path / "file")


@pytest.mark.parametrize(("width", "captions"), [(60, 5), (80, 1), (80, 5), (120, 1), (120, 5), (200, 5)])
def test_the_table_fits_its_terminal_and_no_figure_is_cut(width: int, captions: int) -> None:
    plain = result(captions=captions)
    reranked = [replace(one, stage=stage) for one in plain.results for stage in ("dual", "rerank")]
    full = replace(plain, results=tuple(reranked))
    text = as_text(full, width=width)
    assert text == (SNAPSHOTS / f"bench_{width}_{captions}.txt").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= width
    for figure in ("50.0 [0.0, 100.0]", "0.625", "recall@10" if captions > 1 else "R@10"):
        assert figure in text


def test_eighty_columns_of_large_counts_are_one_table() -> None:
    plain = result()
    large = [
        replace(one, n_queries=25_010, n_candidates=25_000, direction="audio->image", stage=stage)
        for one in plain.results[:1]
        for stage in ("dual", "rerank")
    ]
    lines = as_text(replace(plain, results=tuple(large)), width=80).splitlines()
    assert lines[1].split() == ["direction", "queries", "pool", "R@1", "R@5", "R@10", "MRR", "chance"]
    assert [line.split()[0] for line in lines[2:4]] == ["audio->image", "rerank"]
