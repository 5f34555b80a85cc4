"""Write `indexer/unwanted_words.txt`: words that no caption may say, by language.

    python benchmarks/datasets/unwanted.py [--out FILE]

Entries are those of LDNOOBW's lists (npm `naughty-words`, CC-BY-4.0), of the surest English ones of `cuss` (MIT), and
of `unwanted_words.toml`, which adds and takes away by hand. English words that another language's entry is spelled
like ("pine", a rude word in French) pass, unless English lists them too; so do inflections that are spelled so.
Knows nothing of names or models.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from packages import PackageError, fetch
from tables import read_tables
from wordnet_files import OFFENSIVE, WordNet

from indexer.unwanted_words import PASSES, UNSPACED, WORDS, inflections, split

LEFT_OUT = frozenset({"tlh"})  # Klingon
LEAST_LETTERS = 3  # of a word in Latin letters; shorter ones are words of too many languages
CUSS_SURE = re.compile(r"^\s*'?([^':]+)'?: 2,", re.M)
HEAD = """\
# Words that no caption may say, by language; made by benchmarks/datasets/unwanted.py, not by hand. Licence: CC-BY-4.0.
# Sources: List of Dirty, Naughty, Obscene, and Otherwise Bad Words (LDNOOBW) by Shutterstock and contributors, npm
# naughty-words 1.2.0, CC-BY-4.0, changed (entries left out); cuss 2.2.0 by Titus Wormer, MIT, English entries rated 2;
# and entries of this project's benchmarks/datasets/unwanted_words.toml.
"""


def by_hand(table: dict[str, str]) -> dict[str, set[str]]:
    """Entries of a table of `unwanted_words.toml`, normalised, by language."""
    return {language: set(normal(re.split(r"[,\n]", text))) for language, text in table.items()}


def normal(entries: Iterable[str]) -> list[str]:
    """Entries as `unwanted_words` compares them, without those that have no letters."""
    return [phrase for phrase in (" ".join(split(entry)) for entry in entries) if phrase]


class English:
    """What is an English word: WordNet's words of every part of speech, and their plain inflections."""

    def __init__(self, folder: Path) -> None:
        self.net = WordNet(folder)
        self.lemmas = {
            line.split(" ", 1)[0].replace("_", " ")
            for pos in ("noun", "verb", "adj", "adv")
            for line in (folder / f"index.{pos}").read_text(encoding="utf-8").splitlines()
            if line[:1] != " "
        }
        forms = {form for lemma in self.lemmas if lemma.isalpha() for form in inflections(lemma, "en")}
        self.words = frozenset(self.lemmas | forms)

    def offensive(self, word: str) -> bool:
        """Whether WordNet marks a sense of a noun as offensive, obscene or the like."""
        senses = self.net.senses.get(word.replace(" ", "_"), ())
        return any(OFFENSIVE.search(self.net.synsets[sense].text) for sense in senses)


def long_enough(phrase: str, language: str) -> bool:
    """Latin entries of fewer than `LEAST_LETTERS` letters are left out."""
    return language in UNSPACED or not phrase.isascii() or len(phrase.replace(" ", "")) >= LEAST_LETTERS


def collect(naughty: Path, cuss: Path, english: English) -> dict[str, list[str]]:
    """Sections of the file."""
    hand = read_tables("unwanted_words.toml")
    add, harmless, passes = (by_hand(hand[name]) for name in ("add", "harmless", "passes"))
    found: dict[str, set[str]] = {}
    for path in sorted(naughty.glob("*.json")):
        language = path.stem.partition("-")[0]
        if path.stem.startswith(("package", "bower")) or language in LEFT_OUT:
            continue
        found.setdefault(language, set()).update(normal(json.loads(path.read_text(encoding="utf-8"))))
    sure = normal(CUSS_SURE.findall((cuss / "index.js").read_text(encoding="utf-8")))
    found["en"].update(word for word in sure if word not in english.words or english.offensive(word))
    for language in found.keys() | add.keys():
        kept = found.setdefault(language, set()) - harmless.get(language, set())
        found[language] = {phrase for phrase in kept | add.get(language, set()) if long_enough(phrase, language)}
    for language in found.keys() - {"en"}:
        found[language] -= english.words - found["en"]
    listed = {form for phrase in found["en"] for form in inflections(phrase, "en")}
    forms = {form for language, own in found.items() for phrase in own for form in inflections(phrase, language)}
    spelled_alike = (forms & english.words) - listed
    sections = {language: sorted(own) for language, own in sorted(found.items())}
    return {**sections, PASSES: sorted(passes["en"] | spelled_alike)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=WORDS, help="file to write")
    out: Path = parser.parse_args(arguments).out
    try:
        english = English(fetch("wordnet-base") / "usr/share/wordnet")
        sections = collect(fetch("naughty-words") / "package", fetch("cuss") / "package", english)
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    lines = [line for name, entries in sections.items() for line in ("", f"[{name}]", *entries)]
    out.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{out}: {sum(map(len, sections.values())) - len(sections[PASSES])} entries of {len(sections) - 1} languages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
