"""The SELECT of a slice, a key range or some keys. It asks for the columns as they are; `binary.py` does the rest."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import POSTGRES_TYPES, Column
from tasks.platform.quoting import identifier
from tasks.source.fingerprint import COLUMN
from tasks.source.model import TableInfo
from tasks.source.ranges import Key
from tasks.source.slices import Slice

_LAST_DAY = "294276-12-31"  # of a timestamp
_CAST_TO_TEXT = frozenset({"enum", "citext", "name"})


def keys_query(info: TableInfo, keys: Sequence[Key]) -> str:
    """The rows with these keys in key order: `info.columns`, under the contract's names."""
    key, listed = f"s.{identifier(info.table.key.source_name)}", ", ".join(key_literal(info, k) for k in keys)
    return f"select {_columns(info)} from {_source(info)} where {key} in ({listed}) order by {key}"  # noqa: S608 - names are quoted


def key_literal(info: TableInfo, key: Key) -> str:
    """A key as SQL; keys were made by `int` or `UUID`, so there is nothing in them to escape."""
    return f"'{key}'::{POSTGRES_TYPES[info.table.key.kind]}"


def slice_query(info: TableInfo, part: Slice) -> str:
    """All rows that lie in a part of the table's pages, in any order, likewise."""
    conditions = [
        f"s.ctid {operator} '({block},0)'::tid"
        for operator, block in ((">=", part.start), ("<", part.stop))
        if block is not None
    ]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return f"select {_columns(info)} from {_source(info)}{where}"  # noqa: S608 - names are quoted


def lock_query(info: TableInfo) -> str:
    """What locks the table as a SELECT of our columns does, and reads nothing."""
    return f"select {_columns(info)} from {_source(info)} limit 0"  # noqa: S608 - names are quoted


def _columns(info: TableInfo) -> str:
    columns = [f"{_value(c, info.type_of(c))} as {identifier(c.name)}" for c in info.columns]
    return ", ".join([*columns, f"{info.fingerprint or 'null::bigint'} as {identifier(COLUMN)}"])


def _source(info: TableInfo) -> str:
    return f"{identifier(info.table.source_schema, info.table.source)} s"


def _value(column: Column, kind: str) -> str:
    """The source's cell in the contract's type."""
    cell = f"s.{identifier(column.source_name)}"
    if column.kind == "text" and kind in _CAST_TO_TEXT:
        return f"{cell}::text"
    if column.kind == "timestamptz" and kind == "date":  # what no timestamp holds as the last one: after 9999 like it
        cell = f"(case when {cell} < 'infinity' then least({cell}, '{_LAST_DAY}') else {cell} end)"
    if column.kind == "timestamptz" and kind != "timestamp with time zone":
        return f"({cell}::timestamp at time zone 'UTC')"
    if column.kind == "float" and kind == "numeric":  # what no float holds is an error there, and one row's matter here
        return f"{cell}::text"
    if column.kind == "float":  # by way of text, as over REST: 0.1 as real is not 0.1 as double precision
        return f"{cell}::text::float8"
    return f"{cell}::bigint" if column.kind in ("bigint", "int") else cell
