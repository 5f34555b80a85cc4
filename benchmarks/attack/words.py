"""Damage to what is written: values of JSON, TOML, CSV, XML and conditions are exchanged for awkward ones.

The outcome is mostly still well-formed, so that it reaches what reads the values. Knows nothing of readers.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Way = Callable[[bytes, random.Random], bytes]

#: As JSON values.
AWKWARD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**40,
    1e308,
    -0.0,
    1.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "\x1b[31m",
    "\x9b2J",
    "a\nb",
    "../../etc/passwd",
    "/etc/passwd",
    "CON",
    "%s%n",
    "=1+1",
    "'",
    '"',
    "\u202e",
    "x" * 300,
    "é" * 200,
    "http://127.0.0.1:9/",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": {"c": 1}}},
    [1, "a", None],
    "true",
    "1e999",
    "NaN",
    "-",
    ".",
    "..",
    "a.png",
    "~",
    "nul\0byte",
)

_WRITTEN = (
    "",
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "1e999",
    "nan",
    "inf",
    "''",
    '""',
    "null",
    "true",
    "[]",
    "{}",
    "../x",
    "\x00",
    "\x1b[31m",
    "'; drop table items; --",
    "=cmd()",
    "x" * 5000,
    "9" * 5000,
    "é",
    "\u2028",
    "1979-05-27T07:32:00Z",
    '"""',
    "'''",
    "0x7fffffffffffffff",
    "1_0",
    "+",
    "%",
    ",",
    ";",
    "\\",
    "\ufeff",
)


def json_changed(document: Any, chance: random.Random) -> Any:
    """A copy with one or two values exchanged, keys left out, added or renamed; also nested very deep."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 2))):
        document = _change(document, chance)
    return document


def _change(document: Any, chance: random.Random) -> Any:
    places = list(_places(document))
    if not places:
        return chance.choice(AWKWARD)
    container, key = chance.choice(places)
    way = chance.randrange(10)
    if way < 5:
        container[key] = chance.choice(AWKWARD)
    elif way == 5:
        del container[key]
    elif way == 6:
        container[key] = _deep(chance.choice((30, 300, 2000)), chance)
    elif way == 7 and isinstance(container, dict):
        container[str(chance.choice(AWKWARD))] = container.pop(key)
    elif way == 8 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] = chance.choice(
            (-container[key], container[key] * 2**20, container[key] / 3, str(container[key]))
        )
    elif isinstance(container, list):
        container[key:key] = [container[key]] * chance.choice((1, 2, 50))
    else:
        container[key] = [container[key]]
    return document


def _places(value: Any, depth: int = 0) -> Any:
    if depth > 20:
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inside):
        yield value, key
        yield from _places(one, depth + 1)


class _Deep(list[Any]):
    """So many brackets; ``json.dumps`` itself would not nest them."""


def _deep(levels: int, chance: random.Random) -> Any:
    found: Any = 1
    for _ in range(min(levels, 400)):
        found = [found] if chance.random() < 0.5 else {"a": found}
    return found


def _dumped(document: Any) -> bytes:
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):
        return b"[" * 5000


def _json(content: bytes, chance: random.Random) -> bytes:
    return _dumped(json_changed(json.loads(content), chance))


def _json_text(content: bytes, chance: random.Random) -> bytes:
    """Below what ``json.dumps`` can write: numbers of 5,000 digits, keys twice, bare words, brackets without end."""
    text = content.decode("utf-8", "surrogateescape")
    values = list(re.finditer(r'(?<=: )(?:-?\d[\d.e+-]*|"[^"]*"|true|false|null)', text))
    if not values:
        raise ValueError("no value")
    one = chance.choice(values)
    new = chance.choice(
        (
            "9" * 5000,
            "-" + "1" * 4400,
            "1e99999",
            "NaN",
            "-Infinity",
            "[" * 3000,
            '{"a":' * 1500,
            "'x'",
            '"\\ud800"',
            '"\\u0000"',
            "{}, " + one[0],
            "01",
            "1.",
            '"' + "\x9b" + '"',
        )
    )
    changed = text[: one.start()] + new + text[one.end() :]
    return changed.encode("utf-8", "surrogateescape")


def _line(way: Way) -> Way:
    """A way that works on one line of a file."""

    def changed(content: bytes, chance: random.Random) -> bytes:
        lines = content.split(b"\n")
        full = [at for at, line in enumerate(lines) if line.strip()]
        at = chance.choice(full)
        lines[at] = way(lines[at], chance)
        return b"\n".join(lines)

    return changed


def _cell(content: bytes, chance: random.Random) -> bytes:
    """One cell of a line of CSV."""
    cells = content.split(b",")
    at = chance.randrange(len(cells))
    cells[at] = chance.choice(_WRITTEN).encode()
    if chance.random() < 0.3:
        cells[at] = b'"' + cells[at] + (b'"' if chance.random() < 0.7 else b"")
    if chance.random() < 0.1:
        cells *= chance.choice((2, 300))
    return b",".join(cells)


def _toml(content: bytes, chance: random.Random) -> bytes:
    """The value of a line ``key = value``."""
    key, equals, _ = content.partition(b"=")
    if not equals:
        return content + b"\n[[x]]" if chance.random() < 0.5 else b"[" + content
    value = chance.choice((*map(str, AWKWARD[:14]), *_WRITTEN, "[" * 500, "{a=" * 300 + "1", '["a", 1, []]'))
    return key + b"= " + (value if chance.random() < 0.5 else json.dumps(value)).encode("utf-8", "surrogatepass")


def _token(content: bytes, chance: random.Random) -> bytes:
    """A word, number, quoted text or sign is exchanged, doubled or left out."""
    tokens = re.findall(r"'[^']*'|\"[^\"]*\"|[\w.]+|\s+|.", content.decode("utf-8", "replace"), re.DOTALL)
    if not tokens:
        raise ValueError("empty")
    at = chance.randrange(len(tokens))
    new = chance.choice(
        (
            *_WRITTEN,
            "(",
            ")",
            "((((((((((",
            "not",
            "not not not",
            "and",
            "or",
            "in",
            "in ()",
            "like",
            "between",
            "is",
            "null",
            "select",
            "(select 1)",
            "--",
            "/*",
            "*",
            "||",
            "exists",
            "case when 1 then 2 end",
            "metadata.a.b.c",
            "rowid",
            "items.key",
            "sqlite_master",
            "lower(",
            "length(1)",
            "cast(1 as text)",
            "escape",
            "''''",
            "x'00'",
            ":a",
            "?",
            "@a",
            "glob",
            "regexp",
            "collate nocase",
            "1e400",
            "0x10",
            "true",
            "and 1=1 " * 200,
            "(1, 2, 3)",
        )
    )
    way = chance.randrange(4)
    tokens[at : at + 1] = [[f" {new} "], [tokens[at], " ", tokens[at]], [], [new, tokens[at]]][way]
    return "".join(tokens).encode("utf-8", "surrogatepass")


def _text(content: bytes, chance: random.Random) -> bytes:
    """Awkward characters put into a text."""
    at = chance.randrange(len(content) + 1)
    new = chance.choice(
        (
            "\0",
            "\ufeff",
            "\u2028",
            "\x85",
            "\r",
            "." * 3000,
            " " * 3000,
            "\n" * 3000,
            "a" * 3000,
            "\u202e",
            "\x1b]0;x\x07",
            "🧨" * 200,
            "e\u0301" * 500,
            "。" * 900,
            "?!" * 900,
            "\u200b" * 900,
        )
    )
    return content[:at] + new.encode() + content[at:]


def _xml(content: bytes, chance: random.Random) -> bytes:
    """An attribute's value, an element doubled or nested, or a prologue."""
    text = content.decode("utf-8", "replace")
    way = chance.randrange(4)
    values = list(re.finditer(r'="[^"]*"', text))
    elements = list(re.finditer(r"<(\w+)[^<>]*/>", text))
    if way == 0 and values:
        one = chance.choice(values)
        new = chance.choice(
            (
                "",
                "0",
                "-1",
                "1e38",
                "nan",
                "9" * 400,
                "url(#g)",
                "#a",
                "data:image/png;base64,AAAA",
                "100%",
                "file:///etc/passwd",
                "M0 0" + "L1 1" * 2000,
                "1e-30",
                "&lt;",
            )
        )
        text = f'{text[: one.start()]}="{new}"{text[one.end() :]}'
    elif way == 1 and elements:
        one = chance.choice(elements)
        text = text[: one.start()] + one[0] * chance.choice((2, 50, 3000)) + text[one.end() :]
    elif way == 2 and elements:
        one = chance.choice(elements)
        depth = chance.choice((2, 100, 600))
        text = text[: one.start()] + "<g opacity='0.5'>" * depth + one[0] + "</g>" * depth + text[one.end() :]
    else:
        new = chance.choice(
            ('<!DOCTYPE svg [<!ENTITY a "b">]>', "<!-- -->", "<?xml version='1.1'?>", "<![CDATA[", "&a;")
        )
        at = text.find(">") + 1
        text = text[:at] + new + text[at:]
    return text.encode()


WAYS: Mapping[str, Sequence[Way]] = {
    "json": (_json, _json_text),
    "jsonl": (_line(_json), _line(_json_text)),
    "csv": (_line(_cell),),
    "toml": (_line(_toml),),
    "where": (_token,),
    "text": (_text,),
    "xml": (_xml,),
}
