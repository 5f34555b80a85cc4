"""The tree of conditions that a ``--where`` text means. Knows nothing of texts, tables or SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from indexer.files import one_line

#: Of the whole text; lists of values may be long.
MAX_CHARACTERS = 1_000_000
#: More comparisons than anyone types, and deeper than anyone nests them: SQLite's parser has a stack of 100 tokens.
MAX_CONDITIONS = 200
MAX_DEPTH = 12
#: SQLite takes a pattern of 50,000 bytes.
MAX_PATTERN_CHARACTERS = 10_000

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
FunctionName = Literal["lower", "upper", "length"]


@dataclass(frozen=True, slots=True)
class Name:
    """A column, or a key of the metadata; ``metadata.key`` can only be a key. Keys may have dots."""

    name: str
    metadata: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """A literal: text, number or truth value."""

    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Call:
    """``lower(x)``, ``upper(x)`` or ``length(x)``."""

    function: FunctionName
    operand: Operand


Operand: TypeAlias = Name | Value | Call


@dataclass(frozen=True, slots=True)
class Compare:
    operator: Operator
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Like:
    """Case-insensitive for ASCII, as in SQLite; ``%`` any text, ``_`` any character."""

    operand: Operand
    pattern: str
    escape: str | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    operand: Operand
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Between:
    operand: Operand
    low: Operand
    high: Operand


@dataclass(frozen=True, slots=True)
class IsNull:
    operand: Operand


@dataclass(frozen=True, slots=True)
class IsTrue:
    """``flag``, ``flag is true``, ``flag is false``."""

    operand: Operand
    truth: bool = True


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True)
class And:
    """Joined by ``and``."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Joined by ``or``."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | Like | OneOf | Between | IsNull | IsTrue | Not | And | Or


def shown(text: str) -> str:
    """``text`` in one printable line of at most 60 characters."""
    return f"`{one_line(text, 60)}`"
