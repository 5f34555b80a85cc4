"""Recordings of the pool: drum kits, instrument notes, LMMS and Sonic Pi samples, named in plain words."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from captions import distinct, with_article
from packages import fetch
from samples import Blob, Sample
from splits import DEMO

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
ALSO = {
    "bass drum": "kick drum",
    "closed hi-hat": "closed high hat cymbal",
    "open hi-hat": "open high hat cymbal",
    "pedal hi-hat": "hi-hat closed by the pedal",
    "hand clap": "hands clapping",
    "drum rim shot": "rim shot on a snare drum",
    "drum stick on the rim": "side stick",
    "whistle": "whistle blowing",
    "finger snap": "snapping fingers",
    "water glass": "tapping a glass of water",
}
LIMIT_LAYERS = 4  # recordings of one drum at different strengths are near-copies
LIMIT_NOTES = 8  # notes of one instrument, spread over its range
KIT_LICENSES = {
    "rumpf_kit_z01_h2": "CC0-1.0",
    "Audiophob": "CC-BY-3.0",
    "BJA_Pacific": "CC-BY-SA-3.0",
    "circAfrique v4": "CC-BY-SA-3.0",
}

# General MIDI programs whose folder name is not what one would call them.
PROGRAMS = {
    "acoustic-grand-piano": "grand piano", "bright-acoustic-piano": "piano",
    "electric-grand-piano": "electric piano", "honkytonk-piano": "honky-tonk piano",
    "electric-piano-1": "electric piano", "electric-piano-2": "electric piano",
    "drawbar-organ": "electric organ", "percussive-organ": "electric organ", "rock-organ": "rock organ",
    "acoustic-guitar-nylon": "classical guitar", "acoustic-guitar-steel": "acoustic guitar",
    "electric-guitar-jazz": "jazz guitar", "electric-guitar-clean": "electric guitar",
    "electric-guitar-muted": "muted electric guitar", "overdriven-guitar": "overdriven electric guitar",
    "distortion-guitar": "distorted electric guitar", "guitar-harmonics": "guitar harmonics",
    "acoustic-bass": "double bass", "electric-bass-finger": "bass guitar",
    "electric-bass-pick": "bass guitar", "fretless-bass": "fretless bass guitar",
    "slap-bass-1": "slapped bass guitar", "slap-bass-2": "slapped bass guitar",
    "synth-bass-1": "synthesizer bass", "synth-bass-2": "synthesizer bass", "contrabass": "double bass",
    "tremolo-strings": "tremolo strings", "pizzicato-strings": "plucked strings", "orchestral-harp": "harp",
    "string-ensemble-1": "string orchestra", "string-ensemble-2": "string orchestra",
    "synth-strings-1": "synthesizer strings", "synth-strings-2": "synthesizer strings",
    "choir-aahs": "choir singing aah", "voice-oohs": "voices singing ooh", "synth-voice": "synthesizer voice",
    "orchestra-hit": "orchestra hit", "synth-brass-1": "synthesizer brass",
    "synth-brass-2": "synthesizer brass", "soprano-sax": "soprano saxophone", "alto-sax": "alto saxophone",
    "tenor-sax": "tenor saxophone", "baritone-sax": "baritone saxophone",
    "blown-bottle": "blowing over a bottle", "shanai": "shehnai",
    "guitar-fret-noise": "fingers sliding on guitar strings", "breath-noise": "breath noise",
    "seashore": "waves on the seashore", "bird-tweet": "bird chirping", "telephone-ring": "telephone ringing",
    "helicopter": "helicopter", "applause": "applause of an audience", "gunshot": "gunshot",
    "bagpipe": "bagpipes", "fiddle": "fiddle",
}  # fmt: skip

LMMS = {
    "effects/scratch": "record scratch", "effects/explode": "explosion", "effects/wind_chimes": "wind chimes",
    "effects/filter_sweep": "synthesizer sweep", "effects/warp": "science fiction warp sound",
    "effects/chroma_sound_effect": "electronic sound effect", "latin/latin_brass": "latin brass section",
    "latin/latin_guitar": "latin guitar", "instruments/church_organ": "church organ",
    "instruments/cello": "cello", "instruments/bassslap": "slapped bass guitar",
    "instruments/steel_guitar_medium_distorted": "distorted electric guitar",
    "instruments/steel_guitar_slight_distorted": "distorted electric guitar",
    "instruments/steel_guitar_heavy_distorted": "heavily distorted electric guitar",
    "instruments/steel_guitar": "acoustic guitar with steel strings", "instruments/trumpet": "trumpet",
    "instruments/flute": "flute", "instruments/violin_fingered": "violin", "instruments/piano": "piano",
    "instruments/e_organ": "electric organ", "instruments/e_piano_accord": "electric piano chord",
    "instruments/violin_double_stop": "violin double stop", "instruments/harpsichord": "harpsichord",
    "instruments/violin_pizzicato": "plucked violin", "misc/applause": "applause of an audience",
    "misc/breath": "breathing", "misc/dong": "gong", "misc/metalish_dong": "metallic gong",
    "misc/metronome": "metronome ticking", "misc/raving_crowd": "cheering crowd",
    "misc/electric_ping": "electric ping", "misc/hit": "hit", "basses/": "synthesizer bass",
    "bassloops/": "electronic bass loop", "stringsnpads/strings": "string orchestra",
    "stringsnpads/bell_choir": "bells and choir", "stringsnpads/rave_choir": "choir",
    "stringsnpads/chorus": "choir", "stringsnpads/heaven_strings": "synthesizer strings",
    "stringsnpads/space_strings": "synthesizer strings", "stringsnpads/orion_string": "synthesizer strings",
    "stringsnpads/": "synthesizer pad", "beats/break": "drum break beat", "beats/jungle": "jungle drum loop",
    "beats/electro": "electronic drum beat", "beats/909": "drum machine beat",
    "beats/house": "house music drum loop",
}  # fmt: skip


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
            yield Sample(
                "midi-notes", f"{folder.name}/{note.stem}", phrase, tuple(distinct(texts)), "MIT", audio=Blob(note),
                metadata=metadata,
            )  # fmt: skip


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
    with Path(__file__).with_name("sonic_pi_names.toml").open("rb") as file:
        names: dict[str, list[str]] = tomllib.load(file)["names"]
    for path in sorted(root.glob("*.flac")):
        texts = names.get(path.stem) or [path.stem.replace("_", " ")]
        yield Sample(
            "sonic-pi", path.stem, texts[0], tuple(texts), "CC0-1.0", audio=Blob(path), split=DEMO,
            metadata={"title": path.stem},
        )  # fmt: skip


def samples() -> Iterator[Sample]:
    """All recordings of this module."""
    yield from hydrogen()
    yield from lmms()
    yield from midi_notes()
    yield from sonic_pi()
