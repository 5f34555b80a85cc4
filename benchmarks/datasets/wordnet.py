"""Write other ways to say what a picture shows: definitions, kinds, synonyms and uses out of WordNet 3.0.

    python benchmarks/datasets/wordnet.py [--out DIR]

Reads the manifests of the pool and, where they are built, of the icons. Writes two files (default:
`datasets/wordnet` in the per-user cache), a JSON object a line:

- `paraphrases.jsonl`, for every distinct first caption that WordNet knows, or whose head noun it knows: `text`,
  `also` (what else is true of the picture), `lookup` and `synset` (what was looked up), `split`, and `ids` where
  only some of the rows with this caption mean this (the bird, not the machine).
- `pairs.jsonl`, texts that mean one thing, of any origin: `text`, `also`, `source`, and a row's `split`.

No word of an evaluation set is read. Knows nothing of pictures.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emojis
from captions import distinct, with_article
from manifests import out_folder, read_lines, write_lines
from packages import PackageError, cache_root, fetch
from wordnet_files import ANIMAL, CONCRETE, OFFENSIVE, PLANT, TAXON, WordNet, latin
from wordnet_sayings import LIMIT_SYNONYMS, articled, flag_sayings, sayings, synonyms
from wordnet_senses import Meant, context_of, meaning

console = Console(stderr=True)


def paraphrases(
    net: WordNet, rows: list[dict[str, Any]], subgroups: dict[str, tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """A line for each first caption and sense that its rows mean, in the order of the rows."""
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_text[row["captions"][0]].append(row)
        context, expected = context_of(row, subgroups)
        if expected and (meant := meaning(net, row["captions"][0], context, expected)) is not None:
            known[meant.form][meant.sense.offset] += 1
    usual = {form: senses.most_common(1)[0][0] for form, senses in known.items()}
    for text, mine in by_text.items():
        if flag := re.fullmatch(r"flag of (.+)|(.+) flags?", text, re.I):
            yield {"text": text, "also": flag_sayings(net, flag[1] or flag[2]), "split": mine[0]["split"]}
            continue
        by_sense: dict[str, list[dict[str, Any]]] = defaultdict(list)
        found: dict[str, Meant] = {}
        for row in mine:
            context, expected = context_of(row, subgroups)
            meant = meaning(net, text, context, expected, {} if expected else usual)
            if meant is not None:
                by_sense[meant.sense.offset].append(row)
                found[meant.sense.offset] = meant
        for offset, meant in found.items():
            also = sayings(net, meant.sense) + synonyms(net, meant.sense, meant.form if meant.whole else "")
            also = best_first([saying for saying in distinct(also) if saying.lower() not in same_as(text)])
            line = {"text": text, "also": also, "lookup": meant.form, "synset": offset}
            line["split"] = by_sense[offset][0]["split"]
            if len(found) > 1:
                line["ids"] = [row["id"] for row in by_sense[offset]]
            if also:
                yield line


def best_first(also: list[str]) -> list[str]:
    """A trainer may take only the first few: the gloss cut short, a use or attribute, kinds and other words, the rest.

    >>> best_first(["a tool; used to cut", "a tool", "an implement", "something used to cut"])
    ['a tool', 'something used to cut', 'an implement', 'a tool; used to cut']
    """
    if not also:
        return []
    whole, *others = also
    short = next((text for text in others[:1] if whole.startswith(text)), whole)
    rest = [text for text in others if text != short]
    used = [text for text in rest if text.startswith("something ") or " that " in text]
    named = [text for text in rest if text not in used]
    return list(dict.fromkeys([short, *used[:1], *named, *used[1:], whole]))


def all_pairs(net: WordNet, rows: list[dict[str, Any]], entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Texts that mean one thing: concrete synsets, emoji with their tags, pool rows with their other captions."""
    for sense in net.synsets.values():
        names = [word for word in sense.lemmas if not latin(word, sense)]
        if (
            sense.file not in CONCRETE
            or sense.instance
            or not names
            or OFFENSIVE.search(sense.text)
            or TAXON.match(sense.lemmas[0].replace("_", " "))
        ):
            continue
        if sense.file in {ANIMAL, PLANT} and re.search(r"\b(genus|family|order|taxon|class) ", sense.gloss[:40]):
            continue
        others = [articled(net, word.replace("_", " "), sense.file) for word in names[1 : 1 + LIMIT_SYNONYMS]]
        yield {"text": names[0].replace("_", " "), "also": sayings(net, sense) + others, "source": "wordnet"}
    for entry in entries:
        tags = [tag for tag in entry.get("tags", []) if tag.lower() not in entry["label"].lower()]
        groups = [", ".join(tags[i : i + 4]) for i in range(0, len(tags), 4)]
        if groups:
            yield {"text": emojis.label_phrase(entry["label"]), "also": groups, "source": "emojibase"}
    merged: dict[str, list[str]] = defaultdict(list)
    splits_of = {row["captions"][0]: row["split"] for row in rows}
    for row in rows:
        merged[row["captions"][0]] += row["captions"][1:]
    for text, others in merged.items():
        also = [other for other in distinct(others) if other.lower() not in same_as(text)]
        if also:
            yield {"text": text, "also": also, "source": "pool", "split": splits_of[text]}


def same_as(text: str) -> set[str]:
    """A caption with and without its article, in lower case."""
    bare = re.sub(r"^(an?|the) ", "", text.lower())
    return {text.lower(), bare, with_article(bare)}


def emoji_subgroups(root: Path) -> dict[str, tuple[str, str]]:
    """Code -> (group, subgroup) of emojibase: "1f42d" -> ("animals-nature", "animal-mammal")."""
    messages = json.loads((root / "en" / "messages.json").read_text(encoding="utf-8"))
    groups = {row["order"]: row["key"] for row in messages["groups"]}
    subgroups = {row["order"]: row["key"] for row in messages["subgroups"]}
    entries = emojis.load_entries(root / "en" / "data.json")
    return {
        emojis.bare(row["hexcode"]): (groups.get(row["group"], ""), subgroups.get(row.get("subgroup"), ""))
        for row in entries
    }


def read_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of the pool and, where they are built, of the icons. Raises `PackageError` where there is no pool."""
    icons = root / "datasets" / "icons" / "manifest.jsonl"
    rows = read_lines(root / "datasets" / "pool" / "manifest.jsonl")
    return rows + (read_lines(icons) if icons.is_file() else [])


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "wordnet", arguments)
    try:
        rows = read_rows(cache_root())
        emojibase = fetch("emojibase-data") / "package"
        net = WordNet(fetch("wordnet-base") / "usr/share/wordnet")
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    lines = list(paraphrases(net, rows, emoji_subgroups(emojibase)))
    pairs = list(all_pairs(net, rows, emojis.load_entries(emojibase / "en" / "data.json")))
    write_lines(lines, out / "paraphrases.jsonl")
    write_lines(pairs, out / "pairs.jsonl")
    report(rows, lines, pairs)
    return 0


def report(rows: list[dict[str, Any]], paraphrased: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
    """Print how many captions got other words, and how many pairs there are by source."""
    table = Table("file", "of", "lines", "other texts")
    captions = {row["captions"][0] for row in rows}
    known = {line["text"] for line in paraphrased}
    table.add_row(
        "paraphrases", f"{len(known)} of {len(captions)} captions", str(len(paraphrased)), _texts(paraphrased)
    )
    for source in dict.fromkeys(line["source"] for line in pairs):
        mine = [line for line in pairs if line["source"] == source]
        table.add_row("pairs", source, str(len(mine)), _texts(mine))
    Console().print(table)


def _texts(lines: list[dict[str, Any]]) -> str:
    return str(sum(len(line["also"]) for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
