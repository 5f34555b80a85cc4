"""Tables of starter.json, and the blocks of README.md and the model card that print them: no figure is typed by hand.

A block stands between ``<!-- figures: NAME -->`` and ``<!-- /figures -->``; the names are those of ``BLOCKS``. Knows
nothing of models, data sets or metrics: what is printed is what the JSON holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "data" / "models" / "starter" / "README.md")
BLOCK = re.compile(r"(<!-- figures: (?P<name>\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)

Figures = Mapping[str, Any]
"""The document of starter.json; an empty one gives the header rows of every table."""

_WORDS = {"image": "picture", "audio": "sound", "text": "text"}
_ONE_BY_ONE = ("direction", "queries", "candidates", "R@1", "R@5", "R@10", "chance R@1")
_SOUND_DIRECTIONS = ("text->audio", "audio->text", "image->audio", "audio->image")
_TEXT_DIRECTIONS = ("text->image", "image->text")
LANGUAGES = {"de": "German", "fr": "French", "es": "Spanish", "zh_CN": "Chinese"}


def renewed(text: str, figures: Figures) -> str:
    """``text`` with every block renewed. ``ValueError`` for a block of an unknown name."""
    return BLOCK.sub(lambda block: f"{block[1]}{rendered(block['name'], figures)}\n{block[3]}", text)


def differing(text: str, figures: Figures) -> list[str]:
    """Names of the blocks in ``text`` that do not print ``figures``."""
    return [block["name"] for block in BLOCK.finditer(text) if renewed(block[0], figures) != block[0]]


def rendered(name: str, figures: Figures) -> str:
    """What a block holds, without the lines around it."""
    if name not in BLOCKS:
        raise ValueError(f"figures: {name}: no such block; there are {', '.join(BLOCKS)}")
    return BLOCKS[name][1](figures)


def page(figures: Figures) -> str:
    """starter.md: every block under its title, and what was left out."""
    lines = [f"# Figures of the model {figures['model']['name']}", ""]
    for name, (title, _) in BLOCKS.items():
        lines += [f"## {title}", "", rendered(name, figures), ""]
    notes = [f"- {name}: {reason}" for name, reason in figures["missing"].items()]
    for name, measured in figures["datasets"].items():
        if isinstance(measured, dict):
            notes += [f"- {name}: {one['path']} skipped: {one['reason']}" for one in measured.get("skipped", [])]
    return "\n".join([*lines, "## Left out", "", *(notes or ["Nothing."])]) + "\n"


# ------------------------------------------------------------------------------------------- the blocks


def _run(figures: Figures) -> str:
    means = (
        "R@k: share of the queries with a relevant one in the top k, in %; in brackets the 95 % bootstrap interval "
        "over queries."
    )
    if "run" not in figures:
        return f"{means}\nNot measured yet: run `make bench`."
    run, versions = figures["run"], figures["run"]["versions"]
    commit = f"commit `{run['commit'][:12]}`{' with changes' if run['changed'] else ''}" if run["commit"] else "no git"
    return (
        f"{means}\nMeasured in {run['seconds']:.0f} s by `{run['command']}`, a part of `make bench`: model "
        f"fingerprint `{figures['fingerprint'][:12]}`,\n{commit}, torch {versions.get('torch', '-')}, "
        f"{run['hardware']}, {run['device']}, {run['dtype']}."
    )


def _tuxpaint(figures: Figures) -> str:
    return _one_by_one(figures, "tuxpaint")


def _heldout(figures: Figures) -> str:
    return _one_by_one(figures, "heldout")


def _demo(figures: Figures) -> str:
    return _one_by_one(figures, "demo")


def _one_by_one(figures: Figures, name: str) -> str:
    """A row a direction."""
    measured = figures.get("datasets", {}).get(name)
    rows = [
        (
            _direction(result),
            f"{result['n_queries']:,} {result['queries']}",
            f"{result['n_candidates']:,} {result['candidates']}",
            _at_1(result),
            _percent(result["hit_rate_at_5"]),
            _percent(result["hit_rate_at_10"]),
            _chance(result),
        )
        for result in (measured or {}).get("results", [])
    ]
    return _table(_ONE_BY_ONE, rows) + _foot(figures, name, measured)


def _sounds(figures: Figures) -> str:
    """A row for the seen concepts and one for the others, a column a direction."""
    measured = figures.get("datasets", {}).get("sounds")
    header = ("queries about concepts that", "queries", *map(_arrow, _SOUND_DIRECTIONS))
    rows = []
    for key, words in (("seen", "training sounds have"), ("unseen", "no training sound has")):
        if measured:
            results = {result["direction"]: result for result in measured[key]["results"]}
            cells = [_three(results[name]) if name in results else "" for name in _SOUND_DIRECTIONS]
            rows.append((words, f"{measured[key]['sounds']:,}", *cells))
    if measured:
        every = figures["datasets"]["tuxpaint"]
        results = {one["direction"]: one for one in every["results"] if "distinct" not in one["candidates"]}
        cells = [_three(results[name]) if name in results else "" for name in _SOUND_DIRECTIONS]
        rows.append(("either", f"{every['items']['audio']:,}", *cells))
        cells = [_chance(results[name]) if name in results else "" for name in _SOUND_DIRECTIONS]
        rows.append(("chance R@1", "", *cells))
    return _table(header, rows) + _foot(figures, "sounds", measured)


def _languages(figures: Figures) -> str:
    """A row a language, English for comparison."""
    datasets = figures.get("datasets", {})
    spoken = datasets.get("languages", {})
    rows = []
    for name, measured in [("English", datasets.get("tuxpaint")), *((LANGUAGES[key], m) for key, m in spoken.items())]:
        if measured and spoken:
            results = {one["direction"]: one for one in measured["results"] if "distinct" not in one["candidates"]}
            there = [results[direction] for direction in _TEXT_DIRECTIONS if direction in results]
            count = f"{measured['items']['image']:,}"
            rows.append((name, count, *map(_three, there), _chance(there[0]) if there else ""))
    header = ("captions", "pictures", *map(_arrow, _TEXT_DIRECTIONS), "chance R@1")
    return _table(header, rows) + _foot(figures, "languages", spoken)


def _queries(figures: Figures) -> str:
    measured = figures.get("datasets", {}).get("queries")
    rows = [(one["query"], ", ".join(f"`{Path(hit['image']).name}`" for hit in one["top"])) for one in measured or []]
    return _table(("query", "first five pictures of Tux Paint"), rows) + _foot(figures, "queries", measured)


#: Name of a block -> its title in starter.md, and what prints it.
BLOCKS: Mapping[str, tuple[str, Callable[[Figures], str]]] = {
    "run": ("The run", _run),
    "tuxpaint": ("Tux Paint stamps", _tuxpaint),
    "sounds": ("Tux Paint's sounds, of concepts that training sounds have and others", _sounds),
    "languages": ("Tux Paint stamps in other languages", _languages),
    "heldout": ("Held-out concepts of the training pool", _heldout),
    "demo": ("The demo collection", _demo),
    "queries": ("Ten queries on Tux Paint's pictures", _queries),
}


# --------------------------------------------------------------------------------------------- helpers


def _foot(figures: Figures, name: str, measured: Any) -> str:
    """The line under a table: which manifest it was measured on, or why it was not."""
    if measured:
        if isinstance(measured, dict) and "manifest" in measured:
            manifest = measured["manifest"]
            split = f", split {measured['split']}" if measured["split"] else ""
            return f"\n\nManifest `{manifest['name']}`{split}, sha256 `{manifest['sha256'][:12]}`."
        return ""
    if "missing" not in figures:
        return "\n\nNot measured yet: run `make bench`."
    return f"\n\nNot measured: {figures['missing'].get(name, 'nothing of it could be read')}."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _arrow(direction: str) -> str:
    """ "text->image" -> "text → picture", with what its columns hold."""
    return f"{_named(direction)} R@1 / 5 / 10"


def _direction(result: Mapping[str, Any]) -> str:
    once = ", equal captions counted once" if "distinct" in result["candidates"] else ""
    return _named(result["direction"]) + once


def _named(direction: str) -> str:
    return " → ".join(_WORDS[side] for side in direction.split("->"))


def _three(result: Mapping[str, Any]) -> str:
    return f"{_at_1(result)} / {_percent(result['hit_rate_at_5'])} / {_percent(result['hit_rate_at_10'])}"


def _at_1(result: Mapping[str, Any]) -> str:
    low, high = result["ci95"]["hit_rate_at_1"]
    return f"{_percent(result['hit_rate_at_1'])} [{_percent(low)}, {_percent(high)}]"


def _chance(result: Mapping[str, Any]) -> str:
    return f"{100 * result['chance']['hit_rate_at_1']:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
