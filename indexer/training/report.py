"""What a training run did, and how long its parts took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did; ``run.json`` of its directory."""

    name: str
    directory: str
    examples: dict[str, dict[str, int]]
    sources: dict[str, dict[str, int]]
    dropped_near_duplicates: dict[str, int]
    unusable: list[str]
    texts: int
    paraphrased: int
    best_step: int
    heldout: dict[str, float]
    curve: list[dict[str, Any]]
    seconds: dict[str, float]
    versions: dict[str, str]
    recipe: str


class Clock:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def measure(self, name: str) -> Clock:
        self._name, self._mark = name, time.monotonic()
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + time.monotonic() - self._mark, 1)
