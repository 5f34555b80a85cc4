"""Captions of the training pool in other languages: emojibase's labels in thirty, Sweet Home 3D's names in twenty.

    python benchmarks/datasets/translations.py [--out DIR]

Writes `translations.jsonl` (default: `datasets/translations` in the per-user cache), a line a row of the pool that has
any: `{"id": "emoji-noto/1f438", "translations": {"de": ["Frosch"], ...}}`. A picture of another source whose first
caption is the English label of an emoji or a name of the catalog has that one's translations. Languages have the codes
of ISO 639-1, with a region where the source has two of them. Needs benchmarks/datasets/pool.py.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emojis
import furniture
from captions import distinct, tidy
from manifests import out_folder, read_lines, write_lines
from packages import PackageError, cache_root, fetch

#: Language -> texts, the best first.
Translations = dict[str, list[str]]

TAGS = 3  # of an emoji's tags, how many follow its label as a second text
ENGLISH = frozenset({"en", "en-gb", "en_US"})


def of_emojis() -> tuple[dict[str, Translations], dict[str, Translations]]:
    """Translations by an emoji's code points, and by its English label as a phrase."""
    root = fetch("emojibase-data") / "package"
    by_code: dict[str, Translations] = defaultdict(dict)
    for path in sorted(root.glob("*/data.json")):
        language = path.parent.name
        if language in ENGLISH:
            continue
        for entry in emojis.load_entries(path):
            label = tidy(entry["label"]).replace(": ", " ")
            tags = [tidy(tag) for tag in entry.get("tags", []) if tidy(tag).lower() != label.lower()]
            by_code[emojis.bare(entry["hexcode"])][language] = distinct([label, ", ".join(tags[:TAGS])])
    by_label = {
        emojis.label_phrase(entry["label"]).lower(): by_code[code]
        for entry in emojis.load_entries(root / "en" / "data.json")
        if (code := emojis.bare(entry["hexcode"])) in by_code
    }
    return dict(by_code), by_label


def of_furniture() -> tuple[dict[str, Translations], dict[str, Translations]]:
    """Translations by a row's id in the pool up to the picture's name, and by the English name as a phrase."""
    root = fetch("sweethome3d-furniture") / "usr/share/sweethome3d/furniture"
    by_id: dict[str, Translations] = defaultdict(dict)
    by_name: dict[str, Translations] = {}
    for path in sorted(root.glob("*.sh3f")):
        english = furniture.read_catalog(path)
        for language, names in _names(path).items():
            for number, name in names.items():
                if words := furniture.without_sizes(name):
                    by_id[f"sweethome3d/{path.stem}/{number}"][language] = [words]
        for number, row in english.items():
            if found := by_id.get(f"sweethome3d/{path.stem}/{number}"):
                by_name.setdefault(furniture.phrase_of(row.get("name", "")).lower(), found)
    return dict(by_id), by_name


def _names(path: Path) -> dict[str, dict[int, str]]:
    """Language -> number of a catalog's entry -> its name."""
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    found: dict[str, dict[int, str]] = {}
    for member in members:
        matched = re.fullmatch(r"PluginFurnitureCatalog_(\w+)\.properties", member)
        if matched is not None and matched[1] not in ENGLISH:
            language = {"zh_CN": "zh", "zh_TW": "zh-hant", "pt_PT": "pt-pt"}.get(matched[1], matched[1])
            rows = furniture.read_catalog(path, member)
            found[language] = {number: row["name"] for number, row in rows.items() if "name" in row}
    return found


def lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each row that has translations."""
    by_code, by_label = of_emojis()
    by_id, by_name = of_furniture()
    found = []
    for row in rows:
        code, first = row["metadata"].get("code"), row["captions"][0].lower()
        own = by_code.get(code or "") or by_id.get(_entry(row["id"]))
        if own := own or by_label.get(first) or by_name.get(first):
            found.append({"id": row["id"], "translations": own})
    return found


def _entry(row_id: str) -> str:
    """ "sweethome3d/Scopia/12-arm-chair" -> "sweethome3d/Scopia/12"."""
    return re.sub(r"^(sweethome3d/[^/]+/\d+)-.*$", r"\1", row_id)


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "translations", arguments)
    try:
        rows = read_lines(cache_root() / "datasets" / "pool" / "manifest.jsonl")
        found = lines(rows)
    except PackageError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        return 3
    write_lines(found, out / "translations.jsonl")
    splits = {row["id"]: row["split"] for row in rows}
    table = Table("language", *("rows " + split for split in ("train", "val", "demo")))
    counts = Counter((language, splits[line["id"]]) for line in found for language in line["translations"])
    for language in sorted({language for language, _ in counts}):
        table.add_row(language, *(f"{counts[language, split]:,}" for split in ("train", "val", "demo")))
    console = Console()
    console.print(table)
    texts = {text for line in found for own in line["translations"].values() for text in own}
    console.print(f"{len(found):,} of {len(rows):,} rows, {len(texts):,} texts", highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
