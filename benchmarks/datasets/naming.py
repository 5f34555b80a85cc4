"""Fit how probably a name is right, and write it into a model's `reranker.json` (`naming`).

    python benchmarks/datasets/naming.py --model DIR [--pictures N] [--least P]

Read are pictures of concepts that were not trained on: the pool's held-out ones, CIFAR-10's training photos of held-out
classes, and every second picture of the demo collection; no picture of an evaluation set. The nearest name of each is
right where its head word stands in a caption, or where WordNet has it a few kinds above or below the caption's head.
A logistic regression on the nearness gives the probability; the language model, which chooses among the nearest names,
is not read. Knows nothing of how captions are shown.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from manifests import read_lines
from packages import PackageError, cache_root, fetch
from splits import SAME, VAL, head, lemma
from wordnet_files import WordNet
from wordnet_words import TOO_WIDE

from indexer.encoders.tokens.compressor import fill_part
from indexer.encoders.tokens.config import FOLDER, read_reranker, write_reranker
from indexer.encoders.tokens.format import token_encoder
from indexer.encoders.trained import TrainedDualEncoder
from indexer.errors import MediaError
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture
from retrieval.rerank.calibration import platt
from retrieval.rerank.names import NAMES, load_names
from retrieval.rerank.scorer import Scorer, ScorerSpec

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
PICTURES, LEAST, SEED = 700, 0.5, 0
KINDS_ABOVE, LEAST_DEPTH = 4, 5  # a name five kinds below the top says something
NOT_THINGS = re.compile(r"flag of|button|^input ")  # of pictures that no name is right for
AT_ONCE = 8


def held_out(count: int) -> list[tuple[Path, list[str]]]:
    """Pictures with their captions, in a fixed random order."""
    found = []
    for name in ("pool", "cifar10"):
        folder = cache_root() / "datasets" / name
        rows = read_lines(folder / "manifest.jsonl")
        found += [(folder / row["image"], row["captions"]) for row in rows if row.get("image") and row["split"] == VAL]
    rows = [row for row in read_lines(DEMO / "manifest.jsonl") if row.get("image")]
    found += [(DEMO / row["image"], row["captions"]) for row in rows[::2]]
    random.Random(SEED).shuffle(found)
    return [(path, captions) for path, captions in found if not NOT_THINGS.search(captions[0])][:count]


class Judge:
    """Whether a name is right of a picture with captions."""

    def __init__(self, net: WordNet) -> None:
        self.net = net

    def right(self, name: str, captions: Sequence[str]) -> bool:
        captioned = {lemma(word) for caption in captions[:4] for word in re.findall(r"[a-z]+", caption.lower())}
        noun = head(name)
        if {noun, SAME.get(noun, noun)} & (captioned | {SAME.get(word, word) for word in captioned}):
            return True
        named = self._senses(name) or self._senses(noun)
        for caption in captions[:2]:
            shown = self._senses(caption) or self._senses(head(caption))
            if named & self._and_above(shown) or shown & self._and_above(named):
                return True
        return False

    def _senses(self, phrase: str) -> set[str]:
        form = self.net.find(phrase)
        return set(self.net.senses[form][:2]) if form else set()

    def _and_above(self, senses: set[str]) -> set[str]:
        found = set(senses)
        for offset in senses:
            for kind in self.net.above(self.net.synsets[offset])[:KINDS_ABOVE]:
                if kind.lemmas[0] not in TOO_WIDE and len(self.net.above(kind)) >= LEAST_DEPTH:
                    found.add(kind.offset)
        return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True, help="a model's folder")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="the most to look at")
    parser.add_argument("--least", type=float, default=LEAST, help="probability of a caption that is given")
    options = parser.parse_args(arguments)
    try:
        judge = Judge(WordNet(fetch("wordnet-base") / "usr/share/wordnet"))
        pictures = held_out(options.pictures)
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    encoder = TrainedDualEncoder(options.model)
    config, maker = read_reranker(options.model, encoder.fingerprint), token_encoder(encoder)
    if config is None or maker is None:
        print(f"error: {options.model}: has no reranker", file=sys.stderr)
        return 3
    names = load_names(options.model / FOLDER / NAMES)
    scorer = Scorer(ScorerSpec(**config.scorer))
    fill_part(options.model, config, "scorer", scorer)
    nearness, right = [], []
    for start in range(0, len(pictures), AT_ONCE):
        prepared, captions = [], []
        for path, own in pictures[start : start + AT_ONCE]:
            try:
                prepared.append(encoder.prepare_image(read_picture(path, MediaLimits())))
                captions.append(own)
            except MediaError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
        vectors, tokens = maker.encode_images_with_tokens(prepared)
        with torch.inference_mode():
            rows = scorer.eval().joint_media(torch.from_numpy(config.token_spec.unpack(tokens))).numpy()
        for near, own in zip(names.nearest(rows, vectors, 1), captions, strict=True):
            nearness.append(near[0][1])
            right.append(judge.right(near[0][0], own))
        print(f"{len(right)} of {len(pictures)}", file=sys.stderr)
    scores, labels = np.array(nearness, np.float64), np.array(right)
    slope, intercept = platt(scores, labels)
    given = 1 / (1 + np.exp(-(slope * scores + intercept))) >= options.least
    write_reranker(
        options.model, replace(config, naming={"slope": slope, "intercept": intercept, "least": options.least})
    )
    print(
        json.dumps(
            {
                "pictures": len(labels),
                "right": float(labels.mean()),
                "given": int(given.sum()),
                "right_of_given": float(labels[given].mean()) if given.any() else None,
                "slope": slope,
                "intercept": intercept,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
