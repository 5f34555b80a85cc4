"""Build scenes of several things with captions that state relations, counts and colours, and with false ones.

    python benchmarks/datasets/composites.py [--out DIR]

Writes `manifest.jsonl` with `images/` beside it (default: `datasets/composites` in the per-user cache), in the pool's
form. `metadata.kind` is relation, count or colour; `metadata.contradictions` are captions that are false of the picture
and differ from the first one in a word or in swapped nouns; `metadata.made_of` names the pool's pictures in it. Scenes
to train on show training concepts only, held-out ones (`val`) held-out concepts only. The same seed gives the same
scenes; a second run skips what is written, and a cut-out that is excluded later changes only the scenes that it was in.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import render
import scene_pictures
import scene_words
from captions import words
from manifests import out_folder, write_lines
from packages import PackageError, fetch
from scene_material import (
    DRAWN,
    EMOJI,
    REDRAWN,
    Countable,
    CutOut,
    candidates,
    near_evaluation,
    recoloured,
    without_metadata,
    write_cut_out,
)
from splits import TRAIN, VAL
from tables import read_tables
from wordnet_files import WordNet
from wordnet_visible import Visible

SEED = 18
EACH = {TRAIN: 1400, VAL: 300}  # scenes of a kind
WORKERS = 2
PHOTO_SIDE = 900  # pixels, longest side of a ground as it is kept in memory
EMOJI_SHARE = 0.5  # of scenes that are drawn in one style of emoji
TRIES = 400

console = Console(stderr=True)


@dataclass(frozen=True)
class Scene:
    """A scene before it is drawn: its cut-outs in the order of the wording's things, and its own random state."""

    number: int
    split: str
    wording: scene_words.Wording
    things: tuple[CutOut, ...]
    seed: str

    @property
    def id(self) -> str:
        return f"composites/{self.split}-{self.wording.kind}-{self.number:04d}"

    @property
    def image(self) -> str:
        """Where it is drawn, by what it shows: another scene under the same number is another file."""
        shown = repr((self.seed, self.wording, [thing.id for thing in self.things]))
        digest = hashlib.blake2s(shown.encode(), digest_size=5).hexdigest()
        return f"images/{self.split}/{self.wording.kind}-{self.number:04d}-{digest}.jpg"

    def row(self) -> dict[str, Any]:
        """Its line of the manifest."""
        shown = [self.things[part.thing] for part in self.wording.parts]
        metadata = {
            "concept": "+".join(sorted({thing.concept for thing in shown})),
            "source": "composites",
            "license": " AND ".join(sorted({thing.license for thing in shown})),
            "kind": self.wording.kind,
            "contradictions": list(self.wording.contradictions),
            "made_of": [thing.id for thing in shown],
        }
        captions = list(self.wording.captions)
        return {"id": self.id, "image": self.image, "captions": captions, "split": self.split, "metadata": metadata}


class Chooser:
    """Draws different things for a scene, in one style of emoji or from drawings and renders."""

    def __init__(self, cut_outs: list[CutOut], countable: Countable, excluded: frozenset[str]) -> None:
        self.countable = countable
        self.excluded = excluded
        self.by_style: dict[str, dict[str, list[CutOut]]] = {}
        for style in ("drawn", *EMOJI):
            sources = DRAWN if style == "drawn" else [style]
            named: dict[str, list[CutOut]] = defaultdict(list)
            for cut in cut_outs:
                if cut.source in sources:
                    named[cut.name].append(cut)
            self.by_style[style] = dict(sorted(named.items()))

    def draw(self, kind: str, random_: random.Random) -> tuple[CutOut, ...]:
        """Three things of different concepts, none a kind of another; of one hue where they are recoloured."""
        coloured = kind == scene_words.COLOUR
        for _ in range(TRIES):
            style = random_.choice(EMOJI) if random_.random() < EMOJI_SHARE else "drawn"
            named = self.by_style[style]
            if len(named) < 3:
                continue
            names = random_.sample(list(named), 3)
            things = tuple(random_.choice(named[name]) for name in names)
            if any(self._unfit(thing) or (coloured and thing.hue is None) for thing in things):
                continue
            if len({thing.concept for thing in things}) == 3 and not self._related(names):
                return things
        raise PackageError("too few cut-outs for a scene; delete the folder cutouts and run again")

    def _unfit(self, thing: CutOut) -> bool:
        return thing.id in self.excluded or thing.name.replace(" ", "_") in REDRAWN

    def _related(self, names: list[str]) -> bool:
        return any(self.countable.related(one, other) for one, other in itertools.combinations(names, 2))


def plan(cut_outs: list[CutOut], countable: Countable, excluded: frozenset[str]) -> Iterator[Scene]:
    """Every scene, by split and kind."""
    irregular: dict[str, str] = {}
    for many, one in countable.net.irregular.items():
        irregular.setdefault(one, many)
    for split, each in EACH.items():
        chooser = Chooser([cut for cut in cut_outs if cut.split == split], countable, excluded)
        for kind in scene_words.KINDS:
            for number in range(each):
                seed = f"{SEED}/{split}/{kind}/{number}"
                random_ = random.Random(seed)
                wording_state = random.Random(f"{seed}/words")
                things = chooser.draw(kind, random_)
                wording = scene_words.wording(kind, [thing.name for thing in things], irregular, wording_state)
                yield Scene(number, split, wording, things, seed)


@lru_cache(maxsize=600)
def _cut_out(path: Path) -> Image.Image:
    image = Image.open(path)
    image.load()
    return image.convert("RGBA")


@lru_cache(maxsize=2)
def photos(split: str) -> tuple[Image.Image, ...]:
    """The photographic grounds of a side of the split, RGB."""
    found = []
    for package, files in read_tables("composites.toml")["grounds"][split].items():
        for name in files.split():
            file = Image.open(fetch(package) / "usr/share" / name)
            file.draft("RGB", (PHOTO_SIDE, PHOTO_SIDE))
            image = file.convert("RGB")
            image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
            found.append(image)
    return tuple(found)


def draw(job: tuple[Scene, Path]) -> None:
    """Draw a scene, unless it is there."""
    scene, out = job
    target = out / scene.image
    if target.is_file():
        return
    random_ = random.Random(f"{scene.seed}/picture")
    shown = []
    for part in scene.wording.parts:
        thing = scene.things[part.thing]
        image = _cut_out(out / thing.file)
        if part.colour and thing.hue is not None:
            image = recoloured(image, thing.hue, part.colour)
        for _ in range(part.count):
            flip = scene.split == TRAIN and random_.random() < 0.5
            shown.append(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)
    camera = scene.split == TRAIN
    picture = scene_pictures.scene(shown, scene.wording.relation, photos(scene.split), random_, camera=camera)
    render.save_jpeg(picture, target)


def cut_all(countable: Countable, out: Path) -> list[CutOut]:
    """Cut out what can be, in the order of the sources."""
    jobs = [(without_metadata(sample), name, person, out) for sample, name, person in candidates(countable)]
    with ProcessPoolExecutor(WORKERS) as workers:
        results = workers.map(write_cut_out, jobs, chunksize=32)
        done = list(track(results, "cutting things out", total=len(jobs), console=console))
    return [cut for cut in done if cut is not None]


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "composites", arguments)
    try:
        folder = fetch("wordnet-base") / "usr/share/wordnet"
        for package in words("mate-backgrounds plasma-workspace-wallpapers"):
            fetch(package)
        net = WordNet(folder)
        countable = Countable(net, Visible(net, folder))
        cut_outs = cut_all(countable, out)
        scenes = list(plan(cut_outs, countable, near_evaluation()))
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    with ProcessPoolExecutor(WORKERS) as workers:
        results = workers.map(draw, [(scene, out) for scene in scenes], chunksize=16)
        list(track(results, "drawing scenes", total=len(scenes), console=console))
    write_lines((scene.row() for scene in scenes), out / "manifest.jsonl")
    report(scenes, cut_outs)
    return 0


def report(scenes: list[Scene], cut_outs: list[CutOut]) -> None:
    """Print counts by kind and split, and what the scenes are made of."""
    table = Table("kind", TRAIN, VAL)
    counts = Counter((scene.wording.kind, scene.split) for scene in scenes)
    for kind in scene_words.KINDS:
        table.add_row(kind, f"{counts[kind, TRAIN]:,}", f"{counts[kind, VAL]:,}")
    made = Table("cut-outs of", TRAIN, VAL, "of one hue")
    for source in (*DRAWN, *EMOJI):
        mine = [cut for cut in cut_outs if cut.source == source]
        sides = Counter(cut.split for cut in mine)
        made.add_row(source, f"{sides[TRAIN]:,}", f"{sides[VAL]:,}", f"{sum(cut.hue is not None for cut in mine):,}")
    printed = Console()
    printed.print(table)
    printed.print(made)
    names = {side: {cut.name for cut in cut_outs if cut.split == side} for side in (TRAIN, VAL)}
    printed.print(f"{len(names[TRAIN]):,} names to train on, {len(names[VAL])} held out", highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
