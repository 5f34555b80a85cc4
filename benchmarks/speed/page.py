"""The measurements of :mod:`benchmarks.speed.run` as Markdown."""

from __future__ import annotations

from typing import Any

_TITLES = {
    "pictures": (
        "Pictures, one open_clip model in every program",
        "ViT-B-32-256 of random values, the same ones in each. Milliseconds that a picture takes beyond the start.",
    ),
    "starter": ("Pictures, the starter", "Three picture trunks and the media tokens."),
    "texts": (
        "Texts, the starter",
        "Passages of 20 to 100 words, two language models. sentence-transformers runs the same two models.",
    ),
}


def page(found: dict[str, Any]) -> str:
    """All parts that were measured."""
    lines = [
        "# How fast things go in",
        "",
        "Written by `python -m benchmarks.speed.run`, which says how it measures. The start of a search is in "
        "[cold-search.md](cold-search.md), reranking beside opening and encoding the pictures in "
        "[reranker.md](reranker.md), and the index beside other libraries in [index.md](index.md).",
    ]
    for part, (title, about) in _TITLES.items():
        if part in found:
            lines += ["", f"## {title}", "", f"{about} {_where(found[part])}"]
            for what, programs in found[part]["found"].items():
                lines += ["", *_table(what, programs)]
    if "growth" in found:
        lines += [
            "",
            "## By size",
            "",
            f"Small pictures and an encoder that costs next to nothing. {_where(found['growth'])}",
        ]
        lines += ["", "| pictures | CPU ms a picture, with the start | peak MB |", "| ---: | ---: | ---: |"]
        for count, one in found["growth"]["found"].items():
            lines.append(f"| {count} | {one['cpu_ms']} | {one['peak_mb']:,} |")
    return "\n".join(lines) + "\n"


def _table(what: str, programs: dict[str, dict[str, float]]) -> list[str]:
    alone = next(iter(programs.values()))
    ours = programs["trimodal index"]
    lines = [
        f"| {what} | CPU ms | towers alone ÷ it | it ÷ trimodal | wall ms | towers alone ÷ it | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in programs.items():
        lines.append(
            f"| {name} | {one['cpu_ms']:.1f} | {alone['cpu_ms'] / one['cpu_ms']:.2f} | "
            f"{one['cpu_ms'] / ours['cpu_ms']:.2f} | {one['wall_ms']:.1f} | {alone['wall_ms'] / one['wall_ms']:.2f} | "
            f"{one['peak_mb']:,.0f} |"
        )
    return lines


def _where(part: dict[str, Any]) -> str:
    facts = part["facts"]
    rounds = "One round" if part["rounds"] == 1 else f"Medians of {part['rounds']} rounds"
    return f"{rounds}; {facts['hardware']}, {facts['dtype']}, commit {facts['commit'][:10]}."
