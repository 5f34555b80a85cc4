"""Sweet Home 3D's furniture catalogs: 820 small renders with a name, tags and a category in English."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from captions import distinct, with_article
from packages import fetch
from samples import Blob, Sample
from tables import read_tables

CATALOG = "PluginFurnitureCatalog.properties"
LICENSES = {"BlendSwap-CC-0": "CC0-1.0"}  # the others: CC-BY-3.0 (BlendSwap-CC-BY, Scopia, Reallusion, KatorLegaz)
# Tags that say where a model is from.
NOISE = frozenset({"blend swap", "scopia", "katorlegaz", "kator legaz", "reallusion", "scpts", "eteks"})
BETTER: dict[str, str] = read_tables("furniture.toml")["better"]


def samples() -> Iterator[Sample]:
    """One sample a catalog entry, in catalog order."""
    root = fetch("sweethome3d-furniture") / "usr/share/sweethome3d/furniture"
    for path in sorted(root.glob("*.sh3f")):
        for index, row in sorted(read_catalog(path).items()):
            phrase = phrase_of(row.get("name", ""))
            if not phrase or "icon" not in row:
                continue
            tags = [tag.strip().lower() for tag in row.get("tags", "").split(",")]
            tags = [tag for tag in tags if tag and tag not in NOISE and tag not in phrase]
            texts = distinct([phrase, with_article(phrase), ", ".join([phrase, *tags[:3]]) if tags else ""])
            metadata = {"title": row["name"], "category": row.get("category", ""), "author": row.get("creator", "")}
            metadata["file"] = f"{path.name}{row['icon']}"
            yield Sample(
                "sweethome3d",
                f"{path.stem}/{index}-{Path(row['icon']).stem}",
                phrase,
                tuple(texts),
                LICENSES.get(path.stem, "CC-BY-3.0"),
                image=Blob(path, member=row["icon"].lstrip("/")),
                metadata=metadata,
            )


def read_catalog(path: Path, member: str = CATALOG) -> dict[int, dict[str, str]]:
    """Entries of a catalog by number: {1: {"name": "Armchair", "icon": "/x/armchair.png", ...}}."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read(member).decode("iso-8859-1")
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found.group(1), 16)), text)
    rows: dict[int, dict[str, str]] = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.M):
        rows[int(number)][key] = value.strip().replace("\\ ", " ").replace("\\:", ":")
    return dict(rows)


def phrase_of(name: str) -> str:
    """A catalog name as a phrase: "Bed 140x190" -> "bed", "Armchair 2" -> "armchair"."""
    plain = without_sizes(name)
    kept = plain if re.search(r"[A-Z]{2}|[a-z][A-Z]", plain) else plain.lower()
    return BETTER.get(kept.lower(), kept)


def without_sizes(name: str) -> str:
    """A catalog name without sizes, numbers and what is in brackets: "Bett 140x190" -> "Bett"."""
    plain = re.sub(r"\b\d+([x:]\d+)*( ?cm)?\b|\([^)]*\)", " ", name)
    return re.sub(r"\s+", " ", plain).strip(" ,-")
