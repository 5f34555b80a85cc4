"""All names that the starter's captions choose from: things that can be seen, in words that may be said."""

from __future__ import annotations

import json

import packages
import pytest
import wordnet_files
import wordnet_visible
from paths import ROOT, SUPPORT

from indexer.encoders.weights.base_weights import sha256_of
from indexer.unwanted_words import find_unwanted
from retrieval.rerank.names import NAMES, load_names

MODEL = ROOT / "data" / "models" / "starter" / "reranker"
VISIBLE = SUPPORT / "visible_names.txt"


@pytest.fixture(scope="module")
def phrases() -> tuple[str, ...]:
    return load_names(MODEL / NAMES).phrases


def test_the_names_are_the_ones_that_the_model_describes(phrases: tuple[str, ...]) -> None:
    config = json.loads((MODEL / "reranker.json").read_text(encoding="utf-8"))
    assert sha256_of(MODEL / NAMES) == config["names"]
    assert len(phrases) == len(set(phrases)) > 3000
    assert set(config["naming"]) == {"slope", "intercept", "least"} and config["naming"]["least"] == 0.5
    assert {"bridge", "honeybee", "dog", "tree", "woman", "house"} <= set(phrases)


def test_no_shipped_name_has_an_unwanted_word(phrases: tuple[str, ...]) -> None:
    # load_names leaves such names out, so the file itself is looked at
    from safetensors import safe_open

    with safe_open(MODEL / NAMES, "numpy") as file:
        written = json.loads(file.metadata()["phrases"])
    assert [(name, find_unwanted(name)) for name in written if find_unwanted(name)] == []
    assert tuple(written) == phrases
    hurting = {"rape", "suicide", "corpse", "prostitute", "terrorist", "idiot", "concentration camp", "gas chamber"}
    assert hurting.isdisjoint(phrases)


def test_every_shipped_name_is_listed_as_a_visible_thing(phrases: tuple[str, ...]) -> None:
    assert sorted(phrases) == VISIBLE.read_text(encoding="utf-8").splitlines()
    invisible = {"poet", "antibiotic", "voltage", "quark", "main", "criminal", "homosexual", "philosopher", "hormone"}
    assert invisible.isdisjoint(phrases)


def test_every_shipped_name_is_a_visible_thing_by_wordnet(phrases: tuple[str, ...]) -> None:
    package = packages.load_table()["wordnet-base"]
    root = packages.cache_root() / "packages" / "unpacked" / f"{package.name}-{package.sha256[:12]}"
    folder = root / "usr" / "share" / "wordnet"
    if not folder.is_dir():
        pytest.skip("WordNet is not in the cache; python benchmarks/datasets/names.py fetches it")
    visible = wordnet_visible.Visible(wordnet_files.WordNet(folder), folder)
    assert [name for name in phrases if not visible.name(name)] == []
    hidden = ("poet", "antibiotic", "voltage", "must", "criminal", "hormone", "martin luther king", "no smoking")
    assert [name for name in hidden if visible.name(name)] == []
    seen = ("honeybee", "suspension bridge", "woman juggling", "bowl with fruits", "eiffel tower", "rain", "fog")
    assert [name for name in seen if not visible.name(name)] == []
