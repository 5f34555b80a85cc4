"""Made-up collections of held-out items, searched with their captions and with themselves: candidate lists with labels.

A collection is a draw of items; of a query's concept it holds some items, or none at all. So half of the lists have no
answer, and the other half between one answer and all there are. Knows nothing of files, encoders or of what is fitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings, Modality
from retrieval.fusion import cohort_ids
from retrieval.matching.features import DEPTH, CandidateList
from retrieval.matching.fitting import Example

#: Items of one modality in a collection; it holds all there are where there are fewer.
SIZES = (30, 100, 300, 1000)
#: Queries of one concept and kind.
MOST_QUERIES = 8

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldItems:
    """Held-out items of one modality, ``n`` of them."""

    modality: Modality
    vectors: Embeddings
    """``(v, dim)``; a text has one a passage."""
    starts: Ints
    """First vector of each item, ``(n,)``."""
    concepts: NDArray[np.str_]
    """``(n,)``."""
    words: Sequence[frozenset[frozenset[str]]]
    """Of each item: of each of its captions, the words."""

    def relevant(self, query: HeldQuery) -> NDArray[np.bool_]:
        """Of the query's concept, or with a caption that says all that it says, ``(n,)``."""
        found = np.asarray(self.concepts == query.concept, dtype=np.bool_)
        for number, captions in enumerate(self.words):
            if not found[number] and any(own <= caption for own in query.words for caption in captions):
                found[number] = True
        return found


@dataclass(frozen=True, eq=False)
class HeldQuery:
    """A caption, or an item that looks for others."""

    kind: Modality
    concept: str
    vector: NDArray[np.float32]
    """``(dim,)``."""
    words: frozenset[frozenset[str]]
    """A caption's words; of an item those of each of its captions."""
    item: int | None = None
    """Number of the item that it is, which is no candidate; ``None`` for a caption."""
    text: str = ""
    """The caption."""


#: The reranker's scores of a query and some candidates: ``(query, modality, items (j,), cosines (j,)) -> (j,)``, or
#: ``None`` where it judges no such pairs.
Judge = Callable[[HeldQuery, Modality, Ints, NDArray[np.float64]], NDArray[np.float64] | None]


def words_of(text: str) -> frozenset[str]:
    """The words of a text in lower case, without articles and punctuation.

    >>> sorted(words_of("A red-brown dog, on the sofa"))
    ['brown', 'dog', 'on', 'red', 'sofa']
    """
    plain = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return frozenset(plain.split()) - {"a", "an", "the"}


def some_queries(queries: Sequence[HeldQuery], seed: int = 0) -> list[HeldQuery]:
    """At most :data:`MOST_QUERIES` of each concept and kind, drawn by ``seed``, in their order."""
    random = np.random.default_rng(seed)
    places: dict[tuple[str, str], list[int]] = {}
    for place, query in enumerate(queries):
        places.setdefault((query.kind.value, query.concept), []).append(place)
    kept = [random.permutation(some)[:MOST_QUERIES].tolist() for some in places.values()]
    return [queries[place] for place in sorted(itertools.chain.from_iterable(kept))]


def draw_examples(
    items: Mapping[Modality, HeldItems],
    queries: Sequence[HeldQuery],
    *,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    judge: Judge | None = None,
    judge_depth: int = 64,
) -> Iterator[Example]:
    """The lists of every query in a collection of each of the ``sizes``, one a modality.

    With a ``judge`` those of one of the sizes, by turns, come judged, too. Deterministic for a ``seed``.
    """
    random = np.random.default_rng(seed)
    numbers = itertools.count()
    for turn, query in enumerate(queries):
        cosines = {
            modality: np.maximum.reduceat((own.vectors @ query.vector).astype(np.float64), own.starts)
            for modality, own in items.items()
        }
        relevant = {modality: own.relevant(query) for modality, own in items.items()}
        for place, size in enumerate(sizes):
            number = next(numbers)
            for modality, own in items.items():
                drawn = _draw(own, query, relevant[modality], size, random)
                if not len(drawn):
                    continue
                found = _example(query, own, drawn, cosines[modality], relevant[modality], number)
                yield found
                if judge is not None and place == turn % len(sizes):
                    yield from _judged(query, drawn, cosines[modality], found, judge, judge_depth, relevant[modality])


def _draw(
    own: HeldItems, query: HeldQuery, relevant: NDArray[np.bool_], size: int, random: np.random.Generator
) -> Ints:
    """Items of a collection, rising: half of the time none that is relevant, else one to all of them."""
    others = np.flatnonzero(~relevant)
    answers = np.flatnonzero(relevant)
    if query.item is not None and query.kind is own.modality:
        others, answers = others[others != query.item], answers[answers != query.item]
    held = 0
    if len(answers) and random.random() < 0.5:
        held = 1 if random.random() < 0.5 else int(random.integers(1, len(answers) + 1))
        held = min(held, max(1, size // 3))
    kept = random.permutation(answers)[:held]
    rest = random.permutation(others)[: size - held]
    return np.sort(np.concatenate([kept, rest]))


def _example(
    query: HeldQuery,
    own: HeldItems,
    drawn: Ints,
    cosines: NDArray[np.float64],
    relevant: NDArray[np.bool_],
    number: int,
) -> Example:
    order = drawn[np.argsort(-cosines[drawn], kind="stable")]
    cohort = cosines[drawn[cohort_ids(np.arange(len(drawn)))]]
    found = CandidateList(cosines[order[:DEPTH]], cohort, len(drawn))
    answered = bool(relevant[drawn].any())
    return Example(query.kind, own.modality, query.concept, number, found, relevant[order[:DEPTH]], answered)


def _judged(
    query: HeldQuery,
    drawn: Ints,
    cosines: NDArray[np.float64],
    plain: Example,
    judge: Judge,
    depth: int,
    relevant: NDArray[np.bool_],
) -> Iterator[Example]:
    top = drawn[np.argsort(-cosines[drawn], kind="stable")][:depth]
    scores = judge(query, plain.target, top, cosines[top])
    if scores is None:
        return
    order = np.argsort(-scores, kind="stable")
    found = CandidateList(plain.found.cosines, plain.found.cohort, plain.found.count, scores[order])
    right = relevant[top[order]][:DEPTH]
    yield Example(query.kind, plain.target, query.concept, plain.number, found, right, plain.answered)
