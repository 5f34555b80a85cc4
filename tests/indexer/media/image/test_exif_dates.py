"""Dates as cameras and programs write them. Before, each of these but the first had no ``taken_at``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from indexer.limits import MediaLimits
from indexer.media.image.decode import open_picture
from indexer.media.image.exif_dates import taken_at


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2020:01:02 03:04:05", "2020-01-02T03:04:05"),
        ("2020-01-02 03:04:05", "2020-01-02T03:04:05"),
        ("2020/01/02 03:04:05", "2020-01-02T03:04:05"),
        ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05+00:00"),
        ("2020:01:02 03:04:05+0000", "2020-01-02T03:04:05+00:00"),
        ("2020:01:02 03:04:05 -03:30", "2020-01-02T03:04:05-03:30"),
        ("2020:01:02 03:04:05.123456", "2020-01-02T03:04:05"),
        ("2020:01:02 24:00:05", "2020-01-03T00:00:05"),
        ("2019:12:31 24:00:00", "2020-01-01T00:00:00"),
        ("2016:12:31 23:59:60", "2017-01-01T00:00:00"),
        ("2020:1:2 3:4:5", "2020-01-02T03:04:05"),
        ("2020:01:02 03:04", "2020-01-02T03:04:00"),
        ("2020:01:02", "2020-01-02T00:00:00"),
        ("2020:01:02 03:04:05 PM", "2020-01-02T15:04:05"),
        ("2020:01:02 03:04:05\0\0garbage", "2020-01-02T03:04:05"),
        ("  2020:01:02 03:04:05  ", "2020-01-02T03:04:05"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2020:02:30 00:00:00", None),
        ("2020:01:02 25:00:00", None),
        ("9999:12:31 24:00:00", None),
        ("yesterday", None),
        ("2020" * 100_000, None),
    ],
)
def test_a_date_is_read_in_the_forms_that_there_are(text: str, said: str | None) -> None:
    assert taken_at({}, {0x9003: text}) == said


def test_the_truest_date_that_can_be_read_counts_with_its_own_offset() -> None:
    day = "2020:01:0{} 00:00:00".format
    assert taken_at({0x0132: day(3)}, {0x9003: day(1), 0x9004: day(2)}) == "2020-01-01T00:00:00"
    assert taken_at({0x0132: day(3)}, {0x9003: "0000:00:00 00:00:00", 0x9004: day(2)}) == "2020-01-02T00:00:00"
    assert taken_at({0x0132: day(3)}, {}) == "2020-01-03T00:00:00"
    assert taken_at({}, {0x9004: day(2), 0x9012: "+0530"}) == "2020-01-02T00:00:00+05:30"
    assert taken_at({}, {0x9003: day(1), 0x9010: "-02:00"}) == "2020-01-01T00:00:00-02:00"
    assert taken_at({}, {0x9003: day(1), 0x9011: "+01:00", 0x9010: "-02:00"}) == "2020-01-01T00:00:00+01:00"
    assert taken_at({}, {0x9003: day(1), 0x9011: "   :  "}) == "2020-01-01T00:00:00"
    assert taken_at({}, {0x9003: b"2020:01:01 00:00:00\0"}) == "2020-01-01T00:00:00"
    assert taken_at({}, {0x9003: 7, 0x9004: None}) is None


def test_a_jpeg_that_has_only_the_date_of_digitisation_has_a_date(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0x9004: "2021-05-06 07:08:09", 0x9010: "+0200"}
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg", MediaLimits()).taken_at == "2021-05-06T07:08:09+02:00"
