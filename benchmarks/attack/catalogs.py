"""Damage to an SQLite file that SQLite itself finds in order: a cell, a row or a table is changed. Knows no readers."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from pathlib import Path

_VALUES = (
    None,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    -(2**63),
    1.5,
    1e308,
    "",
    "x",
    "\0",
    b"",
    b"\0\1\2",
    "x" * 5000,
    "[",
    "{}",
    "../../etc/passwd",
    "\x1b[31m",
    "image",
    "[[1]]",
    "NaN",
)


def changed(content: bytes, chance: random.Random) -> bytes:
    """One cell set to something else, a row removed or doubled, a table or an index dropped."""
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "catalog.sqlite"
        path.write_bytes(content)
        with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.Error):
            connection.execute("pragma ignore_check_constraints = on")
            _change(connection, chance)
            connection.commit()
            connection.execute("pragma wal_checkpoint(truncate)")
        return path.read_bytes()


def _change(connection: sqlite3.Connection, chance: random.Random) -> None:
    made = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name"
    tables = [name for (name,) in connection.execute(made)]
    table = chance.choice(tables)
    columns = [row[1] for row in connection.execute(f'pragma table_info("{table}")')]
    column = chance.choice(columns)
    way = chance.randrange(12)
    some = f'(select rowid from "{table}" order by rowid limit 1 offset {chance.randrange(3)})'
    if way < 7:
        connection.execute(f'update "{table}" set "{column}" = ? where rowid = {some}', (chance.choice(_VALUES),))
    elif way == 7:
        connection.execute(f'update "{table}" set "{column}" = ?', (chance.choice(_VALUES),))
    elif way == 8:
        connection.execute(f'delete from "{table}" where rowid = {some}')
    elif way == 9:
        connection.execute(f'insert into "{table}" select * from "{table}" limit 1')
    elif way == 10:
        connection.execute(f'alter table "{table}" rename to "{table}_2"')
    else:
        connection.execute(f"pragma user_version = {chance.choice((0, 1, 2**31 - 1))}")
