"""Open Clip Art 0.18: PNG drawings captioned by file name, folder and, where it can be believed, the SVG's title.

Many files carry the title of the template they were drawn over ("pear" on cherries), so a title counts only where it
agrees with the file name and few files share it. File names end in the artist's name and a number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captions import distinct, tidy, with_article, words, words_apart
from packages import fetch
from samples import Blob, Sample
from splits import normalise
from tables import read_tables

LICENSE = "public domain (Open Clip Art Library dedication)"
LIMIT_PIXELS = 20_000_000  # a PNG above it is drawn from its SVG instead: a few have 600 megapixels
SMALL_PIXELS = 30_000  # a PNG below it (icons, map symbols of 30 pixels) is drawn from its SVG too
LIMIT_SHARED = 3  # a title on more files than this is a template's

# Folders left out: shapes without meaning, gradients, patterns, icon themes (one picture of a symbol in a thousand
# near-copies), letters of signal codes, flags of regions.
SKIPPED = re.compile(
    r"shapes/(stars|arrows|callouts|flowchart|jigsaw)/|special/|computer/icons/\w+-theme/|computer/buttons/|"
    r"signs_and_symbols/(led|flags/(semaphore|historic|miscellany|europe/\w+))/|computer/folders/gnome|"
    r"recreation/games/cards/(bordered|white|cardbacks)/|transportation/aiga-symbols/|logos/|"
    r"signs_and_symbols/flags/signalflag|computer/icons/(gnome|70a|bb_|people_|home)|computer/bb_|"
    r"people/clothing/pantyhose/|geography/.*-(black|outline|shaded)$|"
    r"signs_and_symbols/(no|money|mpcad|probability|elder_sign|BandeMarquage)"
)
# Artists who are not named in their files, or by another name than their files carry.
ARTISTS = words(
    "ganson zazou mimooh peterm mo mo1 sek guziec romus nurbldoff nubldoff frouke yemu saint gerald_g gerald_g. aj "
    "a.j._ashton arn shandy_brown the_structorr rat wolfram_es http_www.treebuilders hash_0x89c79d4 RPSWB"
)
_TABLES = read_tables("openclipart_names.toml")
#: Name that is not English -> English; "" for a name that says nothing.
TRANSLATIONS: dict[str, str] = _TABLES["names"]
FOLDER_WORDS: dict[str, str] = _TABLES["folders"]
COUNTRIES: dict[str, str] = _TABLES["countries"]
SUITS = {"c": "clubs", "d": "diamonds", "h": "hearts", "s": "spades"}
RANKS = {"a": "ace", "j": "jack", "q": "queen", "k": "king"} | {str(i): str(i) for i in range(2, 11)}
COLOURS = "red|blue|green|yellow|orange|purple|pink|black|white|grey|gray|brown|gold|golden|silver"
# Words that a file name may hold beside the thing: how it is drawn, a version.
NOISE = re.compile(r"\b(v?\d+(\.\d+)*|v0|clip ?art|symbol 1m bwh|symbol 10cm bwh|rpg map elem\w*|md|aj|aiga)\b")


@dataclass(frozen=True)
class Described:
    """What the SVG beside a PNG says of itself: title, artist, keywords; empty strings where it says nothing."""

    title: str = ""
    artist: str = ""
    keywords: tuple[str, ...] = ()


def samples() -> Iterator[Sample]:
    """Drawings with a usable name, in path order. The same bytes in two folders are merged later."""
    pictures = fetch("openclipart-png") / "usr/share/openclipart/png"
    drawings = fetch("openclipart-svg") / "usr/share/openclipart/svg"
    paths = [path for path in sorted(pictures.rglob("*.png")) if not SKIPPED.match(relative(path, pictures))]
    described = {path: describe(drawings / f"{relative(path, pictures)}.svg") for path in paths}
    shared = Counter(row.title for row in described.values())
    for path in paths:
        row = described[path]
        where = relative(path, pictures)
        title = row.title if 0 < shared[row.title] <= LIMIT_SHARED else ""
        texts = captions_of(where, title, row.artist, row.keywords)
        if texts:
            metadata = {"title": row.title, "author": row.artist, "file": f"{where}.png"}
            metadata["folder"] = where.rpartition("/")[0]
            drawing = drawings / f"{where}.svg"
            usual = SMALL_PIXELS <= pixels(path) <= LIMIT_PIXELS
            source = path if usual or not drawing.is_file() else drawing
            if source == drawing or pixels(source) <= LIMIT_PIXELS:
                # By its suit a card would be split from the other suits, which look the same.
                concept = "playing card" if "games/cards/" in where else texts[0]
                image = Blob(source)
                yield Sample("openclipart", where, concept, tuple(texts), LICENSE, image=image, metadata=metadata)


def pixels(png: Path) -> int:
    """Width times height by a PNG's header."""
    with png.open("rb") as file:
        start = file.read(24)
    return int.from_bytes(start[16:20], "big") * int.from_bytes(start[20:24], "big")


def relative(path: Path, root: Path) -> str:
    """Path under `root` without its ending, with forward slashes."""
    return path.relative_to(root).as_posix()[: -len(path.suffix)]


def describe(svg: Path) -> Described:
    """Read title, creator and keywords out of an SVG's metadata; never fails on malformed XML."""
    if not svg.is_file():
        return Described()
    text = svg.read_text(encoding="utf-8", errors="replace")

    def first(pattern: str) -> str:
        found = re.search(pattern, text, re.S)
        return tidy(found.group(1)) if found else ""

    title = first(r"<dc:title>(.*?)</dc:title>")
    artist = first(r"<dc:creator.*?<dc:title>(.*?)</dc:title>")
    keywords = re.findall(r"<rdf:li>(.*?)</rdf:li>", text, re.S)
    kept = tuple(tidy(word).lower() for word in keywords if word.strip() and not re.match(r"hash|0x|\d", word.lower()))
    return Described(title, artist, kept)


def captions_of(where: str, title: str = "", artist: str = "", keywords: tuple[str, ...] = ()) -> list[str]:
    """Captions of the drawing at `where` (path under the collection, no ending), best first; empty for no name.

    `title` is one that few files share; it is believed where it agrees with the file name.
    """
    folder, _, stem = where.rpartition("/")
    if "games/cards/" in where:
        return _card(stem)
    if (special := _flag_or_map(where, stem)) is not None:
        return special
    name = clean_name(stem, artist)
    believed = agrees(title, stem, name)
    clean_title = clean_phrase(title) if believed else ""
    best = ""
    for candidate in (clean_title, name):
        known = TRANSLATIONS.get(normalise(_without_numbers(candidate)))
        if known == "":
            return []
        if known is not None and not (folder.startswith("transportation") and normalise(candidate) == "horse"):
            best = known
            break
    best = best or _sign(folder, clean_title or name)
    if not re.search(r"[a-z]{3}", best.lower()):
        return []
    kind = FOLDER_WORDS.get(folder.rpartition("/")[2], "")
    near = [word for word in keywords if believed and word.isalpha() and word not in KEYWORD_NOISE][:5]
    with_folder = f"{best}, {kind}" if kind and kind.split()[-1] not in normalise(best) else ""
    extra = ", ".join(word for word in distinct(near) if word not in normalise(best).split())
    return distinct([best, with_article(best), with_folder, extra])


KEYWORD_NOISE = words(
    "unsorted mapsym icon icons theme symbol hash shape action networksym appicon clipart openclipart menu tool "
    "r filesystem application activities weathersym signs"
)


def clean_name(stem: str, artist: str = "") -> str:
    """A file's stem as words, without the artist's (cut-off) name, numbers and versions.

    >>> clean_name("wooden_table_benji_park_01", "Benji Park")
    'wooden table'
    >>> clean_name("ragno_figo_architetto_fr_01", "Architetto Francesco Rollandin")
    'ragno figo'
    """
    core = re.sub(r"(_?\d*[a-z]?|[_-])$", "", stem) if re.search(r"_\d+[a-z]?$", stem) else stem.rstrip("_-")
    core = re.sub(r"_[rs]$|\d+$", "", core).rstrip("_-")
    slugs = [_slug(artist), *(_slug(word) for word in artist.split() if len(word) > 2), *map(_slug, sorted(ARTISTS))]
    lowered = _slug(core)
    parts = lowered.split("_")
    for i in range(len(parts)):
        tail = "_".join(parts[i:])
        if tail and any(_is_tail(tail, slug) for slug in slugs):
            parts = parts[:i]
            break
    kept = core if len(parts) == len(lowered.split("_")) else "_".join(parts)
    return clean_phrase(words_apart(kept))


def _is_tail(tail: str, slug: str) -> bool:
    """Whether the end of a name is an artist's slug, perhaps cut off by the name's limit of 24 characters."""
    return tail == slug or (len(tail) >= 4 and slug.startswith(tail)) or (len(slug) > 5 and tail.startswith(slug))


def clean_phrase(text: str) -> str:
    """A title or name as a phrase: brackets opened, black and white spelled out, noise and numbers dropped."""
    text = tidy(text)
    text = re.sub(r"^clipart by [\w .]+ - ", "", text, flags=re.I)
    grey = re.search(r"\b(b ?(and|&|/) ?w|bw)\b", text.replace("_", " "), re.I)
    text = re.sub(r"\((b ?(and|&|/) ?w|bw)\)|\b(b and w|bw)\b", "", text.replace("_", " "), flags=re.I)
    text = re.sub(r"\s*\((\w[\w ]*)\)", r", \1", text)
    text = re.sub(r"\bicons?\b$|^hotel icon |[#|*\"]", " ", text, flags=re.I)
    text = NOISE.sub(" ", re.sub(r"(?<=[a-zA-Z]{3})\d+\b", "", text.lower()))
    text = re.sub(r"\s+,", ",", re.sub(r"\s+", " ", text.replace("_", " "))).strip(" ,;:-./!?")
    text = re.sub(r"(?<=\w{3})-(?=\w{3})", " ", re.sub(r" -+ ?", ", ", text))
    text = re.sub(r"^contour (\w+)$", r"\1 silhouette", re.sub(r"^etiquette (?=\w)", "", text))
    text = re.sub(rf"^(\w+),? ({COLOURS})$", r"\2 \1", re.sub(r"^in room (?=\w)", "", text))
    return f"{text}, black and white" if grey and text else text


def agrees(title: str, stem: str, name: str) -> bool:
    """Whether a title can be the file's own: one begins with the other, or they share a word that says something."""
    if not title or "@" in title or "http" in title.lower():
        return False
    ours, theirs = _slug(stem), _slug(clean_phrase(title) or title)
    if len(theirs) >= 3 and (ours.startswith(theirs[:20]) or theirs.startswith(ours.rstrip("_"))):
        return True
    a = {word for word in normalise(name).split() if len(word) > 2}
    b = {word for word in normalise(title).split() if len(word) > 2}
    return bool(a & b)


def _slug(text: str) -> str:
    return re.sub(r"_+", "_", re.sub(r"[^a-z0-9.]", "_", tidy(text).lower())).strip("_")


def _without_numbers(text: str) -> str:
    return re.sub(r"\b\d+\b|(?<=[a-z])\d+\b", "", text.lower().replace(", black and white", ""))


def _sign(folder: str, phrase: str) -> str:
    """The phrase with "symbol" for AIGA's symbols in `map_symbols`, and with "road sign" for road signs."""
    if folder.endswith("roadsigns") and "sign" not in phrase and phrase:
        return f"{phrase} road sign"
    if folder.endswith("map_symbols") and phrase:
        return f"{phrase} symbol"
    return phrase


def _card(stem: str) -> list[str]:
    """ "simple_c_k" -> "king of clubs playing card"."""
    found = re.fullmatch(r"\w+_([cdhs])_(\w+)", stem)
    if found is None or found.group(2) not in RANKS:
        return []
    phrase = f"{RANKS[found.group(2)]} of {SUITS[found.group(1)]}"
    return [f"{phrase} playing card", f"playing card, {phrase}"]


def _flag_or_map(where: str, stem: str) -> list[str] | None:
    """Captions of flags of countries and states, which are named by the place alone; None for other drawings."""
    if not where.startswith("signs_and_symbols/flags/"):
        return None
    if re.search(r"map|outline|coat_of_arms|badge|rios|symbol_|ampel", stem):
        return []
    place = re.sub(r"_\d+$", "", stem).replace("_", " ").strip()
    if re.search(r"flag|patricia|ganson|richard|mike|hash|guziec|state", place) or len(place) < 4:
        return []
    place = COUNTRIES.get(place, re.sub(r"^(usa|canada|australia) (?=\w)", "", place))
    proper = " ".join(w if w in {"of", "and", "the"} else w.capitalize() for w in place.split())
    return [f"flag of {proper}", f"{proper} flag"]
