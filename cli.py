"""The command ``trimodal``: wires, prints and chooses exit codes; holds no logic of its own.

Results go to stdout, progress and warnings to stderr. Exit codes: 0 all well; 1 it ran, but something was skipped
(``--strict``) or is not as it should be (``verify``); 2 usage; 3 a stated error. Everything heavy is imported inside
the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexer.errors import TrimodalError, UsageError
from retrieval import output

if TYPE_CHECKING:
    from indexer.build.run import BuildReport
    from indexer.items import Modality, Skipped
    from indexer.training.loop import Point
    from retrieval.hits import SearchResult
    from retrieval.listing import Listing

_SHOWN_SKIPS = 20
_SORT_WITH_A_QUERY = "--sort is for a list without a query; hits are sorted by how well they match"


class _Group(typer.core.TyperGroup):
    """Turns stated errors into one line on stderr and their exit code; nothing reaches a terminal raw.

    Its arguments are ``Any``: click's types, or those of Typer's own copy of click, by Typer's version.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with output.guarded():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with output.printable_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        try:
            with output.printable_usage_errors():
                return super().invoke(ctx)
        except TrimodalError as error:
            output.warn(f"trimodal: {error}")
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:  # `| head` has seen enough
            output.close()
            raise typer.Exit(0) from None


def _app(purpose: str) -> typer.Typer:
    return typer.Typer(
        cls=_Group,
        help=purpose,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


app = _app("Find any picture, sound or text with any other.")
models_app = _app("Models: what there is, what they can do, and fetching them.")
train_app = _app("Train models from recipe files.")
app.add_typer(models_app, name="models")
app.add_typer(train_app, name="train")

CollectionOption = Annotated[
    Path | None,
    typer.Option(
        "--collection",
        "-c",
        metavar="DIR",
        help="The collection's directory. Default: a per-user directory.",
        envvar="TRIMODAL_COLLECTION",
    ),
]
DeviceOption = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:n]", help="Where towers and FAISS run.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="SPEC",
        help="starter, openclip:ARCH/TAG, openclip:ARCH@PATH, clap:NAME, or a directory that `trimodal train` wrote.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RerankOption = Annotated[
    bool | None,
    typer.Option(
        "--rerank/--no-rerank", help="Judge the best again; by default where the model can.", show_default=False
    ),
]
RerankDepthOption = Annotated[int, typer.Option(min=1, max=4096, help="How many of the best are judged again.")]
ModalityOption = Annotated[
    list[str] | None, typer.Option("--modality", "-m", metavar="image|audio|text", help="Only these; may be repeated.")
]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Find any picture, sound or text with any other."""
    if version:
        from importlib.metadata import version as installed

        output.line(f"trimodal {installed('trimodal')}")
        raise typer.Exit()


@app.command()
def index(
    paths: Annotated[list[Path], typer.Argument(help="Folders, files, and .jsonl/.csv/.parquet manifests.")],
    collection: CollectionOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    modality: ModalityOption = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove items whose file is gone from PATHS.")] = False,
    prune_missing_roots: Annotated[
        bool,
        typer.Option("--prune-missing-roots", help="The same, also where a folder of PATHS is missing or empty now."),
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out names, as in .gitignore: '*.tmp', 'drafts/'; may be repeated."),
    ] = None,
    default_excludes: Annotated[
        bool,
        typer.Option(
            "--default-excludes/--no-default-excludes",
            help="Leave out hidden names, bins, caches, @eaDir, node_modules and the like.",
        ),
    ] = True,
    follow_links: Annotated[
        bool, typer.Option("--follow-links/--no-follow-links", help="Also what links in folders lead to.")
    ] = True,
    verify_content: Annotated[
        bool, typer.Option("--verify-content", help="Read every file again, also of the same size and times.")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Encode everything anew (another model).")] = False,
    caption: Annotated[
        bool, typer.Option("--caption", help="Have the model caption the collection's pictures that have no caption.")
    ] = False,
    caption_beams: Annotated[int, typer.Option(min=1, max=64, help="Beams of the captions' beam search.")] = 3,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything was skipped.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Segments a tower reads at once.")] = 32,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that read files.")] = 2,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Pictures over this are skipped.")] = 179,
    max_file_mb: Annotated[float, typer.Option(min=0.001, help="Pictures and sounds over this are skipped.")] = 2000,
    max_text_mb: Annotated[float, typer.Option(min=0.001, help="Texts over this are skipped.")] = 50,
    max_audio_hours: Annotated[float, typer.Option(min=0.001, help="Sounds over this are skipped.")] = 12,
    max_decoded_mb: Annotated[
        float, typer.Option(min=1, help="Files that take more memory than this to read are skipped.")
    ] = 1000,
    max_seconds: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="Files that take longer to read are skipped (sounds: ten minutes of it, texts: a million letters).",
        ),
    ] = 20,
    index_kind: Annotated[
        str | None, typer.Option(help="Flat (exact), HNSW or IVF; auto: what suits the number of vectors.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="What the index may take while it is searched, such as 500MB or 2GB; 0: any.")
    ] = None,
    target_recall: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, help="Share of the true 10 nearest that a search is to find [0.95; 1: exact]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Index pictures, sounds and texts. What is unchanged since the last run is not read again."""
    from dataclasses import asdict

    from indexer.ann.plan import parse_index_options
    from indexer.build.pipeline import CaptionOptions, CorpusOptions, UpdateOptions
    from indexer.build.pipeline import index as index_paths
    from indexer.items import Modality
    from indexer.limits import MediaLimits
    from retrieval.rerank.stage import require_captioner

    place = _place(collection)
    with output.progress() as bar:
        report = index_paths(
            paths,
            place,
            model,
            device=device,
            corpus=CorpusOptions(
                _modalities(modality) or frozenset(Modality), exclude or (), default_excludes, follow_links
            ),
            limits=MediaLimits(
                max_megapixels=max_megapixels,
                max_file_mb=max_file_mb,
                max_text_mb=max_text_mb,
                max_audio_hours=max_audio_hours,
                max_decoded_mb=max_decoded_mb,
                max_seconds=max_seconds,
            ),
            update=UpdateOptions(
                prune=prune,
                prune_missing_roots=prune_missing_roots,
                verify_content=verify_content,
                rebuild=rebuild,
                batch_size=batch_size,
                workers=workers,
                index=parse_index_options(index_kind, memory, target_recall),
            ),
            captions=CaptionOptions(partial(require_captioner, device=device), caption_beams) if caption else None,
            on_progress=bar,
        )
    if as_json:
        document = asdict(report)
        document["skipped"] = [{"path": skip.path, "reason": skip.reason} for skip in report.skipped]
        output.print_json({"collection": str(place), **document})
    else:
        _show_skipped(report.skipped)
        for warning in report.warnings:
            output.warn(f"trimodal: {warning}")
        for line in _report_lines(report, place):
            output.line(line)
    if report.interrupted:
        raise typer.Exit(130)
    if strict and report.skipped:
        raise typer.Exit(1)
    if not report.found and report.skipped and not (prune_missing_roots and report.pruned):
        raise typer.Exit(1)


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(help="Words that say what is looked for.")] = None,
    image: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A picture that is like it.")] = None,
    audio: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A sound that is like it.")] = None,
    plus: Annotated[
        list[str] | None, typer.Option(metavar="[W:]PART", help="Add words, image:FILE or audio:FILE, weight W.")
    ] = None,
    minus: Annotated[list[str] | None, typer.Option(metavar="[W:]PART", help="Turn away from the same.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    modality: ModalityOption = None,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="As in SQL: \"year >= 2020 and suffix = '.jpg'\".")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Taken (or changed) then or later: 2024, 2024-05 or 2024-05-31.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Taken (or changed) until then, included.")] = None,
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="In this folder or below it.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="FIELD[:asc|desc]", help="Of a list without a query; by default date:desc, newest first."),
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out hits that score less.")] = None,
    rerank: RerankOption = None,
    rerank_depth: RerankDepthOption = 64,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out hits that less probably match.")
    ] = None,
    collection: CollectionOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    paths: Annotated[bool, typer.Option("--paths", help="Print only the paths, a line each.")] = False,
    table: Annotated[
        bool | None,
        typer.Option(
            "--table/--plain",
            show_default=False,
            help="A table as wide as the terminal (or COLUMNS), or tab-separated lines; by default lines when piped.",
        ),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="One ranking of all kinds; by default the -k best of each kind.")
    ] = False,
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Many queries: .jsonl, .csv or .parquet, a row each.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where their hits go: .jsonl or .csv; without it JSON lines.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search with words, a picture, a sound, or any of them together; or with many queries from a file.

    Without any, --where, --since, --until, --folder or --sort list what there is, newest first.

    Each kind has its own -k best, the kind whose best hit stands out most first; --mixed gives one ranking of all, as
    --paths and "hits" of --json do ("groups" of --json is the table).

    A hit has rank, kind, match, path, time (of a sound) and words. The match is a probability in per cent where the
    model is calibrated or a reranker judged it; else strong, good, fair or weak: how far its cosine stands out from
    those of its own kind, in standard deviations (strong from 4, good from 3.3, fair from 2.5). A calibrated model says
    "nothing matches well; nearest:" above hits of which none is likely to match ("matches": false in --json). A table
    is cut to the terminal's width (the path in its middle). Piped, it is a line of the columns' names and a line a
    hit, separated by tabs, nothing cut.
    """
    from retrieval.query import build_query
    from retrieval.shorthands import joined

    where = joined(where, since=since, until=until, folder=folder)
    options: dict[str, Any] = {
        "plus": plus or (),
        "minus": minus or (),
        "k": k,
        "modalities": modality,
        "where": where,
        "min_score": min_score,
        "min_probability": min_probability,
    }
    if queries is not None:
        if text is not None or image or audio:
            raise UsageError("--queries takes its queries from a file; leave out the words, --image and --audio")
        if sort is not None:
            raise UsageError(_SORT_WITH_A_QUERY)
        _search_all(queries, out, options, _place(collection), model, device, rerank, rerank_depth)
        return
    if out is not None:
        raise UsageError("--out is for the hits of --queries FILE")
    has_query = text is not None or bool(image or audio or plus or minus)
    if not has_query and (where is not None or sort is not None):
        if min_score is not None or min_probability is not None or rerank:
            raise UsageError("without a query nothing is scored; leave out --min-score, --min-probability and --rerank")
        _list(_place(collection), where, sort, k, modality, as_json, paths, table)
        return
    if sort is not None:
        raise UsageError(_SORT_WITH_A_QUERY)
    query = build_query(text, images=image or (), sounds=audio or (), **options)
    from retrieval.search import Searcher

    searcher = Searcher.open(_place(collection), model=_absolute_spec(model) if model else None, device=device)
    result = searcher.search(query, rerank=rerank, rerank_depth=rerank_depth)
    for warning in result.warnings:
        output.warn(f"trimodal: {warning}")
    _print_found(result, as_json, paths, table, mixed)


def _list(
    place: Path,
    where: str | None,
    sort: str | None,
    k: int,
    modality: list[str] | None,
    as_json: bool,
    paths: bool,
    table: bool | None,
) -> None:
    """``search`` without a query: what passes the filter."""
    from retrieval.listing import list_items

    listing = list_items(place, where=where, sort=sort, k=k, modalities=_modalities(modality))
    _print_found(listing, as_json, paths, table)
    if listing.total > len(listing.items) and not as_json:
        output.warn(f"trimodal: {len(listing.items):,} of {listing.total:,} items; -k shows more")


def _print_found(
    found: SearchResult | Listing, as_json: bool, paths: bool, table: bool | None, mixed: bool = False
) -> None:
    """Hits or a list: as JSON, as paths, as a table, or as lines for a pipe."""
    from retrieval.present import hits_table, nearest_line, path_lines, plain_rows

    nearest = None if as_json else nearest_line(found)
    in_a_table = output.to_a_terminal() if table is None else table
    if nearest is not None:  # for a pipe it is no line of the results
        (output.line if in_a_table and not paths else output.warn)(nearest)
    if as_json:
        output.print_json(found.to_json())
    elif paths:
        for path in path_lines(found):
            output.path_line(path)
    elif in_a_table:
        output.show(hits_table(found, mixed=mixed))
    else:
        for row in plain_rows(found, mixed=mixed):
            output.tab_separated(row)


def _search_all(
    queries: Path,
    out: Path | None,
    options: dict[str, Any],
    place: Path,
    model: str | None,
    device: str,
    rerank: bool | None,
    rerank_depth: int,
) -> None:
    """``search --queries``: a line of results a query, as soon as it is there."""
    from retrieval.batch import open_results, read_queries, require_result_path, search_all
    from retrieval.search import Searcher

    if out is not None:
        require_result_path(out, queries)
    total = sum(1 for _ in read_queries(queries, options))
    opened = Searcher.open(place, model=_absolute_spec(model) if model else None, device=device)
    shown: set[str] = set()
    done = failed = 0
    with output.progress() as bar, open_results(out) as results:
        answers = search_all(opened, read_queries(queries, options), rerank=rerank, rerank_depth=rerank_depth)
        for done, answer in enumerate(answers, start=1):
            results.write(answer)
            if answer.error is not None:
                failed += 1
                output.warn(f"trimodal: {queries}:{answer.row.line}: {answer.error}")
            for warning in () if answer.result is None else answer.result.warnings:
                if warning not in shown:
                    shown.add(warning)
                    output.warn(f"trimodal: {warning}")
            bar("searching", done, total, failed)
    if out is not None:
        output.line(f"{done - failed:,} queries answered, {failed:,} failed: {out}")
    if failed:
        raise typer.Exit(1)


@app.command()
def bench(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A manifest (.jsonl, .csv, .parquet), demo, or LAYOUT:PATH[@MEDIA], with LAYOUT coco, flickr30k, "
            "karpathy, coco-captions, audiocaps, clotho, classes or webdataset.",
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help="Only the rows of this split; of Karpathy's files: test by default.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="For classes: 'a photo of a {}.'; may be repeated.")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    rerank: RerankOption = None,
    rerank_depth: RerankDepthOption = 64,
    captions: Annotated[
        bool, typer.Option("--captions", help="Caption the pictures, too: BLEU-4, METEOR and CIDEr; needs a reranker.")
    ] = False,
    captions_beams: Annotated[int, typer.Option(min=1, max=64, help="Beams of the captions' beam search.")] = 3,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.html, .md, .json and .csv there.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096)] = 32,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that read files.")] = 2,
    ann: Annotated[
        bool, typer.Option("--ann", help="Compare the FAISS index of a collection of this size with exact search.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Compute everything anew, and keep nothing of it for the next run.")
    ] = False,
    collection: Annotated[
        Path | None,
        typer.Option(
            "--collection", "-c", metavar="DIR", help="Take the vectors of items that this collection holds already."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recall@k of a manifest with captions, both ways for every pair of modalities that it holds."""
    from contextlib import ExitStack

    from indexer.collection.collection import Collection
    from indexer.encoders import open_encoder
    from indexer.encoders.weights.base_weights import cache_dir
    from retrieval.evaluation.cache import BenchCache
    from retrieval.evaluation.datasets import open_dataset
    from retrieval.evaluation.known_items import CollectionItems
    from retrieval.evaluation.report.folder import write_report
    from retrieval.evaluation.report.text import render
    from retrieval.evaluation.runner import run_benchmark
    from retrieval.matching.file import open_match
    from retrieval.rerank.registry import captioner_of
    from retrieval.rerank.stage import choose_reranker, require_captioner

    kept = cache_dir() / "bench"
    benchmark = open_dataset(str(_dataset(Path(dataset))), split, templates=template or (), cache=kept)
    encoder = open_encoder(_absolute_spec(model or "starter"), device=device)
    reranker, warnings = choose_reranker(encoder, device, rerank)
    for warning in warnings:
        output.warn(f"trimodal: {warning}")
    captioner = None
    if captions:
        from retrieval.evaluation.metrics.caption_metrics import require_caption_metrics

        require_caption_metrics()
        captioner = captioner_of(reranker, encoder) if reranker else require_captioner(encoder, device)
    with ExitStack() as opened:
        known = None
        if collection is not None:
            known = CollectionItems(opened.enter_context(Collection.open(collection)), encoder)
        cache = None if no_cache else opened.enter_context(BenchCache.open(kept, encoder, encoder.fingerprint))
        bar = opened.enter_context(output.progress(lines=True))
        result = run_benchmark(
            benchmark,
            encoder,
            batch_size=batch_size,
            workers=workers,
            reranker=reranker,
            rerank_depth=rerank_depth,
            captioner=captioner,
            caption_beams=captions_beams,
            details=report is not None,
            ann=ann,
            cache=cache,
            collection=known,
            match=open_match(encoder),
            progress=bar,
            notify=lambda line: output.warn(f"trimodal: {line}"),
        )
    if as_json:
        output.print_json(result.to_json())
    else:
        output.show(render(result))
    if report is not None:
        from retrieval.evaluation.provenance import of_run

        made = of_run(encoder, ["trimodal", *sys.argv[1:]])
        for path in write_report(result, report, provenance=made, benchmark=benchmark):
            output.warn(f"wrote {path}")


@app.command()
def compare(
    reports: Annotated[list[Path], typer.Argument(help="report.json of two or more runs; the first is the baseline.")],
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write comparison.html, .json and .csv there.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="DATASET", help="As for bench; for the page's pictures and sounds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs of `bench --report` query by query: differences with intervals and p-values."""
    from retrieval.evaluation.compare import compare_runs, to_json
    from retrieval.evaluation.report.comparison import render, write_comparison
    from retrieval.evaluation.runs import load_runs

    runs = load_runs(reports)
    comparisons = compare_runs(runs)
    benchmark = None
    if dataset is not None:
        from indexer.encoders.weights.base_weights import cache_dir
        from retrieval.evaluation.compare import require_same
        from retrieval.evaluation.datasets import open_dataset

        place, split = str(_dataset(Path(dataset))), runs[0].document["split"]
        benchmark = require_same(open_dataset(place, split, cache=cache_dir() / "bench"), runs[0])
    if as_json:
        output.print_json(to_json(comparisons))
    else:
        output.show(render(comparisons))
    if report is not None:
        for path in write_comparison(comparisons, report, benchmark=benchmark):
            output.warn(f"wrote {path}")


@app.command()
def caption(
    files: Annotated[list[Path], typer.Argument(help="Pictures.")],
    model: ModelOption = None,
    device: DeviceOption = "auto",
    beams: Annotated[int, typer.Option(min=1, max=64, help="Beams of the beam search.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Words for pictures, by the reranker's language model. Exits with 1 if any was skipped."""
    from indexer.encoders import open_encoder
    from indexer.files import display_path
    from indexer.items import Skipped
    from retrieval.rerank.captions import caption_files
    from retrieval.rerank.stage import require_captioner

    encoder = open_encoder(_absolute_spec(model or "starter"), device=device)
    captions: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    for one in caption_files(files, encoder, require_captioner(encoder, device), beams=beams):
        if isinstance(one, Skipped):
            skipped.append(one)
            if not as_json:
                _show_skipped([one])
        else:
            captions.append(one.to_json())
            if not as_json:
                output.line(f"{display_path(one.path)}: {one.caption or 'unsure'}")
    if as_json:
        rows = [{"path": skip.path, "reason": skip.reason} for skip in skipped]
        output.print_json({"captions": captions, "skipped": rows})
    if skipped:
        raise typer.Exit(1)


@app.command()
def info(
    collection: CollectionOption = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="What --where and --sort may name, with counts and examples.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What a collection holds, and which model made it."""
    from indexer.collection.collection import Collection
    from indexer.media.text.token_passages import passages_line

    if columns:
        from retrieval.present import columns_table

        with Collection.open(_place(collection)) as opened:
            named = opened.catalog.columns()
        if as_json:
            output.print_json({"columns": [column.to_json() for column in named]})
        else:
            output.show(columns_table(named))
        return
    with Collection.open(_place(collection)) as opened:
        found = opened.stats()
        index_lines = opened.index_lines()
        passages = passages_line(opened.passage_rule)
    if not as_json:
        del found["index_facts"]
        found["passages"] = passages
    _facts(found, as_json)
    if not as_json and len(index_lines) > 1:
        for line in ("", *index_lines):
            output.line(line)


@app.command()
def verify(
    collection: CollectionOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that catalog, vectors and FAISS index agree. Exits with 1 where they do not."""
    from indexer.collection.collection import Collection

    restored = Collection.restore(_place(collection)) if repair else []
    with Collection.open(_place(collection), writable=repair) as opened:
        mended = [*restored, *(opened.repair() if repair else [])]
        problems = opened.verify()
        count = opened.count
    if as_json:
        rows = [{"what": problem.what, "remedy": problem.remedy} for problem in problems]
        output.print_json(
            {"ok": not problems, "segments": count, "problems": rows, "repaired": [str(m) for m in mended]}
        )
    else:
        for line in mended:
            output.line(f"mended: {line}")
        for problem in problems:
            output.line(f"{problem.what}; {problem.remedy}")
        if not problems:
            output.line(f"all well: {count} segments, catalog, vectors and index agree")
    if problems:
        raise typer.Exit(1)


@app.command()
def remove(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, or manifest#id keys of indexed items.")],
    collection: CollectionOption = None,
) -> None:
    """Forget items. Files on disk are not touched."""
    from indexer.collection.collection import Collection

    with Collection.open(_place(collection), writable=True) as opened:
        removed = opened.remove_under(paths)
    output.line(f"removed {removed} items")
    if not removed:
        raise typer.Exit(1)


@app.command()
def duplicates(
    threshold: Annotated[float, typer.Option(help="Cosine from which two things are near duplicates.")] = 0.96,
    exact: Annotated[bool, typer.Option("--exact", help="Only files of the same bytes.")] = False,
    modality: ModalityOption = None,
    collection: CollectionOption = None,
    device: DeviceOption = "auto",
    paths: Annotated[
        bool, typer.Option("--paths", help="Print only the paths of all but the oldest of each group, a line each.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show duplicates: the same bytes, or nearly the same picture, sound or text. Removes nothing."""
    from indexer.collection.collection import Collection
    from indexer.duplicates.groups import find_duplicates
    from indexer.duplicates.same_content import LeftOut
    from indexer.files import display_path
    from indexer.items import Modality

    wanted = [one for one in Modality if one in (_modalities(modality) or frozenset(Modality))]
    with Collection.open(_place(collection)) as opened, output.progress() as bar:
        left_out = LeftOut()
        found = find_duplicates(
            opened,
            threshold=threshold,
            modalities=wanted,
            exact=exact,
            device=device,
            on_progress=bar,
            left_out=left_out,
        )
        groups = list(found)
        for warning in [*opened.warnings, *left_out.lines()]:
            output.warn(f"trimodal: {warning}")
    if as_json:
        shown = [[one.to_json() for one in group] for group in groups]
        output.print_json({"threshold": None if exact else threshold, "groups": shown, "left_out": left_out.to_json()})
        return
    if paths:
        for group in groups:
            for one in group[1:]:
                if one.item.path != one.item.manifest:  # a row of a manifest is no file of its own
                    output.path_line(one.item.path)
        return
    for number, group in enumerate(groups, start=1):
        output.line(f"{number}. {display_path(group[0].item.key)}  ({group[0].item.size_bytes:,} bytes)")
        for one in group[1:]:
            output.line(one.line())
    spare = sum(one.item.size_bytes for group in groups for one in group[1:])
    more = sum(len(group) - 1 for group in groups)
    output.line(f"{len(groups):,} groups, {more:,} items more than needed ({spare:,} bytes); nothing was removed")


@app.command()
def compact(collection: CollectionOption = None) -> None:
    """Give back the space of what was removed or replaced."""
    from indexer.collection.collection import Collection

    with Collection.open(_place(collection), writable=True) as opened:
        before, after = opened.compact()
    output.line(f"vectors: {before} rows before, {after} after")


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """The models that can be named."""
    from indexer.encoders.registry import known_models

    models = known_models()
    if as_json:
        output.print_json([model.to_json() for model in models])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "reads", "dim", "state", "licence"):
        table.add_column(column)
    for model in models:
        table.add_row(model.spec, ", ".join(model.modalities), str(model.dim), model.state, model.licence)
    output.show(table)


@models_app.command("show")
def models_show(spec: Annotated[str, typer.Argument(help="What --model takes.")], as_json: JsonOption = False) -> None:
    """What a model is made of, what it can do, its licences and its card."""
    from indexer.encoders.registry import describe_model

    model = describe_model(_absolute_spec(spec))
    _facts(model.to_json(), as_json)
    if not as_json and model.card is not None:
        output.show_card(model.card)


@models_app.command("pull")
def models_pull(spec: Annotated[str, typer.Argument(help="What --model takes.")] = "starter") -> None:
    """Fetch what a model needs and this machine lacks."""
    from indexer.encoders.registry import pull_model
    from retrieval.rerank.registry import prepare_rerankers

    with output.status() as show_stage:
        directories = pull_model(_absolute_spec(spec), show_stage)
        prepare_rerankers(_absolute_spec(spec), show_stage)
    for name, directory in directories.items():
        output.line(f"{name}: {directory}")


@models_app.command("verify")
def models_verify(
    spec: Annotated[str, typer.Argument(help="What --model takes.")] = "starter", as_json: JsonOption = False
) -> None:
    """Read every file of a model and compare its sha256. Exits with 1 where one is missing or damaged."""
    from dataclasses import asdict

    from indexer.encoders.verify_models import verify_model

    with output.status() as show_stage:
        show_stage("reading the model's files")
        checked = list(verify_model(_absolute_spec(spec)))
    problems = [one for one in checked if one.problem is not None]
    if as_json:
        output.print_json({"ok": not problems, "files": [asdict(one) for one in checked]})
    else:
        for one in checked:
            output.line(one.problem or f"{one.what}: as it was installed")
    if problems:
        raise typer.Exit(1)


@models_app.command("trust")
def models_trust(
    spec: Annotated[str | None, typer.Argument(help="What --model takes; without it: what is confirmed.")] = None,
) -> None:
    """Confirm a model, so that collections made elsewhere that name it can be opened."""
    from indexer.encoders import open_encoder
    from indexer.encoders.trust import confirm, confirmed

    if spec is not None:
        encoder = open_encoder(_absolute_spec(spec))
        confirm(encoder)
        output.line(f"{encoder.spec}: confirmed (fingerprint {encoder.fingerprint[:12]})")
        return
    for name, fingerprints in sorted(confirmed().items()):
        output.line(f"{name}: {', '.join(fingerprint[:12] for fingerprint in fingerprints)}")


@train_app.command("dual")
def train_dual_command(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the model that comes of it.")],
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a dual encoder from pairs: adapt the language model, align the towers. A killed run resumes.

    Features are cached between runs. Several processes share a run: torchrun --nproc-per-node N -m trimodal.cli
    train dual RECIPE --out DIR.
    """
    from dataclasses import asdict

    from indexer.training.loading import load_recipe

    loaded = load_recipe(recipe)
    from indexer.training.dual import train_dual

    with output.progress() as bar:

        def show_point(stage: str, point: Point) -> None:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in point.heldout.items() if "@10" not in name)
            output.warn(f"{stage}, step {point.step}: loss {point.loss:.3f}  {shown}")

        report = train_dual(loaded, out, device=device, on_progress=bar, on_point=show_point)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process reports
        return
    if as_json:
        output.print_json(asdict(report))
        return
    for name, counts in report.examples.items():
        output.line(f"{name}: {counts['train']} trained on, {counts['heldout']} held out")
    for name, count in report.dropped_near_duplicates.items():
        output.line(f"near-duplicates of {name} dropped: {count}")
    output.line(f"best step {report.best_step} of {loaded.schedule.steps}, held out:")
    for name, value in report.heldout.items():
        output.line(f"  {name}: {100 * value:.1f}")
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items() if name != "all")
    output.line(f"wrote {out} in {report.seconds['all']:.0f} s ({spent})")


@train_app.command("rerank")
def train_rerank_command(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the model that comes of it.")],
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train the reranker of a dual encoder: which text and picture match, and words for pictures."""
    from retrieval.rerank.naming import dropped_line
    from retrieval.rerank.training.recipe import load_rerank_recipe
    from retrieval.rerank.training.train import train_reranker

    loaded = load_rerank_recipe(recipe)
    with output.progress() as bar:

        def show_point(step: int, figures: dict[str, float]) -> None:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            output.warn(f"step {step}: {shown}")

        report = train_reranker(loaded, out, device=device, on_progress=bar, on_point=show_point)
    if report.get("names_left_out"):
        output.warn(f"warning: {dropped_line(report['names_left_out'])}")
    _facts(report if as_json else {name: value for name, value in report.items() if name != "curves"}, as_json)
    if not as_json:
        output.line(f"wrote {out}")


@train_app.command("match")
def train_match_command(
    manifest: Annotated[Path, typer.Argument(help="Rows that the model was not trained on, with captions.")],
    model: Annotated[str, typer.Option(metavar="SPEC", help="starter, or a directory of a trained model.")] = "starter",
    split: Annotated[str | None, typer.Option(help="Only the rows of this split.")] = "val",
    paraphrases: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help='Lines {"text": ..., "also": [...]}: texts to find.')
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="Also calibrate what the model's reranker judges.")
    ] = True,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Calibrate a model: how probably a hit matches, and when nothing does; writes match.json, trains no weights."""
    from indexer.encoders import open_encoder
    from indexer.encoders.weights.base_weights import cache_dir
    from retrieval.evaluation.cache import BenchCache
    from retrieval.evaluation.match_training import figure_lines, keep_match, train_match
    from retrieval.rerank.stage import choose_reranker

    encoder = open_encoder(_absolute_spec(model), device=device)
    reranker, warnings = choose_reranker(encoder, device, None if rerank else False)
    for warning in warnings:
        output.warn(f"trimodal: {warning}")
    with BenchCache.open(cache_dir() / "bench", encoder, encoder.fingerprint) as cache, output.progress() as bar:
        judging = None if reranker is None else cache.reranker(reranker)
        found, figures = train_match(
            encoder, manifest, split=split, paraphrases=paraphrases or (), reranker=judging, cache=cache, progress=bar
        )
    path = keep_match(model, found)
    if as_json:
        output.print_json({"path": str(path), "pairs": figures, "mixed": dict(found.mixed)})
        return
    for line in figure_lines(figures):
        output.line(line)
    output.line(f"wrote {path}")


@train_app.command("names")
def train_names_command(
    names: Annotated[Path, typer.Argument(help="A text file, a name a line.")],
    model: Annotated[Path, typer.Option(metavar="DIR", help="Directory of a model that has a reranker.")],
    device: DeviceOption = "auto",
) -> None:
    """Give a model the names that its captions may choose, such as those of your own things; nothing is trained."""
    from retrieval.rerank.naming import dropped_line, give_names, read_names

    given = read_names(names)
    with output.progress() as bar:
        dropped = give_names(model, given, device=device, on_progress=bar)
    if dropped:
        output.warn(f"warning: {dropped_line(dropped)}")
    output.line(f"{model}: captions choose from {len(given) - len(dropped):,} names")


def _place(collection: Path | None) -> Path:
    """The collection's directory: the given one, or the per-user one."""
    if collection is not None:
        from indexer.names import on_disk

        return on_disk(collection.expanduser().absolute())
    import platformdirs

    return platformdirs.user_data_path("trimodal") / "collection"


def _absolute_spec(spec: str) -> str:
    from indexer.encoders import absolute_spec

    return absolute_spec(spec)


def _modalities(names: list[str] | None) -> frozenset[Modality] | None:
    if not names:
        return None
    from retrieval.query import parse_modalities

    return parse_modalities(names)


def _dataset(dataset: Path) -> Path:
    """The given manifest; ``demo`` is the demo collection's, unless there is such a file."""
    if str(dataset) != "demo" or dataset.exists():
        return dataset
    from importlib.resources import files

    return Path(str(files("trimodal.data"))) / "demo" / "manifest.jsonl"


def _facts(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(document)
    else:
        output.facts(document)


def _show_skipped(skipped: list[Skipped]) -> None:
    for skip in skipped[:_SHOWN_SKIPS]:
        output.warn(f"skipped {skip.path}: {skip.reason}")
    if len(skipped) > _SHOWN_SKIPS:
        output.warn(f"… and {len(skipped) - _SHOWN_SKIPS} more skipped; --json lists them all")


def _report_lines(report: BuildReport, place: Path) -> list[str]:
    from indexer.corpus.not_indexed import counts_line
    from indexer.corpus.pruning import kept_line

    counts = {
        "added": report.added,
        "changed": report.changed,
        "moved or copied": report.moved,
        "pruned": report.pruned,
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
        "excluded": report.excluded,
        "links not followed": report.links_not_followed,
    }
    done = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
    files = report.added + report.changed + report.moved + report.unchanged
    rate = files / report.seconds if report.seconds > 0 else 0.0
    stopped = "interrupted; run again to continue: " if report.interrupted else ""
    lines = [f"{stopped}{done} ({report.seconds:.1f} s, {rate:.0f} items/s) in {place}"]
    lines += [line for line in (counts_line(report.not_indexed), kept_line(report.not_pruned)) if line]
    if report.captions is not None:
        unsure = report.captions.without_words
        more = f"; unsure of {unsure}, which have no caption" if unsure else ""
        lines.append(f"{report.captions.captioned} captioned ({report.captions.seconds:.1f} s){more}")
    return lines


if __name__ == "__main__":
    app()
