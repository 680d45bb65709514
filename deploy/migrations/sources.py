"""The source tables of the embedded stack, which has no product of its own: as the contracts describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploy.migrations.database import Run, connected, say_nothing, with_lock_retries
from deploy.migrations.statements import grant_source
from tasks.contracts import POSTGRES_TYPES, POSTS, TABLES, USERS, Column, Table
from tasks.platform.quoting import identifier, literal

_COLUMNS = """\
select a.attname::text, c.relkind in ('r', 'p'), c.relrowsecurity from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped where c.oid = to_regclass({})"""
_LACKING = """\
select rolname::text from pg_roles
where (rolname = 'service_role' or rolname = 'etl' and to_regclass('public.etl_runs') is not null) and not coalesce(
  has_schema_privilege(oid, to_regnamespace({}), 'usage')
  and has_table_privilege(oid, to_regclass({}), 'select'), false)"""


def create_source_tables(
    db_url: str, *, say: Callable[[str], None] = say_nothing, note: Callable[[str], None] = say_nothing
) -> None:
    """Make the tables, and the columns that were declared since, where they are missing, and give the runs' rights.

    What is there is not touched: `alter table … if not exists` would wait for a run that reads the table, and the
    product's own work behind it. say: called when another session holds a lock, before the next try. note: called for
    each right that a table had not, which somebody made.
    """
    with connected(db_url, say=say) as run:
        for table in (USERS, *(t for t in TABLES if t is not USERS)):
            _complete(run, table, say, note)


def _complete(run: Run, table: Table, say: Callable[[str], None], note: Callable[[str], None]) -> None:
    full = identifier(table.source_schema, table.source)
    found = run(_COLUMNS.format(literal(full)))
    is_view = bool(found) and not found[0][1]
    shape = [] if is_view else list(_shape(run, table, {name for name, *_ in found}))
    rights = list(_rights(run, table))
    # As on Supabase it keeps the API's clients out.
    protection = [] if is_view or (found and found[0][2]) else [f"alter table {full} enable row level security;"]
    if statements := "\n".join([*shape, *rights, *protection]):
        what = f"Making the source table {table.at_source}"
        with_lock_retries(run, statements, what, say=say)
    if found and rights:
        note(f"Gave the runs' roles the right to read {full}")
    if found and protection:
        note(f"Enabled row-level security on {full}: without it anyone with the public key reads and writes it")


def _shape(run: Run, table: Table, columns: set[str]) -> Iterator[str]:
    """The statements that make what a source table lacks. columns: that it has; none where it is not there."""
    full = identifier(table.source_schema, table.source)
    if not columns:
        inside = ",\n  ".join(_column(table, column) for column in table.source_columns)
        yield f"create schema if not exists {identifier(table.source_schema)};"
        yield f"create table {full} (\n  {inside}\n);"
    for column in table.source_columns[1:]:
        if columns and column.source_name not in columns:
            yield f"alter table {full} add column {_column(table, column)};"
    yield from _author_index(run, table, full)


def _rights(run: Run, table: Table) -> Iterator[str]:
    """Those of the runs: after the migrations, which give them once, a table that was dropped has lost them."""
    schema, full = identifier(table.source_schema), identifier(table.source_schema, table.source)
    lacking = {role for (role,) in run(_LACKING.format(literal(schema), literal(full)))}
    if "service_role" in lacking:  # what Supabase granted by itself in the schema `public`, until October 2026
        yield f"grant usage on schema {schema} to service_role;"
        yield f"grant all on {full} to service_role;"
    if "etl" in lacking:
        yield grant_source(table.source_schema, table.source)


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
