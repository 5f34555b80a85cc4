"""Runs of a benchmark as their ``report.json`` holds them.

Knows nothing of models, of differences between runs, or of the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import UsageError
from indexer.files import display_path, one_line
from retrieval.evaluation.provenance import short_spec

#: A page has no more colours.
MAX_RUNS = 6


@dataclass(frozen=True, eq=False)
class Run:
    """One ``report.json``."""

    label: str
    """Short, printable, and no other run's."""
    source: str
    """The file, as messages name it."""
    document: Mapping[str, Any]

    def result(self, direction: str, stage: str) -> Mapping[str, Any] | None:
        """The result of that direction and stage, if the run has it."""
        for result in self.document["results"]:
            if (result["direction"], result["stage"]) == (direction, stage):
                found: Mapping[str, Any] = result
                return found
        return None

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(direction, stage) of every result, in the report's order."""
        return [(result["direction"], result["stage"]) for result in self.document["results"]]


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """The reports at ``paths``, labelled so that they can be distinguished. ``UsageError`` for what is no report."""
    if not 2 <= len(paths) <= MAX_RUNS:
        raise UsageError(f"{len(paths)} reports: two to {MAX_RUNS} runs are compared; give their report.json")
    documents = [_read(path) for path in paths]
    return [
        Run(label, display_path(path), document)
        for label, path, document in zip(_labels(paths, documents), paths, documents, strict=True)
    ]


def _read(path: Path) -> dict[str, Any]:
    shown = display_path(path)
    remedy = "give the report.json that `bench --report DIR` writes"
    if path.is_dir():
        path = path / "report.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read ({one_line(error.strerror or error)}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown}: is no JSON; {remedy}") from error
    needed = ("dataset", "manifest", "split", "encoder", "encoder_fingerprint", "results")
    if not isinstance(document, dict) or any(key not in document for key in needed):
        raise UsageError(f"{shown}: is no report of a benchmark; {remedy}")
    return document


def _labels(paths: Sequence[Path], documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model where that distinguishes the runs; else the report's folder with it; else a number with it."""
    specs = [short_spec(str(document["encoder"])) for document in documents]
    folders = [one_line((path if path.is_dir() else path.absolute().parent).name, 40) for path in paths]
    named = [f"{spec} ({folder})" for spec, folder in zip(specs, folders, strict=True)]
    for labels in (specs, named):
        if len(set(labels)) == len(labels):
            return labels
    return [f"{n}: {label}" for n, label in enumerate(named, start=1)]
