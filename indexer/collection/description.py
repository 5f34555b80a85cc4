"""``collection.json``: what a collection is, with a checksum of itself. The catalog keeps a copy of the text.

Written once, when the collection is made. Knows nothing of vectors or items.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from indexer.crc import crc32_of_json
from indexer.encoders.tokens.format import TokenSpec
from indexer.errors import CollectionError, CollectionMissing, IndexDamaged
from indexer.media.text.token_passages import PassageRule
from indexer.reading import misplaced, read_small

DESCRIPTION_NAME = "collection.json"
SCHEMA_VERSION = 1
#: The crc32 of the rest of it.
_CHECK = "check"
MEND_DESCRIPTION = (
    "put it back from its copy: trimodal verify --repair, or make the collection anew: trimodal index --rebuild PATH..."
)


@dataclass(frozen=True, slots=True)
class Description:
    """What ``collection.json`` holds."""

    schema_version: int
    encoder: str
    fingerprint: str
    dim: int
    metric: str
    rows_per_shard: int
    created_at: str
    tokens: TokenSpec | None = None
    """Absent from what was written before there were any."""
    checksums: bool = False
    """Whether every row of vectors and tokens has one; absent from what was written before there were any."""
    revision: str | None = None
    """Of a model from a hub, the commit that made it; absent from what was written before it was recorded."""
    passages: PassageRule | None = None
    """How texts are cut. None, and absent from what was written before there were rules: by characters."""

    def text(self) -> str:
        """As it is written."""
        values = asdict(self)
        return json.dumps({**values, _CHECK: crc32_of_json(values)}, indent=2) + "\n"


def read_description(folder: Path) -> Description:
    """The description of the collection in ``folder``.

    Raises ``CollectionMissing`` where there is none, ``IndexDamaged`` where it is not as it was written,
    ``StorageError`` where it cannot be read, and ``CollectionError`` for one of a newer version.
    """
    file = folder / DESCRIPTION_NAME
    wrong = misplaced(file)
    data = None if wrong else read_small(file)
    if data is not None:
        return parse_description(data, file)
    if wrong in (None, "is missing"):
        raise CollectionMissing(f"{folder}: no collection there; make one: trimodal index PATH...")
    raise IndexDamaged(f"{file}: {wrong}; {MEND_DESCRIPTION}")


def parse_description(data: bytes, file: Path) -> Description:
    """The description in the bytes of ``file``. Raises as :func:`read_description`."""
    damaged = IndexDamaged(f"{file}: is damaged; {MEND_DESCRIPTION}")
    try:
        values = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise damaged from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CollectionError(
            f"{file}: was written by a newer trimodal (schema {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade: pip install -U trimodal"
        )
    try:
        check = values.pop(_CHECK, None)
        if check != crc32_of_json(values) and not (check is None and "checksums" not in values):
            raise ValueError  # what was written before there were checksums has neither
        later = {"tokens", "checksums", "passages", "revision"}  # absent before collections had any
        known = {name: values[name] for name in Description.__dataclass_fields__ if name not in later}
        tokens, rule = values.get("tokens"), values.get("passages")
        description = Description(
            **known,
            tokens=None if tokens is None else TokenSpec(**tokens),
            checksums=values.get("checksums", False),
            revision=values.get("revision"),
            passages=None if rule is None else PassageRule(**rule),
        )
        if min(description.dim, description.rows_per_shard) < 1:
            raise ValueError
        if description.tokens is not None and min(description.tokens.count, description.tokens.width) < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise damaged from None
    return description
