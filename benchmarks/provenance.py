"""What the figures that ``make bench`` publishes carry beside themselves; see ``retrieval.evaluation.provenance``."""

from __future__ import annotations

from typing import Any

from indexer.encoders.base import DualEncoder
from retrieval.evaluation import provenance

#: What the measurement itself writes; a change there does not change what was measured.
OUTPUTS = ("docs/bench", "README.md", "data/models/starter/README.md")


def facts(encoder: DualEncoder) -> dict[str, Any]:
    """JSON of where and with what ``encoder`` runs."""
    return provenance.facts(encoder, OUTPUTS)
