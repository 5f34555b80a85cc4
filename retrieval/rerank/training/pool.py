"""What a reranker is trained on, read once: texts after the language model's lower layers, and the sides they are of.

A *side* is a kind of thing that texts are judged against: pictures, sounds, or texts themselves. Knows nothing of
losses or of how a pair is scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from indexer.encoders.devices import choose_dtype
from indexer.encoders.tokens.config import MediaSources
from indexer.encoders.towers.load import language_model_directory
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights.base_weights import cache_dir
from indexer.errors import RecipeError
from indexer.items import Modality
from indexer.progress import Progress
from indexer.training.data.rows import Example
from indexer.training.report import Clock
from indexer.training.towers import RecipeTowers
from indexer.training.training_data import TrainingData
from retrieval.rerank.reader import Reader, TextStates, text_sources
from retrieval.rerank.training.recipe import RerankRecipe

Rows = NDArray[np.int64]

_STATES_AT_ONCE = 128


@dataclass
class Side:
    """Things of one kind with the texts that describe each: training ones first, then the held-out ones.

    ``captions[n]`` and ``also[n]`` are numbers of the texts of thing ``n``, the best caption first, and of other words
    for it. ``media`` are the compressor's sources of all things, each ``(n, tokens, width)``. Training things with the
    same first caption are of one *label*; ``likeness`` ``(labels, labels)`` is the dual encoder's.
    """

    modality: Modality
    sources: MediaSources
    media: list[torch.Tensor]
    captions: list[list[int]]
    also: list[list[int]]
    concepts: NDArray[Any]
    count: int
    """Training things."""
    vectors: NDArray[np.float32] = field(repr=False)
    """The dual encoder's, of the held-out things."""
    itself: list[int] | None = None
    """Of texts: the number of the text that each thing is."""

    def __post_init__(self) -> None:
        self.by_label: dict[int, list[int]] = {}
        for row in range(self.count):
            self.by_label.setdefault(self.captions[row][0], []).append(row)
        self.labels = list(self.by_label)
        weights = np.sqrt([len(self.by_label[label]) for label in self.labels])
        self.weights: NDArray[np.float64] = weights / weights.sum()
        self.likeness = np.zeros((0, 0), np.float32)
        self.heldout_texts = np.zeros(0, np.int64)
        self.cosines = np.zeros((0, 0), np.float32)
        self.relevant = np.zeros((0, 0), dtype=bool)

    @property
    def joined(self) -> torch.Tensor:
        """Pooled rows of training things, joined, ``(n, width)``."""
        return torch.cat([rows[: self.count, 0].float() for rows in self.media if rows.shape[1] == 1], dim=1)

    @property
    def heldout(self) -> Rows:
        """Numbers of the held-out things."""
        return np.arange(self.count, len(self.captions))

    def compare(self, vectors: NDArray[np.float32]) -> None:
        """Take the dual encoder's vectors of all texts: likeness of labels, and the held-out cosines."""
        named = vectors[self.labels]
        self.likeness = named @ named.T
        held = [self.captions[row] for row in self.heldout]
        self.heldout_texts = np.array(sorted({text for own in held for text in own}), dtype=np.int64)
        self.cosines = vectors[self.heldout_texts] @ self.vectors.T
        self.relevant = np.array([[text in own for own in held] for text in self.heldout_texts.tolist()], dtype=bool)

    def media_of(self, rows: Any, where: torch.device) -> list[torch.Tensor]:
        """Sources of things by number."""
        picked = torch.as_tensor(rows)
        return [source[picked].to(where) for source in self.media]

    def draw(
        self, draws: np.random.Generator, labels: NDArray[Any], first_caption: float, paraphrase: float
    ) -> tuple[Rows, Rows]:
        """Of labels, by place: a training thing of each and one of its texts, drawn as for the dual encoder."""
        rows = np.array([draws.choice(self.by_label[self.labels[n]]) for n in labels], dtype=np.int64)
        return rows, np.array([self._text(draws, row, first_caption, paraphrase) for row in rows], dtype=np.int64)

    def judged(self, rows: Rows, texts: Rows, *, masked: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Which text (row) belongs to which thing (column), and which pairs count neither way.

        Those are, with ``masked``, of one concept without a text in common.
        """
        own = [{*self.captions[row], *self.also[row]} for row in rows]
        positive = torch.tensor([[int(text) in texts_of_row for texts_of_row in own] for text in texts])
        named = self.concepts[rows]
        return positive, torch.from_numpy(named[:, None] == named[None]) & masked & ~positive

    def _text(self, draws: np.random.Generator, row: int, first_caption: float, paraphrase: float) -> int:
        reworded, first, which = draws.random(3)
        own, also = self.captions[row], self.also[row]
        if also and reworded < paraphrase:
            return also[int(which * len(also))]
        if first < first_caption or len(own) == 1:
            return own[0]
        return own[1 + int(which * (len(own) - 1))]


class Pool:
    """All sides of a recipe, their texts, and the reader that read them."""

    def __init__(
        self, recipe: RerankRecipe, encoder: TrainedDualEncoder, where: torch.device, on_progress: Progress
    ) -> None:
        self.recipe, self.where = recipe, where
        dual = recipe.dual_recipe
        self.towers = RecipeTowers(dual, where, on_progress)
        if [trunk.arch for trunk in dual.image.trunks] != [trunk.arch for trunk in encoder.config.image]:
            raise RecipeError(f"{recipe.path}: the trunks of {recipe.dual} are not those of the model {recipe.model}")
        self.data = TrainingData(dual, self.towers, Clock())
        self.data.prepare()
        image = self.data.used[Modality.IMAGE]
        if not image.heldout:
            raise RecipeError(f"{recipe.path}: nothing is held out; the reranker is calibrated on held-out pairs")
        examples_of = {
            modality: ([*examples.train, *examples.heldout], len(examples.train))
            for modality, examples in self.data.used.items()
            if modality is Modality.IMAGE or (recipe.shares.audio and examples.train and examples.heldout)
        }
        every = [example for examples, _ in examples_of.values() for example in examples]
        self._held = {id(example) for examples, count in examples_of.values() for example in examples[count:]}
        self.texts = sorted({text for one in every for text in (*self._captions(one), *self._other_words(one))})
        self.numbers = {text: number for number, text in enumerate(self.texts)}
        self.digest = hashlib.sha256(json.dumps([self.texts, [one.key for one in every]]).encode()).hexdigest()
        self.reader = self._open_reader()
        self.states = self._states(on_progress)
        self.last = self._last()
        vectors = self._embedded(encoder)
        self.sides: dict[Modality, Side] = {}
        for modality, (examples, count) in examples_of.items():
            self.sides[modality] = self._side(modality, examples, count, encoder)
        if recipe.shares.text:
            examples, count = examples_of[Modality.IMAGE]
            self.sides[Modality.TEXT] = self._text_side(examples, count, vectors)
        for side in self.sides.values():
            side.compare(vectors)

    def states_of(self, texts: Any) -> TextStates:
        """Texts by number after the lower layers."""
        picked = self.states.rows(torch.as_tensor(texts))
        return TextStates(*(part.to(self.where) for part in (picked.hidden, picked.lengths, picked.ids, picked.own)))

    def _captions(self, example: Example) -> Sequence[str]:
        whole = id(example) in self._held  # what is held out does not depend on what is trained on
        return example.captions if whole else example.captions[: self.recipe.captions_each or None]

    def _other_words(self, example: Example) -> Sequence[str]:
        return self.data.also.of(example) if self.recipe.paraphrase else ()

    def _side(self, modality: Modality, examples: list[Example], count: int, encoder: TrainedDualEncoder) -> Side:
        rows = self.towers.of_media(examples)
        if modality is Modality.IMAGE:
            widths = [self.towers.of_trunk(n, examples[:1]).shape[1] for n in range(len(encoder.config.image))]
            chosen = self.recipe.compressor.grids
            grids = [torch.from_numpy(self.towers.grids(number, examples)) for number in chosen]
            vectors = encoder.project_images(rows[count:])
        else:
            widths, grids = [rows.shape[1]], [torch.from_numpy(grid) for grid in self.towers.sound_grids(examples)]
            chosen = list(range(len(grids)))
            vectors = encoder.project_audio(rows[count:])
        sources = MediaSources(
            tuple(widths),
            tuple(chosen),
            tuple(grid.shape[1] for grid in grids),
            tuple(grid.shape[2] for grid in grids),
        )
        return Side(
            modality,
            sources,
            sources.split(torch.from_numpy(rows), grids),
            [[self.numbers[text] for text in self._captions(one)] for one in examples],
            [[self.numbers[text] for text in self._other_words(one)] for one in examples],
            np.array([one.concept for one in examples]),
            count,
            vectors,
        )

    def _text_side(self, examples: list[Example], count: int, vectors: NDArray[np.float32]) -> Side:
        """Texts as captions of other texts: of each first caption, every other caption and paraphrase is a thing."""
        things: list[tuple[int, list[int], str]] = []
        border = 0
        for part in (examples[:count], examples[count:]):
            border = len(things)
            groups: dict[int, dict[int, str]] = {}
            for one in part:
                first = self.numbers[one.captions[0]]
                for text in (*self._captions(one)[1:], *self._other_words(one)):
                    groups.setdefault(first, {})[self.numbers[text]] = one.concept
            for first, others in groups.items():
                things += [(text, [first], concept) for text, concept in others.items() if text != first]
        itself = [text for text, _, _ in things]
        return Side(
            Modality.TEXT,
            MediaSources((self.last.shape[1], self.states.hidden.shape[2]), (), (), ()),
            text_sources(self.last, self.states, itself),
            [captions for _, captions, _ in things],
            [[] for _ in things],
            np.array([concept for _, _, concept in things]),
            border,
            vectors[itself[border:]],
            itself,
        )

    def _open_reader(self) -> Reader:
        settings = self.recipe.language_model
        reader = Reader(
            language_model_directory(settings.source),
            layers=settings.layers,
            lower=settings.lower,
            prompt=settings.prompt,
            max_tokens=settings.max_tokens,
            dtype=choose_dtype(self.where),
        )
        return reader.to(self.where)

    def _embedded(self, encoder: TrainedDualEncoder) -> NDArray[np.float32]:
        """The dual encoder's vectors of the texts; features of towers that were not adapted come from the cache."""
        if any(spec.adapter for spec in encoder.config.text):
            return encoder.encode_queries(self.texts)
        return encoder.project_texts(self.towers.texts(self.texts))

    def _states(self, on_progress: Progress) -> TextStates:
        """The lower layers' states of every text, from the cache or run now."""
        path = self._states_path()
        if path.is_file():
            kept = torch.load(path, weights_only=True)
            return TextStates(kept["hidden"], kept["lengths"], kept["ids"], kept["own"])
        order = sorted(range(len(self.texts)), key=lambda n: len(self.reader.token_ids(self.texts[n])))
        rows: list[tuple[torch.Tensor, ...]] = [()] * len(self.texts)
        with torch.inference_mode():
            for start in range(0, len(order), _STATES_AT_ONCE):
                part = order[start : start + _STATES_AT_ONCE]
                states = self.reader.states([self.texts[n] for n in part])
                for place, n in enumerate(part):
                    length = int(states.lengths[place])
                    parts = (states.hidden[place, :length], states.ids[place, :length], states.own[place, :length])
                    rows[n] = tuple(piece.clone().cpu() for piece in parts)
                on_progress("texts by the language model", min(start + _STATES_AT_ONCE, len(order)), len(order))
        hidden, ids, own = (pad_sequence(list(parts), batch_first=True) for parts in zip(*rows, strict=True))
        lengths = torch.tensor([len(row[1]) for row in rows])
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"hidden": hidden, "lengths": lengths, "ids": ids, "own": own}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        return TextStates(hidden, lengths, ids, own)

    def _states_path(self) -> Path:
        inputs = json.dumps([asdict(self.recipe.language_model), self.texts, str(choose_dtype(self.where))])
        return cache_dir() / "features" / f"states-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.pt"

    def _last(self) -> torch.Tensor:
        """Every text's last token without media, float32 ``(texts, width)``; from the cache or run now."""
        path = self._states_path().with_suffix(".last.pt")
        if path.is_file():
            found: torch.Tensor = torch.load(path, weights_only=True)
            return found
        parts = []
        with torch.inference_mode():
            for at in range(0, len(self.texts), 256):
                states = self.states_of(range(at, min(at + 256, len(self.texts))))
                parts.append(self.reader.last(states).float().cpu())
        last = torch.cat(parts).clone()
        torch.save(last, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        return last
