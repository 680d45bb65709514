"""The second opinion: every table and report recomputed in SQL, and compared with ours cell by cell."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tasks.cleaning.partials import to_micros
from tasks.cleaning.rules import RULES
from tasks.contracts import DATA_QUALITY, FURTHER_TABLES, POSTS, REPORTS, STAMPS, TABLES, USERS, Table
from tasks.workspace import Workspace
from tests.cleaning.spools import Row, all_reports

_SQL_FILE = Path(__file__).with_name("definitions.sql")


@contextmanager
def recomputed(
    users: Sequence[Row], posts: Sequence[Row], *, as_of: datetime, snapshot_at: datetime
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that holds the sources and everything that follows from them."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute(
            f"set variable snapshot_at = {to_micros(snapshot_at)}; set variable as_of = {to_micros(as_of)}"
        )
        of_table = {USERS.name: users, POSTS.name: posts}
        for table in TABLES:
            connection.register("given", source(table, of_table.get(table.name, ())))
            connection.execute(f'create table "{table.name}" as from given')
            connection.unregister("given")
        try:
            connection.execute(_SQL_FILE.read_text())
        except duckdb.Error as error:
            said = str(error).partition("\n")[0]
            pytest.fail(
                f"tests/reports/{_SQL_FILE.name} does not fit the contracts, so change it there too: {said}", False
            )
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
    """All reports and both cleaned tables are what the SQL makes of the sources, but for what `not_derived` names."""
    rows = all_reports(workspace) | {
        table.clean: workspace.spool("clean", table.name, table.clean_schema).table() for table in (USERS, POSTS)
    }
    columns, rules = _derived(connection)
    rows[DATA_QUALITY.name] = _of_rules(rows[DATA_QUALITY.name], rules)
    for name, wanted in _wanted().items():
        both = [column for column in wanted if column in columns[name]]
        if "row_hash" in both and both != wanted:
            both.remove("row_hash")  # it is over all columns
        if both:
            assert_equal(name, rows[name].select(both), connection)


def not_derived() -> list[str]:
    """What the pipeline computes and the SQL does not: reports, columns, and rules in `data_quality`."""
    with recomputed((), (), as_of=_ANY, snapshot_at=_ANY) as connection:
        columns, rules = _derived(connection)
    lacking = [f"{name}.{column}" for name, of in _wanted().items() for column in of if column not in columns[name]]
    own = [(table.name, rule.name) for table in (USERS, POSTS) for rule in RULES[table.name]]
    return lacking + [f"{DATA_QUALITY.name}: {table}, {rule}" for table, rule in own if (table, rule) not in rules]


_ANY = datetime(2026, 1, 1, tzinfo=UTC)


def _wanted() -> dict[str, list[str]]:
    """Columns by report and cleaned table. Further tables have no rows here, and rules that all of them share."""
    tables = {table.clean: table.clean_schema.names for table in (USERS, POSTS)}
    stamps = STAMPS - {"row_hash"}
    return {r.name: r.schema.names for r in REPORTS} | {
        name: [column for column in columns if column not in stamps] for name, columns in tables.items()
    }


def _derived(connection: duckdb.DuckDBPyConnection) -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
    """Columns by table and rules of the SQL."""
    columns = defaultdict[str, set[str]](set)
    for table, column in connection.sql("select table_name, column_name from duckdb_columns()").fetchall():
        columns[table].add(column)
    return columns, set(connection.sql(f'select "table", rule from {DATA_QUALITY.name}').fetchall())


def _of_rules(quality: pa.Table, rules: set[tuple[str, str]]) -> pa.Table:
    """The report `data_quality` without what is not derived; of a further table that is nothing."""
    further = [table.name for table in FURTHER_TABLES]
    assert not any(row["rows_checked"] for row in quality.to_pylist() if row["table"] in further)
    return quality.filter(pa.array([(row["table"], row["rule"]) in rules for row in quality.to_pylist()], pa.bool_()))


def assert_equal(name: str, ours: pa.Table, connection: duckdb.DuckDBPyConnection) -> None:
    theirs = as_numbers(connection.sql(f'select {", ".join(_quoted(ours))} from "{name}"').to_arrow_table())
    expected, got = theirs.to_pylist(), as_numbers(ours).to_pylist()
    assert len(got) == len(expected), f"{name}: {len(got)} rows, and in {_SQL_FILE.name} {len(expected)}"
    for row, (mine, other) in enumerate(zip(got, expected, strict=True)):
        for column in mine:
            said = f"{name}[{row}].{column}: {mine[column]!r}, and in {_SQL_FILE.name} {other[column]!r}"
            assert same(mine[column], other[column]), said


def same(one: Any, other: Any) -> bool:
    """Equal; floats to a relative 1e-12."""
    if isinstance(one, float) and other is not None:
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=0)
    return bool(one == other)


def _quoted(table: pa.Table) -> list[str]:
    return [f'"{name}"' for name in table.schema.names]
