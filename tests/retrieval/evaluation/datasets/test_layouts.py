"""Benchmarks in their published layouts: what becomes a row, which split, and what is said of what is missing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from indexer.encoders.fake import FakeEncoder
from indexer.errors import ManifestError, TrimodalError, UsageError
from indexer.items import Modality
from retrieval.evaluation.datasets import LAYOUTS, open_dataset
from retrieval.evaluation.datasets.benchmark import Benchmark
from retrieval.evaluation.datasets.rows import read_csv
from retrieval.evaluation.runner import run_benchmark

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def opened(dataset: str, split: str | None = None, **more: Any) -> Benchmark:
    return open_dataset(dataset, split, cache=Path("never written"), **more)


def picture(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).save(path)


def sound(path: Path, hertz: float = 300.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(8_000) / 16_000)
    soundfile.write(path, wave.astype(np.float32), 16_000)


def karpathy(folder: Path, *, dataset: str = "coco", media: str = "images", n_captions: int = 5) -> Path:
    """Karpathy's JSON: every third picture is val, the rest test; COCO's pictures lie in val2014."""
    images = []
    for number, colour in enumerate(COLOURS):
        one: dict[str, Any] = {
            "filename": f"{number:04d}.png",
            "imgid": number,
            "split": ("val", "test", "test")[number % 3],
        }
        if dataset == "coco":
            one["filepath"] = "val2014"
        picture(folder / media / one.get("filepath", "") / one["filename"], colour)
        one["sentences"] = [{"raw": f" a {colour} picture {i} ", "tokens": [colour]} for i in range(n_captions)]
        images.append(one)
    path = folder / f"dataset_{dataset}.json"
    path.write_text(json.dumps({"dataset": dataset, "images": images}))
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


# ----------------------------------------------------------------------------------------------- Karpathy


def test_karpathys_test_split_has_every_sentence_as_a_caption(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    benchmark = opened(f"karpathy:{path}@{tmp_path / 'images'}")
    assert [row.row_id for row in benchmark.rows] == ["1", "2", "4", "5"]
    assert benchmark.rows[0].items[IMAGE].path == tmp_path / "images" / "val2014" / "0001.png"
    assert benchmark.rows[0].captions == tuple(f"a green picture {i}" for i in range(5))
    assert (benchmark.split, benchmark.layout) == ("test", "karpathy")
    assert benchmark.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert benchmark.name == f"{tmp_path.name}/dataset_coco.json@test"
    assert len(opened(f"karpathy:{path}", "val").rows) == 2


@pytest.mark.parametrize(("dataset", "media"), [("coco", "images"), ("coco", "."), ("flickr30k", "flickr30k-images")])
def test_a_folder_with_karpathys_file_is_enough(tmp_path: Path, dataset: str, media: str) -> None:
    path = karpathy(tmp_path, dataset=dataset, media=media)
    assert len(opened(f"{dataset}:{tmp_path}").rows) == len(opened(f"{dataset}:{path}").rows) == 4


def test_both_directions_of_karpathys_split_are_measured_by_the_protocol(tmp_path: Path) -> None:
    karpathy(tmp_path)
    result = run_benchmark(opened(f"coco:{tmp_path}"), FakeEncoder())
    there, back = result.results
    assert (there.direction, there.n_queries, there.n_candidates) == ("text->image", 20, 4)
    assert (back.direction, back.n_queries, back.n_candidates) == ("image->text", 4, 20)
    assert there.captions_per_item == 5.0
    assert there.hit_rate_at[1] == back.hit_rate_at[1] == 1.0
    assert back.recall_at[1] == pytest.approx(1 / 5)
    assert result.to_json()["manifest"]["layout"] == "karpathy"


def test_a_coco_test_split_that_is_not_the_5k_is_warned_of(tmp_path: Path) -> None:
    karpathy(tmp_path)
    assert opened(f"coco:{tmp_path}").warnings == ("this coco test split lists 4 pictures, the published one 5,000",)
    assert opened(f"coco:{tmp_path}", "val").warnings == ()


def test_a_missing_karpathy_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"dataset_coco\.json: does not exist; get it from https://cs\.stanford"):
        opened(f"coco:{tmp_path}")


def test_a_missing_picture_is_skipped_with_where_to_get_it_and_the_pool_is_warned_of(tmp_path: Path) -> None:
    karpathy(tmp_path)
    (tmp_path / "images" / "val2014" / "0002.png").unlink()
    benchmark = opened(f"coco:{tmp_path}")
    assert [row.row_id for row in benchmark.rows] == ["1", "4", "5"]
    assert [skip.path for skip in benchmark.skipped] == ["val2014/0002.png"]
    assert "does not exist; get it from http://images.cocodataset.org/zips/val2014.zip" in benchmark.skipped[0].reason
    assert "1 of 4 pictures are missing, so the pool is smaller than the published one" in benchmark.warnings[0]


def test_when_no_picture_is_there_the_error_names_the_first(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(
        ManifestError, match=r"none of its pictures is there; the first: val2014/0001\.png does not exist"
    ):
        opened(f"karpathy:{path}@{tmp_path / 'elsewhere'}")


def test_an_unknown_split_names_those_there_are(tmp_path: Path) -> None:
    karpathy(tmp_path)
    with pytest.raises(UsageError, match="has no split 'dev'; it has test, val"):
        opened(f"coco:{tmp_path}", "dev")


def test_a_file_name_that_leads_outside_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = karpathy(tmp_path / "coco")
    picture(tmp_path / "secret.png")
    document = json.loads(path.read_text())
    document["images"][1].update(filename="secret.png", filepath="../..")
    document["images"][2].update(filename=str(tmp_path / "secret.png"), filepath="")
    path.write_text(json.dumps(document))
    benchmark = opened(f"coco:{tmp_path / 'coco'}")
    assert [row.row_id for row in benchmark.rows] == ["4", "5"]
    assert len(benchmark.skipped) == 2


def test_a_file_that_is_listed_twice_is_skipped_the_second_time(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    document = json.loads(path.read_text())
    document["images"].append({**document["images"][1], "imgid": 99})
    path.write_text(json.dumps(document))
    benchmark = opened(f"coco:{tmp_path}")
    assert [row.row_id for row in benchmark.rows] == ["1", "2", "4", "5"]
    assert "is listed twice" in benchmark.skipped[0].reason


@pytest.mark.parametrize("content", ["[]", "{", '{"images": [{"id": 1}]}', '{"images": 3}', "{}"])
@pytest.mark.parametrize("layout", ["karpathy", "coco-captions"])
def test_a_json_that_is_something_else_is_one_stated_line(tmp_path: Path, layout: str, content: str) -> None:
    path = tmp_path / "captions_val2017.json"
    path.write_text(content)
    with pytest.raises(TrimodalError, match="get it (again )?from http") as raised:
        opened(f"{layout}:{path}")
    assert "\n" not in str(raised.value)


# --------------------------------------------------------------------------------------- COCO's own captions


def test_cocos_captions_are_gathered_by_picture(tmp_path: Path) -> None:
    for number in (7, 3):
        picture(tmp_path / "val2017" / f"{number:012d}.png")
    document = {
        "images": [{"id": number, "file_name": f"{number:012d}.png"} for number in (7, 3)],
        "annotations": [{"image_id": i % 2 * 4 + 3, "id": i, "caption": f"caption {i}\n"} for i in range(10)],
    }
    path = tmp_path / "annotations" / "captions_val2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    for dataset in (
        f"coco-captions:{path}",
        f"coco-captions:{path}@{tmp_path}",
        f"coco-captions:{path}@{tmp_path}/val2017",
    ):
        benchmark = opened(dataset)
        assert [row.row_id for row in benchmark.rows] == ["7", "3"]
        assert benchmark.rows[0].captions == tuple(f"caption {i}" for i in range(1, 10, 2))
    with pytest.raises(UsageError, match="is one split by itself"):
        opened(f"coco-captions:{path}", "test")


# ---------------------------------------------------------------------------------------------------- sounds


@pytest.mark.parametrize(
    "name",
    ["{id}.wav", "Y{id}.wav", "{id}_30.flac", "{id}_30_40.wav", "{id}_30000_40000.ogg", "Y{id}_30.000_40.000.wav",
     "1001.wav", "1003.wav", "deeper/{id}.wav"],
)  # fmt: skip
def test_audiocaps_clips_are_found_under_the_usual_names(tmp_path: Path, name: str) -> None:
    rows = [
        {"audiocap_id": 1000 + i, "youtube_id": "-a_B", "start_time": 30, "caption": f"a tone, {i}"} for i in range(5)
    ]
    path = write_csv(tmp_path / "test.csv", rows)
    sound(tmp_path / "audio" / name.format(id="-a_B"))
    benchmark = opened(f"audiocaps:{path}@{tmp_path / 'audio'}")
    assert [row.captions for row in benchmark.rows] == [tuple(f"a tone, {i}" for i in range(5))]
    assert benchmark.rows[0].items[AUDIO].path.parent.is_relative_to(tmp_path / "audio")
    assert opened(f"audiocaps:{tmp_path}").rows[0].captions == benchmark.rows[0].captions


def test_two_clips_of_one_film_are_two_items(tmp_path: Path) -> None:
    rows = [
        {"audiocap_id": i, "youtube_id": "x", "start_time": start, "caption": f"{start}"}
        for i, start in enumerate((0, 30, 0))
    ]
    path = write_csv(tmp_path / "val.csv", rows)
    for start in (0, 30):
        sound(tmp_path / f"x_{start}.wav")
    benchmark = opened(f"audiocaps:{tmp_path}", "val")
    assert [row.captions for row in benchmark.rows] == [("0", "0"), ("30",)]
    with pytest.raises(UsageError, match="is one split by itself"):
        opened(f"audiocaps:{path}", "val")


def test_missing_clips_and_columns_are_named(tmp_path: Path) -> None:
    rows = [{"audiocap_id": 1, "youtube_id": name, "start_time": 0, "caption": name} for name in ("here", "gone")]
    path = write_csv(tmp_path / "test.csv", rows)
    sound(tmp_path / "here.wav")
    benchmark = opened(f"audiocaps:{path}")
    assert [skip.path for skip in benchmark.skipped] == ["gone.wav"]
    assert "does not exist; get it from https://github.com/cdjkim/audiocaps" in benchmark.skipped[0].reason
    write_csv(path, [{"id": 1, "text": "x"}])
    with pytest.raises(ManifestError, match="has no column audiocap_id, youtube_id, start_time, caption"):
        opened(f"audiocaps:{path}")


def test_clothos_five_captions_and_its_folders(tmp_path: Path) -> None:
    names = [f"clip, {i}.wav" for i in range(3)]
    rows = [{"file_name": name, **{f"caption_{i}": f"{name} {i}" for i in range(1, 6)}} for name in names]
    path = write_csv(tmp_path / "clotho_captions_evaluation.csv", rows)
    for name in names:
        sound(tmp_path / "evaluation" / name)
    for dataset in (f"clotho:{tmp_path}", f"clotho:{path}", f"clotho:{path}@{tmp_path / 'evaluation'}"):
        benchmark = opened(dataset)
        assert len(benchmark.rows) == 3
        assert benchmark.rows[1].captions == tuple(f"{names[1]} {i}" for i in range(1, 6))
    there, back = run_benchmark(benchmark, FakeEncoder()).results
    assert (there.direction, there.n_queries, there.n_candidates) == ("text->audio", 15, 3)
    assert (back.direction, back.n_queries, back.n_candidates) == ("audio->text", 3, 15)
    with pytest.raises(
        ManifestError, match=r"clotho_captions_validation\.csv: does not exist; get it from https://zenodo"
    ):
        opened(f"clotho:{tmp_path}", "validation")


# ------------------------------------------------------------------------------------------------ WebDataset


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_tar_of_pictures_and_captions_is_measured_and_unpacked_once(tmp_path: Path) -> None:
    members = [
        ("0001.png", png("red")),
        ("0001.txt", b"a red one\nred again\n"),
        ("a/0002.json", json.dumps({"captions": ["a blue one", 3]}).encode()),
        ("a/0002.png", png("blue")),
        ("0003.txt", b"words of nothing"),
        ("../../0004.png", png("green")),
        ("../../0004.json", b'{"caption": "a green one"}'),
    ]
    path = tar(tmp_path / "00000.tar", members)
    cache = tmp_path / "cache"
    benchmark = open_dataset(f"webdataset:{path}", cache=cache)
    assert [row.row_id for row in benchmark.rows] == ["0001", "a/0002", "../../0004"]
    assert [row.captions for row in benchmark.rows] == [("a red one", "red again"), ("a blue one",), ("a green one",)]
    files = sorted(found for found in tmp_path.rglob("*.png"))
    assert len(files) == 3
    assert all(found.is_relative_to(cache) for found in files)
    assert run_benchmark(benchmark, FakeEncoder()).results[0].hit_rate_at[1] == 1.0
    before = {found: found.stat().st_mtime_ns for found in files}
    again = open_dataset(f"webdataset:{path}", cache=cache)
    assert [row.items[IMAGE].path for row in again.rows] == [row.items[IMAGE].path for row in benchmark.rows]
    assert {found: found.stat().st_mtime_ns for found in files} == before


def test_shards_of_a_folder_are_one_benchmark(tmp_path: Path) -> None:
    for number, colour in enumerate(("red", "blue")):
        tar(tmp_path / f"{number}.tar", [("x.png", png(colour)), ("x.txt", colour.encode())])
    benchmark = open_dataset(f"webdataset:{tmp_path}", cache=tmp_path / "cache")
    assert [row.captions for row in benchmark.rows] == [("red",), ("blue",)]
    assert len({row.items[IMAGE].path for row in benchmark.rows}) == 2


def test_a_cut_tar_and_one_without_captions_are_stated_errors(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", png("red")), ("1.txt", b"x")])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ManifestError, match=r"a\.tar: is no whole tar"):
        open_dataset(f"webdataset:{path}", cache=tmp_path / "cache")
    tar(path, [("1.png", png("red"))])
    with pytest.raises(UsageError, match=r"nothing to compare; give samples a \.txt or \.json"):
        open_dataset(f"webdataset:{path}", cache=tmp_path / "cache")
    with pytest.raises(ManifestError, match="cannot be read"):
        open_dataset(f"webdataset:{tmp_path / 'none.tar'}", cache=tmp_path / "cache")


# --------------------------------------------------------------------------------------------- how it is named


def test_without_a_layout_it_is_a_manifest_as_before(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = tmp_path / "m:1.jsonl"
    path.write_text('{"image": "a.png", "captions": ["red"]}\n')
    assert opened(str(path)).layout == "manifest"
    with pytest.raises(ManifestError, match="does not exist"):
        opened(str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("name", ["dataset_coco.json", "0.tar", ""])
def test_a_published_file_without_its_layout_is_told_how_to_name_it(tmp_path: Path, name: str) -> None:
    karpathy(tmp_path)
    with pytest.raises((ManifestError, UsageError), match="name the layout, LAYOUT:PATH [(]coco, flickr30k, karpathy"):
        opened(str(tmp_path / name))


def test_the_command_measures_a_layout_and_the_second_time_from_the_cache(tmp_path: Path) -> None:
    karpathy(tmp_path / "coco")

    def bench(*more: str) -> dict[str, Any]:
        code = "from trimodal.cli import app; app()"
        done = subprocess.run(
            [sys.executable, "-c", code, "bench", f"coco:{tmp_path / 'coco'}", "--model", "fake", "--json", *more],
            capture_output=True, text=True, check=True, env={**os.environ, "TRIMODAL_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    first, second, third = bench("--ann"), bench("--rerank-depth", "2"), bench("--no-cache")
    assert first["dataset"] == "coco/dataset_coco.json@test"
    assert [one["recall_at_1"] for one in first["ann"]] == [1.0, 1.0]
    logits = first["cache"]["logits"]  # what one direction judged, the other one finds
    assert logits["computed"] > 0 and logits["found"] <= logits["computed"] and first["cache"]["image"]["found"] == 0
    assert {kind: counts["computed"] for kind, counts in second["cache"].items()} == dict.fromkeys(first["cache"], 0)
    assert third["cache"] is None
    assert [one["hit_rate_at_1"] for one in first["results"]] == [one["hit_rate_at_1"] for one in third["results"]]


def test_an_unknown_layout_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="nocaps is no layout; known are coco, flickr30k") as raised:
        opened("nocaps:/data")
    assert all(layout in str(raised.value) for layout in LAYOUTS)
    with pytest.raises(UsageError, match="write coco:PATH"):
        opened("coco:")


def test_an_at_in_a_path_that_is_there_is_part_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "me@home"
    karpathy(folder)
    assert len(opened(f"coco:{folder}").rows) == 4
    assert len(opened(f"karpathy:{folder}/dataset_coco.json@{folder}/images").rows) == 4
    with pytest.raises(UsageError, match="is no folder; give the folder of the media after @"):
        opened(f"karpathy:{folder}/dataset_coco.json@{tmp_path}/none")


def test_templates_are_for_classes_only(tmp_path: Path) -> None:
    karpathy(tmp_path)
    for dataset in (f"coco:{tmp_path}", "m.jsonl"):
        with pytest.raises(UsageError, match="--template is for classes:FOLDER"):
            opened(dataset, templates=["a {}."])


def test_the_demo_in_cocos_layout_is_read_as_coco_is(tmp_path: Path) -> None:
    import demo_coco

    assert demo_coco.main(["--out", str(tmp_path)]) == 0
    benchmark = opened(f"coco:{tmp_path}")
    assert (len(benchmark.rows), len(opened(f"coco:{tmp_path}", "val").rows)) == (232, 59)
    assert {len(row.captions) for row in benchmark.rows} == {5} and not benchmark.skipped


def test_an_id_of_coco_that_is_a_list_is_named(tmp_path: Path) -> None:
    document = {"images": [{"id": [1], "file_name": "a.jpg"}], "annotations": []}
    (tmp_path / "captions_val2017.json").write_text(json.dumps(document))
    with pytest.raises(ManifestError, match="is none of COCO's caption files"):
        open_dataset(f"coco-captions:{tmp_path / 'captions_val2017.json'}", cache=tmp_path / "cache")


@pytest.mark.parametrize("ends", ["\n", "\r", "\r\n"])
def test_a_csv_of_captions_is_read_with_any_line_ends(ends: str, tmp_path: Path) -> None:
    lines = ["file_name,caption_1", "a.wav,rain \u2028 on a roof", "b.wav,a dog"]
    (tmp_path / "clotho_captions_evaluation.csv").write_bytes(ends.join(lines).encode())
    rows, _ = read_csv(tmp_path / "clotho_captions_evaluation.csv", ("file_name", "caption_1"), "there")
    assert [row["caption_1"] for row in rows] == ["rain \u2028 on a roof", "a dog"]


def test_an_unclosed_quote_in_a_csv_of_captions_is_named(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('file_name,caption_1\na.wav,"rain\nb.wav,a dog\n')
    with pytest.raises(ManifestError, match="line 2 opens a quote that is never closed"):
        read_csv(path, ("file_name", "caption_1"), "there")
