"""The words of the field: the first edition's private words are in no name, comment, message or page.

CHANGELOG.md is history and keeps them. Keys of files and of ``--json`` are a contract and keep them too: ``KEYS``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from paths import ROOT

#: Word -> what is written in its place.
RETIRED = {
    "seal|seals|sealed": "checksum",
    "broken": "corrupted, damaged",
    "ahead": "prefetch, before",
    "vanish|vanishes|vanished|vanishing": "missing, removed",
    "wish|wishes|wished": "option, request",
    "ask|asks|asked|asking|asker": "query, prompt, request, check",
    "said": "stated, reported, printed",
    "tell|tells|told|telling": "show, report, warn, log",
    "go on|goes on|going on|gone on|went on": "continue, resume",
    "is seen to|is there twice": "is handled, duplicates",
}
#: Keys of files that are a contract (the index file's, a benchmark report's, recipes'), and names of Python's own.
KEYS = ('"wish"', '"asked"', '"tell"', "[tell]", "recipe.tell", "tell: Captioning", '"tell_gates"')
PYTHONS = ("BrokenPipeError", ".tell()", "def tell(", "write-ahead log")
_PATTERN = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b", re.IGNORECASE)
_ROOMS = ("indexer", "retrieval", "benchmarks", "docs", "data/recipes")
_FILES = sorted(
    path
    for path in (
        ROOT / "cli.py",
        ROOT / "README.md",
        *(
            path
            for room in _ROOMS
            for path in (ROOT / room).rglob("*")
            if path.suffix in (".py", ".md", ".toml", ".j2")
        ),
    )
)


def prose(path: Path, line: str) -> str:
    """What of a line is ours: in the word lists of data sets the comments alone, for the words are their sources'."""
    return line.partition("#")[2] if path.suffix == ".toml" and path.parent.name == "datasets" else line


def words_of(text: str) -> str:
    """The text with its names cut into words: ``read_ahead`` and ``ReadAhead`` are both two words."""
    for key in (*KEYS, *PYTHONS):
        text = text.replace(key, "")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ")


@pytest.mark.parametrize("name", ["read_ahead", "ReadAhead", "# what was asked", "goes on", "Told"])
def test_the_pattern_finds_retired_words_in_names_and_prose(name: str) -> None:
    assert _PATTERN.search(words_of(name))


@pytest.mark.parametrize("room", [*_ROOMS, "cli.py", "README.md"])
def test_no_retired_word_is_in_code_or_documents(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group(0)}: {line.strip()[:100]}"
        for path in _FILES
        if path.relative_to(ROOT).as_posix().startswith(room)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in _PATTERN.finditer(words_of(prose(path, line)))
    ]
    assert not found, "\n".join([f"{len(found)} lines have a retired word; see RETIRED for what to write:", *found])
