"""The SELECT of a key range, in SQL: what `convert.py` does to JSON, done by the database.

Values that a column cannot hold never leave it, so nothing overflows on the way, and `_invalid` names the first.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import POSTGRES_TYPES, Column
from tasks.source.model import TableInfo
from tasks.source.ranges import Key, KeyRange

_EARLIEST = "timestamptz '1970-01-01 00:00:00+00'"
_LATEST = "timestamptz '10000-01-01 00:00:00+00'"
_FIRST_DATE, _LAST_DATE = "date '0001-01-01'", "date '9999-12-31'"
_CAST_TO_TEXT = frozenset({"enum", "uuid", "citext", "name"})


def range_query(info: TableInfo, within: KeyRange) -> str:
    """All rows of a range in key order, under the contract's names, with `_invalid`."""
    conditions = [
        f"{_key(info)} {operator} {literal(info, key)}"
        for operator, key in ((">", within.after), ("<=", within.until))
        if key is not None
    ]
    return _query(info, " and ".join(conditions))


def keys_query(info: TableInfo, keys: Sequence[Key]) -> str:
    """The rows with these keys, likewise."""
    return _query(info, f"{_key(info)} in ({', '.join(literal(info, k) for k in keys)})")


def literal(info: TableInfo, key: Key) -> str:
    """A key as SQL; keys were made by `int` or `UUID`, so there is nothing in them to escape."""
    return f"'{key}'::{POSTGRES_TYPES[info.table.key.kind]}"


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _key(info: TableInfo) -> str:
    return f"s.{quoted(info.table.key.source_name)}"


def _query(info: TableInfo, condition: str) -> str:
    checks = [(_value(c, info.type_of(c)), c) for c in info.columns]
    columns = [f"{_held(value, c)} as {quoted(c.name)}" for value, c in checks]
    columns.append(f"{_invalid(checks)} as _invalid")
    table = f"{quoted(info.table.source_schema)}.{quoted(info.table.source)}"
    where = f" where {condition}" if condition else ""
    return f"select {', '.join(columns)} from {table} s{where} order by {_key(info)}"  # noqa: S608 - names are quoted


def _value(column: Column, kind: str) -> str:
    """The source's cell in the contract's type."""
    cell = f"s.{quoted(column.source_name)}"
    if column.kind == "uuid" or (column.kind == "text" and kind in _CAST_TO_TEXT):
        return f"{cell}::text"
    if column.kind == "timestamptz" and kind != "timestamp with time zone":
        return f"({cell}::timestamp at time zone 'UTC')"
    if column.kind == "float":  # by way of text, as over REST: 0.1 as real is not 0.1 as double precision
        return f"{cell}::text::float8"
    return f"{cell}::bigint" if column.kind in ("bigint", "int") else cell


def _good(value: str, column: Column) -> str | None:
    """The condition under which a value can be held, null for a null; None when its type says that it can."""
    if column.kind == "timestamptz":
        return f"({value} >= {_EARLIEST} and {value} < {_LATEST})"
    if column.kind == "date":
        return f"({value} between {_FIRST_DATE} and {_LAST_DATE})"
    if column.kind == "float":
        return f"({value} not in ('NaN', 'infinity', '-infinity'))"
    return None


def _held(value: str, column: Column) -> str:
    good = _good(value, column)
    return f"case when {good} then {value} end" if good else value


def _invalid(checks: Sequence[tuple[str, Column]]) -> str:
    """What is wrong with the first value that cannot be held, in the contract's order; null when nothing is."""
    goods = [(good, value, c) for value, c in checks if (good := _good(value, c))]
    if not goods:
        return "null::text"
    named = " ".join(f"when not {good} then {_what(value, c)}" for good, value, c in goods)
    # One test that most rows fail, nulls too, and only for the others which column it is.
    return f"case when not ({' and '.join(good for good, _, _ in goods)}) then case {named} end end::text"


def _what(value: str, column: Column) -> str:
    def says(word: str) -> str:
        return "'" + f"{column.name}: {word}".replace("'", "''") + "'"

    infinite = f"when {value} = 'infinity' then {says('infinity')} when {value} = '-infinity' then {says('-infinity')}"
    if column.kind == "timestamptz":
        return f"case {infinite} when {value} < {_EARLIEST} then {says('before 1970')} else {says('after 9999')} end"
    return f"case {infinite} else {says('not a date')} end" if column.kind == "date" else says("not a float")
