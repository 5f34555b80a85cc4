"""What one file may cost: memory by what comes out of it, and time. Every input is made here, small by its bytes."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from bad_files import sound_bytes, sound_samples, svg_bytes
from paths import ROOT
from PIL import Image
from pyarrow import parquet
from small_media import new_collection, snapshot
from typer.testing import CliRunner

import indexer.corpus.manifest
import indexer.corpus.parquet_process
import indexer.corpus.tables
from cli import app
from indexer.build.run import build
from indexer.corpus.manifest import read_manifest
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.errors import ManifestError, MediaError
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.audio.decode import open_sound, read_sound, sound_windows
from indexer.media.decode import decode, decode_parts
from indexer.media.image import shrink
from indexer.media.image.decode import MAX_SIDE_PX, open_picture, read_picture
from indexer.media.text.decode import passages
from retrieval.query import parse_part

LIMITS = MediaLimits()
RATE = 16_000


def most_memory_mb(program: str, *arguments: Path) -> float:
    """What ``program`` takes at the most in a process of its own, beyond what is taken when ``start()`` is called."""
    around = f"""
import resource, sys
from pathlib import Path
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def start():
    global before
    before = most()
{program}
print(most() - before)
"""
    command = [sys.executable, "-c", around, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.splitlines()[-1])


def scans_jpeg(scans: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    file = io.BytesIO()
    Image.new("RGB", size, (9, 99, 200)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (scans - whole.count(b"\xff\xda")) + whole[-2:]


class TestLongSounds:
    """Cut, prepared and encoded while they are decoded."""

    @pytest.mark.parametrize(
        ("name", "format", "subtype", "rate_hz", "loudness"),
        [
            ("a.flac", "FLAC", "PCM_16", 44_100, 1.0),
            ("a.wav", "WAV", "FLOAT", 16_000, 1.0),
            ("a.wav", "WAV", "FLOAT", 11_025, 300.0),
            ("a.ogg", "OGG", "VORBIS", 48_000, 1.0),
            ("a.mp3", "MP3", "MPEG_LAYER_III", 44_100, 2.4),
        ],
    )
    def test_windows_of_a_sound_that_is_decoded_twice_are_those_of_the_whole(
        self, tmp_path: Path, name: str, format: str, subtype: str, rate_hz: int, loudness: float
    ) -> None:
        samples = sound_samples(21.3, rate_hz) * loudness
        soundfile.write(tmp_path / name, samples, rate_hz, format=format, subtype=subtype)
        whole, duration_s = read_sound(tmp_path / name, LIMITS)
        streamed = open_sound(tmp_path / name, LIMITS, keep_s=5)
        windows = list(streamed.windows)
        expected = sound_windows(whole, LIMITS)
        assert streamed.duration_s == duration_s
        assert [window[:2] for window in windows] == [window[:2] for window in expected]
        for found, wanted in zip(windows, expected, strict=True):
            np.testing.assert_array_equal(found[2], wanted[2])

    def test_the_parts_of_an_item_are_its_segments_in_order_and_only_the_last_is_the_last(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(sound_bytes(seconds=150))
        item = Item(str(path), Modality.AUDIO, path)
        parts, whole = list(decode_parts(item)), decode(item)
        assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True] and len(parts) > 1
        assert [one.segment for part in parts for one in part.segments] == [one.segment for one in whole.segments]
        assert whole.facts == {"duration_s": 150.0}

    def test_a_long_sound_among_others_is_stored_as_if_it_were_whole(self, tmp_path: Path) -> None:
        media = tmp_path / "media"
        media.mkdir()
        for seed, seconds in enumerate((3, 150, 3)):
            (media / f"{seed}.wav").write_bytes(sound_bytes(seconds=seconds, seed=seed))
        with new_collection(tmp_path / "c") as collection:
            report = build(collection, find_items([media]), FakeEncoder(), batch_size=4)
            held = snapshot(collection)
        assert (report.added, report.segments, report.skipped) == (3, 21, [])
        encoder = FakeEncoder()
        windows = sound_windows(read_sound(media / "1.wav", LIMITS)[0], LIMITS)
        wanted = encoder.encode_audio([encoder.prepare_audio(window) for _, _, window in windows])
        stored = np.frombuffer(held[str(media / "1.wav")][2], dtype=np.float32).reshape(wanted.shape)
        np.testing.assert_allclose(stored, wanted, atol=1e-6)

    def test_a_long_sound_that_is_cut_short_is_skipped_and_harms_no_other(self, tmp_path: Path) -> None:
        media = tmp_path / "media"
        media.mkdir()
        whole = sound_bytes("FLAC", "PCM_16", seconds=150)
        (media / "0.flac").write_bytes(sound_bytes("FLAC", "PCM_16", seed=1))
        (media / "1.flac").write_bytes(whole[: len(whole) * 9 // 10])
        (media / "2.flac").write_bytes(sound_bytes("FLAC", "PCM_16", seed=2))
        with new_collection(tmp_path / "c") as collection:
            report = build(collection, find_items([media]), FakeEncoder(), batch_size=4)
            held = snapshot(collection)
        assert [skip.path for skip in report.skipped] == [str(media / "1.flac")]
        assert sorted(Path(key).name for key in held) == ["0.flac", "2.flac"]

    def test_an_hour_of_silence_takes_no_more_memory_than_ten_minutes(self, tmp_path: Path) -> None:
        path = tmp_path / "a.flac"
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for _ in range(60):
                file.write(np.zeros(60 * RATE, np.int16))
        assert path.stat().st_size < 1_000_000
        program = """
from indexer.items import Item, Modality
from indexer.media.decode import decode_parts
path = Path(sys.argv[1])
start()
print(sum(len(part.segments) for part in decode_parts(Item("a", Modality.AUDIO, path))))
"""
        assert most_memory_mb(program, path) < 110  # as a whole it is 230 MB

    def test_a_sound_that_takes_too_long_is_refused_with_the_flag(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(sound_bytes(seconds=60))
        with pytest.raises(MediaError, match=r"over the 1e-06 s limit for every ten minutes; .* raise --max-seconds"):
            read_sound(tmp_path / "a.wav", MediaLimits(max_seconds=1e-6))


class TestPictures:
    """By what decoding them takes."""

    @pytest.mark.parametrize(
        "size", [(2049, 300), (2100, 1), (1, 5000), (3000, 700), (700, 3000), (13_000, 200), (200, 13_000)]
    )
    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA", "CMYK"])
    def test_a_picture_that_is_shrunk_in_tiles_is_the_one_that_pillow_shrinks(
        self, size: tuple[int, int], mode: str
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
        noise = noise if mode in ("RGBA", "LA") else noise[..., :3]
        picture = Image.fromarray(noise).convert(mode)
        wanted = picture.convert({"1": "L", "L": "L", "RGBA": "RGBA", "LA": "RGBA"}.get(mode, "RGB"))
        wanted.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=3.0)
        found = shrink.eight_bits(picture, MAX_SIDE_PX)
        assert (found.mode, found.size) == (wanted.mode, wanted.size)
        assert found.tobytes() == wanted.tobytes()

    def test_a_picture_too_large_to_be_scaled_as_a_whole_is_shrunk_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
        whole = shrink.eight_bits(Image.fromarray(noise), MAX_SIDE_PX)
        monkeypatch.setattr(shrink, "_WHOLE_PX", 0)
        assert shrink.eight_bits(Image.fromarray(noise), MAX_SIDE_PX).tobytes() == whole.tobytes()

    def test_a_tiff_of_floats_takes_little_more_than_its_pixels(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        Image.fromarray(np.full((5000, 5000), 0.5, np.float32)).save(path, compression="tiff_adobe_deflate")
        assert path.stat().st_size < 200_000
        program = """
from PIL import TiffImagePlugin
from indexer.limits import MediaLimits
from indexer.media.image.decode import read_picture
start()
assert read_picture(Path(sys.argv[1]), MediaLimits()).getpixel((9, 9)) == (128, 128, 128)
"""
        assert most_memory_mb(program, path) < 260  # 100 MB of pixels, 100 MB of grey; it took 600 MB

    @pytest.mark.parametrize(
        ("name", "mode", "options"),
        [
            ("a.png", "RGBA", {}),
            ("a.webp", "RGB", {}),
            ("a.avif", "RGB", {"speed": 10}),
            ("a.tif", "CMYK", {"compression": "tiff_lzw"}),
            ("a.tif", "L", {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 2000}}),
            ("a.jpg", "RGB", {"progressive": True}),
            ("a.bmp", "RGB", {}),
        ],
    )
    def test_one_that_takes_more_memory_than_a_file_may_is_refused_with_the_flag(
        self, tmp_path: Path, name: str, mode: str, options: dict[str, object]
    ) -> None:
        Image.new(mode, (2000, 2000)).save(tmp_path / name, **options)
        with pytest.raises(MediaError, match=r"MB of memory to read, over the 5 MB limit; .*raise --max-decoded-mb"):
            read_picture(tmp_path / name, MediaLimits(max_decoded_mb=5))
        assert read_picture(tmp_path / name, LIMITS).size == (2000, 2000)

    def test_the_memory_is_asked_for_before_it_is_taken(self, tmp_path: Path) -> None:
        Image.new("RGB", (1000, 1000)).save(tmp_path / "a.png")
        asked: list[int] = []
        open_picture(tmp_path / "a.png", LIMITS, asked.append)
        assert asked and 4_000_000 < asked[0] < 12_000_000

    def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(scans_jpeg(5000))
        with pytest.raises(MediaError, match=r"over 100 scans, more than the 20 s limit allows; .*raise --max-seconds"):
            read_picture(tmp_path / "a.jpg", LIMITS)
        (tmp_path / "b.jpg").write_bytes(scans_jpeg(100))
        assert read_picture(tmp_path / "b.jpg", LIMITS).size == (64, 48)

    def test_scans_of_a_film_behind_a_jpeg_are_not_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(scans_jpeg(10) + b"\xff\xda\0\0" * 50_000)
        assert read_picture(tmp_path / "a.jpg", LIMITS).size == (64, 48)

    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.webp", "a.bmp", "a.ppm"])
    def test_one_that_takes_too_long_is_refused_with_the_flag(self, tmp_path: Path, name: str) -> None:
        Image.new("RGB", (600, 600)).save(tmp_path / name)
        with pytest.raises(MediaError, match=r"--max-seconds"):
            read_picture(tmp_path / name, MediaLimits(max_seconds=1e-9))

    def test_a_tiff_whose_strips_are_all_the_same_bytes_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        noise = np.random.default_rng(0).integers(0, 256, (2000, 2000), dtype=np.uint8)
        Image.fromarray(noise).save(path, compression="tiff_lzw", tiffinfo={278: 1})
        raw = bytearray(path.read_bytes())
        with Image.open(path) as tiff:
            counts = tiff.tag_v2[279]
        at = raw.index(np.array(counts[:50], "<u2").tobytes())
        raw[at : at + 2 * len(counts)] = np.full(len(counts), 60_000, "<u2").tobytes()
        path.write_bytes(raw)
        with pytest.raises(MediaError, match="is a TIFF picture whose strips overlap; save it again"):
            read_picture(path, LIMITS)

    def test_numbers_in_a_drawing_are_read_in_a_time_that_grows_with_their_length(self, tmp_path: Path) -> None:
        pytest.importorskip("resvg_py")
        started = time.thread_time()
        for width in ("1" * 1_000_000 + "x", "1" + " " * 1_000_000 + "x"):
            (tmp_path / "a.svg").write_bytes(svg_bytes("<rect/>", size=f'width="{width}" viewBox="0 0 4 3"'))
            with pytest.raises(MediaError):
                read_picture(tmp_path / "a.svg", MediaLimits(max_seconds=1e-9))
        assert time.thread_time() - started < 5


class TestTexts:
    """Cut in linear time."""

    @pytest.mark.parametrize(
        "text",
        ["." * 1_000_000, ".'" * 500_000, ". " * 500_000, "\n " * 500_000, "." + ")" * 1_000_000, "。" * 1_000_000],
    )
    def test_a_text_of_marks_alone_takes_a_time_that_grows_with_its_length(self, text: str) -> None:
        started = time.thread_time()
        found = passages(text, LIMITS)
        assert time.thread_time() - started < 5  # it was 9 s for the dots, and is 0.1 s
        assert "".join("".join(found).split()) == "".join(text.split())

    def test_white_space_of_a_paragraph_over_many_blocks_becomes_single_spaces(self) -> None:
        text = "a" + " " * 70_000 + "b" * 70_000 + "\n" + "c d  " * 30_000
        assert " ".join(passages(text, MediaLimits(passage_chars=10**9))) == " ".join(text.split())

    def test_one_that_takes_too_long_or_too_much_memory_is_refused_with_the_flag(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("😀 " + "ab " * 1_000_000)
        item = Item(str(path), Modality.TEXT, path)
        with pytest.raises(MediaError, match=r"over the 1e-09 s limit; .* raise --max-seconds"):
            decode(item, MediaLimits(max_seconds=1e-9))
        with pytest.raises(
            MediaError, match=r"takes 39 MB of memory to read, over the 30 MB limit; .*--max-decoded-mb"
        ):
            decode(item, MediaLimits(max_decoded_mb=30))

    def test_a_weight_of_a_million_digits_is_refused_at_once(self) -> None:
        started = time.thread_time()
        assert parse_part("-" + "1" * 1_000_000 + "x").value == "-" + "1" * 1_000_000 + "x"
        assert time.thread_time() - started < 5


class TestTables:
    """By what their rows take."""

    def test_a_text_that_a_dictionary_holds_once_counts_for_every_row(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(indexer.corpus.manifest, "TABLE_BYTES", 5_000_000)
        path = tmp_path / "m.parquet"
        parquet.write_table(pa.table({"text": ["x" * 100_000] * 1024}), path, compression="zstd")
        assert path.stat().st_size < 10_000
        with pytest.raises(ManifestError, match=r"its rows up to 50 take over 0\.0 GB of memory, the limit of a table"):
            read_manifest(path)

    def test_a_row_that_is_too_large_is_lost_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "m.parquet"
        parquet.write_table(pa.table({"text": ["one", "x" * 17_000_000, "three"]}), path, compression="zstd")
        manifest = read_manifest(path)
        assert [row.text for row in manifest.rows] == ["one", "three"]
        assert [(skip.path, skip.reason) for skip in manifest.skipped] == [
            (f"{path}:2", "takes 17 MB, over the 16 MB limit of a row; shorten it")
        ]

    def test_a_list_of_millions_of_nothings_is_a_row_that_is_lost_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "m.parquet"
        schema = pa.schema({"text": pa.string(), "captions": pa.list_(pa.string())})
        rows = {"text": ["one", "two"], "captions": [[None] * 1_000_000, ["good"]]}
        parquet.write_table(pa.table(rows, schema=schema), path)
        assert path.stat().st_size < 5_000
        manifest = read_manifest(path)
        assert [(row.text, row.captions) for row in manifest.rows] == [("two", ("good",))]

    def test_a_page_that_unfolds_beyond_the_memory_of_a_table_loses_the_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not Path("/proc/self/statm").exists():
            pytest.skip("the limit is the system's")
        monkeypatch.setattr(indexer.corpus.parquet_process, "TABLE_BYTES", 60_000_000)
        path = tmp_path / "m.parquet"
        table = pa.table({"text": ["x" * 120_000_000]})
        parquet.write_table(table, path, compression="zstd", use_dictionary=False)
        with pytest.raises(ManifestError, match=r"takes over 0\.06 GB of memory( or 120 s)? to read; split it"):
            read_manifest(path)

    def test_a_quote_that_is_never_closed_costs_its_row_and_not_the_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(indexer.corpus.tables, "MAX_LINE_BYTES", 1000)
        lines = ["text,year", "one,1", '"two,2', *["more,0"] * 300, "last,3"]
        (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
        manifest = read_manifest(tmp_path / "m.csv")
        assert manifest.rows[0].text == "one" and manifest.rows[-1].text == "last"
        assert manifest.skipped[0].path.endswith("m.csv:3") and "a row of over" in manifest.skipped[0].reason

    def test_more_columns_than_anyone_has_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("text," + ",".join(f"c{n}" for n in range(10_000)) + "\nwords" + "," * 10_000)
        with pytest.raises(ManifestError, match=r"has 10,001 columns, over the limit of 10,000; leave some out"):
            read_manifest(tmp_path / "m.csv")


def test_the_limits_are_options_of_index_and_a_file_over_one_is_skipped_alone(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "scans.jpg").write_bytes(scans_jpeg(90))
    (media / "large.png").write_bytes(b"")
    Image.new("RGB", (1500, 1500)).save(media / "large.png")
    (media / "good.txt").write_text("words")
    arguments = ["index", str(media), "-c", str(tmp_path / "c"), "--model", "fake", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--max-seconds", "10", "--max-decoded-mb", "5"])
    assert done.exit_code == 0, done.output
    assert '"added": 1' in done.stdout
    assert "over 50 scans, more than the 10 s limit allows; save it again or raise --max-seconds" in done.stdout
    assert "over the 5 MB limit; make it smaller or raise --max-decoded-mb" in done.stdout
