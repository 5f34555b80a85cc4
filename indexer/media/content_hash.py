"""The hash of an item's content, by which equal files are found. Knows no format."""

from __future__ import annotations

import hashlib
import os

from indexer.files import media_error, open_file, trouble
from indexer.items import Item
from indexer.limits import MediaLimits, check_size

_HASH_BLOCK_BYTES = 1 << 20


def content_hash(item: Item, limits: MediaLimits | None = None) -> str:
    """BLAKE2b-160 of the file's bytes, or of a row's text as UTF-8; 40 hex digits.

    Raises ``MediaError`` when the file cannot be read and, where ``limits`` are given, when it is larger
    than they allow: ``decode`` would refuse it, so there is no need to read it all first.
    """
    digest = hashlib.blake2b(digest_size=20)
    if item.text is not None:
        digest.update(item.text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()
    with open_file(item.path) as file:
        try:
            if limits is not None:
                check_size(item.path, os.fstat(file.fileno()).st_size, item.modality, limits)
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
        except OSError as error:
            raise media_error(item.path, trouble(error, item.path)) from error
    return digest.hexdigest()
