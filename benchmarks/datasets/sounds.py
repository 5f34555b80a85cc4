"""Recordings of the pool: drum kits, instrument notes, LMMS and Sonic Pi samples, named in plain words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator

from captions import distinct, with_article
from packages import fetch
from samples import Blob, Sample
from splits import DEMO
from tables import read_tables

# What a drum is called in a kit or file name -> what it is; the first that is found counts.
DRUMS = [
    (re.compile(pattern, re.I), phrase)
    for pattern, phrase in [
        (r"agogo", "agogo bell"),
        (r"cow ?bell|^misc_cowbell", "cowbell"),
        (r"tambourine ?foot", "foot tambourine"),
        (r"tambour", "tambourine"),
        (r"bongo", "bongo drum"),
        (r"conga", "conga drum"),
        (r"djembe", "djembe drum"),
        (r"(dununba|kenkeni|sangban)\d? bell", "African iron bell"),
        (r"dununba|kenkeni|sangban", "dunun drum"),
        (r"cajon", "cajon"),
        (r"clave|^clav\d", "claves"),
        (r"finger ?snap|snaph", "finger snap"),
        (r"clap", "hand clap"),
        (r"maraca", "maraca"),
        (r"shaker", "shaker"),
        (r"water ?glass", "water glass"),
        (r"wood ?block|^wood", "wood block"),
        (r"triangle", "triangle"),
        (r"whistle", "whistle"),
        (r"china", "china cymbal"),
        (r"splash", "splash cymbal"),
        (r"ride ?bell|paistebell|crashride18bell", "ride cymbal bell"),
        (r"crash ?ride", "crash ride cymbal"),
        (r"ride", "ride cymbal"),
        (r"crash", "crash cymbal"),
        (r"(pedal|foot|pd\b).*(hat|hh|hi-hat)|(hat|hh|hi-hat).*(pedal|foot|pd\b)", "pedal hi-hat"),
        (r"(semi).*(hat|hh|hi-hat)|(hat|hh|hi-hat).*semi", "half-open hi-hat"),
        (r"(open|ohh|\bop\b|free).*(hat|hh|hi-hat)?$|(hat|hh|hi-hat|hat_).*(open|op\b|_op_|free|swish)", "open hi-hat"),
        (r"hat|hh\b|hh_|hihat|hi-hat", "closed hi-hat"),
        (r"snare ?roll", "snare drum roll"),
        (r"rim ?shot|rim|side ?stick", "drum rim shot"),
        (r"stick|click", "drum stick on the rim"),
        (r"snare|\bsn\b|_sn_|_sn\d", "snare drum"),
        (r"floor ?tom|tom ?floor", "floor tom drum"),
        (r"\b(tom|tm).*(hi|high)|(hi|high) ?tom", "high tom drum"),
        (r"\b(tom|tm).*(low|lo\b)|low ?tom", "low tom drum"),
        (r"\btom|floortom", "tom drum"),
        (r"kick|bass ?drum|\bbd\b|_bd|^bd|_k_0", "bass drum"),
        (r"cymbal", "cymbal"),
        (r"drum", "drum"),
    ]
]
_TABLES = read_tables("sounds.toml")
#: Drum -> another name for it.
ALSO: dict[str, str] = _TABLES["also"]
#: General MIDI program whose folder name is not its common name -> the common name.
PROGRAMS: dict[str, str] = _TABLES["programs"]
#: Start of the path of an LMMS sample -> what it is; the first that fits counts.
LMMS: dict[str, str] = _TABLES["lmms"]
LIMIT_LAYERS = 4  # recordings of one drum at different strengths are near-copies
LIMIT_NOTES = 8  # notes of one instrument, spread over its range
KIT_LICENSES = {
    "rumpf_kit_z01_h2": "CC0-1.0",
    "Audiophob": "CC-BY-3.0",
    "BJA_Pacific": "CC-BY-SA-3.0",
    "circAfrique v4": "CC-BY-SA-3.0",
}


def drum_phrase(name: str) -> str:
    """What a drum of a kit is ("Closed HH" -> "closed hi-hat"); "" for a name that does not say."""
    name = re.sub(r"^[a-g]#?\d - |\([^)]*\)", "", name)  # "d3 - snare 1", "Snare (Pearl Free Floating)"
    return next((phrase for pattern, phrase in DRUMS if pattern.search(name)), "")


def drum_captions(phrase: str) -> tuple[str, ...]:
    """ "snare drum" -> ("a snare drum hit", "snare drum", …)."""
    if phrase in {"hand clap", "finger snap", "drum rim shot", "snare drum roll", "drum stick on the rim", "whistle"}:
        return tuple(distinct([with_article(phrase), ALSO.get(phrase, "")]))
    if phrase in {"shaker", "maraca"}:
        return (f"a {phrase} being shaken", phrase, "percussion")
    return tuple(distinct([f"{with_article(phrase)} being hit", phrase, ALSO.get(phrase, ""), "percussion"]))


def hydrogen() -> Iterator[Sample]:
    """Hydrogen's drum kits, by the instrument that the kit's XML gives a file; a few layers an instrument."""
    root = fetch("hydrogen-drumkits") / "usr/share/hydrogen/data/drumkits"
    for kit in sorted(path.parent for path in root.glob("*/drumkit.xml")):
        text = (kit / "drumkit.xml").read_text(encoding="utf-8", errors="replace")
        tree = ElementTree.fromstring(re.sub(r'\sxmlns="[^"]+"', "", text, count=1))
        taken: Counter[str] = Counter()
        for instrument in tree.iter("instrument"):
            name = (instrument.findtext("name") or "").strip()
            files = [node.text for node in instrument.iter("filename") if node.text]
            for file in files[:LIMIT_LAYERS]:
                # A kit may call whatever sound it has by the drum it stands for: Audiophob's cowbell is a synth.
                phrase = drum_phrase(name) if kit.name != "Audiophob" else drum_phrase(file)
                path = kit / file
                if not phrase or not path.is_file() or taken[file]:
                    continue
                taken[file] += 1
                yield Sample(
                    "hydrogen",
                    f"{kit.name}/{file}",
                    phrase,
                    drum_captions(phrase),
                    KIT_LICENSES.get(kit.name, "GPL-2.0-or-later"),
                    audio=Blob(path),
                    metadata={"title": name, "kit": kit.name},
                )


def lmms() -> Iterator[Sample]:
    """LMMS's recorded samples; not its waveforms, which are one period long."""
    root = fetch("lmms-common") / "usr/share/lmms/samples"
    for path in sorted(root.rglob("*.ogg")):
        where = path.relative_to(root).as_posix()
        if where.startswith("drums/"):
            phrase = drum_phrase(re.sub(r"\d+$", "", path.stem).replace("_", " "))
            captions = drum_captions(phrase)
        else:
            phrase = next((text for prefix, text in LMMS.items() if where.startswith(prefix)), "")
            captions = tuple(distinct([with_article(phrase), phrase]))
        if phrase:
            metadata = {"title": path.stem}
            yield Sample("lmms", where[:-4], phrase, captions, "GPL-2.0-or-later", audio=Blob(path), metadata=metadata)


def midi_notes() -> Iterator[Sample]:
    """Notes of the General MIDI instruments, at most `LIMIT_NOTES` of each, spread over its range."""
    root = fetch("web-music-score-samples") / "package/samples"
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        program, _, slug = folder.name.partition("-")
        phrase = program_phrase(slug)
        if not phrase:
            continue
        notes = sorted(folder.glob("*.mp3"), key=lambda path: _pitch(path.stem))
        limit = LIMIT_NOTES if int(program) < 120 else 2  # effects sound alike at every pitch
        step = max(1.0, len(notes) / limit)
        for index in sorted({int(i * step) for i in range(min(limit, len(notes)))}):
            note = notes[index]
            register = ("low", "middle", "high")[min(2, 3 * index // max(1, len(notes)))]
            is_note = int(program) < 120 and "singing" not in phrase and "hit" not in phrase
            texts = [with_article(phrase) + " note" if is_note else phrase, phrase]
            if is_note and register != "middle":
                texts.append(f"a {register} note on {with_article(phrase)}")
            metadata = {"title": slug, "note": note.stem, "program": program}
            name = f"{folder.name}/{note.stem}"
            yield Sample("midi-notes", name, phrase, tuple(distinct(texts)), "MIT", audio=Blob(note), metadata=metadata)


def program_phrase(slug: str) -> str:
    """A General MIDI program's folder name as a phrase: "alto-sax" -> "alto saxophone"."""
    if slug in PROGRAMS:
        return PROGRAMS[slug]
    if found := re.fullmatch(r"(lead|pad|fx)-\d-(.+)", slug):
        kinds = {"lead": "synthesizer lead", "pad": "synthesizer pad", "fx": "synthesizer effect"}
        return kinds[found.group(1)]
    return slug.replace("-", " ")


def _pitch(name: str) -> int:
    """Semitones of a note name, to order by: "Ab3" -> 56."""
    found = re.fullmatch(r"([A-G])(b|#|s)?(-?\d)", name)
    if found is None:
        return 0
    letter, accidental, octave = found.groups()
    step = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[letter]
    return 12 * (int(octave) + 1) + step + {None: 0, "b": -1, "#": 1, "s": 1}[accidental]


def sonic_pi() -> Iterator[Sample]:
    """Sonic Pi's samples (CC0): all of them are kept for the demo collection and never trained on."""
    root = fetch("sonic-pi-samples") / "usr/share/sonic-pi/samples"
    names: dict[str, list[str]] = read_tables("sonic_pi_names.toml")["names"]
    for path in sorted(root.glob("*.flac")):
        texts = names.get(path.stem) or [path.stem.replace("_", " ")]
        yield Sample(
            "sonic-pi",
            path.stem,
            texts[0],
            tuple(texts),
            "CC0-1.0",
            audio=Blob(path),
            split=DEMO,
            metadata={"title": path.stem},
        )


def samples() -> Iterator[Sample]:
    """All recordings of this module."""
    yield from hydrogen()
    yield from lmms()
    yield from midi_notes()
    yield from sonic_pi()
