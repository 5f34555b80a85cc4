"""qABCs' pictures of words, each with its sound where the recording is of the thing itself.

Many of the package's noises are invented ("austrian flag") or shared (all fish), so sounds are on a keep list.
"""

from __future__ import annotations

from collections.abc import Iterator

from captions import distinct, with_article, words
from packages import fetch
from samples import Blob, Sample
from tables import read_tables

# Characters of tales, brands, and words whose picture does not show them.
LEFT_OUT = words(
    "adjutant austrian_flag cheburashka dogmatix dunno emelya estonian_flag ivasyk kinder_surprise_egg ole_lukoje "
    "umka ursula x-men xbox yaga york zozulka jack ode oedephon pishik aeoline iotshin instrument sound whopper "
    "yakult quarter grommet pupil schooler prince x-ray yupka otak-otak sailorboy firebird quiz_game zoetrope "
    "gamekeeper olivier sorrel oil uszka"
)
_TABLES = read_tables("qabcs.toml")
#: Word -> what the sound is, for recordings that are of the thing.
SOUNDS: dict[str, str] = _TABLES["sounds"] | {
    name: f"{name.replace('_', ' ')} playing"
    for name in words(
        "accordion bagpipes bass_drum cello changu clarinet cuica cymbals drums dulzaina electric_guitar erhu flute "
        "gamba grand_piano guitar hand_organ hang harmonica harp jug kazoo lute natural_horn ney oboe organ piano pipe "
        "quena rabel recorder rozhok saxophone slit_drum squeezebox timpani topshuur trumpet ukulele violin washint "
        "western_concert_flute xun xylophone yangqin youhikko yueqin zhaleyka zither zurna"
    )
}
KIND = {"animals": "animal", "food": "food", "instrument": "musical instrument", "toys": "", "misc": ""}
#: Words that few know, or that mean something else -> what the picture shows.
SHOWN: dict[str, str] = _TABLES["shown"]


def samples() -> Iterator[Sample]:
    """Pictures with or without a sound, then the kept sounds that have no picture."""
    root = fetch("qabcs-data") / "usr/share/qabcs/abcs/all"
    sounds = {path.stem: path for path in (root / "noises").glob("*.ogg") if path.stem in SOUNDS}
    seen = set()
    for path in sorted((root / "pics").rglob("*.png")):
        if path.stem in LEFT_OUT:
            continue
        word, folder = SHOWN.get(path.stem, path.stem.replace("_", " ")), path.parent.name
        seen.add(path.stem)
        texts = [word, with_article(word), f"{word}, {KIND[folder]}" if KIND.get(folder) else ""]
        sound = sounds.get(path.stem)
        if sound is not None:
            texts.append(with_article(SOUNDS[path.stem]))
        yield Sample(
            "qabcs",
            f"{folder}/{path.stem}",
            word,
            tuple(distinct(texts)),
            "GPL-3.0-or-later",
            image=Blob(path),
            audio=Blob(sound) if sound else None,
            metadata={"title": path.stem, "category": folder},
        )
    for name in sorted(set(sounds) - seen):
        texts = distinct([with_article(SOUNDS[name]), name.replace("_", " ")])
        word, noise = name.replace("_", " "), Blob(sounds[name])
        yield Sample("qabcs", f"noises/{name}", word, tuple(texts), "GPL-3.0-or-later", audio=noise)
