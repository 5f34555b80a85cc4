"""The recipes of texts, icons and photos: senses are chosen by what is near, marks are left out, sides are kept.

No network: WordNet files of a dozen lines are written to `tmp_path`; tests of built data skip where it is not built.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("resvg_py", reason="the recipes render SVG: pip install 'trimodal[svg]'")

import cifar
import icons
import packages
import render
import splits
import tuxpaint
import wordnet
import wordnet_files
import wordnet_sayings
import wordnet_senses
from samples import Sample

# offset, lexicographer file, lemmas, kind ("@" a kind, "@i" an instance of one), gloss
SYNSETS = [
    ("00000001", 5, ["animal"], "", "a living organism that moves"),
    ("00000002", 5, ["bird"], "@ 00000001", "warm-blooded egg-laying animal with feathers"),
    ("00000003", 5, ["crane"], "@ 00000002", 'large long-necked wading bird of marshes; "a crane flew by"'),
    ("00000004", 6, ["machine"], "", "a device that does work"),
    ("00000005", 6, ["crane", "lifting_crane"], "@ 00000004", "lifts and moves heavy objects; used in building"),
    ("00000006", 18, ["Crane", "Stephen_Crane"], "@i 00000009", "United States writer"),
    ("00000007", 6, ["tool"], "", "an implement used in a craft"),
    ("00000008", 6, ["hammer"], "@ 00000007", "a tool with a heavy head; used to drive nails"),
    ("00000009", 18, ["person"], "", "a human being"),
    ("00000010", 18, ["farmer", "husbandman"], "@ 00000009", "a person who operates a farm"),
    ("00000011", 5, ["Grus", "genus_Grus"], "@ 00000001", "type genus of the Gruidae"),
    ("00000012", 18, ["oaf"], "@ 00000009", "a rude word (offensive) for someone"),
    ("00000013", 20, ["tree"], "", "a tall plant"),
    ("00000014", 20, ["palm_tree", "palm"], "@ 00000013", "any plant of the palm family"),
    ("00000015", 7, ["width"], "", "how wide something is"),
]


@pytest.fixture
def net(tmp_path: Path) -> wordnet_files.WordNet:
    """A WordNet of the synsets above; senses of a word in their order."""
    senses: dict[str, list[str]] = {}
    lines = []
    for offset, file, lemmas, kind, gloss in SYNSETS:
        kinds = f"{kind} n 0000" if kind else ""
        named = " ".join(f"{lemma} 0" for lemma in lemmas)
        lines.append(f"{offset} {file:02d} n {len(lemmas):02x} {named} {1 if kind else 0:03d} {kinds} | {gloss}")
        for lemma in lemmas:
            senses.setdefault(lemma.lower(), []).append(offset)
    licence = "  1 This software and database is being provided"
    index = [f"{word} n {len(found)} 0 {len(found)} 0 {' '.join(found)}" for word, found in sorted(senses.items())]
    files = {"data.noun": lines, "index.noun": index, "noun.exc": ["geese goose"], "index.adj": ["heavy a 1 0 1 0 1"]}
    files["cntlist.rev"] = ["hammer%1:06:00:: 1 5"]
    for name, content in files.items():
        (tmp_path / name).write_text("\n".join([licence, *content]) + "\n", encoding="utf-8")
    return wordnet_files.WordNet(tmp_path)


def row(name: str, *captions: str, **metadata: str) -> dict[str, Any]:
    split = splits.split_of(captions[0])
    return {"id": name, "captions": list(captions), "split": split, "metadata": {"source": "x", **metadata}}


def test_a_gloss_is_the_definition_without_its_examples(net: wordnet_files.WordNet) -> None:
    assert net.synsets["00000003"].gloss == "large long-necked wading bird of marshes"


@pytest.mark.parametrize(("near", "offset"), [("bird wading", "00000003"), ("machine building", "00000005")])
def test_the_words_beside_a_caption_choose_its_sense(net: wordnet_files.WordNet, near: str, offset: str) -> None:
    sense, _, _ = wordnet_senses.choose(net, "crane", Counter(near.split()), frozenset())
    assert sense.offset == offset


def test_a_person_named_so_is_never_the_sense_of_a_thing(net: wordnet_files.WordNet) -> None:
    sense, _, _ = wordnet_senses.choose(net, "crane", Counter(["writer"]), frozenset())
    assert sense.offset != "00000006"


def test_two_pictures_of_one_word_get_lines_of_their_own(net: wordnet_files.WordNet) -> None:
    rows = [row("1", "crane", "bird wading"), row("2", "crane", "machine building"), row("3", "hammer")]
    lines = list(wordnet.paraphrases(net, rows, {}))
    assert [(line["text"], line.get("ids")) for line in lines] == [
        ("crane", ["1"]),
        ("crane", ["2"]),
        ("hammer", None),
    ]
    assert "a bird" in lines[0]["also"] and "a lifting crane" in lines[1]["also"]


def test_what_is_said_of_a_thing_is_its_gloss_its_kind_and_its_use(net: wordnet_files.WordNet) -> None:
    (line,) = wordnet.paraphrases(net, [row("1", "hammer", "a hammer")], {})
    assert line["also"][:3] == ["a tool with a heavy head", "something used to drive nails", "a tool"]
    assert line["also"][-1] == "a tool with a heavy head; used to drive nails"
    assert "a hammer" not in line["also"]


def test_of_a_longer_caption_the_head_is_looked_up(net: wordnet_files.WordNet) -> None:
    (line,) = wordnet.paraphrases(net, [row("1", "woman farmer")], {})
    assert line["lookup"] == "farmer"
    assert "someone who operates a farm" in line["also"] and "a farmer" in line["also"]
    assert list(wordnet.paraphrases(net, [row("1", "hammer zyx"), row("2", "hammer button")], {})) == []


def test_a_flag_is_said_to_be_a_flag(net: wordnet_files.WordNet) -> None:
    (line,) = wordnet.paraphrases(net, [row("1", "flag of Chad")], {})
    assert line["also"] == ["a flag", "a rectangular piece of cloth of distinctive design"]


def test_pairs_leave_out_ranks_names_and_slurs(net: wordnet_files.WordNet) -> None:
    texts = [pair["text"] for pair in wordnet.all_pairs(net, [], [])]
    assert "hammer" in texts and "palm tree" in texts
    assert not {"Grus", "Crane", "oaf", "width"} & set(texts)


@pytest.mark.parametrize(
    ("gloss", "phrases"),
    [
        ("hand tool having a toothed blade for cutting", ["something for cutting"]),
        ("a device that prevents a vessel from moving", ["something that prevents a vessel from moving"]),
        ("small brush; used to clean teeth", ["something used to clean teeth"]),
        ("a vessel for liquids that are hot", []),
        ("a part of the body used to hear", []),
    ],
)
def test_a_use_is_found_only_where_it_is_of_the_thing_itself(gloss: str, phrases: list[str]) -> None:
    assert wordnet_sayings.uses(gloss) == phrases


@pytest.mark.parametrize(
    ("caption", "first"),
    [
        ("a red alarm clock", ["red alarm clock", "alarm clock"]),
        ("camel silhouette", ["camel"]),
        ("hamburger, black and white", ["hamburger"]),
        ("bowl with salad", ["bowl with salad", "bowl"]),
    ],
)
def test_phrases_are_looked_up_from_the_longest_to_the_head(caption: str, first: list[str]) -> None:
    assert wordnet_senses.lookups(caption)[: len(first)] == first


# icons

TABLER = icons.Set("tabler", "", True)


@pytest.mark.parametrize(("name", "kept"), [("hammer", True), ("arrow-left", False), ("brand-hammer", False)])
def test_an_icon_is_kept_where_its_name_is_of_a_thing(net: wordnet_files.WordNet, name: str, kept: bool) -> None:
    assert icons.shows_a_thing(name, {name}, TABLER, net) is kept


def test_a_variant_with_a_badge_is_left_out_where_the_plain_icon_is_there(net: wordnet_files.WordNet) -> None:
    assert not icons.shows_a_thing("hammer-plus", {"hammer", "hammer-plus"}, TABLER, net)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [("tree-palm", "palm tree"), ("hammer-2", "hammer"), ("hammer-bird", "hammer, bird"), ("device-tv", "tv device")],
)
def test_a_name_with_its_head_first_is_turned_round(net: wordnet_files.WordNet, name: str, phrase: str) -> None:
    assert icons.phrase_of(name, {"hammer"}, TABLER, net) == phrase


@pytest.mark.parametrize(
    ("name", "captions"),
    [("hammer-bird", ["hammer, bird", "a hammer"]), ("hammers-tool", ["hammers tool"]), ("hammers", ["hammers"])],
)
def test_a_name_that_begins_with_a_plural_takes_no_article(
    net: wordnet_files.WordNet, name: str, captions: list[str]
) -> None:
    assert icons.captions_of(name, {"hammer"}, TABLER, [], net) == captions


def test_the_icons_of_a_set_are_black_on_white_with_its_licence(net: wordnet_files.WordNet) -> None:
    data = {
        "info": {"author": {"name": "Ann"}, "license": {"spdx": "MIT"}},
        "icons": {"hammer": {"body": '<path fill="currentColor" d="M0 0h24v24H0z"/>'}, "arrow-up": {"body": "<g/>"}},
        "width": 24,
        "height": 24,
    }
    (found,) = icons.of_set(data, TABLER, {"hammer": ["tool", "nail"]}, net)
    assert isinstance(found, Sample)
    assert found.captions == ("hammer", "a hammer", "tool, nail") and found.license == "MIT"
    assert found.image is not None
    picture = render.open_picture(found.image.read(), side=256)
    assert picture.size == (256, 256)
    assert picture.getpixel((128, 128)) == (0, 0, 0) and picture.getpixel((2, 2)) == (255, 255, 255)


# CIFAR-10


def sheet(path: Path, count: int) -> Path:
    """A sheet as in the package: a row a photo; photo i is of colour (i, 0, 255)."""
    pixels = np.zeros((count, cifar.PIXELS**2, 3), dtype=np.uint8)
    pixels[:, :, 0], pixels[:, :, 2] = np.arange(count)[:, None], 255
    Image.fromarray(pixels).save(path)
    return path


def test_a_row_of_a_sheet_is_a_photo(tmp_path: Path) -> None:
    photos = cifar.photos(sheet(tmp_path / "a.png", 5))
    assert photos.shape == (5, 32, 32, 3)
    assert photos[3, 31, 31].tolist() == [3, 0, 255]


def test_photos_keep_the_side_of_their_concept_and_tests_are_tests(tmp_path: Path) -> None:
    labels = np.array([6, 7, 0])  # frog, horse, airplane
    train = list(cifar.rows([sheet(tmp_path / "a.png", 3)], labels, np.arange(3), "train", tmp_path))
    assert [found["split"] for found in train] == ["demo", "train", "val"]
    assert train[1]["captions"][:2] == ["a photo of a horse", "horse"]
    with Image.open(tmp_path / train[0]["image"]) as shown:
        assert shown.size == (96, 96)
    test = list(cifar.rows([tmp_path / "a.png"], labels, np.arange(3), "test", tmp_path))
    assert {found["split"] for found in test} == {"test"}
    assert not {found["image"] for found in train} & {found["image"] for found in test}


def test_the_draw_is_the_same_every_time_and_even() -> None:
    labels = np.arange(200) % 10
    chosen = cifar.drawn(labels, per_class=5)
    assert (chosen == cifar.drawn(labels, per_class=5)).all()
    assert Counter(labels[chosen].tolist()) == dict.fromkeys(range(10), 5)


def test_labels_that_are_not_cifars_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[0, 11]")
    with pytest.raises(packages.PackageError, match=r"labels\.json: not 2 labels of 10 classes"):
        cifar.read_labels(tmp_path / "labels.json", 2)


# Tux Paint


def test_a_languages_manifest_has_its_sentences_only() -> None:
    kept = [
        {"id": "frog", "captions": ["A frog."], "metadata": {"caption_de": "Ein Frosch."}},
        {"id": "cat", "captions": ["A cat."], "metadata": {}},
    ]
    (found,) = tuxpaint.in_language(kept, "de")
    assert found["id"] == "frog" and found["captions"] == ["Ein Frosch."]
    assert kept[0]["captions"] == ["A frog."]


# what is built here


def built(name: str) -> list[dict[str, Any]]:
    path = packages.cache_root() / "datasets" / name
    if not path.is_file():
        pytest.skip(f"{name} is not built here")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_built_paraphrase_says_something_else() -> None:
    for line in built("wordnet/paraphrases.jsonl"):
        assert line["also"] and all(len(text) > 2 for text in line["also"]), line["text"]
        assert line["text"].lower() not in {text.lower() for text in line["also"]}


@pytest.mark.parametrize(
    ("text", "phrase"),
    [("hammer", "a hand tool"), ("saw", "something for cutting"), ("penguin", "a bird that cannot fly")],
)
def test_tools_and_birds_of_the_pool_are_described_by_use_and_kind(text: str, phrase: str) -> None:
    found = [line["also"] for line in built("wordnet/paraphrases.jsonl") if line["text"] == text]
    assert found and any(phrase in also for also in found), found


def test_built_icons_are_split_by_concept_and_their_pictures_are_there() -> None:
    rows = built("icons/manifest.jsonl")
    root = packages.cache_root() / "datasets/icons"
    assert all(found["split"] == splits.split_of(found["metadata"]["concept"]) for found in rows)
    assert all((root / found["image"]).is_file() for found in rows)


def test_built_photos_are_counted() -> None:
    assert Counter(found["metadata"]["title"] for found in built("cifar10/manifest.jsonl")) == dict.fromkeys(
        cifar.CLASSES, 300
    )
    assert len(built("cifar10/test.jsonl")) == 10_000
