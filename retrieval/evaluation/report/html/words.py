"""How a page names directions, stages and changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.evaluation.runs import Run

_WORDS = {"image": "picture", "audio": "sound", "text": "text"}


def directions(runs: Sequence[Run]) -> list[str]:
    """Of all runs, in the order of the first that has them."""
    return list(dict.fromkeys(direction for run in runs for direction, _ in run.keys))


def named(direction: str, between: str = "\u00a0→\u00a0") -> str:
    """``text->image`` as "text → picture", on one line."""
    return between.join(_WORDS.get(side, side) for side in direction.split("->"))


def stage_name(stage: str) -> str:
    """What a stage is to people."""
    return {"dual": "embeddings alone", "rerank": "reranked"}.get(stage, stage)


def row_name(runs: Sequence[Run], run: Run, stage: str) -> str:
    """What distinguishes a result from the others of its direction."""
    if len(runs) == 1:
        return stage_name(stage)
    return run.label if stage == "dual" else f"{run.label}, {stage_name(stage)}"


def compared(direction: str, baseline_stage: str, stage: str) -> str:
    """A direction, and which stages of it are compared."""
    if baseline_stage == stage:
        return named(direction) + ("" if stage == "dual" else ", reranked")
    return f"{named(direction)}, {stage_name(stage)} against {stage_name(baseline_stage)}"


def points(value: float, interval: Sequence[float]) -> str:
    """A difference of shares in points of a hundred, with its interval."""
    return f"{100 * value:+.1f} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def cached(counts: Mapping[str, Mapping[str, int]] | None) -> str:
    """How much of each kind was not computed anew; empty where nothing was found."""
    found = {kind: one for kind, one in (counts or {}).items() if one["found"]}
    return ", ".join(f"{one['found']:,} of {one['found'] + one['computed']:,} {kind}" for kind, one in found.items())
