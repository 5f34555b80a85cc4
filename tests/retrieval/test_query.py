"""What a query accepts, and what it says about what it does not."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer.errors import UsageError
from indexer.items import Modality
from retrieval import query as query_module
from retrieval.query import Query, QueryPart, build_query, parse_modalities, parse_part


def test_the_example_in_the_docstring_is_true() -> None:
    result = doctest.testmod(query_module)
    assert (result.attempted, result.failed) == (2, 0)


@pytest.mark.parametrize(
    ("spec", "kind", "value", "weight"),
    [
        ("snow", "text", "snow", 1.0),
        ("0.5:snow at night", "text", "snow at night", 0.5),
        (".5:snow", "text", "snow", 0.5),
        ("2:snow", "text", "snow", 2.0),
        ("2: 3 dogs", "text", "3 dogs", 2.0),
        ("0.5:3 dogs", "text", "3 dogs", 0.5),
        ("9:30 train", "text", "9:30 train", 1.0),
        ("16:9", "text", "16:9", 1.0),
        ("time: now", "text", "time: now", 1.0),
        ("text:0.5:snow", "text", "0.5:snow", 1.0),
        ("0.2:text:image:x", "text", "image:x", 0.2),
        ("image:a b.jpg", "image", "a b.jpg", 1.0),
        ("0.3:audio:rain.ogg", "audio", "rain.ogg", 0.3),
    ],
)
def test_a_plus_part_is_read_as_weight_kind_and_value(spec: str, kind: str, value: str, weight: float) -> None:
    part = parse_part(spec)
    assert (part.kind, str(part.value), part.weight) == (kind, value, weight)
    assert parse_part(spec, minus=True).weight == -weight


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "holds nothing to look for"),
        ("0.5:", "holds nothing to look for"),
        ("image:", "holds nothing to look for"),
        ("0:snow", "the weight 0 is not above 0"),
        ("1920:text", "write --plus 'text:1920:text'"),
        ("-0.5:snow", "use --minus instead"),
    ],
)
def test_a_part_that_makes_no_sense_is_a_usage_error(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_part(spec)


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf"), 1e6, -101.0])
def test_a_weight_that_cannot_be_used_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="is not usable"):
        QueryPart(Modality.TEXT, "cat", weight)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Modality.TEXT, "  \n", "the query is empty"),
        (Modality.TEXT, Path("a.txt"), "words, not"),
        (Modality.IMAGE, "", "names no file"),
        (Modality.IMAGE, 3, "cannot use int"),
        (Modality.IMAGE, np.zeros(5, dtype=np.float32), "Image.fromarray"),
        (Modality.AUDIO, np.zeros((2, 5), dtype=np.float32), r"mono float32 \(n,\)"),
        (Modality.AUDIO, np.zeros(5, dtype=np.int16), "int16"),
        (Modality.AUDIO, np.zeros(0, dtype=np.float32), "mono float32"),
        (Modality.AUDIO, np.full(3, np.nan, dtype=np.float32), "not all finite"),
        (Modality.AUDIO, Image.new("RGB", (2, 2)), "cannot use Image"),
        ("video", "x", "text, image or audio"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(kind: Modality, value: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        QueryPart(kind, value)


def test_a_path_given_as_text_becomes_a_path() -> None:
    assert QueryPart(Modality.IMAGE, "a/b.jpg").value == Path("a/b.jpg")


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_k_is_a_whole_number_from_one(k: Any) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Query.text("cat", k=k)


def test_a_query_needs_a_part_a_modality_a_filter_and_a_number() -> None:
    with pytest.raises(UsageError, match="give words, --image FILE or --audio FILE"):
        Query(())
    with pytest.raises(UsageError, match="give words, --image FILE or --audio FILE"):
        build_query()
    with pytest.raises(UsageError, match="no modality to search in"):
        Query.text("cat", modalities=frozenset())
    with pytest.raises(UsageError, match="--where is empty"):
        Query.text("cat", where=" ")
    with pytest.raises(UsageError, match="--min-score is nan"):
        Query.text("cat", min_score=float("nan"))


def test_an_unknown_modality_is_named_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="no modality 'video'; there are image, audio, text"):
        parse_modalities(["image", "video"])
    assert parse_modalities("image") == frozenset({Modality.IMAGE})
    assert Query.text("cat", modalities={"audio"}).modalities == frozenset({Modality.AUDIO})


def test_a_command_line_becomes_a_query_with_its_parts_in_order() -> None:
    query = build_query(
        "0.5:words as they stand",
        images=["a.jpg"],
        sounds=["b.ogg"],
        plus=["0.5:snow"],
        minus=["people"],
        k=3,
        modalities=["image", "audio"],
        where="duration_s > 5",
        min_score=0.2,
    )
    assert query.to_json() == {
        "parts": [
            {"kind": "text", "value": "0.5:words as they stand", "weight": 1.0},
            {"kind": "image", "value": "a.jpg", "weight": 1.0},
            {"kind": "audio", "value": "b.ogg", "weight": 1.0},
            {"kind": "text", "value": "snow", "weight": 0.5},
            {"kind": "text", "value": "people", "weight": -1.0},
        ],
        "k": 3,
        "modalities": ["audio", "image"],
        "where": "duration_s > 5",
        "min_score": 0.2,
        "min_probability": None,
    }


def test_what_is_in_memory_is_described_by_its_size() -> None:
    picture = QueryPart(Modality.IMAGE, Image.new("RGB", (4, 3)))
    sound = QueryPart(Modality.AUDIO, np.zeros(160, dtype=np.float32))
    assert [picture.described(), sound.described()] == ["<picture 4x3>", "<sound of 160 samples>"]
