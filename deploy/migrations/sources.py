"""The source tables of the embedded stack, which has no product of its own: as the contracts describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from deploy.migrations.database import Run, connected, say_nothing, with_lock_retries
from tasks.contracts import POSTGRES_TYPES, POSTS, TABLES, USERS, Column, Table
from tasks.platform.quoting import identifier, literal

_COLUMNS = """\
select a.attname::text, c.relrowsecurity from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped where c.oid = to_regclass({})"""


def create_source_tables(db_url: str, *, say: Callable[[str], None] = say_nothing) -> None:
    """Make the tables, and the columns that were declared since, where they are missing.

    What is there is not touched: `alter table … if not exists` would wait for a run that reads the table, and the
    product's own work behind it. say: called when another session holds a lock, before the next try.
    """
    with connected(db_url) as run:
        for table in (USERS, *(t for t in TABLES if t is not USERS)):
            if missing := "\n".join(_missing(run, table)):
                what = f"Making the source table {table.source_schema}.{table.source}"
                with_lock_retries(partial(run, missing, what), say=say)


def _missing(run: Run, table: Table) -> Iterator[str]:
    """The statements that make what a source lacks. As on Supabase, row-level security keeps the API's clients out."""
    full = identifier(table.source_schema, table.source)
    found = run(_COLUMNS.format(literal(full)))
    columns = {name for name, _ in found}
    if not found:
        inside = ",\n  ".join(_column(table, column) for column in table.source_columns)
        yield f"create schema if not exists {identifier(table.source_schema)};"
        yield f"create table {full} (\n  {inside}\n);"
        # What Supabase grants by itself in the schema `public`.
        yield f"grant usage on schema {identifier(table.source_schema)} to service_role;"
        yield f"grant all on {full} to service_role;"
    for column in table.source_columns[1:]:
        if found and column.source_name not in columns:
            yield f"alter table {full} add column {_column(table, column)};"
    yield from _author_index(run, table, full)
    if not (found and found[0][1]):
        yield f"alter table {full} enable row level security;"


def _author_index(run: Run, table: Table, full: str) -> Iterator[str]:
    if table is not POSTS or "user_id" not in POSTS:
        return
    name = f"{table.source}_author"
    found = f"select to_regclass({literal(identifier(table.source_schema, name))}) is not null"
    if not run(found)[0][0]:
        yield f"create index {identifier(name)} on {full} ({identifier(table['user_id'].source_name)});"


def _column(table: Table, column: Column) -> str:
    rest = ""
    if column is table.key:
        rest = " primary key default gen_random_uuid()" if column.kind == "uuid" else " primary key"
    elif column.name in ("created_at", "updated_at"):
        rest = " default now()"
    elif table is POSTS and column.name == "user_id":
        rest = f" references {identifier(USERS.source_schema, USERS.source)}"
    return f"{identifier(column.source_name)} {POSTGRES_TYPES[column.kind]}{rest}"
