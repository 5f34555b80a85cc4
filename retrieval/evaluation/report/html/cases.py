"""The examples of a page: queries as pictures, sounds and words, with what came first and what belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.files import one_line
from retrieval.evaluation.report.html.examples import Media
from retrieval.evaluation.report.html.words import named
from retrieval.evaluation.runs import Run

_MAX_TEXT_CHARS = 240


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry of an example, ready to be shown."""

    modality: str
    address: str | None
    text: str
    name: str
    relevant: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """An example, ready to be shown."""

    query: Shown
    wanted: Shown
    found: Sequence[Shown]
    ranks: Sequence[str]
    """Where the wanted one came, in words; one a run."""
    is_hit: bool


@dataclass(frozen=True, slots=True)
class Cases:
    """Examples of one direction and stage, in groups with a heading each."""

    title: str
    groups: Sequence[tuple[str, Sequence[Case]]]


def all_cases(runs: Sequence[Run], media: Media) -> Iterator[Cases]:
    """Of the first run, of each direction's last stage; where the same query came in the other runs stands beside."""
    last = {result["direction"]: result for result in runs[0].document["results"]}
    for direction, result in last.items():
        details = result.get("details")
        if not details:
            continue
        title = named(direction) + ("" if result["stage"] == "dual" else ", reranked")
        groups = [
            (heading, [_case(runs, direction, example, media, is_hit=name == "hits") for example in details[name]])
            for name, heading in (("misses", "Worst misses"), ("hits", "Some hits"))
        ]
        if any(cases for _, cases in groups):
            yield Cases(title, groups)


def _case(runs: Sequence[Run], direction: str, example: Mapping[str, Any], media: Media, *, is_hit: bool) -> Case:
    ranks = [place(example["rank"]) if len(runs) == 1 else f"{runs[0].label}: {place(example['rank'])}"]
    for run in runs[1:]:
        theirs = [result for result in run.document["results"] if result["direction"] == direction]
        kept = theirs[-1].get("details", {}).get("per_query", {}).get("first_rank", ()) if theirs else ()
        if example["query"] < len(kept):
            ranks.append(f"{run.label}: {place(kept[example['query']])}")
    return Case(
        shown(example["asked"], media),
        shown(example["wanted"], media),
        [shown(entry, media) for entry in example["found"]],
        ranks,
        is_hit,
    )


def shown(entry: Mapping[str, Any], media: Media) -> Shown:
    """An entry of ``report.json`` with its picture or sound."""
    text, name = entry["text"] or "", entry["path"] or ""
    return Shown(
        entry["modality"],
        media.address(entry["path"], entry["modality"]),
        one_line(text, _MAX_TEXT_CHARS) if text else "",
        one_line(name, _MAX_TEXT_CHARS) if name else "",
        bool(entry.get("relevant")),
    )


def place(rank: int) -> str:
    """A rank in words."""
    return f"place {rank:,}"
