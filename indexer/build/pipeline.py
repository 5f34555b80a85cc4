"""``indexer.index``: paths and a collection in, a report out. Knows nothing of terminals.

Finds the items, opens the model, opens, makes or rebuilds the collection, encodes what is new, and fills in captions
where a captioner is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from indexer.ann.plan import IndexOptions
from indexer.build.captioning import fill_captions, require_captionable
from indexer.build.run import BuildReport, build
from indexer.collection.collection import Collection
from indexer.collection.rebuild import rebuild
from indexer.corpus.walk import Corpus, find_items
from indexer.encoders import absolute_spec, open_encoder
from indexer.encoders.base import DualEncoder, PreparesQueries
from indexer.encoders.identity import identity_of
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.encoders.trust import require_confirmed
from indexer.errors import ModelError, StorageError, UsageError
from indexer.items import Embeddings, Modality
from indexer.limits import MediaLimits
from indexer.media.text.token_passages import rule_of
from indexer.names import on_disk
from indexer.progress import Progress, silent


class TokenCaptioner(Protocol):
    """Words for pictures, from their media tokens; a reranker of :mod:`retrieval.rerank` is one."""

    @property
    def token_spec(self) -> TokenSpec:
        """The media tokens that it reads."""

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        """Packed tokens ``(n, row_bytes)`` and vectors ``(n, dim)`` of pictures -> ``n`` captions, some empty."""


#: Opens the captioner that goes with a model. Raises ``ModelError`` where there is none.
OpenCaptioner = Callable[[DualEncoder], TokenCaptioner]


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Which of the files are indexed."""

    modalities: frozenset[Modality] = frozenset(Modality)
    exclude: Sequence[str] = ()
    """Names to leave out, as in ``.gitignore``."""
    default_excludes: bool = True
    follow_links: bool = True


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """How a collection is brought up to date."""

    prune: bool = False
    """Remove items whose file is gone."""
    prune_missing_roots: bool = False
    """Also where a folder of the paths is missing or empty."""
    verify_content: bool = False
    """Read every file, also one of the same size and times as before."""
    rebuild: bool = False
    """Encode everything anew, beside the collection that is there, and then put it in its place."""
    batch_size: int = 32
    workers: int = 2
    """Threads that read files."""
    index: IndexOptions | None = None
    """Of the FAISS index, where it is to be another than before."""


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """Captions for pictures that have none."""

    open_captioner: OpenCaptioner
    beams: int = 3


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of :func:`index`, all but the collection."""

    corpus: Corpus
    encoder: DualEncoder
    limits: MediaLimits | None
    update: UpdateOptions
    captioner: TokenCaptioner | None
    beams: int
    on_progress: Progress = field(repr=False)

    def into(self, target: Collection) -> BuildReport:
        """Bring ``target`` up to date, fill in captions, and close it."""
        update, encoder, captioner = self.update, self.encoder, self.captioner
        with target:
            target.require_encoder(identity_of(encoder))
            if captioner is not None:
                require_captionable(target, encoder, captioner.token_spec)
            report = build(
                target,
                self.corpus,
                encoder,
                limits=self.limits,
                batch_size=update.batch_size,
                prune=update.prune,
                prune_missing_roots=update.prune_missing_roots,
                verify_content=update.verify_content,
                workers=update.workers,
                index_options=update.index,
                on_progress=self.on_progress,
            )
            if captioner is None or report.interrupted:
                return report
            caption = partial(captioner.caption, beams=self.beams)
            return report.then(fill_captions(target, encoder, caption, on_progress=self.on_progress))


def index(
    paths: str | Path | Iterable[str | Path],
    collection: str | Path,
    model: str | None = None,
    *,
    device: str = "auto",
    corpus: CorpusOptions | None = None,
    limits: MediaLimits | None = None,
    update: UpdateOptions | None = None,
    captions: CaptionOptions | None = None,
    on_progress: Progress = silent,
) -> BuildReport:
    """Index folders, files and manifests into the collection at a directory; what is unchanged is not read again.

    ``paths``: one or several, ``~`` is the home folder. ``model``: as ``--model`` of the command line; without it the
    model of the collection, or ``starter`` for a new one. ``device``: ``auto``, ``cpu`` or ``cuda[:n]``. A bad file is
    skipped and named in the report. On ``KeyboardInterrupt`` what is encoded is committed, and the report says
    ``interrupted``.

    Raises ``UsageError`` for no paths, ``ModelError``, ``CollectionError`` (``EncoderMismatch`` for another model than
    the collection's), ``StorageError`` and ``ModelNotConfirmed``, each in one line with the remedy.
    """
    corpus, update = corpus or CorpusOptions(), update or UpdateOptions()
    places = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not places:
        raise UsageError("no paths to index; give folders, files or manifests")
    place = on_disk(Path(collection).expanduser().absolute())
    found = find_items(
        [path.expanduser() for path in places],
        modalities=corpus.modalities,
        follow_links=corpus.follow_links,
        exclude=corpus.exclude,
        default_excludes=corpus.default_excludes,
    )
    exists = Collection.exists(place)
    encoder = open_encoder(_spec(place, model, exists and not update.rebuild), device=device)
    captioner = None if captions is None else captions.open_captioner(encoder)
    run = _Run(found, encoder, limits, update, captioner, captions.beams if captions is not None else 0, on_progress)
    identity, passages = identity_of(encoder), rule_of(encoder)
    if update.rebuild and exists:
        report = rebuild(place, identity, run.into, passages)
    else:
        report = run.into(Collection.open_or_create(place, identity, passages))
    warnings = [] if report.interrupted else _prepare_queries(encoder, on_progress)
    return replace(report, found=len(found.items), warnings=[*report.warnings, *warnings])


def _prepare_queries(encoder: DualEncoder, on_progress: Progress) -> list[str]:
    """Make the graphs that queries run in, of the towers that the run has loaded; a line where that fails.

    The collection is whole without them: searches then run in torch.
    """
    if not isinstance(encoder, PreparesQueries):
        return []
    try:
        encoder.prepare_queries(lambda stage: on_progress(stage, 0, 1), loaded=True)
    except (ModelError, StorageError) as error:
        return [f"searches will take longer to start: {error}"]
    except KeyboardInterrupt:  # the collection is whole and committed
        return ["searches will take longer to start: making their graphs was interrupted; the next run makes them"]
    return []


def _spec(place: Path, model: str | None, is_continued: bool) -> str:
    """The model that was named, or that of the collection."""
    if model is not None or not is_continued:
        return absolute_spec(model or "starter")
    with Collection.open(place) as stored:
        require_confirmed(stored.encoder_spec, stored.fingerprint, place)
        return absolute_spec(stored.encoder_spec)
