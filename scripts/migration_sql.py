"""The contracts as SQL: the pipeline's own tables, and the sources of the embedded stack."""

# ruff: noqa: S608 - names and texts come from the contracts, quoted

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from tasks.contracts import POSTGRES_TYPES, POSTS, REPORTS, TABLES, USERS, Column, Report, Table

_HEADER = """\
-- Generated from tasks/contracts.py by `python -m scripts.migrations render`. Edit the contracts, not this file.
-- It brings any earlier state of these tables to the contracts': it can run again and again.
"""

_RESHAPE = Path(__file__).with_name("reshape.sql")
_ANALYST = (
    "(select nullif(current_setting('request.jwt.claims', true), '')::jsonb"
    " -> 'app_metadata' ->> 'etl_role') = 'analyst'"
)


def text(value: str) -> str:
    """A literal."""
    return "'" + value.replace("'", "''") + "'"


def quoted(*names: str) -> str:
    """A name, with its schema before it or not."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def aggregates() -> tuple[Report, ...]:
    """The reports that are tables too."""
    return tuple(report for report in REPORTS if report.in_postgres)


def render_tables() -> str:
    """The migration with the cleaned tables and the aggregates, their rights, and the right to read the sources."""
    cleaned = [_table(t.clean, t.description, t.columns, (t.key.name,)) for t in TABLES]
    reports = [_table(r.name, r.description, r.columns, r.keys) for r in aggregates()]
    analysts = [_analysts(r.name) for r in aggregates()]
    sources = [_source_grant(t) for t in TABLES]
    return "\n".join([_HEADER, *cleaned, *reports, _wanted(), _RESHAPE.read_text(), *analysts, *sources, _registry()])


def _table(name: str, description: str, columns: tuple[Column, ...], keys: tuple[str, ...]) -> str:
    full = quoted("public", name)
    inside = [f"  {_column(c)}" for c in columns] + [f"  primary key ({', '.join(quoted(k) for k in keys)})"]
    added = [f"alter table {full} add column if not exists {quoted(c.name)} {POSTGRES_TYPES[c.kind]};" for c in columns]
    comments = [f"comment on column {full}.{quoted(c.name)} is {text(_describe(c))};" for c in columns]
    return "\n".join(
        [
            f"create table if not exists {full} (",
            ",\n".join(inside),
            ");",
            *added,
            f"comment on table {full} is {text(description)};",
            *comments,
            f"alter table {full} enable row level security;",
            f"revoke all on {full} from public, anon, authenticated;",
            f"grant select, insert, update, delete on {full} to etl, service_role;",
            f"drop policy if exists etl_all on {full};",
            f"create policy etl_all on {full} to etl using (true) with check (true);",
            "",
        ]
    )


def _column(column: Column) -> str:
    return f"{quoted(column.name)} {POSTGRES_TYPES[column.kind]}{'' if column.nullable else ' not null'}"


def _describe(column: Column) -> str:
    return f"{column.description} [{column.unit}]" if column.unit else column.description


def _wanted() -> str:
    """What the tables should look like, as a temporary table for the block that follows."""
    cleaned = (_wanted_rows(t.clean, t.columns, (t.key.name,), cleaned=True) for t in TABLES)
    reports = (_wanted_rows(r.name, r.columns, r.keys, cleaned=False) for r in aggregates())
    rows = ",\n  ".join(chain.from_iterable((*cleaned, *reports)))
    return f"""\
create temporary table wanted (
  relation regclass, name text, type text, required boolean, is_key boolean, cleaned boolean
);
insert into pg_temp.wanted values
  {rows};"""


def _wanted_rows(table: str, columns: tuple[Column, ...], keys: tuple[str, ...], *, cleaned: bool) -> Iterable[str]:
    for c in columns:
        kind = text({"timestamptz": "timestamp with time zone"}.get(c.kind, POSTGRES_TYPES[c.kind]))
        flags = ", ".join(str(flag).lower() for flag in (not c.nullable, c.name in keys, cleaned))
        yield f"({text(quoted('public', table))}, {text(c.name)}, {kind}, {flags})"


def _analysts(table: str) -> str:
    full = quoted("public", table)
    return f"""\
grant select on {full} to authenticated;
drop policy if exists etl_analysts on {full};
create policy etl_analysts on {full} for select to authenticated
  using ({_ANALYST});
"""


def _source_grant(table: Table) -> str:
    """The right to read a source; without BYPASSRLS a policy that shows all of it. A missing source is left alone."""
    schema, full = quoted(table.source_schema), quoted(table.source_schema, table.source)
    return f"""\
do $$
begin
  if to_regclass({text(full)}) is null then
    return;
  end if;
  grant usage on schema {schema} to etl;
  grant select on {full} to etl;
  if not (select rolbypassrls from pg_roles where rolname = 'etl') then
    drop policy if exists etl_reads on {full};
    create policy etl_reads on {full} for select to etl using (true);
  end if;
exception when insufficient_privilege then
  raise warning 'the owner of {table.source_schema}.{table.source} has to grant etl the right to read it';
end
$$;
"""


def _registry() -> str:
    """Which tables the functions may write, by the names that the contracts give them."""
    rows = [f"('clean', {text(t.name)}, {text(quoted('public', t.clean))}::regclass)" for t in TABLES]
    rows += [f"('aggregate', {text(r.name)}, {text(quoted('public', r.name))}::regclass)" for r in aggregates()]
    inside = ",\n  ".join(rows)
    return f"""\
create or replace function public.etl_tables() returns table (kind text, name text, relation regclass)
language sql stable set search_path = '' as
$$ values
  {inside}
$$;

revoke all on function public.etl_tables() from public, anon, authenticated;
grant execute on function public.etl_tables() to etl, service_role;
"""


def render_sources() -> str:
    """The users' own tables for the embedded stack. As on Supabase, row-level security keeps the API's clients out."""
    return "\n".join(_source(table) for table in (USERS, *(t for t in TABLES if t is not USERS)))


def _source(table: Table) -> str:
    full = quoted(table.source_schema, table.source)
    inside = ",\n  ".join(_source_column(table, column) for column in table.source_columns)
    index = ""
    if table is POSTS and "user_id" in POSTS:
        author = quoted(table["user_id"].source_name)
        index = f"create index if not exists {quoted(f'{table.source}_author')} on {full} ({author});"
    return f"""\
create table if not exists {full} (
  {inside}
);
{index}
alter table {full} enable row level security;"""


def _source_column(table: Table, column: Column) -> str:
    rest = ""
    if column is table.key:
        rest = " primary key default gen_random_uuid()" if column.kind == "uuid" else " primary key"
    elif column.name in ("created_at", "updated_at"):
        rest = " default now()"
    elif table is POSTS and column.name == "user_id":
        rest = f" references {quoted(USERS.source_schema, USERS.source)}"
    return f"{quoted(column.source_name)} {POSTGRES_TYPES[column.kind]}{rest}"
