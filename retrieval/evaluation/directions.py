"""Which items and captions of a benchmark are compared with which, both ways.

The protocol is the usual one of image-text and sound-text retrieval (CLIP_benchmark, open_clip, LAVIS):

- ``text->image``: every caption is a query, every picture a candidate; relevant are the pictures that carry
  the caption (after strip, letter by letter), so captions that several items share have several.
- ``image->text``: every picture with captions is a query, every caption of a picture a candidate; relevant
  is every caption that equals one of its own, whichever picture it stands with.
- ``text->audio``, ``audio->text``: the same with sounds.
- ``image->audio``, ``audio->image``: over the rows that hold both; a row's own partner is relevant.
- ``text->text``: captions of rows with a text are queries, those texts are candidates.
- ``image->class``: every picture of a class is a query, every class a candidate (see ``zero_shot.py``).

Items without captions are candidates that belong to no query. A caption is a caption on either side: it goes
through ``encode_queries``, once for each distinct wording; the texts of ``text->text`` are documents and go
through ``encode_passages``. An item is one candidate: a sound longer than a window is the normalised mean of
its windows' embeddings (a caption is about the whole clip), a text of several passages counts by its best
passage, as in searching. Ties: the lower index first, in the order of the manifest.

Knows nothing of models, files, ranks or metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from indexer.encoders.tokens.format import TokenRows
from indexer.items import Embeddings, Modality
from retrieval.evaluation.encoding import EncodedBenchmark
from retrieval.evaluation.metrics.ranks import Ints, Relevance
from retrieval.evaluation.shown_items import ShownItem, shown_item
from retrieval.evaluation.zero_shot import class_vectors

#: What the items of a modality are called in results and messages.
NOUNS = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds", Modality.TEXT: "texts"}


@dataclass(frozen=True, eq=False)
class RerankInput:
    """What a reranker reads of one direction: texts on one side, media tokens on the other."""

    query: Modality
    candidate: Modality
    texts: Sequence[str]
    """Of the queries or the candidates, whichever are texts."""
    tokens: TokenRows
    """Packed, ``(n, row_bytes)``, of the other side."""

    @property
    def media(self) -> Modality:
        """The modality of the media tokens, which texts are scored against."""
        return self.candidate if self.query is Modality.TEXT else self.query


@dataclass(frozen=True, eq=False)
class Comparison:
    """One direction, ready to be ranked: queries, candidates, and which candidates are relevant to which query."""

    direction: str
    queries: str
    """What the queries are, in words: captions, pictures, sounds; as ``candidates``."""
    candidates: str
    query_vectors: Embeddings  # (q, dim)
    candidate_vectors: Embeddings  # (n, dim)
    relevance: Relevance
    candidate_starts: Ints | None = None
    """First vector of each candidate where one has several; ``None``: a vector each."""
    captions_per_item: float | None = None
    rerank_input: RerankInput | None = None
    """What a reranker reads, where the media tokens were made."""
    query_items: Sequence[ShownItem] = ()
    """What the queries are, in order; empty, as ``candidate_items``, where no details are made."""
    candidate_items: Sequence[ShownItem] = ()
    labels: Sequence[int] | None = None
    """Of ``image->class``: the class of each query."""


def comparisons(encoded: EncodedBenchmark) -> list[Comparison]:
    """Every direction that the encoded rows allow, in a fixed order."""
    found: list[Comparison] = []
    for modality in (Modality.IMAGE, Modality.AUDIO):
        found += _with_captions(encoded, modality)
    found += _pictures_with_sounds(encoded)
    found += _captions_to_texts(encoded)
    found += _pictures_with_classes(encoded)
    return found


@dataclass(frozen=True, slots=True)
class _Captions:
    """The captions of a pool of rows, in order: of which place in the pool each is, and its words."""

    places: list[int]
    texts: list[str]
    carriers: dict[str, list[int]]
    """Places in the pool of the rows that carry a text."""
    occurrences: dict[str, list[int]]
    """Places in ``texts`` where a text stands."""

    @classmethod
    def of(cls, encoded: EncodedBenchmark, rows: Sequence[int]) -> _Captions:
        captions = cls([], [], {}, {})
        for place, row in enumerate(rows):
            for text in encoded.benchmark.rows[row].captions:
                captions.carriers.setdefault(text, []).append(place)
                captions.occurrences.setdefault(text, []).append(len(captions.texts))
                captions.places.append(place)
                captions.texts.append(text)
        return captions

    def vectors(self, encoded: EncodedBenchmark) -> Embeddings:
        return np.stack([encoded.captions[text] for text in self.texts])

    def relevant_items(self, n_items: int) -> Relevance:
        """Of captions as queries: all carriers of the same words are relevant."""
        return Relevance.from_lists([self.carriers[text] for text in self.texts], n_items)

    def shown(self, encoded: EncodedBenchmark, rows: Sequence[int]) -> list[ShownItem]:
        ids = [encoded.benchmark.rows[rows[place]].row_id for place in self.places]
        return [ShownItem(row_id, Modality.TEXT, text=text) for row_id, text in zip(ids, self.texts, strict=True)]

    def per_item(self) -> float:
        return len(self.places) / len(set(self.places))


def _with_captions(encoded: EncodedBenchmark, modality: Modality) -> Iterator[Comparison]:
    items = encoded.items.get(modality, {})
    rows = list(items)
    captions = _Captions.of(encoded, rows)
    if not captions.texts or not encoded.captions:
        return
    item_vectors, text_vectors = np.concatenate(list(items.values())), captions.vectors(encoded)
    made = encoded.tokens.get(modality, {})
    tokens = np.concatenate([made[row] for row in rows]) if all(row in made for row in rows) else None
    yield Comparison(
        f"text->{modality}",
        "captions",
        NOUNS[modality],
        text_vectors,
        item_vectors,
        captions.relevant_items(len(rows)),
        captions_per_item=captions.per_item(),
        rerank_input=None if tokens is None else RerankInput(Modality.TEXT, modality, captions.texts, tokens),
        query_items=captions.shown(encoded, rows),
        candidate_items=_shown(encoded, rows, modality),
    )
    queries = sorted(set(captions.places))
    relevant = [
        [at for text in set(encoded.benchmark.rows[rows[place]].captions) for at in captions.occurrences[text]]
        for place in queries
    ]
    yield Comparison(
        f"{modality}->text",
        NOUNS[modality],
        "captions",
        item_vectors[queries],
        text_vectors,
        Relevance.from_lists(relevant, len(captions.texts)),
        captions_per_item=captions.per_item(),
        rerank_input=None if tokens is None else RerankInput(modality, Modality.TEXT, captions.texts, tokens[queries]),
        query_items=_shown(encoded, [rows[place] for place in queries], modality),
        candidate_items=captions.shown(encoded, rows),
    )


def _pictures_with_sounds(encoded: EncodedBenchmark) -> Iterator[Comparison]:
    pictures, sounds = (encoded.items.get(modality, {}) for modality in (Modality.IMAGE, Modality.AUDIO))
    rows = [row for row in pictures if row in sounds]
    if not rows:
        return
    here = np.concatenate([pictures[row] for row in rows])
    there = np.concatenate([sounds[row] for row in rows])
    own = Relevance.from_lists([[place] for place in range(len(rows))], len(rows))
    seen, heard = (_shown(encoded, rows, modality) for modality in (Modality.IMAGE, Modality.AUDIO))
    yield Comparison("image->audio", "pictures", "sounds", here, there, own, query_items=seen, candidate_items=heard)
    yield Comparison("audio->image", "sounds", "pictures", there, here, own, query_items=heard, candidate_items=seen)


def _captions_to_texts(encoded: EncodedBenchmark) -> Iterator[Comparison]:
    texts = encoded.items.get(Modality.TEXT, {})
    captions = _Captions.of(encoded, list(texts))
    if not captions.texts:
        return
    sizes = [len(passages) for passages in texts.values()]
    yield Comparison(
        "text->text",
        "captions",
        "texts",
        captions.vectors(encoded),
        np.concatenate(list(texts.values())),
        captions.relevant_items(len(texts)),
        candidate_starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        captions_per_item=captions.per_item(),
        query_items=captions.shown(encoded, list(texts)),
        candidate_items=_shown(encoded, list(texts), Modality.TEXT),
    )


def _pictures_with_classes(encoded: EncodedBenchmark) -> Iterator[Comparison]:
    benchmark, pictures = encoded.benchmark, encoded.items.get(Modality.IMAGE, {})
    labels = {row: label for row in pictures if (label := benchmark.rows[row].label) is not None}
    if not labels or not encoded.captions:
        return
    yield Comparison(
        "image->class",
        "pictures",
        "classes",
        np.concatenate([pictures[row] for row in labels]),
        class_vectors(benchmark.classes, benchmark.templates, encoded.captions),
        Relevance.from_lists([[label] for label in labels.values()], len(benchmark.classes)),
        query_items=_shown(encoded, list(labels), Modality.IMAGE),
        candidate_items=[ShownItem(name, Modality.TEXT, text=name) for name in benchmark.classes],
        labels=list(labels.values()),
    )


def _shown(encoded: EncodedBenchmark, rows: Sequence[int], modality: Modality) -> list[ShownItem]:
    """The items of the rows, in order."""
    return [shown_item(encoded.benchmark, row, modality) for row in rows]
