"""A tree of ``filters.py`` -> a SQLAlchemy condition. Knows nothing of how the text was parsed.

Every value is bound as a parameter. Texts are compared in the composed form of Unicode where they have two forms.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from indexer.collection.catalog import filters
from indexer.collection.catalog.schema import ITEMS, SEGMENTS
from indexer.errors import FilterError
from indexer.files import one_line
from indexer.names import nfc

#: What ``--where`` may name beside the keys of the metadata.
FILTER_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    **{column.name: column for column in ITEMS.c if column.name not in ("item_id", "metadata", "text")},
    "start_s": SEGMENTS.c.start_s,
    "end_s": SEGMENTS.c.end_s,
    "text": sa.func.coalesce(SEGMENTS.c.text, ITEMS.c.text),
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A ``--where`` expression, ready for the catalog that compiled it. Opaque to everyone else."""

    text: str
    condition: sa.ColumnElement[bool]


def compile_filter(text: str, metadata_keys: Callable[[], list[str]]) -> Filter:
    """Read a ``--where`` text; ``metadata_keys`` gives the keys that it may name beside the columns.

    Raises ``FilterError`` naming what may be written.
    """
    from indexer.collection.catalog.filter_parser import parse_filter  # sqlglot: a tenth of a second

    return Filter(text, _Translator(metadata_keys).condition(parse_filter(nfc(text))))


class _Translator:
    def __init__(self, metadata_keys: Callable[[], list[str]]) -> None:
        self.metadata_keys = metadata_keys

    def condition(self, node: filters.Condition) -> sa.ColumnElement[bool]:
        match node:
            case filters.And(conditions):
                return sa.and_(*(self.condition(part) for part in conditions))
            case filters.Or(conditions):
                return sa.or_(*(self.condition(part) for part in conditions))
            case filters.Not(condition):
                return sa.not_(self.condition(condition))
            case _:
                return self._test(node)

    def _test(self, node: filters.Condition) -> sa.ColumnElement[bool]:
        """One that joins no others."""
        match node:
            case filters.Compare(op, left, right):
                return self._compare(op, left, right)
            case filters.Between(operand, low, high):
                return sa.and_(self._compare(">=", operand, low), self._compare("<=", operand, high))
            case filters.OneOf(operand, values):
                return self._one_of(operand, values)
            case filters.IsTrue(operand, truth):
                return self._compare("=", operand, filters.Value(truth))
            case filters.IsNull(operand):
                return self._plain(operand).is_(None)
            case filters.Like(operand, pattern, escape):
                return self._like(operand, pattern, escape)
            case _:
                raise TypeError(f"no condition of one operand: {node!r}")

    def _like(self, operand: filters.Operand, pattern: str, escape: str | None) -> sa.ColumnElement[bool]:
        # an ASCII pattern with "_" means one character, which may be stored as two
        forms = not pattern.isascii() or "_" in pattern
        arguments = [sa.literal(pattern), _as_text(self._plain(operand, forms=forms))]
        if escape is not None:
            arguments.append(sa.literal(escape))
        # SQLite's like(pattern, text, escape) is `text LIKE pattern ESCAPE escape`
        return sa.func.like(*arguments, type_=sa.Boolean())

    def _compare(self, op: str, left: filters.Operand, right: filters.Operand) -> sa.ColumnElement[bool]:
        forms = any(_is_in_two_forms(operand) for operand in (left, right))
        first = self._plain(left, against=right, forms=forms)
        second = self._plain(right, against=left, forms=forms)
        return sa.type_coerce(_COMPARISONS[op](first, second), sa.Boolean)

    def _one_of(self, operand: filters.Operand, values: Sequence[filters.Value]) -> sa.ColumnElement[bool]:
        """``operand in (...)``: the values are one parameter, a JSON list, however many they are."""
        texts = [value.value for value in values if isinstance(value.value, str)]
        numbers = [_number(value.value) for value in values if not isinstance(value.value, str)]
        found: list[sa.ColumnElement[bool]] = []
        for some in (texts, numbers):
            if some:
                # texts and numbers apart: a value of the metadata is read as the kind that it is compared with
                forms = any(isinstance(value, str) and not value.isascii() for value in some)
                left = self._plain(operand, against=filters.Value(some[0]), forms=forms)
                listed = sa.func.json_each(sa.literal(json.dumps(some), sa.Text())).table_valued("value")
                found.append(sa.type_coerce(left.in_(sa.select(listed.c.value)), sa.Boolean))
        return sa.or_(sa.false(), *found)

    def _plain(
        self, operand: filters.Operand, against: filters.Operand | None = None, *, forms: bool = False
    ) -> sa.ColumnElement[Any]:
        """``forms``: what is stored is compared in the composed form of Unicode, as the texts of the filter are."""
        match operand:
            case filters.Value(value):
                return _bound(value)
            case filters.Call(function, inner):
                return sa.Function(function, _as_text(self._plain(inner, forms=forms)))
            case filters.Name():
                column = self._column(operand)
                if column is not None:
                    return _composed(column) if forms else column
                key = self._metadata_key(operand)
                if isinstance(against, filters.Value):
                    # JSON keeps its types, and in SQLite every text is above every number: '1999' >= 2020
                    if not isinstance(against.value, str):
                        return _metadata_value(key, _as_number)
                    return _metadata_value(key, _as_composed_text if forms else _as_text)
                return _metadata_value(key, _composed if forms else _as_is)

    def _column(self, name: filters.Name) -> sa.ColumnElement[Any] | None:
        if name.metadata:
            return None
        column = FILTER_COLUMNS.get(name.name.lower())
        # a plain literal type, so that values are compared as they are bound
        return None if column is None else sa.type_coerce(column, sa.types.NullType())

    def _metadata_key(self, name: filters.Name) -> str:
        keys = self.metadata_keys()
        if name.name in keys:
            return name.name
        alike = [key for key in keys if nfc(key).lower() == nfc(name.name).lower()]
        if len(alike) == 1:
            return alike[0]
        shown = ", ".join(keys[:40]) + (", ..." if len(keys) > 40 else "") if keys else "none"
        wanted = f"metadata.{name.name}" if name.metadata else name.name
        raise FilterError(
            f"--where: there is no `{one_line(wanted, 60)}`; columns: {', '.join(sorted(FILTER_COLUMNS))}; "
            f"metadata keys: {one_line(shown, 1_000)} (put texts in single quotes)"
        )


def name_in_filter(key: str) -> str:
    """A key of the metadata as ``--where`` takes it: with ``metadata.`` and quotes where they are needed."""
    plain = key.isascii() and key.isidentifier() and key.lower() not in FILTER_COLUMNS
    return key if plain else 'metadata."' + key.replace('"', '""') + '"'


def _number(value: str | int | float | bool) -> int | float:
    """true and false are 1 and 0, as in SQLite's JSON."""
    return value if isinstance(value, float) else int(value)


def _bound(value: str | int | float | bool) -> sa.ColumnElement[Any]:
    """The value as a parameter; true and false are 1 and 0, as in SQLite's JSON."""
    if isinstance(value, str):
        return sa.literal(value, sa.Text())
    if isinstance(value, float):
        return sa.literal(value, sa.Float())
    return sa.literal(int(value), sa.Integer())


def _metadata_value(
    key: str, read: Callable[[Any], sa.ColumnElement[Any]] = lambda value: value
) -> sa.ColumnElement[Any]:
    """What ``read`` makes of the value; inside, so that the JSON is looked through once a row."""
    # not json_extract: its path syntax cannot name a key that holds a quote
    each = sa.func.json_each(ITEMS.c.metadata).table_valued("key", "value")
    return sa.select(read(each.c.value)).where(each.c.key == sa.literal(key)).correlate(ITEMS).scalar_subquery()


def _as_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(value, sa.Text)


def _as_is(value: Any) -> Any:
    return value


def _as_composed_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return _composed(_as_text(value))


def _composed(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """In the composed form of Unicode; of bytes (a name that is no UTF-8) and numbers the value itself."""
    return sa.func.nfc(value, type_=sa.types.NullType())


def _is_in_two_forms(operand: filters.Operand) -> bool:
    if isinstance(operand, filters.Call):
        return _is_in_two_forms(operand.operand)
    return isinstance(operand, filters.Value) and isinstance(operand.value, str) and not operand.value.isascii()


def _as_number(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The number, also of a text that is one ('2020'); null for any other text."""
    number = sa.cast(value, sa.Numeric)
    return sa.case((number == value, number), else_=sa.null())
