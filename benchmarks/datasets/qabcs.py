"""qABCs' pictures of words, each with its sound where the recording is of the thing itself.

Many of the package's noises are invented ("austrian flag") or shared (all fish), so sounds are on a keep list.
"""

from __future__ import annotations

from collections.abc import Iterator

from captions import distinct, with_article, words
from packages import fetch
from samples import Blob, Sample

# Characters of tales, brands, and words whose picture does not show them.
LEFT_OUT = words(
    "adjutant austrian_flag cheburashka dogmatix dunno emelya estonian_flag ivasyk kinder_surprise_egg ole_lukoje "
    "umka ursula x-men xbox yaga york zozulka jack ode oedephon pishik aeoline iotshin instrument sound whopper "
    "yakult quarter grommet pupil schooler prince x-ray yupka otak-otak sailorboy firebird quiz_game zoetrope "
    "gamekeeper olivier sorrel oil uszka"
)
# Word -> what the sound is, for recordings that are of the thing.
SOUNDS = {
    "airplane": "an airplane flying by", "albatross": "an albatross calling", "bear": "a bear growling",
    "bicycle": "a bicycle", "bird": "a bird chirping", "calf": "a calf mooing",
    "camera_lens": "a camera shutter", "cat": "a cat meowing", "chimpanzee": "a chimpanzee screaming",
    "clock": "a clock ticking", "cow": "a cow mooing", "crow": "a crow cawing", "deer": "a deer calling",
    "dice": "dice being rolled", "dog": "a dog barking", "dolphin": "a dolphin whistling",
    "duck": "a duck quacking", "eagle-owl": "an owl hooting", "elephant": "an elephant trumpeting",
    "emu": "an emu drumming", "excavator": "an excavator at work", "fire": "fire crackling",
    "flamingo": "flamingos calling", "foal": "a foal neighing", "frog": "a frog croaking",
    "goose": "a goose honking", "grasshopper": "a grasshopper chirping",
    "guinea_fowl": "a guinea fowl calling", "helicopter": "a helicopter", "heron": "a heron calling",
    "horn": "a horn honking", "horse": "a horse neighing", "hyena": "a hyena laughing",
    "jaguar": "a jaguar growling", "keyboard": "typing on a keyboard", "koala": "a koala grunting",
    "lion": "a lion roaring", "lynx": "a lynx growling", "moose": "a moose calling",
    "newspaper": "rustling a newspaper", "owl": "an owl hooting", "pelican": "a pelican",
    "pheasant": "a pheasant calling", "pig": "a pig grunting", "quail": "a quail calling",
    "raccoon": "a raccoon", "rhinoceros": "a rhinoceros", "rocket": "a rocket taking off",
    "rooster": "a rooster crowing", "sheep": "a sheep bleating", "skateboard": "a skateboard rolling",
    "sparrow": "a sparrow chirping", "squirrel": "a squirrel chattering", "stork": "a stork clattering",
    "tiger": "a tiger roaring", "tractor": "a tractor running", "train": "a train", "vulture": "a vulture",
    "walkie-talkie": "a walkie-talkie", "watch": "a watch ticking", "whale": "a whale singing",
    "wolf": "a wolf howling", "wood_grouse": "a wood grouse calling", "yak": "a yak grunting",
    "zebra": "a zebra braying", "zipper": "a zipper being pulled", "rubber_ball": "a rubber ball bouncing",
    "maracas": "maracas being shaken", "whistle": "a whistle blowing", "spoons": "a pair of spoons played",
    "ratchet": "a ratchet turning", "robot": "a robot", "balloons": "balloons",
    "chalkboard": "writing on a chalkboard",
} | {
    name: f"{name.replace('_', ' ')} playing"
    for name in words(
        "accordion bagpipes bass_drum cello changu clarinet cuica cymbals drums dulzaina electric_guitar erhu flute "
        "gamba grand_piano guitar hand_organ hang harmonica harp jug kazoo lute natural_horn ney oboe organ piano pipe "
        "quena rabel recorder rozhok saxophone slit_drum squeezebox timpani topshuur trumpet ukulele violin washint "
        "western_concert_flute xun xylophone yangqin youhikko yueqin zhaleyka zither zurna"
    )
}  # fmt: skip
KIND = {"animals": "animal", "food": "food", "instrument": "musical instrument", "toys": "", "misc": ""}
# Words that few know, or that mean something else: what the picture shows.
SAY = {
    "xiphias": "swordfish", "xenopus": "clawed frog", "misgurnus": "loach fish", "foal": "foal",
    "york": "york", "ipu": "ipu gourd drum", "hang": "hang drum", "gamba": "viola da gamba", "jug": "jug",
    "date": "dates", "booby": "booby bird", "iora": "iora bird", "urchin": "sea urchin",
    "display": "computer monitor", "top": "spinning top", "earth": "planet earth", "clove": "cloves",
    "ginger": "ginger root", "spider": "spider toy", "crane": "crane", "changu": "janggu drum",
    "pipe": "shepherd's pipe",
}  # fmt: skip


def samples() -> Iterator[Sample]:
    """Pictures with or without a sound, then the kept sounds that have no picture."""
    root = fetch("qabcs-data") / "usr/share/qabcs/abcs/all"
    sounds = {path.stem: path for path in (root / "noises").glob("*.ogg") if path.stem in SOUNDS}
    seen = set()
    for path in sorted((root / "pics").rglob("*.png")):
        if path.stem in LEFT_OUT:
            continue
        word, folder = SAY.get(path.stem, path.stem.replace("_", " ")), path.parent.name
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
