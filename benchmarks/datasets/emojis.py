"""Emoji in eight styles with the English label and tags of emojibase: one concept an emoji, whatever the style."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from captions import distinct, tidy, with_article
from packages import fetch
from samples import Blob, Sample

# package, folder in it, ending, source name, licence of the drawings
STYLES = (
    ("emoji-datasource-google", "package/img/google/64", ".png", "emoji-noto", "Apache-2.0"),
    ("emoji-datasource-twitter", "package/img/twitter/64", ".png", "emoji-twemoji", "CC-BY-4.0"),
    ("@lobehub/fluent-emoji-3d", "package/assets", ".webp", "emoji-fluent-3d", "MIT"),
    ("@lobehub/fluent-emoji-flat", "package/assets", ".svg", "emoji-fluent-flat", "MIT"),
    ("openmoji", "package/color/svg", ".svg", "emoji-openmoji", "CC-BY-SA-4.0"),
)
ICONIFY = ("noto-v1", "fxemoji", "streamline-emojis")
COMPONENT_GROUP = 2  # skin tones and hair, no pictures of their own


def samples() -> Iterator[Sample]:
    """All emoji of all styles, without skin tones and regional indicators."""
    for *_, source, _license in STYLES:
        yield from style(source)
    yield from _iconify(load_entries(fetch("emojibase-data") / "package" / "en" / "data.json"))


def style(source: str) -> Iterator[Sample]:
    """The emoji of one style of `STYLES`, by its source name."""
    entries = load_entries(fetch("emojibase-data") / "package" / "en" / "data.json")
    by_code = {bare(entry["hexcode"]): entry for entry in entries}
    package, folder, ending, _source, license_name = next(row for row in STYLES if row[3] == source)
    for path in sorted((fetch(package) / folder).glob(f"*{ending}")):
        entry = by_code.get(bare(path.stem))
        if entry is not None:
            yield to_sample(entry, source, bare(path.stem), license_name, Blob(path))


def load_entries(path: Path) -> list[dict[str, Any]]:
    """Entries of an emojibase `data.json` that stand for pictures."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in rows if row.get("group") not in (None, COMPONENT_GROUP)]


def bare(code: str) -> str:
    """Code points in lower case without the presentation selector, which packages write or leave out at will."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def label_phrase(label: str) -> str:
    """An emojibase label as a phrase: "flag: Chad" -> "flag of Chad", "woman: red hair" -> "woman with red hair"."""
    label = tidy(label)
    kind, colon, rest = label.partition(": ")
    if not colon:
        return label
    if kind == "flag":
        return f"flag of {rest}"
    if rest.startswith("facing"):
        return f"{kind} {rest}"
    if rest == "bald":
        return f"bald {kind}"
    if rest == "beard":
        return f"{kind} with a beard"
    if rest.endswith("hair"):
        return f"{kind} with {rest}"
    if kind in {"kiss", "family", "couple with heart"}:
        return f"{kind} of {rest.replace(', ', ' and ')}"
    return f"{kind} {rest}"


def concept_of(label: str) -> str:
    """The phrase that an emoji is split by: of a person doing something, what is done ("man surfing")."""
    phrase = label_phrase(label)
    if phrase.startswith(("family", "kiss", "couple")):
        return phrase.split()[0]
    return phrase


def to_sample(entry: dict[str, Any], source: str, name: str, license_name: str, blob: Blob) -> Sample:
    """A sample of one emoji: label first, then label with its nearest words, then tags."""
    phrase = label_phrase(entry["label"])
    tags = [tidy(tag) for tag in entry.get("tags", []) if tag.lower() not in phrase.lower()]
    texts = distinct([phrase, ", ".join(tags[:4]), ", ".join(tags[4:8]), with_article(phrase)])
    metadata = {"title": entry["label"], "emoji": entry["emoji"], "code": bare(entry["hexcode"])}
    return Sample(source, name, concept_of(entry["label"]), tuple(texts), license_name, image=blob, metadata=metadata)


def _iconify(entries: list[dict[str, Any]]) -> Iterator[Sample]:
    """The sets of `@iconify/json`, matched to emojibase by squeezed name, else kept under their own name."""
    by_name: dict[str, dict[str, Any]] = {}
    root = fetch("emojibase-data") / "package"
    unicode_names = json.loads((root / "meta" / "unicode-names.json").read_text(encoding="utf-8"))
    for entry in entries:
        for name in (unicode_names.get(entry["hexcode"], ""), entry["label"].replace("flag: ", ""), entry["label"]):
            if squeeze(name):
                by_name[squeeze(name)] = entry
    folder = fetch("@iconify/json") / "package" / "json"
    for prefix in ICONIFY:
        icons = json.loads((folder / f"{prefix}.json").read_text(encoding="utf-8"))
        license_name = icons["info"]["license"]["spdx"]
        for name, icon in sorted(icons["icons"].items()):
            if "skin-tone" in name:
                continue
            width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
            left, top = icon.get("left", 0), icon.get("top", 0)
            svg = (
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
            )
            plain = re.sub(r"-\d+$", "", name)
            match = by_name.get(squeeze(name)) or by_name.get(squeeze(plain))
            make = partial(_own_name, plain) if match is None else partial(to_sample, match)
            if match is None and (prefix == "fxemoji" or not re.search(r"[a-z]{3}", plain)):
                continue  # its names are run together and cannot be taken apart
            yield make(f"iconify-{prefix}", name, license_name, Blob(data=svg.encode()))


def _own_name(plain: str, source: str, name: str, license_name: str, blob: Blob) -> Sample:
    phrase = plain.replace("-", " ")
    return Sample(source, name, phrase, (phrase,), license_name, image=blob, metadata={"title": plain})


def squeeze(name: str) -> str:
    """Letters and digits only, lower case: "Face with Tears of Joy" -> "facewithtearsofjoy"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
