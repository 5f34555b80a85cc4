"""Build a training set of one-colour icons that show a thing, with the words of their names, split by concept.

    python benchmarks/datasets/icons.py [--out DIR]

Writes `manifest.jsonl` with `images/` beside it (default: `datasets/icons` in the per-user cache), rows as in the
pool. A second run skips what is written. Arrows, layouts, letters, brands and the like show no thing and are left out:
an icon is kept where WordNet knows a noun of its name as a thing that can be seen.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pool
from captions import distinct, with_article, words
from manifests import out_folder, write_lines
from packages import PackageError, fetch
from samples import Blob, Sample
from tables import read_tables
from wordnet_files import CONCRETE, WordNet
from wordnet_words import singular

WORKERS = 1

_TABLES = read_tables("icons.toml")
_LISTS: dict[str, str] = _TABLES["lists"]
# Words whose icons show no thing, wherever they stand in a name.
NO_THING = words(_LISTS["no_thing"])
# Endings that mark a variant, whose base is in the set anyway.
BADGES = words(_LISTS["badges"])
# Parts of a name that say how it is drawn.
DRAWN = words(_LISTS["drawn"])
LEFT_OUT = {
    "game-icons": re.compile(r"abstract-\d+|\w-brick|.*-faces-\w+|level-\w+.*|(tarot-)?\d.*|.*-flip|domino.*|dice-\w+"),
    "lucide": re.compile(r"[a-z]-.*|case-.*|.*-off|.*-[xz]|panels?-.*|log-.*"),
    "ph": re.compile(r".*-slash|[a-z]-.*|gender.*|number.*|dice.*|person-simple"),
    "tabler": re.compile(
        r".*-off|.*-filled|brand-.*|letter-.*|.*-[a-z]|h-\d|.*-\d\d|box-.*|badge.*|hexagon.*|mood-.*|temperature.*"
    ),
}
# Names that say a class first, and how the thing is called.
FIRST_WORDS = words(_LISTS["first_words"])
DROPPED_FIRST = words(_LISTS["dropped_first"])
# A person's doing, where the name has the bare verb.
DOING: dict[str, str] = _TABLES["doing"]
# Nouns of names that stand for a way of doing, however WordNet counts them.
GENERIC = words(_LISTS["generic"])


@dataclass(frozen=True)
class Set:
    """An icon set of `@iconify/json`: its prefix, the suffix of the one style taken, whether heads stand first."""

    prefix: str
    suffix: str
    heads_first: bool


SETS = (
    Set("game-icons", "", False),
    Set("lucide", "", True),
    Set("ph", "-duotone", True),
    Set("tabler", "", True),
)


def samples() -> Iterator[Sample]:
    """Icons of all sets that show a thing, in the order of their names."""
    tags = json.loads((fetch("lucide-static") / "package" / "tags.json").read_text(encoding="utf-8"))
    folder = fetch("@iconify/json") / "package" / "json"
    for icon_set in SETS:
        data = json.loads((folder / f"{icon_set.prefix}.json").read_text(encoding="utf-8"))
        yield from of_set(data, icon_set, tags, net())


@cache
def net() -> WordNet:
    return WordNet(fetch("wordnet-base") / "usr/share/wordnet")


def of_set(data: dict[str, Any], icon_set: Set, tags: dict[str, list[str]], nouns: WordNet) -> Iterator[Sample]:
    """The samples of one set, given as its JSON of `@iconify/json`."""
    names = {name.removesuffix(icon_set.suffix) for name in data["icons"] if name.endswith(icon_set.suffix)}
    info = data["info"]
    for name in sorted(names):
        if not shows_a_thing(name, names, icon_set, nouns):
            continue
        icon = data["icons"][name + icon_set.suffix]
        texts = captions_of(name, names, icon_set, tags.get(name, []), nouns)
        metadata = {"title": name, "author": info["author"]["name"], "tags": ", ".join(tags.get(name, []))}
        source = f"icons-{icon_set.prefix}"
        blob = Blob(data=to_svg(icon, data).encode())
        concept = "playing card" if texts[0].endswith("playing card") else texts[0]  # as in the pool
        yield Sample(source, name, concept, tuple(texts), info["license"]["spdx"], image=blob, metadata=metadata)


def to_svg(icon: dict[str, Any], data: dict[str, Any]) -> str:
    """An icon of `@iconify/json` as an SVG drawn in black, with a margin of a sixteenth of its size."""
    width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    margin = max(width, height) / 16
    box = f"{left - margin} {top - margin} {width + 2 * margin} {height + 2 * margin}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
        f'viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )


def shows_a_thing(name: str, names: set[str], icon_set: Set, nouns: WordNet) -> bool:
    """Whether an icon is kept: no mark of an interface, no variant of another, and a noun for something visible."""
    parts = name.split("-")
    if LEFT_OUT[icon_set.prefix].fullmatch(name) or (icon_set.heads_first and NO_THING & set(parts)):
        return False
    if icon_set.heads_first and len(parts) > 1 and parts[-1] in BADGES and "-".join(parts[:-1]) in names:
        return False
    kept = [part for part in parts if not part.isdigit() and part not in DRAWN]
    if not kept:
        return False
    phrase = " ".join(kept)
    if visible(phrase, nouns):
        return True
    candidates = [kept[0], kept[-1]] if icon_set.heads_first else kept
    return any(visible(part, nouns) for part in candidates if part not in GENERIC)


def visible(phrase: str, nouns: WordNet) -> bool:
    """Whether one of the first three senses of a phrase is of something that can be seen."""
    form = nouns.find(phrase)
    return any(nouns.synsets[offset].file in CONCRETE for offset in nouns.senses.get(form, ())[:3])


def plural(word: str, nouns: WordNet) -> bool:
    """Whether WordNet knows a word only as the plural of another: "icicles", not "christmas"."""
    single = singular(word, nouns.irregular)
    return single != word and word not in nouns.senses and single in nouns.senses


def phrase_of(name: str, names: set[str], icon_set: Set, nouns: WordNet) -> str:
    """An icon's name as a phrase whose head is the thing: "tree-palm" -> "palm tree", "cloud-snow" -> "cloud, snow".

    Sets that put the head first are turned round where WordNet knows the turned phrase.
    """
    if card := re.fullmatch(r"card-(\w+)-(clubs|diamonds|hearts|spades)", name):
        return f"{card[1]} of {card[2]} playing card"
    parts = [part for part in name.split("-") if not part.isdigit() and part not in DRAWN] or name.split("-")
    plain = " ".join(parts)
    if not icon_set.heads_first or len(parts) < 2 or nouns.find(plain):
        return plain
    turned = " ".join([*parts[1:], parts[0]])
    if nouns.find(turned):
        return turned
    if parts[0] in DROPPED_FIRST and visible(" ".join(parts[1:]), nouns):
        return " ".join(parts[1:])
    if parts[0] == "person":
        return f"person {DOING.get(' '.join(parts[1:]), ' '.join(parts[1:]))}"
    if parts[0] == "play":
        return f"person playing {' '.join(parts[1:])}"
    if parts[0] == "chess":
        return plain
    if parts[0] in FIRST_WORDS:
        return turned
    if parts[0] in names and visible(parts[0], nouns):
        return f"{parts[0]}, {' '.join(parts[1:])}"
    return plain


def captions_of(name: str, names: set[str], icon_set: Set, tags: list[str], nouns: WordNet) -> list[str]:
    """The phrase, its head with an article, and its tags in groups of four.

    A plural that goes first takes no article: neither "an icicles fence" nor "a hands clapping".
    """
    phrase = phrase_of(name, names, icon_set, nouns)
    head = phrase.partition(",")[0]
    articled = head if plural(head.split()[0], nouns) else with_article(head)
    near = [tag.lower() for tag in tags if tag.lower() not in phrase and re.fullmatch(r"[a-zA-Z' -]{3,}", tag)]
    return distinct([phrase, articled, ", ".join(near[:4]), ", ".join(near[4:8])])


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "icons", arguments)
    console = Console(stderr=True)
    try:
        found = list(samples())
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    with ProcessPoolExecutor(WORKERS) as workers:
        results = workers.map(pool.write_media, [(sample, out) for sample in found], chunksize=32)
        written = list(track(results, "drawing icons", total=len(found), console=console))
    rows = pool.rows_of(found, written)
    write_lines(rows, out / "manifest.jsonl")
    pool.report(rows, 0, [problem for *_, problem in written if problem])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
