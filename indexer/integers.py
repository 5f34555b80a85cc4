"""The integers that a column of the catalog holds: 64 bits with a sign, as SQLite and Parquet have them."""

from __future__ import annotations

#: A time in ns since 1970 within them is one from 1677 to 2262.
LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**63 - 1


def fits(value: int) -> bool:
    """Whether a column holds ``value`` as it is."""
    return LEAST_INTEGER <= value <= MOST_INTEGER
