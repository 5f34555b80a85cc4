"""The protocol of the benchmark, on hand-made vectors and on real files with the fake encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.fake import FakeEncoder
from indexer.errors import MediaError, ModelError
from indexer.items import Embeddings, Item, Modality
from indexer.limits import MediaLimits
from indexer.media.decode import decode
from retrieval.evaluation.datasets.benchmark import Benchmark, BenchmarkRow, load_benchmark
from retrieval.evaluation.directions import Comparison, comparisons
from retrieval.evaluation.encoding import EncodedBenchmark, encode_benchmark
from retrieval.evaluation.measure import measure
from retrieval.evaluation.results import BenchmarkResult, DirectionResult
from retrieval.evaluation.runner import run_benchmark

IMAGE, AUDIO, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.TEXT
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


# ------------------------------------------------------------------------------------ on hand-made vectors


def encoded(
    captions: Sequence[Sequence[str]],
    items: Mapping[Modality, Mapping[int, Sequence[Sequence[float]]]],
    vectors: Mapping[str, Sequence[float]],
) -> EncodedBenchmark:
    """Rows with these captions; items and caption wordings with these vectors."""
    rows = tuple(
        BenchmarkRow(str(i), {m: Item(f"{m}{i}", m, Path(f"{m}{i}")) for m in items if i in items[m]}, tuple(words))
        for i, words in enumerate(captions)
    )
    return EncodedBenchmark(
        Benchmark(Path("/m.jsonl"), "0" * 64, None, rows, ()),
        {m: {i: np.array(v, dtype=np.float32) for i, v in found.items()} for m, found in items.items()},
        {text: np.array(vector, dtype=np.float32) for text, vector in vectors.items()},
        (),
    )


def by_name(found: Sequence[Comparison]) -> dict[str, Comparison]:
    return {comparison.direction: comparison for comparison in found}


def relevant(comparison: Comparison) -> list[list[int]]:
    r = comparison.relevance
    return [r.candidates[a:b].tolist() for a, b in zip(r.offsets[:-1], r.offsets[1:], strict=True)]


def test_every_caption_asks_and_every_carrier_of_the_same_words_is_relevant() -> None:
    found = by_name(
        comparisons(
            encoded(
                [["a dog", "a pet"], ["a cat", "a pet", "a pet"], [], ["a dog"]],
                {IMAGE: {i: [[1, 0]] for i in range(4)}},
                {"a dog": [1, 0], "a pet": [0, 1], "a cat": [1, 1]},
            )
        )
    )
    assert list(found) == ["text->image", "image->text"]
    asks = found["text->image"]
    # a dog, a pet | a cat, a pet, a pet | | a dog; picture 2 has no captions and is a candidate all the same
    assert relevant(asks) == [[0, 3], [0, 1], [1], [0, 1], [0, 1], [0, 3]]
    assert asks.relevance.n_candidates == 4
    assert asks.query_vectors[:3].tolist() == [[1, 0], [0, 1], [1, 1]]
    assert asks.captions_per_item == pytest.approx(6 / 3)
    back = found["image->text"]
    assert back.relevance.n_candidates == 6
    # picture 0: a dog at 0 and 5, a pet at 1, 3, 4; picture 1: a cat, a pet; picture 3: a dog; 2 does not ask
    assert relevant(back) == [[0, 1, 3, 4, 5], [1, 2, 3, 4], [0, 5]]


def test_both_rates_are_given_and_differ_with_five_captions() -> None:
    words = [[f"{i} {j}" for j in range(5)] for i in range(2)]
    vectors = {text: [1.0, 0.0] if text in ("0 0", "1 0") else [0.0, 1.0] for row in words for text in row}
    result = measure(by_name(comparisons(encoded(words, {IMAGE: {0: [[1, 0]], 1: [[1, 0]]}}, vectors)))["image->text"])
    # both pictures see "0 0" and "1 0" first (a tie by index), then eight zeros by index
    assert result.hit_rate_at == {1: 0.5, 5: 1.0, 10: 1.0}
    assert result.recall_at == {1: pytest.approx(0.1), 5: pytest.approx((4 / 5 + 1 / 5) / 2), 10: 1.0}
    assert result.mrr == pytest.approx((1 + 1 / 2) / 2)
    assert result.captions_per_item == 5.0
    assert result.ci95["hit_rate_at_10"] == (1.0, 1.0)


def test_rows_with_a_picture_and_a_sound_are_compared_with_each_other() -> None:
    found = by_name(
        comparisons(
            encoded(
                [[], [], []],
                {IMAGE: {0: [[1, 0]], 1: [[0, 1]], 2: [[0, 1]]}, AUDIO: {0: [[1, 0]], 2: [[0, 1]]}},
                {},
            )
        )
    )
    assert list(found) == ["image->audio", "audio->image"]
    assert found["image->audio"].relevance.n_candidates == 2  # picture 1 has no sound and stays out
    assert relevant(found["audio->image"]) == [[0], [1]]
    assert measure(found["audio->image"]).hit_rate_at[1] == 1.0
    assert found["image->audio"].captions_per_item is None


def test_a_text_counts_by_its_best_passage() -> None:
    pool = encoded(
        [["first"], ["second"]],
        {TEXT: {0: [[0.6, 0.8]], 1: [[-1, 0], [1, 0]]}},
        {"first": [0, 1], "second": [1, 0]},
    )
    only = comparisons(pool)
    assert [comparison.direction for comparison in only] == ["text->text"]
    # by the mean of its passages, the second text would be nowhere
    assert measure(only[0]).hit_rate_at[1] == 1.0


def test_chance_is_what_a_random_order_gives() -> None:
    words = {text: [1.0, 0.0] for text in "xyz"}
    pool = encoded([["x"], ["y"], ["z"], ["x"]], {IMAGE: {i: [[1, 0]] for i in range(4)}}, words)
    chance = measure(by_name(comparisons(pool))["text->image"]).chance
    assert chance["hit_rate_at_1"] == pytest.approx((0.5 + 0.25 + 0.25 + 0.5) / 4)
    assert chance["recall_at_1"] == 0.25
    assert chance["hit_rate_at_10"] == chance["recall_at_10"] == 1.0


# ------------------------------------------------------------------------------------------ on real files


def picture(path: Path, colour: str) -> str:
    Image.new("RGB", (12, 9), colour).save(path)
    return path.name


def tone(path: Path, *hertz_and_seconds: tuple[float, float]) -> str:
    parts = [0.4 * np.sin(2 * np.pi * hz * np.arange(int(16_000 * s)) / 16_000) for hz, s in hertz_and_seconds]
    soundfile.write(path, np.concatenate(parts).astype(np.float32), 16_000)
    return path.name


def manifest(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pictures(folder: Path, n_captions: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "image": picture(folder / f"{colour}.png", colour),
            "captions": [f"{colour} picture {i}" for i in range(n_captions)],
        }
        for colour in COLOURS
    ]


def directions(result: BenchmarkResult) -> dict[str, DirectionResult]:
    return {found.direction: found for found in result.results}


def test_colours_are_found_both_ways_and_the_json_is_the_documented_one(tmp_path: Path) -> None:
    path = manifest(tmp_path, pictures(tmp_path))
    result = run_benchmark(load_benchmark(path), FakeEncoder())
    document = json.loads(json.dumps(result.to_json()))
    assert set(document) >= {"dataset", "items", "encoder", "reranker", "results"}
    assert document["items"] == {"image": 8, "audio": 0, "text": 0, "captions": 16}
    assert (document["encoder"], document["reranker"], document["skipped"]) == ("fake", None, [])
    assert document["captions_per_item"] == 2.0
    assert document["manifest"]["name"] == "captions.jsonl"
    assert len(document["manifest"]["sha256"]) == 64
    assert [row["direction"] for row in document["results"]] == ["text->image", "image->text"]
    there, back = document["results"]
    assert (there["n_queries"], there["n_candidates"], there["stage"]) == (16, 8, "dual")
    assert (back["n_queries"], back["n_candidates"]) == (8, 16)
    names = {f"{name}_at_{k}" for name in ("hit_rate", "recall") for k in (1, 5, 10)} | {"mrr"}
    assert names <= set(there)
    assert set(there["ci95"]) == names
    assert there["hit_rate_at_1"] == there["recall_at_1"] == 1.0
    assert (back["hit_rate_at_1"], back["recall_at_1"]) == (1.0, 0.5)
    assert there["chance"]["hit_rate_at_1"] == pytest.approx(1 / 8)
    assert document["seconds"] >= 0


def test_the_numbers_are_those_of_encoding_one_by_one_and_sorting(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(23):
        noise = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 30)).save(tmp_path / f"{i}.png")
        words = [" ".join(rng.choice(COLOURS, 2)) for _ in range(3)]  # many of them the same
        rows.append({"image": f"{i}.png", "captions": words})
    benchmark = load_benchmark(manifest(tmp_path, rows))
    encoder = FakeEncoder()
    result = directions(run_benchmark(benchmark, encoder, batch_size=4))

    items = [row.items[IMAGE] for row in benchmark.rows]
    prepared = [encoder.prepare_image(decode(item).segments[0].payload) for item in items]  # type: ignore[arg-type]
    images = np.concatenate([encoder.encode_images([one]) for one in prepared]).astype(np.float64)
    texts = [text for row in benchmark.rows for text in row.captions]
    asked = np.concatenate([encoder.encode_queries([text]) for text in texts]).astype(np.float64)
    cosines = np.round(asked @ images.T, 6)  # equal wordings are equal vectors; the rest differs by far more
    carriers = [[i for i, row in enumerate(benchmark.rows) if text in row.captions] for text in texts]
    occurrences = [[j for j, text in enumerate(texts) if text in row.captions] for row in benchmark.rows]
    for direction, similarity, wanted in (
        ("text->image", cosines, carriers),
        ("image->text", cosines.T, occurrences),
    ):
        for k in (1, 5, 10):
            hits, recalls = [], []
            for row, ids in zip(similarity, wanted, strict=True):
                top = sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]
                hits.append(bool(set(top) & set(ids)))
                recalls.append(len(set(top) & set(ids)) / len(ids))
            assert result[direction].hit_rate_at[k] == pytest.approx(np.mean(hits))
            assert result[direction].recall_at[k] == pytest.approx(np.mean(recalls))


def test_bad_files_are_left_out_of_both_pools_and_shift_no_row(tmp_path: Path) -> None:
    rows = pictures(tmp_path)
    (tmp_path / "red.png").write_bytes(b"not a picture at all")
    (tmp_path / "white.png").write_bytes((tmp_path / "white.png").read_bytes()[:40])
    result = run_benchmark(load_benchmark(manifest(tmp_path, rows)), FakeEncoder(), batch_size=2)
    assert [Path(skipped.path).name for skipped in result.skipped] == ["red.png", "white.png"]
    assert all(skipped.reason for skipped in result.skipped)
    there, back = directions(result)["text->image"], directions(result)["image->text"]
    assert (there.n_queries, there.n_candidates) == (12, 6)
    assert (back.n_queries, back.n_candidates) == (6, 12)
    assert there.hit_rate_at[1] == back.hit_rate_at[1] == 1.0
    assert result.items == {"image": 6, "audio": 0, "text": 0, "captions": 12}


def test_rows_of_the_manifest_that_cannot_be_used_are_among_the_skipped(tmp_path: Path) -> None:
    rows = [*pictures(tmp_path), {"image": "gone.png", "captions": ["gone"]}]
    result = run_benchmark(load_benchmark(manifest(tmp_path, rows)), FakeEncoder())
    assert ["captions.jsonl:9" in skipped.path for skipped in result.skipped] == [True]


def test_all_six_directions_and_passages_come_from_rows_that_hold_everything(tmp_path: Path) -> None:
    tones = {"red": 300.0, "green": 900.0, "blue": 2_500.0}
    rows = [
        {
            "image": picture(tmp_path / f"{colour}.png", colour),
            "audio": tone(tmp_path / f"{colour}.wav", (hz, 0.5)),
            "text": f"A long story of a {colour} house.",
            "captions": [f"{colour}"],
        }
        for colour, hz in tones.items()
    ]
    result = directions(run_benchmark(load_benchmark(manifest(tmp_path, rows)), FakeEncoder()))
    assert list(result) == [
        "text->image", "image->text", "text->audio", "audio->text", "image->audio", "audio->image", "text->text",
        "text->any", "image->any", "audio->any",
    ]  # fmt: skip
    assert {direction: found.hit_rate_at[1] for direction, found in result.items()} == dict.fromkeys(result, 1.0)
    assert {result[f"{kind}->any"].n_candidates for kind in ("text", "image", "audio")} == {9}


def test_a_long_sound_is_the_normalised_mean_of_its_windows(tmp_path: Path) -> None:
    path = manifest(tmp_path, [{"audio": tone(tmp_path / "a.wav", (300, 8.0), (2_500, 10.0)), "caption": "x"}])
    encoder = FakeEncoder()
    benchmark = load_benchmark(path)
    vector = encode_benchmark(benchmark, encoder).items[AUDIO][0]
    segments = decode(benchmark.rows[0].items[AUDIO]).segments
    assert len(segments) == 2
    windows = encoder.encode_audio([encoder.prepare_audio(segment.payload) for segment in segments])  # type: ignore[arg-type]
    mean = windows.mean(axis=0)
    assert vector.shape == (1, 64)
    assert vector[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_windows_are_those_that_the_sound_tower_covers(tmp_path: Path) -> None:
    class Short(FakeEncoder):
        window_s = 2.0

        def prepare_audio(self, window: NDArray[np.float32]) -> NDArray[Any]:
            heard.append(len(window) / 16_000)
            return super().prepare_audio(window)

    heard: list[float] = []
    path = manifest(tmp_path, [{"audio": tone(tmp_path / "a.wav", (300, 5.2)), "caption": "x"}])
    run_benchmark(load_benchmark(path), Short())
    assert sorted(heard) == pytest.approx([2.0, 2.0, 2.0])


def test_each_wording_of_a_caption_is_encoded_once_and_as_a_query(tmp_path: Path) -> None:
    class Counting(FakeEncoder):
        def encode_queries(self, texts: Sequence[str]) -> Embeddings:
            asked.extend(texts)
            return super().encode_passages(texts)

        def encode_passages(self, texts: Sequence[str]) -> Embeddings:
            stored.extend(texts)
            return super().encode_passages(texts)

    asked: list[str] = []
    stored: list[str] = []
    rows = [
        {"image": picture(tmp_path / "a.png", "red"), "captions": ["same", "same", "other"]},
        {"image": picture(tmp_path / "b.png", "blue"), "captions": ["same"], "text": "a document"},
    ]
    run_benchmark(load_benchmark(manifest(tmp_path, rows)), Counting(), batch_size=1)
    assert asked == ["same", "other"]
    assert stored == ["a document"]


def test_batches_of_any_size_and_any_number_of_workers_give_the_same_result(tmp_path: Path) -> None:
    rows = pictures(tmp_path, 1)
    rows += [{"audio": tone(tmp_path / f"{i}.wav", (200 + 300 * i, 1 + 3 * i)), "caption": f"{i}"} for i in range(5)]
    benchmark = load_benchmark(manifest(tmp_path, rows))

    def numbers(batch_size: int, workers: int) -> list[dict[str, Any]]:
        result = run_benchmark(benchmark, FakeEncoder(), batch_size=batch_size, workers=workers)
        return [found.to_json() for found in result.results]

    assert numbers(1, 1) == numbers(3, 2) == numbers(100, 4)


def test_progress_counts_every_stage_to_its_end(tmp_path: Path) -> None:
    rows = [*pictures(tmp_path, 1), {"audio": tone(tmp_path / "a.wav", (300, 0.5)), "caption": "low"}]
    seen: dict[str, list[tuple[int, int]]] = {}
    run_benchmark(
        load_benchmark(manifest(tmp_path, rows)),
        FakeEncoder(),
        batch_size=3,
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    assert list(seen) == ["image", "audio", "captions", "scores"]
    for steps in seen.values():
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_directions_without_a_tower_are_left_out_with_a_warning(tmp_path: Path) -> None:
    class Deaf(FakeEncoder):
        spec = "deaf"
        modalities = frozenset({IMAGE, TEXT})

    rows = [*pictures(tmp_path, 1), {"audio": tone(tmp_path / "a.wav", (300, 0.5)), "caption": "low"}]
    result = run_benchmark(load_benchmark(manifest(tmp_path, rows)), Deaf())
    assert list(directions(result)) == ["text->image", "image->text"]
    assert result.warnings == ("model deaf has no audio tower; directions with audio are left out",)
    assert directions(result)["text->image"].n_queries == 8  # the captions of the unread sound do not ask


def test_when_all_sounds_are_bad_the_pictures_are_measured_and_a_warning_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"junk")
    rows = [*pictures(tmp_path, 1), {"audio": "a.wav", "caption": "low"}]
    result = run_benchmark(load_benchmark(manifest(tmp_path, rows)), FakeEncoder())
    assert list(directions(result)) == ["text->image", "image->text"]
    assert result.warnings == ("none of the sounds could be read; their directions are left out",)
    assert len(result.skipped) == 1


def test_an_encoder_without_any_of_the_towers_is_a_model_error(tmp_path: Path) -> None:
    class Deaf(FakeEncoder):
        spec = "deaf"
        modalities = frozenset({IMAGE, TEXT})

    path = manifest(tmp_path, [{"audio": tone(tmp_path / "a.wav", (300, 0.5)), "caption": "low"}])
    with pytest.raises(ModelError, match="model deaf has no audio tower"):
        run_benchmark(load_benchmark(path), Deaf())


def test_when_nothing_could_be_read_the_error_names_the_manifest_and_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    path = manifest(tmp_path, [{"image": "a.png", "caption": "x"}])
    with pytest.raises(MediaError, match=r"captions\.jsonl: nothing is left to compare, 1 of its items .*a\.png"):
        run_benchmark(load_benchmark(path), FakeEncoder())


def test_one_item_whose_vector_is_not_finite_or_whose_preparation_fails_is_only_itself_skipped(
    tmp_path: Path,
) -> None:
    class Odd(FakeEncoder):
        def prepare_image(self, picture: Image.Image) -> NDArray[Any]:
            if picture.getpixel((0, 0)) == (0, 0, 255):
                raise RuntimeError("blue is too much\nfor me")
            return super().prepare_image(picture)

        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            vectors = super().encode_images(prepared)
            for row, pixels in enumerate(prepared):
                if float(np.min(pixels)) == 1.0:  # white
                    vectors[row] = np.nan
            return vectors

    result = run_benchmark(load_benchmark(manifest(tmp_path, pictures(tmp_path))), Odd(), batch_size=5)
    reasons = {Path(skipped.path).name: skipped.reason for skipped in result.skipped}
    assert reasons["blue.png"] == "cannot be read (RuntimeError: blue is too much for me)"
    assert "no finite vector" in reasons["white.png"]
    assert directions(result)["text->image"].hit_rate_at[1] == 1.0
    assert directions(result)["text->image"].n_candidates == 6


def test_a_text_tower_that_gives_nan_is_a_model_error(tmp_path: Path) -> None:
    class Broken(FakeEncoder):
        def encode_queries(self, texts: Sequence[str]) -> Embeddings:
            return np.full((len(texts), 64), np.nan, dtype=np.float32)

    with pytest.raises(ModelError, match="its vector of the caption 'red picture 0' is not finite"):
        run_benchmark(load_benchmark(manifest(tmp_path, pictures(tmp_path))), Broken())


def test_limits_reach_the_decoder(tmp_path: Path) -> None:
    rows = pictures(tmp_path, 1)
    Image.new("RGB", (400, 400), "red").save(tmp_path / "red.png")
    limits = replace(MediaLimits(), max_megapixels=0.1)
    result = run_benchmark(load_benchmark(manifest(tmp_path, rows)), FakeEncoder(), limits=limits)
    assert [Path(skipped.path).name for skipped in result.skipped] == ["red.png"]
    assert "--max-megapixels" in result.skipped[0].reason


def test_an_interrupt_stops_the_reading_and_leaves_no_threads(tmp_path: Path) -> None:
    import threading

    class Interrupted(FakeEncoder):
        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(load_benchmark(manifest(tmp_path, pictures(tmp_path))), Interrupted(), batch_size=2)
    assert threading.active_count() == before
