"""Documents from files as typed values: pydantic checks them, and the first mistake is one line that names its key.

Knows nothing of which files there are, or of what their values mean.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.files import one_line
from indexer.nesting import is_deeper

#: Deeper documents than this do not exist.
_MAX_DEPTH = 20
#: An error of pydantic -> what the value has to be.
_KINDS = {
    "int_type": "must be int",
    "int_from_float": "must be int",
    "float_type": "must be float",
    "string_type": "must be str",
    "bool_type": "must be bool",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "dataclass_type": "must be a table",
}
#: Before the kind of a union's dataclass, where pydantic names a place in a document.
_TAG = "kind="


class Mistake(ValueError):
    """A value that the kind of a document does not allow; its text names the key and what is allowed."""


@dataclass(frozen=True)
class Within:
    """For ``Annotated[float, Within(0, 1)]``: a number of ``low`` to ``high``, both included, or perhaps 0."""

    low: float
    high: float
    or_zero: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """As pydantic reads it, which so is imported only where a document is checked."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: float) -> float:
        from pydantic_core import PydanticCustomError

        if not (self.low <= value <= self.high or (self.or_zero and value == 0)):
            allowed = f"{self.low:g} to {self.high:g}" if math.isfinite(self.high) else f"{self.low:g} and more"
            context = {"value": f"{value:g}" if isinstance(value, float) else one_line(value, 60), "allowed": allowed}
            raise PydanticCustomError("range", "is {value}; allowed are {allowed}", context)
        return value


@dataclass(frozen=True)
class ByKind:
    """For ``Annotated[A | B, ByKind()]``: the dataclass that a table's ``kind`` names, the first without one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """As pydantic reads it."""
        from pydantic_core import core_schema

        choices = {typing.get_args(typing.get_type_hints(part)["kind"])[0]: part for part in typing.get_args(source)}
        first = next(iter(choices))
        return core_schema.tagged_union_schema(
            {f"{_TAG}{kind}": handler.generate_schema(part) for kind, part in choices.items()},
            discriminator=lambda value: f"{_TAG}{value.get('kind', first) if isinstance(value, dict) else first}",
        )


@dataclass(frozen=True)
class NoKey:
    """For ``Annotated[Path, NoKey()]``: a field with a default that no document sets."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """As pydantic reads it."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self._refused)

    def _refused(self, value: Any) -> Any:
        from pydantic_core import PydanticCustomError

        raise PydanticCustomError("unexpected_keyword_argument", "is no key")


def validated(kind: Any, document: Mapping[str, Any]) -> Any:
    """The document as ``kind``, a dataclass. Numbers are not made of texts, nor texts of numbers or dates.

    Raises :class:`Mistake` for the first unknown key, else for the first value that does not fit.
    """
    from pydantic import ValidationError

    if is_deeper(document, _MAX_DEPTH):
        raise Mistake(f"is nested deeper than {_MAX_DEPTH} levels")
    try:
        text = json.dumps(document, default=_no_text)
    except ValueError:
        raise Mistake("holds an integer of thousands of digits") from None
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise Mistake(_first_mistake(kind, error.errors(include_url=False))) from None


def _no_text(value: Any) -> dict[str, str]:
    """A date or time of TOML, so that it is not taken for a text."""
    return {type(value).__name__: str(value)}


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _first_mistake(kind: Any, errors: Sequence[Any]) -> str:
    """An error of pydantic in one line: ``image.trunks.0.readout is 'max'; allowed are ...``.

    An unknown key comes first: it may be a missing one, misspelled.
    """
    error = next((one for one in errors if one["type"] == "unexpected_keyword_argument"), errors[0])
    steps = [step for step in error["loc"] if not str(step).startswith(_TAG)]
    name, inside = ".".join(map(str, steps)), ".".join(map(str, steps[:-1])) or "top level"
    value = one_line(repr(error["input"]), 80)
    match error["type"]:
        case "range":
            return f"{name} {error['msg']}"
        case "unexpected_keyword_argument":
            return f"{inside}: unknown key {steps[-1]}; allowed are {', '.join(_keys(kind, error['loc'][:-1]))}"
        case "missing":
            lacking = [one["loc"] for one in errors if one["type"] == "missing"]
            return f"{inside}: lacks {', '.join(loc[-1] for loc in lacking if loc[:-1] == error['loc'][:-1])}"
        case "literal_error":
            return f"{name} is {value}; allowed are {error['ctx']['expected']}"
        case "union_tag_invalid":
            found, expected = (error["ctx"][key].replace(_TAG, "") for key in ("tag", "expected_tags"))
            return f"{name}.kind is {one_line(repr(found), 80)}; allowed are {expected}"
    return f"{name} is {value}; {_KINDS.get(error['type'], error['msg'].lower())}"


def _keys(kind: Any, where: Sequence[Any]) -> list[str]:
    """The keys of the table at ``where`` of a document of ``kind``. A place in a list, or a union's tag, is a step."""
    for step in where:
        parts = [part for part in _parts(kind) if not (dataclasses.is_dataclass(part) and isinstance(step, int))]
        hints = [(part, typing.get_type_hints(part, include_extras=True)) for part in parts if isinstance(part, type)]
        if isinstance(step, int):
            kind = next(typing.get_args(part)[0] for part in parts if typing.get_args(part))
        elif step.startswith(_TAG):
            kind = next(part for part, of in hints if step.removeprefix(_TAG) in typing.get_args(of["kind"]))
        else:
            kind = next(of[step] for _, of in hints if step in of)
    keys = []
    for part in _parts(kind):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            of = typing.get_type_hints(part, include_extras=True)
            keys += [f.name for f in dataclasses.fields(part) if not _is_no_key(of[f.name])]
    return keys


def _is_no_key(hint: Any) -> bool:
    return any(isinstance(one, NoKey) for one in typing.get_args(hint))


def _parts(kind: Any) -> list[Any]:
    """The kinds of a union, or the one kind; ``Annotated`` and ``None`` are left out."""
    if typing.get_origin(kind) is typing.Annotated:
        return _parts(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [inner for part in typing.get_args(kind) if part is not type(None) for inner in _parts(part)]
    return [kind]
