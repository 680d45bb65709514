"""`row_hash` can be recomputed by Postgres, over the columns as Postgres holds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from local_stack import Stack
from tasks.cleaning.row_hash import row_hashes
from tasks.cleaning.units import finished
from tasks.contracts import POSTGRES_TYPES, STAMPS, TABLES, USERS, Column, Table
from tasks.errors import ConfigurationError
from tests.cleaning.spools import cleaned, make_run
from tests.reports.test_recomputed import HOSTILE_POSTS, HOSTILE_USERS


def sql_hash(table: Table) -> str:
    """The documented expression, in Postgres."""
    parts = (f"coalesce({_text(c)}, E'\\x1e')" for c in table.columns if c.name not in STAMPS)
    return f"md5(concat_ws(E'\\x1f', {', '.join(parts)}))"


def _text(column: Column) -> str:
    if column.kind == "timestamptz":
        return f"(extract(epoch from {column.name}) * 1000000)::bigint::text"
    if column.kind == "float":
        return f"encode(float8send({column.name}), 'hex')"
    return f"{column.name}::text"


def test_postgres_finds_the_same_hashes(tmp_path: Path, stack: Stack) -> None:
    workspace, _ = make_run(tmp_path, HOSTILE_USERS, HOSTILE_POSTS)
    with psycopg.connect(stack.db_url) as connection:
        for table in TABLES:
            rows = cleaned(workspace, table)
            assert hashes_in_postgres(connection, table, rows) == [row["row_hash"] for row in rows]


def hashes_in_postgres(connection: psycopg.Connection, table: Table, rows: list[dict[str, object]]) -> list[str]:
    columns = ", ".join(f"{c.name} {POSTGRES_TYPES[c.kind]}" for c in table.columns)
    connection.execute(f"create temp table hashed_{table.name} ({columns})")
    names = [c.name for c in table.columns]
    with connection.cursor().copy(f"copy hashed_{table.name} from stdin") as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])
    found = connection.execute(f"select {sql_hash(table)} from hashed_{table.name} order by id")
    return [row[0] for row in found]


def test_every_kind_of_column_has_a_text(stack: Stack) -> None:
    columns = tuple(
        Column(f"a_{kind}", kind, "A value.", nullable=kind != "bigint")
        for kind in ("bigint", "float", "bool", "date", "int", "text")
    )
    table = Table("kinds", "kinds", "clean_kinds", "All kinds.", columns)
    values: list[dict[str, object]] = [
        {"a_bigint": -(2**63), "a_float": -0.0, "a_bool": True, "a_date": 19_782, "a_int": 0, "a_text": ""},
        {"a_bigint": 1, "a_float": 0.1, "a_bool": False, "a_date": None, "a_int": None, "a_text": "é\n"},
        {"a_bigint": 2, "a_float": None, "a_bool": None, "a_date": 0, "a_int": 2**62, "a_text": None},
        {"a_bigint": 3, "a_float": 0.0, "a_bool": None, "a_date": 1, "a_int": -1, "a_text": "\x7f"},
    ]
    numbers = pa.schema([f.with_type(pa.int32()) if f.name == "a_date" else f for f in table.clean_schema])
    frame = pa.RecordBatch.from_pylist(values, schema=numbers).cast(table.clean_schema)
    with psycopg.connect(stack.db_url) as connection:
        assert kinds_in_postgres(connection, table, frame.to_pylist()) == row_hashes(frame, table).to_pylist()


def kinds_in_postgres(connection: psycopg.Connection, table: Table, rows: list[dict[str, object]]) -> list[str]:
    columns = ", ".join(f"{c.name} {POSTGRES_TYPES[c.kind]}" for c in table.columns)
    connection.execute(f"create temp table hashed ({columns})")
    for row in rows:
        connection.execute(f"insert into hashed values ({', '.join(['%s'] * len(row))})", list(row.values()))
    return [row[0] for row in connection.execute(f"select {sql_hash(table)} from hashed order by ctid")]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_rows_have_no_hashes(table: Table) -> None:
    frame = pa.RecordBatch.from_pylist([], schema=table.clean_schema)
    assert len(row_hashes(frame, table)) == 0


def test_a_derived_column_that_no_rule_makes_is_named() -> None:
    wider = replace(USERS, columns=(*USERS.columns, Column("rank", "int", "Rank.", derived=True)))
    frame = pa.RecordBatch.from_pylist([], schema=USERS.clean_schema)
    with pytest.raises(ConfigurationError, match="No rule makes rank of users"):
        finished(frame, wider)
