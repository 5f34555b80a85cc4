"""``--where`` text -> the tree of conditions of ``filters.py``. Knows nothing of tables or SQLAlchemy.

The text is read by sqlglot as one SQL condition, and only the shapes below are taken over, node by node;
whatever else it may mean in SQL (sub-queries, other functions, casts, parameters, comments, statements) is
refused. The user's text itself goes nowhere: ``filter_sql.py`` binds the values as parameters.

    year >= 2020 and (folder like '%/cats%' or suffix = '.jpg') and camera is not null
    metadata."shot by" in ('Ann', 'Bo') and not duration_s between 10 and 60 and lower(name) like 'img%'
"""

from __future__ import annotations

import math
from typing import cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from indexer.collection.catalog.filters import (
    MAX_CHARACTERS,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_PATTERN_CHARACTERS,
    And,
    Between,
    Call,
    Compare,
    Condition,
    FunctionName,
    IsNull,
    IsTrue,
    Like,
    Name,
    Not,
    OneOf,
    Operand,
    Operator,
    Or,
    Value,
    shown,
)
from indexer.errors import FilterError
from indexer.integers import fits

_OPERATORS: dict[type[exp.Expression], Operator] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_FUNCTIONS: dict[type[exp.Expression], FunctionName] = {
    exp.Lower: "lower",
    exp.Upper: "upper",
    exp.Length: "length",
}
_EXAMPLE = "write a condition such as: year >= 2020 and suffix = '.jpg'"


def parse_filter(text: str) -> Condition:
    """Read a ``--where`` text. Raises ``FilterError`` saying what is not allowed and what is."""
    if len(text) > MAX_CHARACTERS:
        raise FilterError(f"--where: is {len(text):,} characters, over the limit of {MAX_CHARACTERS:,}; shorten it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FilterError("--where: holds bytes that are no UTF-8 text; write it in UTF-8") from None
    try:
        _refuse_comments_and_statements(text)
        tree = cast(exp.Expression, sqlglot.parse_one(text, into=exp.Condition, read="sqlite"))
        return _Reader().condition(tree)
    except FilterError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except (SqlglotError, ValueError):
        raise FilterError(f"--where: {shown(text)} cannot be read as one condition; {_EXAMPLE}") from None


def _refuse_comments_and_statements(text: str) -> None:
    tokens = sqlglot.tokenize(text, read="sqlite")
    if not tokens:
        raise FilterError(f"--where: is empty; {_EXAMPLE}")
    if any(token.comments for token in tokens):
        raise FilterError("--where: comments are not allowed; leave them out (and put texts in single quotes)")
    if any(token.token_type is sqlglot.TokenType.SEMICOLON for token in tokens):
        raise FilterError("--where: ';' is not allowed; give one condition")


class _Reader:
    """Takes a sqlglot tree over, node by node; counts the conditions and how deep they stand in each other."""

    def __init__(self) -> None:
        self.conditions = 0
        self.depth = 0

    def condition(self, node: exp.Expression) -> Condition:
        while isinstance(node, exp.Paren):
            _only(node, "this")
            node = node.this
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _too_deep()
        found = self._condition(node)
        self.depth -= 1
        return found

    def _condition(self, node: exp.Expression) -> Condition:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise FilterError(
                f"--where: has more than {MAX_CONDITIONS} conditions; use fewer, or one `in (...)` for many values"
            )
        if isinstance(node, exp.And | exp.Or):
            _only(node, "this", "expression")
            parts = tuple(self.condition(part) for part in _joined(node))
            return And(parts) if isinstance(node, exp.And) else Or(parts)
        if isinstance(node, exp.Not):
            _only(node, "this")
            return Not(self.condition(node.this))
        # some sqlglot versions write `x not like y` as Not(Like), some as Like(negate=True)
        negated = node.args.get("negate") is True
        found = self._test(node)
        return Not(found) if negated else found

    def _test(self, node: exp.Expression) -> Condition:
        operator = _OPERATORS.get(type(node))
        if operator is not None:
            return self._comparison(operator, node)
        if isinstance(node, exp.Escape):
            return self._escaped(node)
        if isinstance(node, exp.Like | exp.ILike):
            return self._like(node, None)
        if isinstance(node, exp.In):
            _only(node, "this", "expressions", "negate")
            values = tuple(self._value(value) for value in node.expressions)
            return OneOf(self._operand(node.this), values)
        if isinstance(node, exp.Between):
            _only(node, "this", "low", "high", "negate")
            args = node.args
            return Between(self._operand(node.this), self._operand(args["low"]), self._operand(args["high"]))
        if isinstance(node, exp.Is):
            return self._is(node)
        if isinstance(node, exp.Column):
            return IsTrue(self._operand(node))
        if isinstance(node, exp.Literal | exp.Boolean | exp.Neg):
            raise FilterError(f"--where: {shown(_sql(node))} alone is no condition; {_EXAMPLE}")
        raise _refused(node)

    def _comparison(self, operator: Operator, node: exp.Expression) -> Compare:
        _only(node, "this", "expression")
        if isinstance(node.this, exp.Null) or isinstance(node.expression, exp.Null):
            raise FilterError("--where: nothing equals null; write `is null` or `is not null`")
        return Compare(operator, self._operand(node.this), self._operand(node.expression))

    def _escaped(self, node: exp.Escape) -> Condition:
        _only(node, "this", "expression")
        inner = node.this
        if not isinstance(inner, exp.Like | exp.ILike):
            raise _refused(node)
        escape = _text(node.expression)
        if len(escape) != 1:
            raise FilterError("--where: `escape` takes one character, such as escape '!'")
        like = self._like(inner, escape)
        return Not(like) if inner.args.get("negate") is True else like

    def _is(self, node: exp.Is) -> Condition:
        _only(node, "this", "expression", "negate")
        if isinstance(node.expression, exp.Null):
            return IsNull(self._operand(node.this))
        if isinstance(node.expression, exp.Boolean):
            return IsTrue(self._operand(node.this), bool(node.expression.this))
        raise _refused(node)

    def _like(self, node: exp.Expression, escape: str | None) -> Like:
        _only(node, "this", "expression", "negate")
        return Like(self._operand(node.this), _text(node.expression), escape)

    def _operand(self, node: exp.Expression, depth: int = 0) -> Operand:
        while isinstance(node, exp.Paren):
            _only(node, "this")
            node = node.this
        if self.depth + depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(node, exp.Column):
            _only(node, "this", "table", "db", "catalog")
            return _name(node)
        function = _FUNCTIONS.get(type(node))
        if function is not None:
            _only(node, "this")
            return Call(function, self._operand(node.this, depth + 1))
        return self._value(node)

    def _value(self, node: exp.Expression) -> Value:
        if isinstance(node, exp.Boolean):
            return Value(bool(node.this))
        if isinstance(node, exp.Neg):
            _only(node, "this")
            number = self._value(node.this).value
            if isinstance(number, str | bool):
                raise _refused(node)
            return Value(-number)
        if isinstance(node, exp.Literal):
            return Value(str(node.this) if node.is_string else _number(str(node.this)))
        raise _refused(node)


def _joined(node: exp.Expression) -> list[exp.Expression]:
    """``a and b and c``, parsed as ``(a and b) and c``, as [a, b, c]; a loop, since it may be long."""
    parts: list[exp.Expression] = []
    left: exp.Expression = node
    while type(left) is type(node):
        _only(left, "this", "expression")
        parts.append(left.expression)
        left = left.this
    parts.append(left)
    return parts[::-1]


def _name(node: exp.Column) -> Name:
    """``year``, ``metadata.year``, and the dotted keys that manifests make: ``gps.lat``, ``metadata.gps.lat``."""
    parts = [node.args.get(part) for part in ("catalog", "db", "table", "this")]
    if not all(part is None or isinstance(part, exp.Identifier) for part in parts):
        raise _refused(node)
    names = [str(part.this) for part in parts if part is not None]
    if len(names) > 1 and names[0].lower() == "metadata":
        return Name(".".join(names[1:]), metadata=True)
    return Name(".".join(names))


def _text(node: exp.Expression) -> str:
    if isinstance(node, exp.Literal) and node.is_string:
        pattern = str(node.this)
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise FilterError(
                f"--where: a pattern of `like` has {len(pattern):,} characters, over the limit of "
                f"{MAX_PATTERN_CHARACTERS:,}; shorten it"
            )
        return pattern
    raise FilterError("--where: `like` takes a pattern in single quotes, such as folder like '%/cats%'")


def _number(digits: str) -> int | float:
    try:
        whole = int(digits)
        if fits(whole):
            return whole
    except ValueError:
        pass
    number = float(digits)
    if not math.isfinite(number):
        raise FilterError(f"--where: {shown(digits)} is too large a number")
    return number


def _only(node: exp.Expression, *allowed: str) -> None:
    """Refuse a node that carries anything but ``allowed`` (a sub-query in ``in``, ``symmetric``, ...)."""
    for key, value in node.args.items():
        if key not in allowed and value not in (None, False, [], ""):
            raise _refused(node)


def _refused(node: exp.Expression) -> FilterError:
    return FilterError(
        f"--where: {shown(_sql(node))} is not allowed; allowed are = != < <= > >=, like, in (...), "
        "between, is [not] null, and, or, not, lower(), upper(), length()"
    )


def _too_deep() -> FilterError:
    return FilterError(f"--where: is nested more than {MAX_DEPTH} levels deep; use fewer parentheses")


def _sql(node: exp.Expression) -> str:
    return str(node.sql(dialect="sqlite", unsupported_level=ErrorLevel.IGNORE))
