"""The second opinion: every table and report recomputed in SQL, and compared with ours cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tasks.cleaning.passes import to_micros
from tasks.contracts import POSTS, STAMPS, TABLES, USERS, Table
from tasks.workspace import Workspace
from tests.cleaning.spools import Row, all_reports

_SQL = Path(__file__).with_name("definitions.sql").read_text()


@contextmanager
def recomputed(
    users: Sequence[Row], posts: Sequence[Row], *, as_of: datetime, snapshot_at: datetime
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that holds the sources and everything that follows from them."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute(
            f"set variable snapshot_at = {to_micros(snapshot_at)}; set variable as_of = {to_micros(as_of)}"
        )
        for table, rows in ((USERS, users), (POSTS, posts)):
            connection.register("given", source(table, rows))
            connection.execute(f"create table {table.name} as from given")
            connection.unregister("given")
        connection.execute(_SQL)
        yield connection


def source(table: Table, rows: Sequence[Row]) -> pa.Table:
    """The rows with their instants as µs."""
    given = pa.Table.from_pylist(list(rows), schema=table.raw_schema)
    return as_numbers(given)


def as_numbers(table: pa.Table) -> pa.Table:
    """Instants as µs, days as days: so that no time zone stands between two numbers."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.int64()))
        elif pa.types.is_date(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.int32()).cast(pa.int64()))
    return table


def assert_same_everywhere(workspace: Workspace, connection: duckdb.DuckDBPyConnection) -> None:
    """All six reports and both cleaned tables are what the SQL makes of the sources."""
    for name, ours in all_reports(workspace).items():
        assert_equal(name, ours, connection)
    for table in TABLES:
        spool = workspace.spool("clean", table.name, table.clean_schema)
        stamps = [name for name in spool.schema.names if name in STAMPS - {"row_hash"}]
        assert_equal(table.clean, spool.table().drop_columns(stamps), connection)


def assert_equal(name: str, ours: pa.Table, connection: duckdb.DuckDBPyConnection) -> None:
    theirs = as_numbers(connection.sql(f'select {", ".join(_quoted(ours))} from "{name}"').to_arrow_table())
    expected, got = theirs.to_pylist(), as_numbers(ours).to_pylist()
    assert len(got) == len(expected), f"{name}: {len(got)} rows, expected {len(expected)}"
    for row, (mine, other) in enumerate(zip(got, expected, strict=True)):
        for column in mine:
            assert same(mine[column], other[column]), f"{name}[{row}].{column}: {mine[column]!r}, not {other[column]!r}"


def same(one: Any, other: Any) -> bool:
    """Equal; floats to a relative 1e-12."""
    if isinstance(one, float) and other is not None:
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=0)
    return bool(one == other)


def _quoted(table: pa.Table) -> list[str]:
    return [f'"{name}"' for name in table.schema.names]
