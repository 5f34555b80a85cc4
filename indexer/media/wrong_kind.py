"""The one sentence about a file whose content is not what its name or its manifest row promises."""

from __future__ import annotations

import os

from indexer.errors import MediaError
from indexer.files import media_error
from indexer.items import Modality
from indexer.media.formats import NOUN, UNKNOWN, Kind


def wrong_kind(path: str | os.PathLike[str], kind: Kind, wanted: Modality) -> MediaError:
    """``kind`` is what the file really is, and no ``wanted``."""
    remedy = kind.remedy or (f"rename it to {kind.suffix}" if kind.suffix else "remove it or rename it")
    if kind is UNKNOWN:
        remedy = "copy it again, convert it to a common format, or remove it"
        return media_error(path, f"its content is not {NOUN[wanted]} of any known kind; {remedy}")
    return media_error(path, f"is {kind.name}, not {NOUN[wanted]}; {remedy}")
