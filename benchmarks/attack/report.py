"""What an attack found, as lines and as the tables of ``docs/reliability.md``: no figure there is typed by hand.

A table stands between ``<!-- attack: NAME -->`` and ``<!-- /attack -->``. Knows nothing of how anything is measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "docs" / "bench" / "attack.json"
BLOCK = re.compile(r"(<!-- attack: (?P<name>\w+) -->\n).*?(<!-- /attack -->)", re.DOTALL)

Found = Mapping[str, Any]
"""The document of attack.json, by part."""

_READERS = {
    "media": "pictures, sounds, texts: `decode`",
    "run": "a run over a folder or a manifest",
    "manifest": "manifests",
    "queries": "tables of queries",
    "dataset": "layouts of benchmarks",
    "recipe": "recipes",
    "where": "`--where`",
    "collection": "collections: open, verify, search, repair",
    "model": "model directories",
    "reranker": "`reranker.json`",
    "tensors": "files of weights",
    "gguf": "GGUF files",
    "odd": "the fuzzer itself",
}


def held(part: str, found: Mapping[str, Any]) -> bool:
    """Whether nothing came of it that is not promised."""
    if part == "fuzz":
        return not found["foreign"]
    if part == "bombs":
        return all(bomb["held"] for bomb in found["bombs"])
    if part == "strangers":
        return all(case["held"] for case in found["cases"])
    return not (found["n_problems"] or found["injected"].get("n_problems"))


def lines(part: str, found: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"## {part}: {'held' if held(part, found) else 'DID NOT HOLD'} ({found['took_s']:,} s)",
        TABLES[part](found),
    ]


def renewed(text: str, found: Found) -> str:
    """``text`` with every table renewed; a part that was not run says so."""

    def table(block: re.Match[str]) -> str:
        name = block["name"]
        rows = TABLES[name](found[name]) + "\n" + _foot(found[name]) if name in found else "Not run yet: `make attack`."
        return f"{block[1]}{rows}\n{block[3]}"

    return BLOCK.sub(table, text)


def write_page(found: Found) -> None:
    """Renew ``docs/reliability.md``."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def _foot(found: Mapping[str, Any]) -> str:
    return f"\nCommit `{found['commit']}`, seed {found['seed']}, {found['took_s']:,} s."


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    text.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(row)} |" for row in text)


def _fuzz(found: Mapping[str, Any]) -> str:
    rows = []
    for name, counts in found["by_reader"].items():
        other = sum(counts.values()) - counts.get("read", 0) - counts.get("refused", 0)
        rows.append(
            (
                _READERS[name],
                f"{sum(counts.values()):,}",
                f"{counts.get('read', 0):,}",
                f"{counts.get('refused', 0):,}",
                f"{other:,}",
            )
        )
    rows.append(("all", f"{found['mutants']:,}", "", "", f"{found['foreign']:,}"))
    slow, large = found["slowest"], found["most_memory"]
    costs = (
        f"\n\nThe slowest mutant: {slow['cpu_s']:.1f} s of processor time ({slow['seed']}, number {slow['number']}); "
        f"the most memory of one: {large['memory_mb']:,.0f} MB ({large['seed']}, number {large['number']})."
        if slow
        else ""
    )
    return _table(("what is read", "mutants", "read", "refused in one line", "anything else"), rows) + costs


def _bombs(found: Mapping[str, Any]) -> str:
    rows = []
    for bomb in found["bombs"]:
        alone, run = bomb.get("decode"), bomb["run"]
        rows.append(
            (
                bomb["bomb"],
                f"{bomb['size_mb']:,.1f}",
                f"{alone['memory_mb']:,}" if alone else "-",
                f"{alone['cpu_s']:.1f}" if alone else "-",
                f"{run['memory_mb']:,}",
                f"{run['cpu_s']:.1f}",
                "held" if bomb["held"] else "; ".join(bomb["problems"]),
            )
        )
    alone_all = [bomb for bomb in found["bombs"] if bomb.get("decode")]
    most = max(alone_all, key=lambda bomb: bomb["decode"]["memory_mb"], default=None)
    slowest = max(alone_all, key=lambda bomb: bomb["decode"]["cpu_s"], default=None)
    run = max(found["bombs"], key=lambda bomb: bomb["run"]["memory_mb"], default=None)
    summary = ""
    if most and slowest and run:
        summary = (
            f"\n\nThe most memory of one file: {most['decode']['memory_mb']:,} MB ({most['bomb']}); of one run: "
            f"{run['run']['memory_mb']:,} MB ({run['bomb']}); the slowest file: {slowest['decode']['cpu_s']:.1f} s "
            f"({slowest['bomb']})."
        )
    header = ("bomb", "MB on the disk", "one file: MB", "s", "a run: MB", "s", "")
    return _table(header, rows) + summary


def _strangers(found: Mapping[str, Any]) -> str:
    rows = [
        (case["case"], "held" if case["held"] else "; ".join(case["notes"])[:200], _answer(case))
        for case in found["cases"]
    ]
    kept = sum(case["held"] for case in found["cases"])
    return _table(("what is tried", "", "the answer"), rows) + f"\n\n{kept} of {len(rows)} held."


def _answer(case: Mapping[str, Any]) -> str:
    message = re.sub(r"[^\x20-\x7e\u00a0-\uffff]", "?", case["message"].removeprefix("trimodal: "))
    return f"{case['status']}: {message[:110]}{'…' if len(message) > 110 else ''}".replace("<", "&lt;")


def _faults(found: Mapping[str, Any]) -> str:
    rows = []
    injected = found["injected"]
    for name, counts in injected.get("by_fault", {}).items():
        rows.append((name, counts["n"], counts["stated"], counts["problems"]))
    if "skipped" in injected:
        rows.append((f"injected errors: {injected['skipped']}", "-", "-", "-"))
    if "kills" in found:
        kills = sum(count for name, count in found["kills"].items() if name.endswith(" killed"))
        rows.append(("SIGKILL at a random moment of index, remove, compact", kills, "-", found["kills"]["n_problems"]))
        flips = found["flips"]
        rows.append(("one bit of one file flipped", flips["n"], flips["refused when opened"], flips["not found"]))
    header = ("what happens", "times", "answered with a stated error", "lost, wrong or not found")
    return _table(header, rows)


TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "fuzz": _fuzz,
    "bombs": _bombs,
    "strangers": _strangers,
    "faults": _faults,
}


if __name__ == "__main__":
    import json

    write_page(json.loads(RESULTS.read_text()) if RESULTS.is_file() else {})
