"""The rows that a recipe trains on and holds out: near duplicates dropped, features of locked towers prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import torch

from indexer.errors import RecipeError
from indexer.items import Modality
from indexer.training.data.pairs import Pairs
from indexer.training.data.rows import (
    ClassName,
    Example,
    Examples,
    Foreign,
    OtherWords,
    manifest_examples,
    read_classes,
    read_examples,
    read_paraphrases,
    read_translations,
)
from indexer.training.recipe import Recipe
from indexer.training.report import Clock
from indexer.training.text_stage import Paraphrases
from indexer.training.towers import RecipeTowers, unit


class TrainingData:
    """The rows of a recipe, less what can't be used, with the numbers of their texts."""

    def __init__(self, recipe: Recipe, towers: RecipeTowers, clock: Clock) -> None:
        self.recipe = recipe
        self.towers = towers
        self.clock = clock
        self.used: dict[Modality, Examples] = {}
        self.unusable: list[str] = []
        self.dropped: dict[str, int] = {}
        self.texts: list[str] = []
        self.translations = Foreign({}, {})
        self.foreign: set[str] = set()
        """Texts that are in other languages alone."""
        self.also = OtherWords({}, {})
        self.classes: list[ClassName] = []

    def prepare(self) -> None:
        """Read manifests, run the locked media towers, drop near-duplicates and what can't be read."""
        recipe, towers = self.recipe, self.towers
        with self.clock.measure("read manifests"):
            examples, self.unusable = read_examples(recipe)
            self.also = read_paraphrases(
                [recipe.resolve(name) for name in recipe.data.paraphrases], recipe.data.paraphrases_each
            )
            self.translations = read_translations([recipe.resolve(name) for name in recipe.data.translations])
        with self.clock.measure("features"):
            image = examples[Modality.IMAGE]
            towers.images([*image.train, *image.heldout])
            self.used = {Modality.IMAGE: replace(image, train=self._without_near_duplicates(image.train))}
            if recipe.audio is not None and Modality.AUDIO in examples:
                self.used[Modality.AUDIO] = examples[Modality.AUDIO]
                towers.sounds([*examples[Modality.AUDIO].train, *examples[Modality.AUDIO].heldout])
        self.used = {
            modality: Examples(towers.usable(side.train), towers.usable(side.heldout))
            for modality, side in self.used.items()
        }
        if recipe.image.prototypes is not None:
            held = {example.concept for side in self.used.values() for example in side.heldout}
            named = read_classes(recipe.resolve(recipe.image.prototypes.names), recipe)
            self.classes = [name for name in named if name.concept not in held]
        every = self.every
        captions = [*(example.captions for example in every), *(name.captions for name in self.classes)]
        firsts = {own[0] for own in captions}
        found = {caption for own in captions for caption in own}
        if recipe.schedule.paraphrase:
            found |= {other for example in every for other in self.also.of(example)}
            found |= {other for name in self.classes for other in name.also}
        translated = [self.translations.of(example) for example in every]
        translated += [self.translations.of_text(name.captions[0]) for name in self.classes]
        self.foreign = {text for own in translated for texts in own.values() for text in texts} - found
        contradicted = every if recipe.schedule.contradiction_weight else self.heldout
        false = {text for example in contradicted for text in example.contradictions} - found - self.foreign
        self.texts = [*sorted(found | self.foreign), *sorted(false)]
        self.numbers = {text: number for number, text in enumerate(self.texts)}
        # One emoji in five styles is one label; two kinds of hammer are one concept for the split, and two labels here.
        self.labels = {text: n for n, text in enumerate(sorted(firsts))}

    @property
    def every(self) -> list[Example]:
        """Every usable example."""
        return [example for side in self.used.values() for example in (*side.train, *side.heldout)]

    @property
    def heldout(self) -> list[Example]:
        """Usable examples that are not trained on."""
        return [example for side in self.used.values() for example in side.heldout]

    def fit_gate(self) -> None:
        """Let the towers learn which texts are in other languages, from those of the training rows."""
        spec = self.recipe.text.gate
        if spec is None:
            return
        examples = [example for side in self.used.values() for example in side.train]
        own = sorted({caption for example in examples for caption in example.captions} - self.foreign)
        translated = {
            text for example in examples for texts in self.translations.of(example).values() for text in texts
        }
        if not translated & self.foreign:
            raise RecipeError(f"{self.recipe.path}: text.gate: no training row has a translation")
        self.towers.fit_gate(spec, own, sorted(translated & self.foreign))

    @property
    def digest(self) -> str:
        """What was trained on: files and texts."""
        rows = [(example.key, example.captions) for example in self.every]
        return hashlib.sha256(json.dumps([rows, self.texts]).encode()).hexdigest()

    def pairs(self, examples: Sequence[Example], classes: Sequence[ClassName] = ()) -> Pairs:
        """Rows with the numbers of their texts; prototypes of classes come after the examples."""
        also = [*(self.also.of(example) for example in examples), *(name.also for name in classes)]
        captions = [*(example.captions for example in examples), *(name.captions for name in classes)]
        return Pairs(
            texts=[[self.numbers[caption] for caption in own] for own in captions],
            labels=torch.tensor([self.labels[own[0]] for own in captions]),
            also=[[self.numbers[other] for other in others if other in self.numbers] for others in also],
            foreign=[
                {language: [self.numbers[text] for text in texts] for language, texts in own.items()}
                for own in (
                    *(self.translations.of(example) for example in examples),
                    *(self.translations.of_text(name.captions[0]) for name in classes),
                )
            ],
            false=[
                [self.numbers[text] for text in example.contradictions if text in self.numbers] for example in examples
            ]
            + [[] for _ in classes],
            kinds=[*(example.kind for example in examples), *("" for _ in classes)],
        )

    def paraphrases(self) -> Paraphrases:
        """Training rows' captions with their other words; held-out ones apart; the recipe's pairs without those."""
        stage = self.recipe.caption_contrastive
        assert stage is not None
        image = self.used[Modality.IMAGE]
        sides = []
        for examples in (image.train, image.heldout):
            groups: dict[str, dict[str, None]] = {}
            for example in examples:
                first, *rest = example.captions
                groups.setdefault(first, {}).update(dict.fromkeys([*self.also.of(example), *rest]))
            sides.append([(text, list(others)) for text, others in groups.items() if others])
        known = {text for text, _ in sides[1]}
        pairs = read_paraphrases([self.recipe.resolve(name) for name in stage.pairs])
        return Paraphrases(
            sides[0], [(text, also) for text, also in pairs.by_text.items() if text not in known], sides[1]
        )

    def _without_near_duplicates(self, train: list[Example]) -> list[Example]:
        """Training pictures less those that are near-duplicates of an evaluation picture, by the first trunk."""
        for near in self.recipe.data.exclude_near:
            path = self.recipe.resolve(near.manifest)
            found, complaints = manifest_examples(path, self.recipe)
            self.unusable += complaints
            others = [example for _, example in found if example.item.modality is Modality.IMAGE]
            self.towers.images(others)
            train, others = self.towers.usable(train), self.towers.usable(others)
            if not train or not others:
                raise RecipeError(f"{path}: no picture of it, or of the training rows, could be read")
            ours, theirs = (unit(self.towers.of_first_trunk(some)) for some in (train, others))
            closest = (ours @ theirs.T).max(axis=1)
            kept = [example for example, cosine in zip(train, closest, strict=True) if cosine < near.cosine]
            self.dropped[f"{path.parent.name}/{path.name} at {near.cosine:g}"] = len(train) - len(kept)
            train = kept
        return train
