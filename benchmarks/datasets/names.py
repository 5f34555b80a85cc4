"""Write the names that a captioner may give: `names.txt`, a name a line.

    python benchmarks/datasets/names.py [--out DIR] [--model DIR]

Reads the training pool's manifest and WordNet (default output: `datasets/names` in the per-user cache). A name is the
first caption of a training picture, as far as people say it, or a noun of WordNet for a thing that can be seen: the
first word of its first meaning, that texts were counted to use or that glosses use. Both are names of things that can
be seen, by the rule of `wordnet_visible.py`, and have no word of `indexer/unwanted_words.txt`. No word of a held-out
picture or of an evaluation set is read, though nouns name what those show, too.

With `--model` nothing is written but a model's own `reranker/names.safetensors`, less the names that the same rule
leaves out, and its digest; no row is computed again. `tests/support/visible_names.txt` lists those of the starter.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from manifests import read_lines
from packages import PackageError, cache_root, fetch
from wordnet_files import (
    ANIMAL,
    ARTIFACT,
    BODY,
    FOOD,
    OBJECT,
    OFFENSIVE,
    PERSON,
    PHENOMENON,
    PLANT,
    WordNet,
    latin,
)
from wordnet_visible import Visible
from wordnet_words import content

from indexer.unwanted_words import is_unwanted

SEEN = frozenset({ANIMAL, ARTIFACT, BODY, FOOD, OBJECT, PERSON, PHENOMENON, PLANT})
LEAST_USED = 2.0  # counted uses, and a quarter of the glosses with the word
MOST_WORDS = 4
ARTICLE = re.compile(r"^(?:an?|the) ")
# Captions of a drawing's style, of signs and of charts name nothing that another picture would be called.
NOT_NAMES = re.compile(
    r"symbol|outline|profile|simple|\bicon\b|silhouette|clip ?art|logo|button|\d|,|\(|&|:|\bflag\b|keycap|letter|"
    r"\bsign\b|square|arrow|skin tone|facing"
)
SMALL_WORDS = frozenset({"a", "an", "the", "of", "with", "and", "in", "on", "for", "to", "at", "without"})


def nouns(net: WordNet) -> Iterator[str]:
    """Nouns for things that can be seen, the most used first."""
    in_glosses = Counter(word for synset in net.synsets.values() for word in set(content(synset.gloss)))
    found = []
    for lemma, senses in net.senses.items():
        first = net.synsets[senses[0]]
        plain = lemma.replace("_", "").replace("-", "").isalpha() and first.lemmas[0] == lemma == lemma.lower()
        if not plain or first.instance or first.file not in SEEN or OFFENSIVE.search(first.text) or latin(lemma, first):
            continue
        used = net.counts.get((lemma, 1), 0) + (0 if "_" in lemma else in_glosses[lemma] / 4)
        if used >= LEAST_USED:
            found.append((used, lemma.replace("_", " ")))
    yield from (name for _, name in sorted(found, reverse=True))


def labels(net: WordNet, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """First captions of training pictures without their articles, of words that WordNet knows."""
    for row in rows:
        if row.get("split") != "train" or not row.get("image") or not row.get("captions"):
            continue
        name = ARTICLE.sub("", row["captions"][0].lower())
        words = re.findall(r"[a-z'’]+", name.replace("-", " "))
        each = all(word in SMALL_WORDS or word in net.adjectives or net.find(word) for word in words)
        known = each or bool(net.find(name))
        if words and known and len(name.split()) <= MOST_WORDS and not NOT_NAMES.search(name):
            yield name


def fitting(names: Iterable[str], visible: Visible) -> list[str]:
    """Names of visible things without unwanted words, in order."""
    return [name for name in dict.fromkeys(names) if visible.name(name) and not is_unwanted(name)]


def filter_model(model: Path, visible: Visible) -> tuple[int, int]:
    """Keep what fits of a model's names; returns how many it had and how many are left."""
    from indexer.encoders.tokens.config import CONFIG, FOLDER
    from indexer.encoders.weights.base_weights import sha256_of
    from retrieval.rerank.names import NAMES, keep_names

    path = model / FOLDER / NAMES
    before, after = keep_names(path, lambda name: visible.name(name) and not is_unwanted(name))
    config = model / FOLDER / CONFIG
    document = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**document, "names": sha256_of(path)}, indent=1) + "\n", encoding="utf-8")
    return before, after


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--model", type=Path, help="a model's folder, whose names are filtered")
    options = parser.parse_args(arguments)
    out: Path = options.out or cache_root() / "datasets" / "names"
    try:
        folder = fetch("wordnet-base") / "usr/share/wordnet"
        net = WordNet(folder)
        visible = Visible(net, folder)
        if options.model is not None:
            before, after = filter_model(options.model, visible)
            print(f"{options.model}: {after} of {before} names are left")
            return 0
        rows = read_lines(cache_root() / "datasets" / "pool" / "manifest.jsonl")
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    found = fitting([*labels(net, rows), *nouns(net)], visible)
    out.mkdir(parents=True, exist_ok=True)
    (out / "names.txt").write_text("".join(f"{name}\n" for name in found), encoding="utf-8")
    print(f"{out / 'names.txt'}: {len(found)} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
