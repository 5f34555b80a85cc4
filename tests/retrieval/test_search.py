"""Searching real collections: brute force agrees, filters, several modalities, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from paths import ROOT
from PIL import Image

from indexer.build.run import build
from indexer.collection.collection import Collection, Entry
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.errors import (
    CollectionMissing,
    EncoderMismatch,
    FilterError,
    MediaError,
    ModelError,
    UsageError,
)
from indexer.items import Embeddings, Item, Modality, Segment
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture
from retrieval import Query, QueryPart, Searcher, SearchResult
from retrieval.embed import embed_query
from retrieval.query import parse_part

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")
TONES = {"low": 300.0, "middle": 900.0, "high": 2_500.0}


def tone(path: Path, *hertz_and_seconds: tuple[float, float]) -> Path:
    parts = [0.4 * np.sin(2 * np.pi * hz * np.arange(int(16_000 * s)) / 16_000) for hz, s in hertz_and_seconds]
    soundfile.write(path, np.concatenate(parts).astype(np.float32), 16_000)
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of a colour with metadata, three tones, and four texts."""
    folder = tmp_path_factory.mktemp("media")
    rows: list[dict[str, Any]] = []
    for year, colour in enumerate(COLOURS, start=2000):
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "caption": f"a {colour} picture", "metadata": {"year": year}})
    for name, hertz in TONES.items():
        tone(folder / f"{name}.wav", (hertz, 0.5))
        rows.append({"audio": f"{name}.wav", "caption": f"a {name} tone"})
    rows += [{"id": f"t{i}", "text": f"words of {colour} things"} for i, colour in enumerate(COLOURS[:4])]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def indexed(where: Path, *paths: Path) -> Path:
    encoder = FakeEncoder()
    with Collection.create(where, EncoderIdentity(encoder.spec, encoder.fingerprint, encoder.dim)) as collection:
        report = build(collection, find_items(paths), encoder)
        assert report.skipped == []
    return where


@pytest.fixture(scope="module")
def home(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed(tmp_path_factory.mktemp("collection") / "c", media / "all.jsonl")


@pytest.fixture
def searcher(home: Path) -> Iterator[Searcher]:
    with Searcher.open(home, device="cpu") as opened:
        yield opened


def names(result: SearchResult) -> list[str]:
    return [hit.path.stem if hit.modality is not TEXT else hit.key.partition("#")[2] for hit in result]


def store(where: Path, items: Sequence[tuple[str, Modality, NDArray[Any]]]) -> Collection:
    """A collection with the given vectors, a segment a row."""
    collection = Collection.create(where, EncoderIdentity("fake", "fake-1", items[0][2].shape[1]))
    entries = []
    for name, modality, vectors in items:
        path = where / name
        segments = tuple(Segment(i, float(i), float(i + 1)) for i in range(len(vectors)))
        entries.append(Entry(Item(str(path), modality, path), name, {}, segments, vectors.astype(np.float32)))
    collection.commit(entries)
    return collection


def unit(rows: NDArray[Any]) -> Embeddings:
    rows = rows.astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


class Given(FakeEncoder):
    """Answers every text with the vector that was given for it."""

    def __init__(self, vectors: Mapping[str, NDArray[Any]]) -> None:
        self.vectors = vectors
        self.dim = len(next(iter(vectors.values())))

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        return np.stack([unit(self.vectors[text]) for text in texts])


# ------------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("colour", COLOURS)
def test_words_find_the_picture_of_their_colour_by_cosine(searcher: Searcher, colour: str) -> None:
    result = searcher.search(f"{colour} picture", k=3, modalities=["image"])
    assert names(result)[0] == colour
    assert [hit.rank for hit in result] == [1, 2, 3]
    assert result.score_kind == "cosine"
    assert all(hit.score == hit.cosine for hit in result)
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)


def test_a_picture_finds_itself_first_and_a_tone_the_picture_of_its_colour(searcher: Searcher, media: Path) -> None:
    picture = Query((QueryPart(IMAGE, media / "blue.png"),), modalities=frozenset({IMAGE}))
    first = searcher.search(picture)[0]
    assert (first.path, first.score) == (media / "blue.png", pytest.approx(1.0, abs=1e-6))
    assert first.score <= 1.0
    sound = Query((QueryPart(AUDIO, media / "low.wav"),))
    assert names(searcher.search(sound, modalities=["image"]))[0] == "red"
    assert names(searcher.search(sound, modalities=["text"]))[0] == "t0"


def test_pictures_and_samples_in_memory_ask_as_files_do(searcher: Searcher, media: Path) -> None:
    with Image.open(media / "green.png") as opened:
        from_memory = searcher.search(Query((QueryPart(IMAGE, opened),)))
    from_file = searcher.search(Query((QueryPart(IMAGE, media / "green.png"),)))
    assert [hit.vector_id for hit in from_memory] == [hit.vector_id for hit in from_file]
    samples = soundfile.read(media / "high.wav", dtype="float32")[0]
    assert names(searcher.search(Query((QueryPart(AUDIO, samples),)), modalities=["audio"]))[0] == "high"


def test_every_hit_carries_what_the_catalog_knows_of_it(searcher: Searcher, media: Path) -> None:
    picture = searcher.search("yellow", k=1, modalities=["image"])[0]
    assert picture.path == media / "yellow.png"
    assert picture.key == str(media / "yellow.png")
    assert (picture.caption, dict(picture.metadata)) == ("a yellow picture", {"year": 2003})
    assert (picture.text, picture.start_s, picture.end_s, picture.match_probability) == (None, None, None, None)
    sound = searcher.search("blue", k=1, modalities=["audio"])[0]
    assert (sound.caption, sound.start_s, sound.end_s) == ("a high tone", 0.0, 0.5)
    text = searcher.search("red", k=1, modalities=["text"])[0]
    assert (text.text, text.key) == ("words of red things", f"{media / 'all.jsonl'}#t0")


def test_the_json_has_the_documented_keys_and_is_json(searcher: Searcher) -> None:
    document = json.loads(json.dumps(searcher.search("red", k=2).to_json()))
    assert set(document) >= {"query", "hits", "timings_ms"}
    assert set(document["timings_ms"]) == {"encode", "search", "rerank"}
    assert set(document["hits"][0]) >= {
        "rank", "score", "match_probability", "modality", "path", "start_s", "end_s", "text", "caption", "metadata",
    }  # fmt: skip
    assert document["query"]["parts"] == [{"kind": "text", "value": "red", "weight": 1.0}]


def test_a_result_is_a_sequence_of_hits_with_timings(searcher: Searcher) -> None:
    result = searcher.search("red")
    assert (len(result), len(result[1:3]), result[-1].rank) == (10, 2, 10)
    assert list(result) == list(result.hits)
    assert result.timings_ms["encode"] is not None
    assert result.timings_ms["search"] is not None
    assert result.timings_ms["rerank"] is None


def test_the_same_search_gives_the_same_hits(home: Path) -> None:
    def hits() -> list[dict[str, Any]]:
        with Searcher.open(home) as opened:
            return [hit.to_json() for hit in opened.search("red things")]

    assert hits() == hits()


def test_more_than_there_is_gives_all_there_is(searcher: Searcher) -> None:
    assert len(searcher.search("red", k=500)) == 15


# ------------------------------------------------------------------------------- against comparing with all


def test_hits_are_those_of_comparing_with_every_vector(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [(f"{i}", AUDIO, unit(rng.normal(size=(int(rng.integers(1, 9)), 12)))) for i in range(120)]
    collection = store(tmp_path / "c", items)
    collection.remove([str(tmp_path / "c" / f"{i}") for i in range(0, 120, 7)])
    live = [(name, vectors) for i, (name, _, vectors) in enumerate(items) if i % 7]
    asked = {f"q{i}": rng.normal(size=12) for i in range(20)}
    searcher = Searcher(collection, Given(asked), device="cpu")
    for words, vector in asked.items():
        best = [((vectors @ unit(vector)).max(), name) for name, vectors in live]
        expected = sorted(best, key=lambda entry: -entry[0])
        for k in (1, 7, 60, 200):
            result = searcher.search(words, k=k)
            assert names(result) == [name for _, name in expected[:k]]
            assert [hit.score for hit in result] == pytest.approx([float(s) for s, _ in expected[:k]], abs=1e-6)
    collection.close()


def test_an_item_with_many_fitting_segments_takes_one_place_and_hides_no_other(tmp_path: Path) -> None:
    direction = np.eye(8)[0]
    many = unit(direction + 0.001 * np.random.default_rng(1).normal(size=(500, 8)))
    others = [(f"other{i}", AUDIO, unit(direction + (0.5 + 0.1 * i) * np.eye(8)[1])[None]) for i in range(5)]
    collection = store(tmp_path / "c", [("long", AUDIO, many), *others])
    result = Searcher(collection, Given({"x": direction})).search("x", k=4)
    assert names(result) == ["long", "other0", "other1", "other2"]
    best = int(np.argmax(many @ unit(direction)))
    assert (result[0].start_s, result[0].end_s) == (best, best + 1)
    collection.close()


def test_equal_items_come_by_rising_vector_id_also_where_k_cuts(tmp_path: Path) -> None:
    same = unit(np.arange(1.0, 9.0))[None]
    collection = store(tmp_path / "c", [(f"{i:03}", IMAGE, same) for i in range(300)])
    searcher = Searcher(collection, Given({"x": np.ones(8)}))
    for k in (1, 5, 120):
        assert [hit.vector_id for hit in searcher.search("x", k=k)] == list(range(k))
    collection.close()


# -------------------------------------------------------------------------------------- several modalities


def test_all_modalities_are_searched_and_what_fits_of_each_comes_first(searcher: Searcher) -> None:
    result = searcher.search("red", k=3)
    assert result.score_kind == "standard"
    assert set(names(result)) == {"red", "low", "t0"}
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)


def test_texts_that_all_stand_nearer_to_a_text_query_do_not_push_the_pictures_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    dim, n = 48, 400
    question, image_cone, text_cone = (unit(row) for row in np.linalg.qr(rng.normal(size=(dim, 3)))[0].T)

    def cone(centre: NDArray[Any], towards_question: NDArray[Any]) -> list[NDArray[Any]]:
        free = rng.normal(size=(n, dim)) * 0.03
        return [unit(centre + t * question + e)[None] for t, e in zip(towards_question, free, strict=True)]

    wobble = rng.normal(0, 0.03, size=(2, n))
    near = np.zeros(n)
    near[:2] = 0.25  # two of each are what was asked for
    pictures = cone(image_cone, 0.1 + wobble[0] + near)
    texts = cone(text_cone, 0.6 + wobble[1] + near)
    collection = store(
        tmp_path / "c",
        [(f"image{i}", IMAGE, v) for i, v in enumerate(pictures)]
        + [(f"text{i}", TEXT, v) for i, v in enumerate(texts)],
    )
    searcher = Searcher(collection, Given({"x": question}))
    result = searcher.search("x", k=4)
    by_cosine = searcher.search("x", k=400, modalities=["text"])
    assert min(hit.cosine for hit in by_cosine) > max(hit.cosine for hit in result if hit.modality is IMAGE)
    assert {Path(hit.key).name for hit in result} == {"image0", "image1", "text0", "text1"}
    collection.close()


def test_within_a_modality_the_merged_order_is_that_of_searching_it_alone(searcher: Searcher) -> None:
    merged = searcher.search("blue words", k=15)
    for modality in Modality:
        alone = searcher.search("blue words", k=15, modalities=[modality])
        there = [hit for hit in merged if hit.modality is modality]
        assert [hit.vector_id for hit in there] == [hit.vector_id for hit in alone]
        assert [hit.cosine for hit in there] == [hit.cosine for hit in alone]


def test_each_kind_is_a_group_with_its_own_best_and_the_one_that_stands_out_most_is_first(searcher: Searcher) -> None:
    result = searcher.search("blue words", k=2)
    assert len(result) == 2
    assert [hit.rank for group in result.groups for hit in group.hits] == [1, 2] * 3
    for group in result.groups:
        alone = searcher.search("blue words", k=2, modalities=[group.modality])
        assert [hit.vector_id for hit in group.hits] == [hit.vector_id for hit in alone]
        assert [hit.standard_score for hit in group.hits] == pytest.approx(
            [hit.standard_score for hit in alone], rel=0.5
        )
        (only,) = alone.groups
        assert only.hits == alone.hits
    best = [group.hits[0].score for group in result.groups]
    assert best == sorted(best, reverse=True)
    assert result.groups[0].hits[0].vector_id == result[0].vector_id
    document = result.to_json()
    assert [group["modality"] for group in document["groups"]] == [group.modality for group in result.groups]
    assert [len(group["hits"]) for group in document["groups"]] == [2, 2, 2]
    assert [hit["rank"] for hit in document["hits"]] == [1, 2]


def test_groups_are_cut_at_the_least_score_too_and_an_empty_one_is_none(searcher: Searcher) -> None:
    everything = searcher.search("red", k=15)
    cut = everything[2].score
    kept = searcher.search(Query.text("red", k=15, min_score=cut))
    grouped = {hit.vector_id for group in kept.groups for hit in group.hits}
    assert grouped == {hit.vector_id for hit in kept} and all(group.hits for group in kept.groups)
    assert searcher.search(Query.text("red", min_score=1e6)).groups == ()
    assert searcher.search("red", where="year > 9999").groups == ()


# ------------------------------------------------------------------------------------ the file that asks


def test_the_picture_that_asks_is_marked_and_takes_no_place(searcher: Searcher, media: Path) -> None:
    asks = QueryPart(IMAGE, media / "blue.png")
    result = searcher.search(Query((asks,), k=3, modalities=frozenset({IMAGE})))
    assert names(result)[0] == "blue" and len(result) == 4
    assert [(hit.rank, hit.is_query) for hit in result] == [(0, True), (1, False), (2, False), (3, False)]
    assert [hit.rank for hit in result.groups[0].hits] == [0, 1, 2, 3]
    mixed = searcher.search(Query((asks,), k=3))
    assert sum(hit.is_query for hit in mixed) == 1 and len(mixed) == 4


def test_a_copy_elsewhere_and_a_sound_are_known_by_their_bytes(searcher: Searcher, media: Path, tmp_path: Path) -> None:
    for kind, name in ((IMAGE, "green.png"), (AUDIO, "low.wav")):
        copy = tmp_path / f"copy of {name}"
        copy.write_bytes((media / name).read_bytes())
        result = searcher.search(Query((QueryPart(kind, copy),), k=2, modalities=frozenset({kind})))
        assert [hit.path.name for hit in result if hit.is_query] == [name]
        assert len(result) == 3
    turned_from = Query((QueryPart(TEXT, "red"), QueryPart(IMAGE, media / "blue.png", -0.2)), k=8)
    assert not any(hit.is_query for hit in searcher.search(turned_from))


def test_a_score_means_the_same_whatever_a_filter_leaves(searcher: Searcher) -> None:
    scores = {hit.vector_id: hit.score for hit in searcher.search("red", k=15)}
    for where in ("year >= 2004", "modality = 'text'"):
        result = searcher.search("red", k=15, where=where)
        assert len(result) > 0
        assert {hit.vector_id: hit.score for hit in result} == {hit.vector_id: scores[hit.vector_id] for hit in result}


def test_hits_below_the_least_score_are_not_given(searcher: Searcher) -> None:
    everything = searcher.search("red", k=15, modalities=["image"])
    cut = everything[2].score
    kept = searcher.search(Query.text("red", k=15, modalities=["image"], min_score=cut))
    assert [hit.vector_id for hit in kept] == [hit.vector_id for hit in everything if hit.score >= cut]
    assert len(searcher.search(Query.text("red", min_score=1e6))) == 0


# ------------------------------------------------------------------------------------------------ filters


def test_a_filter_is_applied_before_the_cut_at_k(searcher: Searcher) -> None:
    result = searcher.search("red picture", k=2, where="year >= 2004")
    assert len(result) == 2
    assert all(hit.metadata["year"] >= 2004 for hit in result)  # type: ignore[operator]
    assert names(searcher.search("red", k=5, modalities=["image"], where="year = 2007")) == ["purple"]


def test_a_filter_that_nothing_passes_gives_no_hits_and_says_so(searcher: Searcher) -> None:
    result = searcher.search("red", where="year > 3000")
    assert (len(result), result.timings_ms["encode"]) == (0, None)
    assert "nothing that is searched passes --where 'year > 3000'" in result.warnings[0]


def test_a_filter_that_cannot_be_read_is_a_filter_error(searcher: Searcher) -> None:
    for where in ("nonsense_key = 1", "year >>> 3", "1; DROP TABLE items"):
        with pytest.raises(FilterError):
            searcher.search("red", where=where)


def test_options_given_to_search_replace_those_of_the_query(searcher: Searcher) -> None:
    query = Query.text("red", k=7, modalities=["image"], where="year > 2000")
    result = searcher.search(query, k=2, modalities=["text"], where="row_id = 't3'")
    assert names(result) == ["t3"]
    assert (result.query.k, query.k) == (2, 7)


# ---------------------------------------------------------------------------------------- combined queries


def test_parts_add_up_by_their_weights(searcher: Searcher) -> None:
    encoder = FakeEncoder()
    red, blue = encoder.encode_queries(["red", "blue"]).astype(np.float64)
    query = Query((QueryPart(TEXT, "red"), QueryPart(TEXT, "blue", -0.3)))
    expected = red - 0.3 * blue
    assert embed_query(query, encoder).vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert np.linalg.norm(embed_query(query, encoder).vector) == pytest.approx(1.0, abs=1e-6)
    mixed = Query((QueryPart(TEXT, "red"), QueryPart(TEXT, "blue")), modalities=frozenset({IMAGE}))
    between = "black"  # the fake encoder's black lies between red and blue
    assert set(names(searcher.search(mixed, k=3))) == {"red", "blue", between}
    without = Query((QueryPart(TEXT, "red"), parse_part("yellow", minus=True)), modalities=frozenset({IMAGE}))
    assert names(searcher.search(without, k=8))[-1] in ("yellow", "white")


def test_a_picture_and_words_ask_together(searcher: Searcher, media: Path) -> None:
    picture, words = QueryPart(IMAGE, media / "red.png"), QueryPart(TEXT, "blue", 0.9)
    together = searcher.search(Query((picture, words), k=8), modalities=["image"])
    alone = searcher.search(Query((picture,), k=8), modalities=["image"])
    assert names(together).index("blue") < names(alone).index("blue")
    assert names(together)[0] == names(alone)[0] == "red"


def test_parts_that_cancel_each_other_out_are_a_usage_error(searcher: Searcher) -> None:
    query = Query((QueryPart(TEXT, "red car"), QueryPart(TEXT, "red car", -1.0)))
    with pytest.raises(UsageError, match="'red car' and 'red car'; change a part or a weight"):
        searcher.search(query)


def test_only_a_minus_part_finds_what_is_least_like_it(searcher: Searcher) -> None:
    result = searcher.search(Query((QueryPart(TEXT, "red", -1.0),), k=8, modalities=frozenset({IMAGE})))
    assert names(result)[-1] == "red"


def test_a_long_sound_asks_with_the_mean_of_its_windows(tmp_path: Path) -> None:
    path = tone(tmp_path / "long.wav", (300, 8.0), (2_500, 10.0))
    encoder = FakeEncoder()
    vector = embed_query(Query((QueryPart(AUDIO, path),)), encoder).vector
    samples = soundfile.read(path, dtype="float32")[0]
    windows = [samples[:160_000], samples[128_000:288_000]]
    mean = encoder.encode_audio([encoder.prepare_audio(window) for window in windows]).mean(axis=0)
    assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)


def test_the_media_tokens_of_a_sound_are_those_of_its_first_window_however_long_it_is() -> None:
    seconds = np.arange(300 * 16_000, dtype=np.float32) / 16_000
    samples = np.sin(2 * np.pi * np.where(seconds < 10, 300, 2_500) * seconds).astype(np.float32)
    encoder = FakeEncoder()
    embedded = embed_query(Query((QueryPart(AUDIO, samples),)), encoder, with_tokens=True)
    _, tokens = encoder.encode_audio_with_tokens([encoder.prepare_audio(samples[:160_000])])
    assert embedded.tokens is not None and np.array_equal(embedded.tokens, tokens)
    assert embed_query(Query((QueryPart(AUDIO, samples),)), encoder).tokens is None


# ---------------------------------------------------------------------------------- what is missing or wrong


def test_an_empty_collection_finds_nothing_and_names_the_command_that_fills_it(tmp_path: Path) -> None:
    Collection.create(tmp_path / "c", EncoderIdentity("fake", "fake-1", 64)).close()
    with Searcher.open(tmp_path / "c") as searcher:
        result = searcher.search("red")
    assert len(result) == 0
    assert "the collection is empty; fill it: trimodal index PATH..." in result.warnings[0]


def test_a_modality_that_the_collection_lacks_is_warned_of(media: Path, tmp_path: Path) -> None:
    with Searcher.open(indexed(tmp_path / "c", media / "red.png")) as searcher:
        nothing = searcher.search("red", modalities=["audio"])
        assert (len(nothing), "holds no audio" in nothing.warnings[0]) == (0, True)
        some = searcher.search("red", modalities=["audio", "image"])
        assert names(some) == ["red"]
        assert "holds no audio" in some.warnings[0]
        assert searcher.search("red", rerank=False).warnings == ()


def test_a_modality_that_the_encoder_cannot_read_is_a_usage_error(home: Path, media: Path) -> None:
    class Deaf(FakeEncoder):
        modalities = frozenset({IMAGE, TEXT})

    with Searcher(Collection.open(home), Deaf()) as searcher:
        with pytest.raises(UsageError, match="model fake has no audio tower"):
            searcher.search("red", modalities=["audio"])
        with pytest.raises(ModelError, match="model fake has no audio tower"):
            searcher.search(Query((QueryPart(AUDIO, media / "low.wav"),)))


def test_another_encoder_than_the_one_that_made_it_is_refused(home: Path) -> None:
    class Other(FakeEncoder):
        spec = "other"
        fingerprint = "other-1"

    with Collection.open(home) as collection, pytest.raises(EncoderMismatch, match="--model fake"):
        Searcher(collection, Other())


def test_a_missing_collection_is_named_before_any_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CollectionMissing, match="trimodal index"):
        Searcher.open(tmp_path / "none", model="no such model")


def test_a_model_that_does_not_exist_closes_the_collection_and_says_so(home: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        Searcher.open(home, model="no/such/model")


def test_a_query_file_that_cannot_be_read_is_a_media_error_naming_it(searcher: Searcher, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    for kind, name in ((IMAGE, "bad.jpg"), (IMAGE, "gone.jpg"), (AUDIO, "gone.wav")):
        with pytest.raises(MediaError, match=name):
            searcher.search(Query((QueryPart(kind, tmp_path / name),)))


def test_limits_hold_for_query_files_too(home: Path, tmp_path: Path) -> None:
    Image.new("RGB", (400, 400), "red").save(tmp_path / "big.png")
    with (
        Searcher.open(home, limits=MediaLimits(max_megapixels=0.1)) as searcher,
        pytest.raises(MediaError, match="--max-megapixels"),
    ):
        searcher.search(Query((QueryPart(IMAGE, tmp_path / "big.png"),)))
    assert read_picture(tmp_path / "big.png", MediaLimits()).size == (400, 400)


def test_a_vector_that_is_not_finite_is_a_model_error(home: Path) -> None:
    class Broken(FakeEncoder):
        def encode_queries(self, texts: Sequence[str]) -> Embeddings:
            return np.full((len(texts), 64), np.nan, dtype=np.float32)

    with Searcher(Collection.open(home), Broken()) as searcher, pytest.raises(ModelError, match="is not finite"):
        searcher.search("red")


def test_a_damaged_index_file_is_worked_around_with_a_warning(media: Path, tmp_path: Path) -> None:
    where = indexed(tmp_path / "c", media / "all.jsonl")
    with Searcher.open(where) as searcher:
        expected = [hit.vector_id for hit in searcher.search("red")]
    index = where / "index.faiss"
    index.write_bytes(index.read_bytes()[:-40])
    with Searcher.open(where) as searcher:
        result = searcher.search("red")
    assert [hit.vector_id for hit in result] == expected
    assert any("index.faiss" in warning and "verify --repair" in warning for warning in result.warnings)


def test_removed_items_are_not_found(media: Path, tmp_path: Path) -> None:
    where = indexed(tmp_path / "c", media / "all.jsonl")
    with Collection.open(where, writable=True) as collection:
        assert collection.remove([str(media / "red.png")]) == 1
    with Searcher.open(where) as searcher:
        assert "red" not in names(searcher.search("red", k=15, modalities=["image"]))


def test_what_is_added_meanwhile_is_found_after_a_refresh(media: Path, tmp_path: Path) -> None:
    where = indexed(tmp_path / "c", media / "red.png")
    with Searcher.open(where) as searcher:
        assert names(searcher.search("blue")) == ["red"]
        with Collection.open(where, writable=True) as collection:
            build(collection, find_items([media / "blue.png"]), FakeEncoder())
        assert names(searcher.search("blue")) == ["red"]
        assert searcher.refresh()
        assert names(searcher.search("blue")) == ["blue", "red"]


def test_cohorts_are_read_once_and_are_the_present_ones_after_a_change_and_a_compaction(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = indexed(tmp_path / "c", media)

    def scores(searcher: Searcher) -> list[float | None]:
        return [hit.standard_score for hit in searcher.search("blue", k=15)]

    with Searcher.open(where) as searcher:
        before = scores(searcher)
        with monkeypatch.context() as patched:
            patched.setattr(type(searcher.collection.vectors), "get", None)  # a read would fail
            assert scores(searcher) == before
        with Collection.open(where, writable=True) as collection:
            assert collection.remove([str(media / "red.png"), str(media / "low.wav")]) == 2
        assert searcher.refresh()
        removed = scores(searcher)
        with Collection.open(where, writable=True) as collection:
            collection.compact()
        assert searcher.refresh()
        with Searcher.open(where) as fresh:
            assert removed != before and scores(searcher) == scores(fresh)


# ------------------------------------------------------------------------------------------------- imports


def test_nothing_of_retrieval_imports_torch_and_the_package_alone_imports_next_to_nothing() -> None:
    code = (
        "import sys, retrieval; heavy = {'numpy', 'faiss', 'sqlalchemy', 'PIL'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "import retrieval.search, retrieval.present;"
        "import retrieval.evaluation.report.text, retrieval.evaluation.report.folder;"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules;"
        "retrieval.Searcher, retrieval.Hit; assert 'Query' in dir(retrieval)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import retrieval

    with pytest.raises(AttributeError, match="Nothing"):
        _ = retrieval.Nothing
