"""`make bench`: what README.md and the model card print is what was measured, on the model that is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from paths import ROOT
from small_media import picture

from benchmarks import figures, starter
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.specs import read_config
from indexer.encoders.starter import starter_directory
from indexer.items import Item, Modality
from retrieval.evaluation.datasets.benchmark import Benchmark, BenchmarkRow, load_benchmark
from retrieval.evaluation.directions import comparisons
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark
from retrieval.evaluation.measure import measure
from retrieval.evaluation.metrics.ranks import ranks_of_embeddings

BENCH = ROOT / "docs" / "bench"
CAPTIONS = ("A red dog.", "A green frog.", "A blue piano.", "A yellow cat.", "A red dog.", "A white bell.")


# the committed pages


def test_readme_and_card_print_the_figures_of_the_committed_model() -> None:
    assert (BENCH / "starter.json").is_file(), "nothing was measured yet: run make bench"
    measured = json.loads((BENCH / "starter.json").read_text(encoding="utf-8"))
    fingerprint = read_config(starter_directory()).fingerprint
    assert measured["fingerprint"] == fingerprint, "another model was measured: run make bench"
    for page in figures.PAGES:
        names = figures.differing(page.read_text(encoding="utf-8"), measured)
        assert not names, f"{page.relative_to(ROOT)}: {', '.join(names)}: run make bench"


def test_the_card_has_every_block_and_the_readme_the_first_table() -> None:
    readme, card = (
        [block["name"] for block in figures.BLOCK.finditer(page.read_text("utf-8"))] for page in figures.PAGES
    )
    assert readme == ["tuxpaint", "run"]
    assert sorted(card) == sorted(figures.BLOCKS)


# a small world: six stamps, four with a sound, and a pool


def _tone(path: Path, hz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * np.arange(8_000) / 16_000), 16_000)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The folder of built data sets; Spanish and Chinese are not built, and one German picture is missing."""
    datasets = tmp_path / "cache" / "datasets"
    stamps = datasets / "tuxpaint"
    rows = []
    for at, caption in enumerate(CAPTIONS):
        picture(stamps / "images" / f"stamp{at}.png", at)
        row: dict[str, Any] = {"id": f"s{at}", "image": f"images/stamp{at}.png", "captions": [caption]}
        if at < 4:
            _tone(stamps / "audio" / f"stamp{at}.wav", 200.0 + 700 * at)
            row["audio"] = f"audio/stamp{at}.wav"
        rows.append(row)
    _write(stamps / "manifest.jsonl", rows)
    _write(stamps / "manifest.fr.jsonl", [row | {"captions": [f"{row['id']} rouge"]} for row in rows])
    _write(stamps / "manifest.de.jsonl", [row | {"captions": [f"{row['id']} rot"]} for row in rows[1:]])
    pool = [
        {"audio": "a.wav", "captions": ["a growling dog"], "split": "train", "metadata": {"concept": "dog"}},
        {"image": "p0.png", "captions": ["a green thing"], "split": "val", "metadata": {"concept": "thing"}},
        {"image": "p1.png", "captions": ["a red thing"], "split": "val", "metadata": {"concept": "thing"}},
    ]
    _write(datasets / "pool" / "manifest.jsonl", pool)
    _tone(datasets / "pool" / "a.wav", 400)
    picture(datasets / "pool" / "p0.png", 10)
    picture(datasets / "pool" / "p1.png", 11)
    return datasets


class Counting(FakeEncoder):
    """Counts what it encodes."""

    def __init__(self) -> None:
        self.pictures = 0
        self.sounds = 0

    def encode_images(self, prepared: Any) -> Any:
        self.pictures += len(prepared)
        return super().encode_images(prepared)

    def encode_audio(self, prepared: Any) -> Any:
        self.sounds += len(prepared)
        return super().encode_audio(prepared)


def _measured(datasets: Path, encoder: FakeEncoder | None = None) -> dict[str, Any]:
    demo = datasets.parent / "demo"
    _write(
        demo / "manifest.jsonl",
        [{"text": "a red dog", "captions": ["red dog"]}, {"text": "bread", "captions": ["bread"]}],
    )
    measurement = starter.Measurement(encoder or FakeEncoder(), datasets, demo)
    measurement.run()
    return starter.document(measurement, "fake", "python benchmarks/starter.py --model fake", 1.0)


def test_every_data_set_is_measured_and_every_file_encoded_once(world: Path) -> None:
    encoder = Counting()
    done = _measured(world, encoder)["datasets"]
    assert set(done) == {"tuxpaint", "sounds", "languages", "queries", "heldout", "demo"}
    assert encoder.pictures == len(CAPTIONS) + 2
    assert encoder.sounds == 4
    assert [len(one["top"]) for one in done["queries"]] == [5] * len(starter.QUERIES)


def test_the_figures_are_those_of_trimodal_bench(world: Path) -> None:
    done = _measured(world)["datasets"]
    for manifest, found in (("manifest.jsonl", done["tuxpaint"]), ("manifest.de.jsonl", done["languages"]["de"])):
        encoded = encode_benchmark(load_benchmark(world / "tuxpaint" / manifest), FakeEncoder())
        expected = {pair.direction: measure(pair).to_json() for pair in comparisons(encoded)}
        usual = {one["direction"]: one for one in found["results"] if one["candidates"] != "distinct captions"}
        assert usual == {direction: expected[direction] for direction in usual}
        assert {"text->image", "image->text"} <= set(usual)


def test_what_is_not_built_is_named_with_its_recipe_and_harms_nothing_else(world: Path, tmp_path: Path) -> None:
    found = _measured(world)
    assert set(found["datasets"]["languages"]) == {"de", "fr"}
    remedy = "is not built; run `python benchmarks/datasets/tuxpaint.py`"
    assert found["missing"] == {
        f"languages/{language}": f"tuxpaint/manifest.{language}.jsonl {remedy}" for language in ("es", "zh_CN")
    }
    nothing = _measured(tmp_path / "empty" / "datasets")
    assert set(nothing["datasets"]) == {"demo"}
    assert "benchmarks/datasets/pool.py" in nothing["missing"]["heldout"]
    assert "benchmarks/datasets/tuxpaint.py" in figures.rendered("sounds", nothing)
    assert "text → text" in figures.rendered("demo", nothing)


def test_json_and_page_name_no_place_on_the_machine(world: Path) -> None:
    (world / "tuxpaint" / "images" / "stamp2.png").write_bytes(b"no picture")
    found = _measured(world)
    assert [one["path"] for one in found["datasets"]["tuxpaint"]["skipped"]] == ["images/stamp2.png"]
    for text in (json.dumps(found), figures.page(found)):
        assert str(world.parent) not in text
        assert str(Path.home()) not in text


# seen and unseen sounds


def test_a_sound_is_seen_by_its_concept_or_by_a_word_of_a_training_sounds_caption() -> None:
    pool = [
        {"audio": "a", "captions": ["a rooster crowing"], "split": "train", "metadata": {"concept": "chicken"}},
        {"audio": "b", "captions": ["Tremolo violin section!"], "split": "train", "metadata": {"concept": "section"}},
        {"audio": "c", "captions": ["a frog"], "split": "val", "metadata": {"concept": "frog"}},
        {"image": "d", "captions": ["a camel"], "split": "train", "metadata": {"concept": "camel"}},
        {"audio": "e", "captions": ["catfish"], "split": "train", "metadata": {"concept": "fish"}},
    ]
    known = starter.heard(pool)
    captions = ("A brown hen.", "A violin.", "A frog.", "A camel.", "A black cat.", "Two fishes.")
    assert [starter.is_seen(caption, known) for caption in captions] == [True, True, False, False, False, True]


def test_only_the_queries_are_split_and_all_sounds_stay_candidates(world: Path) -> None:
    apart = _measured(world)["datasets"]["sounds"]
    assert apart["seen"]["captions"] == ["A red dog."]
    assert apart["unseen"]["captions"] == ["A blue piano.", "A green frog.", "A yellow cat."]
    for name, sounds in (("seen", 1), ("unseen", 3)):
        assert apart[name]["sounds"] == sounds
        assert len(apart[name]["results"]) == 4
        for result in apart[name]["results"]:
            assert (result["n_queries"], result["n_candidates"]) == (sounds, 4)


def test_seen_and_unseen_together_are_all_queries(world: Path) -> None:
    done = _measured(world)["datasets"]
    every = {one["direction"]: one for one in done["tuxpaint"]["results"] if one["candidates"] != "distinct captions"}
    for one, other in zip(done["sounds"]["seen"]["results"], done["sounds"]["unseen"]["results"], strict=True):
        total = one["n_queries"] * one["mrr"] + other["n_queries"] * other["mrr"]
        both = every[one["direction"]]
        assert total == pytest.approx(both["n_queries"] * both["mrr"])


# equal captions counted once


def _encoded(captions: list[list[str]], pictures: np.ndarray, texts: dict[str, np.ndarray]) -> EncodedBenchmark:
    items = [Item(f"{at}.png", Modality.IMAGE, Path(f"{at}.png")) for at in range(len(captions))]
    rows = tuple(BenchmarkRow(str(at), {Modality.IMAGE: item}, tuple(captions[at])) for at, item in enumerate(items))
    vectors = {at: pictures[at : at + 1].astype(np.float32) for at in range(len(captions))}
    benchmark = Benchmark(Path("manifest.jsonl"), "0", None, rows, ())
    return EncodedBenchmark(benchmark, {Modality.IMAGE: vectors}, texts, ())


def test_a_wrong_caption_that_two_pictures_carry_is_one_candidate() -> None:
    texts = {"dog": np.array([0, 1], np.float32), "cat": np.array([1, 0], np.float32)}
    # The cat's picture is nearer to "dog": after two dogs in the usual protocol, after one here.
    encoded = _encoded([["cat"], ["dog"], ["dog"]], np.array([[0.6, 0.8], [0, 1], [1, 0]]), texts)
    usual = next(pair for pair in comparisons(encoded) if pair.direction == "image->text")
    once = starter.captions_once(encoded, Modality.IMAGE)
    assert once is not None
    ranks = [
        ranks_of_embeddings(p.query_vectors, p.candidate_vectors, p.relevance).first.tolist() for p in (usual, once)
    ]
    assert ranks == [[3, 1, 2], [2, 1, 2]]
    assert (once.relevance.n_candidates, once.candidates) == (2, "distinct captions")


def test_nothing_is_counted_once_where_no_captions_are_equal() -> None:
    texts = {"dog": np.array([0, 1], np.float32), "cat": np.array([1, 0], np.float32)}
    encoded = _encoded([["cat"], ["dog"]], np.eye(2), texts)
    assert starter.captions_once(encoded, Modality.IMAGE) is None
    assert [one["candidates"] for one in starter.report(encoded)["results"]] == ["pictures", "captions"]


# the blocks


def test_blocks_are_renewed_from_the_json_and_a_typed_figure_is_found(world: Path, tmp_path: Path) -> None:
    found = _measured(world)
    (tmp_path / "starter.json").write_text(json.dumps(found), encoding="utf-8")
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- figures: tuxpaint -->\nold\n<!-- /figures -->\nafter\n", encoding="utf-8")
    arguments = ["--out", str(tmp_path)]
    assert starter.main([*arguments, "--check"], pages=[page]) == 2
    assert starter.main([*arguments, "--reuse", "--write"], pages=[page]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- figures: tuxpaint -->\n| direction |")
    assert text.endswith("\n<!-- /figures -->\nafter\n")
    hits = next(one for one in found["datasets"]["tuxpaint"]["results"] if one["direction"] == "text->image")
    assert f"| text → picture | 6 captions | 6 pictures | {100 * hits['hit_rate_at_1']:.1f} [" in text
    assert "picture → text, equal captions counted once | 6 pictures | 5 distinct captions" in text
    assert starter.main([*arguments, "--check"], pages=[page]) == 0
    page.write_text(text.replace("6 pictures", "7 pictures", 1), encoding="utf-8")
    assert starter.main([*arguments, "--check"], pages=[page]) == 2


def test_a_block_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="tuxpiant"):
        figures.renewed("<!-- figures: tuxpiant -->\n<!-- /figures -->", {})


def test_without_figures_every_table_is_its_header() -> None:
    for name in figures.BLOCKS:
        assert "run `make bench`" in figures.rendered(name, {})


def test_another_models_figures_are_not_written_into_the_pages(tmp_path: Path) -> None:
    assert starter.main(["--model", "fake", "--write", "--out", str(tmp_path)], pages=[]) == 2
    assert not list(tmp_path.iterdir())
