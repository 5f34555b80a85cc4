"""``--where`` texts: what is read, and that nothing else is."""

from __future__ import annotations

import pytest

from indexer.collection.catalog.filter_parser import parse_filter
from indexer.collection.catalog.filters import (
    MAX_CHARACTERS,
    And,
    Between,
    Call,
    Compare,
    IsNull,
    IsTrue,
    Like,
    Name,
    Not,
    OneOf,
    Or,
    Value,
)
from indexer.errors import FilterError


def test_the_example_of_the_readme_is_read_with_sql_precedence() -> None:
    condition = parse_filter("year >= 2020 and (folder like '%/cats%' or suffix = '.jpg') and camera is not null")

    assert condition == And(
        (
            Compare(">=", Name("year"), Value(2020)),
            Or((Like(Name("folder"), "%/cats%"), Compare("=", Name("suffix"), Value(".jpg")))),
            Not(IsNull(Name("camera"))),
        )
    )


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a = 'it''s \"so\"; -- no'", Compare("=", Name("a"), Value("it's \"so\"; -- no"))),
        ("a == -1.5e3", Compare("=", Name("a"), Value(-1500.0))),
        ("a <> 1", Compare("!=", Name("a"), Value(1))),
        ("2020 < a", Compare("<", Value(2020), Name("a"))),
        ("a in (1, 'x', true)", OneOf(Name("a"), (Value(1), Value("x"), Value(True)))),
        ("a not in (1)", Not(OneOf(Name("a"), (Value(1),)))),
        ("a in ()", OneOf(Name("a"), ())),
        ("not a between 1 and 2", Not(Between(Name("a"), Value(1), Value(2)))),
        ("a not between 1 and 2", Not(Between(Name("a"), Value(1), Value(2)))),
        ("a not like 'x%'", Not(Like(Name("a"), "x%"))),
        ("a like '50!%' escape '!'", Like(Name("a"), "50!%", "!")),
        ("a not like '50!%' escape '!'", Not(Like(Name("a"), "50!%", "!"))),
        ("a is null or b notnull", Or((IsNull(Name("a")), Not(IsNull(Name("b")))))),
        ("flag and not other", And((IsTrue(Name("flag")), Not(IsTrue(Name("other")))))),
        ("flag is false", IsTrue(Name("flag"), False)),
        ("lower(a) = 'x'", Compare("=", Call("lower", Name("a")), Value("x"))),
        ("length(upper(a)) > 3", Compare(">", Call("length", Call("upper", Name("a"))), Value(3))),
        ('"shot by" = 1', Compare("=", Name("shot by"), Value(1))),
        ('metadata."shot by" = 1', Compare("=", Name("shot by", metadata=True), Value(1))),
        ("gps.lat > 1 and metadata.gps.lat < 2", And((
            Compare(">", Name("gps.lat"), Value(1)), Compare("<", Name("gps.lat", metadata=True), Value(2)),
        ))),
        ("a = 9223372036854775808", Compare("=", Name("a"), Value(9223372036854775808.0))),
    ],
)  # fmt: skip
def test_every_allowed_shape_is_read(text: str, condition: object) -> None:
    assert parse_filter(text) == condition


def test_a_long_chain_of_or_is_one_flat_condition() -> None:
    condition = parse_filter(" or ".join(f"a = {number}" for number in range(150)))

    assert isinstance(condition, Or)
    assert len(condition.conditions) == 150


@pytest.mark.parametrize(
    "text",
    [
        # statements and sub-queries
        "a = 1; drop table items",
        ";",
        "select 1",
        "a = 1 union select key from items",
        "a in (select key from items)",
        "a = (select 1)",
        "exists (select 1)",
        "attach database '/tmp/x' as y",
        "pragma user_version = 9",
        "vacuum into '/tmp/x'",
        "with x as (select 1) select 1",
        "a = 1 limit 5",
        "a = 1 order by a",
        # functions and expressions
        "load_extension('/tmp/x.so')",
        "readfile('/etc/passwd') = 'x'",
        "randomblob(1000000000) = 'x'",
        "count(*) > 1",
        "lower(a, b) = 1",
        "cast(a as int) = 1",
        "a = 1::int",
        "case when a then 1 end",
        "a || 'b' = 'c'",
        "a + 1 = 2",
        "a * 1000000 > 1",
        "a & 1",
        "a -> '$.x' = 1",
        "a ->> 'x' = 1",
        "a collate nocase = 'x'",
        "a glob 'x'",
        "a regexp '(a+)+$'",
        "a match 'x'",
        "a is 1",
        "a is not distinct from 1",
        "a between symmetric 1 and 2",
        "(a, b) = (1, 2)",
        "a in (b)",
        "a in unnest(b)",
        "a like b",
        "a like 'x' escape 'ab'",
        "current_timestamp > 1",
        "date('now') > a",
        "interval '1' day > a",
        # parameters, comments, odd literals
        "a = ?",
        "a = :x",
        "a = @x",
        "a = 1 -- and b",
        "/* x */ a = 1",
        "a /*+ hint */ = 1",
        "a = 1 /*",
        "a = x'00'",
        "a = b'x'",
        "a = n'x'",
        "a = 1e999",
        "a = null",
        "null",
        "{{ a }} = 1",
        "{'a': 1} = 1",
        "*",
        "a.*",
        # not conditions, or not whole
        "",
        "   ",
        "1",
        "'x'",
        "true",
        "()",
        "not",
        "a = 1 and",
        "a = 1 or or b = 2",
        "a = 'unclosed",
        'a = "unclosed',
        "a = 1)",
        "(a = 1",
        "a = '\ud800'",
        # sizes
        "a = '" + "x" * MAX_CHARACTERS + "'",
        "(" * 4990 + "a" + ")" * 4990,
        "not " * 2400 + "a",
        " or ".join(["a=1"] * 300),
        "a in " * 1900,
        "[" * 9000,
        "'" * 9999,
        "\x00 \x1b[31m = 1 )",
    ],
)
def test_anything_else_is_refused_in_one_line_that_says_what_is_meant(text: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)

    message = str(caught.value)
    assert message.startswith("--where: ")
    assert message.isprintable()
    assert len(message) < 400


def test_nothing_equals_null_so_the_message_says_is_null() -> None:
    with pytest.raises(FilterError, match="write `is null`"):
        parse_filter("camera != null")


def test_refusing_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("vacuum into 'x'", "date '2020-01-01' < a", "a glob 'x'"):
        with pytest.raises(FilterError):
            parse_filter(text)

    assert caplog.records == []
