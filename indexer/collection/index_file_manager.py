"""``index.faiss`` of one collection: load it, complete it, make it anew where it was outgrown, measure its recall.

Derived from the vectors; what is damaged or missing is worked around. Knows nothing of items or of models: who writes
may bring queries to measure with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.ann.candidates import EXACT_ROWS
from indexer.ann.file import IndexFacts, Tuning
from indexer.ann.index import FLAT_LIMIT, VectorIndex, build_index, load_index, read_facts
from indexer.ann.plan import IndexOptions, IndexPlan, outgrown, plan_index, smallest_plan
from indexer.ann.tuning import TuningQueries, broadened, own_vectors, tuned
from indexer.collection.catalog.catalog import Catalog
from indexer.collection.row_store import VectorStore
from indexer.errors import IndexDamaged, UsageError
from indexer.items import Embeddings, Modality
from indexer.progress import Progress, silent

#: Rows of a loaded index that are compared with the vectors; ``verify`` looks at more.
_SAMPLE = 16
#: Grown to that many times what it was when its recall was measured, an index is measured again.
_MEASURE_AGAIN = 1.25

#: Vectors of the collection that an index which was tuned with captions is also measured with.
_OWN = 100
#: An index learns from so many queries at least, and from so many of the collection's texts where it has no captions.
_LEAST_LEARNED_FROM, _TEXTS = 100, 1_000

#: What was measured with lists as many as that, to within this share, holds for these.
_AS_MANY = 0.1

#: Queries to measure with, made when they are needed; ``None``: there are none.
TuningQueriesOf = Callable[[], TuningQueries | None]


class _CurrentRows:
    """The collection's vectors, also after it has seen a newer commit: an index that was loaded before reads these."""

    def __init__(self, vectors: VectorStore) -> None:
        self.vectors = vectors

    @property
    def count(self) -> int:
        return self.vectors.count

    def get(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.vectors.get(ids)

    def chunks(self, start: int = 0, *, rows: int = 16_384) -> Iterator[tuple[int, NDArray[np.float32]]]:
        return self.vectors.chunks(start, rows=rows)


class IndexFileManager:
    """The index file ``file`` of the collection with ``catalog`` and ``vectors``; not thread-safe by itself.

    Damage that it works around is appended to ``warnings``.
    """

    def __init__(self, file: Path, catalog: Catalog, vectors: VectorStore, warnings: list[IndexDamaged]) -> None:
        self._file = file
        self._catalog = catalog
        self._rows = _CurrentRows(vectors)
        self._warnings = warnings
        self._loaded: dict[str, VectorIndex] = {}

    def follow(self, vectors: VectorStore) -> None:
        """Use ``vectors`` from now on; of another generation, an index that was loaded is of no use."""
        if vectors.generation != self._rows.vectors.generation:
            self._loaded.clear()
        self._rows.vectors = vectors

    def facts(self) -> IndexFacts | None:
        """What the file says of itself; ``None`` where there is none that can be used."""
        with contextlib.suppress(IndexDamaged):
            return read_facts(self._file, checked=False)
        return None

    def index(self, device: str) -> VectorIndex:
        """The index over all committed vectors; loaded once a device, completed from the vectors.

        Where the file is damaged or missing, or a graph lacks too many, an exact one is made in memory.
        """
        index = self._loaded.get(device) or self._load(device)
        missing = self._rows.count - index.ntotal
        if missing < 0 or (missing > FLAT_LIMIT and index.kind == "HNSW"):
            index = self._exact(device)
        self._complete(index)
        self._loaded[device] = index
        return index

    def save(
        self,
        *,
        anew: bool = False,
        options: IndexOptions | None = None,
        tuning_queries: TuningQueriesOf = lambda: None,
        on_progress: Progress = silent,
    ) -> None:
        """Bring the file up to the last commit, of the kind that is right for the count and ``options``.

        With ``anew`` nothing of the old file is used but its options. Raises ``StorageError``; ``UsageError`` for
        options that can't be fulfilled.
        """
        facts = self._usable(self._rows.vectors.generation)
        last = facts or self.facts()
        given = options or IndexOptions()
        options = given if last is None else given.over(last.options)
        count, dim = self._rows.count, self._rows.vectors.dim
        plan = self._planned(count, dim, options, given)
        index: VectorIndex | None = None
        if facts is not None and not anew and not outgrown(facts.plan, count, dim, options):
            measured = facts.kind == "Flat" or not self._stale(facts.tuning, facts.options, options, tuning_queries)
            if facts.ntotal == count and measured and facts.options == options:
                self._note()
                return
            with contextlib.suppress(IndexDamaged):
                index = load_index(self._file, device="cpu", rows=self._rows)[0]
        if plan.kind == "Flat":
            on_progress = silent
        if index is None:
            on_progress("index", 0, count)
            learn = self._queries_to_learn_from(tuning_queries) if plan.kind == "IVF" else None
            index = build_index(dim, count, "cpu", plan=plan, rows=self._rows, options=options, queries=learn)
        before, index.options = index.options, options
        self._complete(index, on_progress)
        if index.kind != "Flat" and self._stale(index.tuning, before, options, tuning_queries):
            self._tune(index, tuning_queries(), last, options)
        index.save(self._file, generation=self._rows.vectors.generation)
        self._note()
        self._loaded.clear()

    # -- helpers --------------------------------------------------------------------------------------------

    def _planned(self, count: int, dim: int, options: IndexOptions, given: IndexOptions) -> IndexPlan:
        """The plan; where an earlier run's ``--memory`` has become too little, the smallest there is, and a warning."""
        try:
            return plan_index(count, dim, options)
        except UsageError as error:
            if given.memory_bytes is not None or given.kind is not None:
                raise
            message = f"{self._file}: {error} (trimodal index --memory ...); until then it is the smallest"
            self._warnings.append(IndexDamaged(message))
            return smallest_plan(count, dim)

    def _tune(
        self, index: VectorIndex, queries: TuningQueries | None, last: IndexFacts | None, options: IndexOptions
    ) -> None:
        """Measure with ``queries``; without them keep what captions measured before, else measure with own vectors."""
        old = last.tuning if last is not None and last.kind == index.kind else None
        if queries is None and last is not None and old is not None and old.queries == "captions":
            about_as_many = abs(last.lists - index.plan.lists) <= _AS_MANY * last.lists
            if about_as_many and last.options.recall == options.recall:
                index.tuning = replace(old, count=index.ntotal)
                return
        most = searched_most(self._catalog)
        if len(most) < EXACT_ROWS:  # so few are searched exactly: the queries are measured against all of them
            most = self._catalog.vector_ids()
        chosen = own_vectors(self._rows, most) if queries is None else replace(queries, allowed=most)
        tuned(index, self._rows, chosen, options.recall)
        if queries is not None and index.kind == "IVF" and options.recall < 1:
            broadened(index, self._rows, own_vectors(self._rows, most, _OWN), options.recall)

    def _queries_to_learn_from(self, tuning_queries: TuningQueriesOf) -> Embeddings | None:
        """Vectors of queries such as will come: of captions, else of the collection's texts; ``None`` where few."""
        queries = tuning_queries()
        if queries is not None and queries.learn is not None and len(queries.learn) >= _LEAST_LEARNED_FROM:
            return queries.learn
        texts = self._catalog.vector_ids(Modality.TEXT)
        if len(texts) < _LEAST_LEARNED_FROM:
            return None
        some = np.random.default_rng(0).choice(texts, min(_TEXTS, len(texts)), replace=False)
        return self._rows.get(np.sort(some))

    def _load(self, device: str) -> VectorIndex:
        vectors, generation = self._rows.vectors, self._rows.vectors.generation
        expected = self._catalog.index_generation == generation
        try:
            index, facts = load_index(self._file, device=device, rows=self._rows)
            other = facts.dim != vectors.dim or (expected and facts.generation < generation)
            if not other and facts.generation == generation:
                # also when the collection was made anew behind a reader: its files look alike
                other = rows_that_differ(index, vectors, _SAMPLE) > 0
                if not other:
                    return index
            # one left by a crash just after compacting is no damage, nor is one of a writer with a newer commit
            if other:
                self._warnings.append(
                    IndexDamaged(f"{self._file}: belongs to other vectors; write it anew: trimodal verify --repair")
                )
        except IndexDamaged as damage:
            if expected or self._file.exists():
                self._warnings.append(damage)
        return self._exact(device)

    def _exact(self, device: str) -> VectorIndex:
        return build_index(self._rows.vectors.dim, 0, device, kind="Flat")

    def _usable(self, generation: int) -> IndexFacts | None:
        with contextlib.suppress(IndexDamaged):
            facts = read_facts(self._file)
            same = (facts.generation, facts.dim) == (generation, self._rows.vectors.dim)
            if same and facts.ntotal <= self._rows.count:
                return facts
        return None

    def _stale(
        self, tuning: Tuning | None, before: IndexOptions, options: IndexOptions, tuning_queries: TuningQueriesOf
    ) -> bool:
        """Whether what was measured, for the options of ``before``, says too little of the index as it is now."""
        if len(self._catalog.vector_ids()) < EXACT_ROWS:
            return False  # every search is exact
        if tuning is None or before.recall != options.recall or self._rows.count > _MEASURE_AGAIN * tuning.count:
            return True
        return tuning.queries == "vectors" and tuning_queries() is not None

    def _complete(self, index: VectorIndex, on_progress: Progress = silent) -> None:
        for first, rows in self._rows.chunks(index.ntotal):
            index.add(rows)
            on_progress("index", first + len(rows), self._rows.count)

    def _note(self) -> None:
        generation = self._rows.vectors.generation
        if self._catalog.index_generation != generation:
            self._catalog.set_meta(index_generation=generation)


def searched_most(catalog: Catalog) -> NDArray[np.int64]:
    """The vector_ids of the modality that has most: a search looks through one modality."""
    return max((catalog.vector_ids(modality) for modality in Modality), key=len)


def rows_that_differ(index: VectorIndex, vectors: VectorStore, sample: int) -> int:
    """Of ``sample`` rows spread over the index, how many are not those of the vector store."""
    n = min(index.ntotal, vectors.count)
    ids = np.unique(np.linspace(0, n - 1, min(n, sample)).astype(np.int64))
    ids = ids[vectors.readable(ids)]
    return index.differing(ids, vectors.get(ids))
