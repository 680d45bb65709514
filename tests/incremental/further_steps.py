"""What happens to tables that the contracts declare beside users and posts; a copy of the repository has some."""

from __future__ import annotations

from tasks.contracts import FURTHER_TABLES, Column, Table
from tasks.platform.quoting import identifier
from tests.incremental.world import World, uid

_KEYS = 40
_VALUES = {
    "text": ("'Some words'", "'  more \r\n words '", "'\u200b'", "''", "null"),
    "bigint": ("0", "-7", "9223372036854775807", "null"),
    "int": ("0", "5", "-1", "null"),
    "float": ("0.1", "-0.0", "'NaN'", "1e300", "null"),
    "bool": ("true", "false", "null"),
    "date": ("'2026-01-01'", "'1999-12-31'", "'infinity'", "null"),
    "uuid": (f"'{uid(1)}'", "null"),
}


def change_further_rows(w: World) -> None:
    """Rows come, or come again with other values."""
    for table in FURTHER_TABLES:
        for _ in range(w.rng.randrange(1, 6)):
            _put(w, table)


def delete_further_rows(w: World) -> None:
    for table in FURTHER_TABLES:
        w.sql(f"delete from {_name(table)} where {_key(table)} in ({_some_key(w, table)}, {_some_key(w, table)})")


def move_further_rows(w: World) -> None:
    """Rows get the instant of another one, and with it perhaps another month."""
    for table in FURTHER_TABLES:
        if "created_at" in table:
            column, key = identifier(table["created_at"].source_name), _some_key(w, table)
            w.sql(f"update {_name(table)} set {column} = {w.instant()} where {_key(table)} = {key}")


def empty_further_tables(w: World) -> None:
    for table in FURTHER_TABLES:
        w.sql(f"delete from {_name(table)}")


OF_FURTHER_ROWS = (change_further_rows, change_further_rows, delete_further_rows, move_further_rows)


def _put(w: World, table: Table) -> None:
    names = [identifier(column.source_name) for column in table.source_columns]
    values = [_some_key(w, table), *(_value(w, column) for column in table.source_columns[1:])]
    taken = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    w.sql(
        f"insert into {_name(table)} ({', '.join(names)}) values ({', '.join(values)}) "
        f"on conflict ({names[0]}) do update set {taken}"
    )


def _value(w: World, column: Column) -> str:
    return w.instant() if column.kind == "timestamptz" else w.rng.choice(_VALUES[column.kind])


def _some_key(w: World, table: Table) -> str:
    number = w.rng.randrange(_KEYS)
    return f"'{uid(7_000 + number)}'" if table.key.kind == "uuid" else str(number - _KEYS // 2)


def _name(table: Table) -> str:
    return identifier(table.source_schema, table.source)


def _key(table: Table) -> str:
    return identifier(table.key.source_name)
