"""The report as a page: complete in itself, safe with hostile names, readable by those who do not see it."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from paths import ROOT
from PIL import Image

from indexer.encoders.fake import FakeEncoder
from indexer.items import Item, Modality
from retrieval.evaluation import details
from retrieval.evaluation.compare import compare_runs
from retrieval.evaluation.datasets.benchmark import Benchmark, BenchmarkRow, load_benchmark
from retrieval.evaluation.metrics import metrics
from retrieval.evaluation.metrics.ranks import Relevance, RelevantRanks
from retrieval.evaluation.provenance import command_line, short_spec
from retrieval.evaluation.queries import queries_of
from retrieval.evaluation.report.folder import as_csv, as_document, as_html, json_text, write_report
from retrieval.evaluation.report.html import plots
from retrieval.evaluation.report.html.examples import Media, clip, files_of, thumbnail
from retrieval.evaluation.report.html.page import page as page_of
from retrieval.evaluation.results import BenchmarkResult
from retrieval.evaluation.runner import run_benchmark
from retrieval.evaluation.runs import Run
from retrieval.evaluation.shown_items import ShownItem, fingerprint

HOSTILE = "<script>alert(1)</script> \"quoted\" & 'single' </title>\u202e"
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the words between them."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures and three sounds, one of them with captions and a file name of the worst kind."""
    place = tmp_path_factory.mktemp("hostile & <b>place")
    rows: list[dict[str, Any]] = []
    for colour in COLOURS:
        Image.new("RGB", (640, 400), colour).save(place / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "captions": [f"{colour} picture", f"all {colour}"]})
    Image.new("RGB", (40, 40), "pink").save(place / "<img src=x onerror=alert(2)>.png")
    rows.append({"image": "<img src=x onerror=alert(2)>.png", "captions": [HOSTILE, "red picture of another kind"]})
    for hertz in (300, 700, 1500):
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(16_000 * 9) / 16_000)
        soundfile.write(place / f"{hertz}.wav", tone.astype(np.float32), 16_000)
        rows.append({"audio": f"{hertz}.wav", "captions": [f"a tone of {hertz} hertz"]})
    rows.append({"image": "gone.png", "captions": ["nowhere"]})
    (place / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def benchmark(folder: Path) -> Benchmark:
    return load_benchmark(folder / "captions.jsonl")


@pytest.fixture(scope="module")
def result(benchmark: Benchmark) -> BenchmarkResult:
    return run_benchmark(benchmark, FakeEncoder(), details=True)


@pytest.fixture(scope="module")
def text(benchmark: Benchmark, result: BenchmarkResult) -> str:
    provenance = {"command": "trimodal bench '<i>x</i>'", "commit": "c0ffee", "versions": {"numpy": "2"}}
    return as_html(as_document(result, provenance), benchmark)


def judged(result: BenchmarkResult) -> BenchmarkResult:
    """As if a reranker had judged the first direction."""
    bins = [{"low": 0.0, "high": 0.5, "n": 3, "mean_probability": 0.2, "share_true": 0.25},
            {"low": 0.5, "high": 1.0, "n": 0, "mean_probability": None, "share_true": None}]  # fmt: skip
    side = {"ece": 0.05, "bins": bins}
    found = {"pairs": 3, "relevant": 1, "auroc": None, "before": side, "after": side}
    first = replace(result.results[0], stage="rerank", calibration=found)
    return replace(result, results=(*result.results, first))


# ---------------------------------------------------------------------------------------------- the page


def test_the_page_asks_no_network_for_anything_and_forbids_it(text: str) -> None:
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name in ("src", "href", "poster", "srcset", "action"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/webp;base64,", "data:audio/", "#")), address
    assert "url(" not in text and "@import" not in text
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"]


def test_hostile_captions_and_names_are_words_and_nothing_else(text: str) -> None:
    page = Page(text)
    assert page.open == []  # every tag closes where it should
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script>" in page.words and "<img src=x onerror=alert(2)>.png" in page.words
    assert "trimodal bench '<i>x</i>'" in page.words
    assert "\u202e" not in text  # would turn the rest of the line around
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "h1", "h2",
        "h3", "h4", "p", "ul", "ol", "li", "b", "a", "div", "span", "table", "caption", "thead", "tbody", "tr", "th",
        "td", "figure", "figcaption", "svg", "path", "line", "text", "circle", "desc", "details", "summary", "img",
        "audio", "dl", "dt", "dd", "code",
    }  # fmt: skip


def test_who_does_not_see_it_is_told_what_is_there(text: str) -> None:
    page = Page(text)
    pictures = list(page.all("img"))
    assert pictures and all(picture["alt"] for picture in pictures)
    assert all(player["aria-label"] for player in page.all("audio"))
    drawings = [one for one in page.all("svg") if "aria-hidden" not in one]
    assert drawings and all(one["role"] == "img" and one["aria-label"] for one in drawings)
    headers = list(page.all("th"))
    assert headers and all(header["scope"] in ("col", "row") for header in headers)
    assert len(list(page.all("table"))) == len(list(page.all("caption")))
    assert [one["lang"] for one in page.all("html")] == ["en"]
    assert len(list(page.all("h1"))) == 1


def test_links_lead_to_sections_that_are_there(text: str) -> None:
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {str(link["href"]).removeprefix("#") for link in page.all("a")}
    assert links == set(ids) >= {"results", "curves", "similarities", "examples", "notes", "provenance"}


def test_the_tables_have_every_direction_with_its_intervals(text: str, result: BenchmarkResult) -> None:
    words = " ".join(Page(text).words.split())
    for one in result.results:
        low, high = one.ci95["hit_rate_at_5"]
        assert f"{100 * one.hit_rate_at[5]:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in words
    assert "18 captions9 pictures" in words
    assert "gone.png" in words and "1 skipped" in words
    assert "c0ffee" in words and result.manifest_sha256 in words


def test_the_reliability_is_drawn_where_a_reranker_judged(text: str, result: BenchmarkResult) -> None:
    assert 'id="reliability"' not in text
    page = as_html(as_document(judged(result)))
    assert 'id="reliability"' in page
    assert "expected calibration error 0.050" in page
    assert "reranked" in page


def test_a_report_without_details_is_a_page_of_tables(result: BenchmarkResult) -> None:
    page = Page(as_html(result.to_json()))
    assert len(list(page.all("table"))) == 1
    assert not list(page.all("figure")) and not list(page.all("article"))


def test_classes_and_the_index_have_tables_where_they_were_measured(result: BenchmarkResult) -> None:
    document = result.to_json()
    rates = {f"{name}_at_{k}": 0.5 for name in ("recall", "hit_rate") for k in (1, 5, 10)}
    lost = {f"hit_rate_at_{k}": 0.01 for k in (1, 5, 10)}
    document["ann"] = [{"direction": "text->image", "index": "HNSW32", **rates, "lost": lost, "search_ms": 0.25}]
    document["results"][0].update(acc1=0.625, acc5=None, mean_per_class_recall=0.75)
    words = " ".join(Page(as_html(document)).words.split())
    assert "acc@1acc@5mean per-class recall fake62.5-75.0" in words
    assert "HNSW3250.0050.0050.001.001.001.000.25" in words
    assert "acc@1" not in as_html(result.to_json())


def test_what_came_from_the_cache_is_told_with_how_it_was_made(result: BenchmarkResult) -> None:
    cache = {"image": {"found": 3, "computed": 6}, "text": {"found": 0, "computed": 18}}
    page = as_html(as_document(replace(result, cache=cache)))
    assert "<dt>from the cache</dt><dd>3 of 9 image</dd>" in page
    assert "from the cache" not in as_html(as_document(replace(result, cache={"text": cache["text"]})))
    assert "from the cache" not in as_html(as_document(result))


# ------------------------------------------------------------------------------------------- the folder


def test_a_report_is_four_files(tmp_path: Path, benchmark: Benchmark, result: BenchmarkResult) -> None:
    paths = write_report(result, tmp_path / "new", benchmark=benchmark, provenance={"commit": "abc"})
    assert [path.name for path in paths] == ["report.html", "report.md", "report.json", "report.csv"]
    document = json.loads(paths[2].read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(as_document(result, {"commit": "abc"}, benchmark.path.parent)))
    assert paths[0].stat().st_size < 1_000_000


def test_the_csv_holds_the_numbers_of_the_json(result: BenchmarkResult) -> None:
    rows = list(csv.DictReader(StringIO(as_csv(result))))
    assert len(rows) == 7 * len(result.results)
    there = next(row for row in rows if (row["direction"], row["metric"]) == ("image->text", "recall_at_5"))
    one = next(one for one in result.results if one.direction == "image->text")
    assert float(there["value"]) == one.recall_at[5]
    assert (float(there["ci95_low"]), float(there["ci95_high"])) == one.ci95["recall_at_5"]


def test_numbers_stand_on_one_line_and_words_that_look_like_them_stay() -> None:
    document = {"ranks": [1, 22, 3], "shares": [0.5, -1e-07], "words": ["[\n  1,\n  2\n]", "3"], "none": []}
    text = json_text(document)
    assert json.loads(text) == document
    assert '"ranks": [1, 22, 3]' in text and '"shares": [0.5, -1e-07]' in text


def test_ranks_of_single_queries_are_in_the_report_and_not_in_what_is_printed(result: BenchmarkResult) -> None:
    assert all("details" not in one for one in result.to_json()["results"])
    for one in as_document(result)["results"]:
        ranks = one["details"]["per_query"]["first_rank"]
        assert len(ranks) == one["n_queries"]
        assert np.mean(np.array(ranks) <= 5) == one["hit_rate_at_5"]
        assert one["details"]["curve"]["hit_rate"][9] == pytest.approx(one["hit_rate_at_10"], abs=1e-6)
        assert one["details"]["curve"]["recall"][4] == pytest.approx(one["recall_at_5"], abs=1e-6)
        assert len(one["details"]["curve"]["recall"]) == 100


def test_nothing_in_the_report_says_where_the_files_stand(result: BenchmarkResult, folder: Path) -> None:
    document = as_document(result, data_folder=folder)
    assert document["skipped"] == [{"path": "captions.jsonl:13", "reason": "gone.png does not exist; check the path"}]
    assert str(folder.parent) not in json_text(document)
    assert str(folder.parent) not in as_html(document)


def test_a_file_outside_the_manifest_s_folder_is_named_by_its_end(tmp_path: Path) -> None:
    far = [
        tmp_path / place / "b" / "c" / name for place, name in (("x", "one.png"), ("x", "two.png"), ("y", "two.png"))
    ]
    rows = tuple(
        BenchmarkRow(str(n), {Modality.IMAGE: Item(str(path), Modality.IMAGE, path)}, ("words",))
        for n, path in enumerate(far)
    )
    there = Benchmark(tmp_path / "m" / "m.jsonl", "0" * 64, None, rows, ())
    assert files_of(there) == {"…/b/c/one.png": far[0]}  # of two files with one name, neither is shown


# ------------------------------------------------------------------------------------------- the details


def similarities(cosines: Mapping[tuple[int, int], float], q: int, n: int) -> tuple[Any, Any]:
    """Query and candidate rows whose products are ``cosines``: queries are the axes."""
    queries = np.eye(q, dtype=np.float32)
    candidates = np.zeros((n, q), dtype=np.float32)
    for (query, candidate), cosine in cosines.items():
        candidates[candidate, query] = cosine
    return queries, candidates


def test_matching_and_other_pairs_are_counted_apart() -> None:
    queries, candidates = similarities({(0, 0): 0.5, (0, 1): -0.25, (1, 0): 0.25, (1, 1): 0.75}, 2, 2)
    found = details.similarities_of(queries, candidates, Relevance.from_lists([[0], [1]], 2))
    assert sum(found.matching) == sum(found.others) == 2
    assert found.mean_matching == pytest.approx(0.625)
    assert found.mean_others == pytest.approx(0.0)
    assert found.low == pytest.approx(-0.25) and found.high == pytest.approx(0.75, abs=0.05)
    assert len(found.matching) == len(found.others) <= 51
    # centroids (0.5, 0.5) and (0.125, 0.5)... by hand: the means of the two candidates' rows
    gap = np.linalg.norm([0.5 - (0.5 - 0.25) / 2, 0.5 - (0.25 + 0.75) / 2])
    assert found.centroid_distance == pytest.approx(gap)


@pytest.mark.parametrize("seed", range(4))
def test_the_histogram_is_that_of_all_pairs_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.normal(size=(n, 6)).astype(np.float32) for n in (17, 31))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    starts = np.array([0, 3, 4, 20], dtype=np.int64)
    relevance = Relevance.from_lists([[i % 4] for i in range(17)], 4)
    found = details.similarities_of(queries, candidates, relevance, starts)
    cosines = np.maximum.reduceat(queries @ candidates.T, starts, axis=1)
    matching = cosines[np.arange(17), np.arange(17) % 4]
    assert found.mean_matching == pytest.approx(float(matching.mean()), abs=1e-6)
    width = (found.high - found.low) / len(found.matching)
    slow = np.bincount(((matching - found.low) / width).astype(int), minlength=len(found.matching))
    assert np.abs(slow - np.array(found.matching)).sum() <= 2  # a number on an edge may fall on either side
    assert sum(found.matching) + sum(found.others) == cosines.size


def test_curves_are_the_metrics_at_every_k() -> None:
    rng = np.random.default_rng(0)
    ranks = RelevantRanks(np.sort(rng.permutation(200)[:30] + 1).reshape(10, 3).ravel(), np.arange(0, 31, 3))
    hits, recalls = details.curves(ranks)
    for k in (1, 7, 50, 100):
        assert hits[k - 1] == pytest.approx(metrics.hit_rate_at_k(ranks, k))
        assert recalls[k - 1] == pytest.approx(metrics.recall_at_k(ranks, k))


def test_examples_are_the_worst_misses_and_hits_one_of_a_row(result: BenchmarkResult) -> None:
    for one in result.results:
        assert one.details is not None
        first = one.details.ranks.first
        worst = [example.rank for example in one.details.misses]
        assert worst == sorted(worst, reverse=True)
        assert not worst or worst[0] == first.max()
        assert all(rank > 1 for rank in worst) and all(example.rank == 1 for example in one.details.hits)
        for example in (*one.details.misses, *one.details.hits):
            assert example.rank == first[example.query]
            assert [entry for entry, relevant in example.found if relevant][:1] in ([], [example.wanted])
            assert (example.rank <= len(example.found)) == any(relevant for _, relevant in example.found)
        for group in (one.details.misses, one.details.hits):
            rows = [example.query_item.row_id for example in group]
            assert len(rows) == len(set(rows))


def test_a_second_stage_s_order_is_what_its_examples_show() -> None:
    entries = [ShownItem(str(i), Modality.TEXT, text=str(i)) for i in range(3)]
    vectors = np.eye(3, dtype=np.float32)
    relevance = Relevance.from_lists([[0], [1], [2]], 3)
    ranks = RelevantRanks(np.array([3, 1, 1]), np.arange(4))
    best = np.array([[2, 1, 0], [1, 0, 2], [2, 0, 1]])
    misses, hits = details.examples_of(vectors, vectors, relevance, ranks, entries, entries, best=best)
    assert [[entry.text for entry, _ in example.found] for example in misses] == [["2", "1", "0"]]
    assert [example.query for example in hits] == [1, 2]


# ------------------------------------------------------------------------------------ the queries, named again


def test_queries_are_named_again_in_the_order_in_which_they_were_measured(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for n, colour in enumerate(COLOURS):
        Image.new("RGB", (12, 9), colour).save(tmp_path / f"{colour}.png")
        tone = 0.3 * np.sin(2 * np.pi * 200 * (n + 1) * np.arange(8_000) / 16_000)
        soundfile.write(tmp_path / f"{colour}.wav", tone.astype(np.float32), 16_000)
        files = [{"image": f"{colour}.png"}, {"audio": f"{colour}.wav"}, {"text": f"words on {colour}"}]
        files.append({**files[0], **files[1]})
        rows.append({**files[n % 4], "captions": [f"{colour} {i}" for i in range(n % 3)]})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    benchmark = load_benchmark(tmp_path / "m.jsonl")
    result = run_benchmark(benchmark, FakeEncoder(), details=True)
    assert {one.direction for one in result.results} == {
        "text->image", "image->text", "text->audio", "audio->text", "image->audio", "audio->image", "text->text",
        "text->any", "image->any", "audio->any",
    }  # fmt: skip
    for one in result.results:
        assert one.details is not None
        queries = queries_of(benchmark, one.direction)
        assert fingerprint([asked for asked, _ in queries]) == one.details.queries_sha256, one.direction
        if one.direction.endswith("any"):
            continue
        wanted = "text" if one.direction.endswith("text") else one.direction.partition("->")[2]
        assert {entry.modality.value for _, entry in queries} == {wanted}


def changed(result: BenchmarkResult, direction: str, query: int, rank: int) -> dict[str, Any]:
    """The report as if one query had found its own elsewhere."""
    document = json.loads(json.dumps({**as_document(result), "encoder": "other"}))
    for one in document["results"]:
        if one["direction"] == direction:
            one["details"]["per_query"]["first_rank"][query] = rank
    return dict(document)


def test_the_queries_that_changed_most_are_shown_where_the_dataset_is_at_hand(folder: Path) -> None:
    sounds = folder / "sounds.jsonl"
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    sounds.write_text("".join(json.dumps(row) + "\n" for row in rows if "audio" in row), encoding="utf-8")
    benchmark = load_benchmark(sounds)
    result = run_benchmark(benchmark, FakeEncoder(), details=True)
    first = result.results[0].details
    assert first is not None
    rank = int(first.ranks.first[1])
    runs = [Run("a", "a", as_document(result)), Run("b", "b", changed(result, "text->audio", 1, 10 * rank))]
    comparisons = compare_runs(runs)
    words = " ".join(Page(page_of(runs, comparisons, benchmark)).words.split())
    assert f"Worse in b Query a tone of 700 hertz Belongs to it: a: place {rank}; b: place {10 * rank}" in words
    assert "Better in b" not in words
    assert "changed most" not in page_of(runs, comparisons)
    fewer = replace(benchmark, rows=benchmark.rows[1:])  # not the queries that were measured
    assert "changed most" not in page_of(runs, comparisons, fewer)


# --------------------------------------------------------------------------------------------- the media


def test_pictures_are_small_and_sounds_are_short(folder: Path) -> None:
    address = thumbnail(folder / "red.png")
    assert address.startswith("data:image/webp;base64,") and len(address) < 4_000
    heard = clip(folder / "300.wav")
    assert heard.startswith("data:audio/mpeg;base64,") and len(heard) < 80_000


def test_over_the_budget_names_alone_are_shown(folder: Path, benchmark: Benchmark) -> None:
    whole = Media(files_of(benchmark))
    address = whole.address("red.png", "image")
    assert address is not None and whole.address("red.png", "image") == address
    cost = len(address) * 3 // 4
    once = Media(files_of(benchmark), budget_bytes=cost)
    assert once.address("red.png", "image") == address
    assert once.address("red.png", "image") is None  # a page holds it twice, so it costs twice
    assert whole.address("gone.png", "image") is None
    assert whole.address("../../etc/passwd", "image") is None
    assert whole.address(None, "text") is None


# --------------------------------------------------------------------------------------------- the plots


def test_drawings_escape_their_words() -> None:
    line = plots.Line(HOSTILE, [(1.0, 0.5), (10.0, 1.0)], 0)
    page = Page(plots.curve_plot([line], title=HOSTILE))
    assert {tag for tag, _ in page.tags} == {"svg", "title", "desc", "line", "text", "path"}
    page = Page(plots.difference_plot([("R@1 <b>", 1.0, -0.5, 2.0)], title="t", description=HOSTILE))
    assert page.open == [] and "b" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize("points", [[(1.0, 0.25)], [(1.0, 0.0), (100.0, 1.0)]])
def test_curves_stay_inside_the_drawing(points: list[tuple[float, float]]) -> None:
    drawn = plots.curve_plot([plots.Line("a", points, 0)], title="t")
    path = re.search(r'class="line s0" d="([^"]*)"', drawn)
    assert path is not None
    numbers = [float(number) for number in re.findall(r"[\d.]+", path[1])]
    assert all(0 <= x <= 360 for x in numbers[::2]) and all(0 <= y <= 240 for y in numbers[1::2])
    assert "nan" not in drawn


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.5, 4, [-2.0, 0.0, 2.0, 4.0]),
        (0.101, 0.149, [0.11, 0.12, 0.13, 0.14]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert plots._ticks(low, high) == expected


# ---------------------------------------------------------------------------------------- the provenance


def test_the_command_can_be_typed_again_and_names_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    given = ["trimodal", "bench", "/home/ada/my photos/m.jsonl", "/home/adam/x", "--split=a b"]
    assert command_line(given) == "trimodal bench ~/'my photos/m.jsonl' /home/adam/x '--split=a b'"
    given = ["trimodal", "bench", "--model", "openclip:ViT-B-32@/home/ada/x.pt"]
    assert command_line(given) == "trimodal bench --model openclip:ViT-B-32@~/x.pt"
    assert short_spec(given[-1]) == "openclip:ViT-B-32@x.pt" and short_spec("openclip:/home/ada/x") == "openclip:x"


def test_what_the_page_is_made_of_ships_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["setuptools"]
    assert "retrieval.evaluation.report.html" in shipped["packages"]
    beside = [path for path in (ROOT / "retrieval/evaluation/report/html").iterdir() if path.suffix not in (".py", "")]
    assert {path.name for path in beside} == {"template.html.j2", "style.css"}
    patterns = shipped["package-data"]["retrieval.evaluation.report.html"]
    assert all(any(path.match(pattern) for pattern in patterns) for path in beside)
    assert any(name.startswith("jinja2") for name in settings["project"]["dependencies"])
