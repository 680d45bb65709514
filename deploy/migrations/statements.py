"""What a migration may say about one of our tables, each as SQL that can run twice."""

# ruff: noqa: S608 - names and texts come from the contracts, quoted

from __future__ import annotations

from collections.abc import Iterable

from deploy.migrations.shape import Shape, TableShape
from tasks.platform.quoting import identifier, literal

ANALYST = (
    "(select nullif(current_setting('request.jwt.claims', true), '')::jsonb"
    " -> 'app_metadata' ->> 'etl_role') = 'analyst'"
)
_NO_HASH = "0" * 32  # no row's: every row differs from it


def full_name(table: TableShape) -> str:
    """The table with its schema, quoted."""
    return identifier("public", table.relation)


def create_table(table: TableShape) -> str:
    """A table with its comments and rights: nobody's but the pipeline's, and for aggregates the analysts' to read."""
    full = full_name(table)
    columns = [f"  {identifier(name)} {c.type}{' not null' if c.required else ''}" for name, c in table.columns.items()]
    key = f"  primary key ({', '.join(identifier(name) for name in table.key)})"
    inside = ",\n".join([*columns, key])
    parts = [
        _require_ours(table),
        f"create table if not exists {full} (\n{inside}\n);",
        table_comment(table),
        *(set_comment(table, name) for name in table.columns),
        f"alter table {full} enable row level security;",
        f"revoke all on {full} from public, anon, authenticated;",
        f"grant select, insert, update, delete on {full} to etl, service_role;",
        f"drop policy if exists etl_all on {full};",
        f"create policy etl_all on {full} to etl using (true) with check (true);",
    ]
    return "\n".join([*parts, *([_analysts(full)] if table.kind == "aggregate" else []), ""])


def _require_ours(table: TableShape) -> str:
    """Refuses the name of something that the product has: it would be altered, closed to its readers and written to."""
    full = literal(full_name(table))
    said = (
        f"there is already public.{table.relation}, which is not the pipeline's: rename it, or give the pipeline's own "
        "table another name in tasks/contracts/ and write the file again. Where it is the pipeline's, from a dump, and "
        f"somebody changed its comment: {table_comment(table)}"
    )
    return f"""\
do $$
begin
  if to_regclass({full}) is not null
    and not exists (select from pg_policy p where p.polrelid = to_regclass({full}) and p.polname = 'etl_all')
    and obj_description(to_regclass({full}), 'pg_class') is distinct from {literal(table.comment)}  -- as a dump has it
  then
    raise exception '%', {literal(said)};
  end if;
end
$$;"""


def _analysts(full: str) -> str:
    return f"""\
grant select on {full} to authenticated;
drop policy if exists etl_analysts on {full};
create policy etl_analysts on {full} for select to authenticated
  using ({ANALYST});"""


def drop_table(table: TableShape) -> str:
    """A cleaned table goes with its rows, which can be derived again."""
    return f"drop table if exists {full_name(table)};"


def forget_rejects(table: TableShape) -> str:
    """The rejects of a table that no contract names any more: no run would bring them up to date."""
    return f'delete from public.etl_reject_rows where "table" = {literal(table.name)};'


def drop_table_of_another_key(table: TableShape) -> str:
    """What is derived from another key, or from one of another type, is another table; the next run fills it."""
    full, (name,) = full_name(table), table.key
    return f"""\
do $$
begin
  if to_regclass({literal(full)}) is not null and not exists (
    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
    where i.indrelid = to_regclass({literal(full)}) and i.indisprimary
      and a.attname = {literal(name)} and a.atttypid = {literal(table.columns[name].type)}::regtype
  ) then
    drop table {full};
  end if;
end
$$;"""


def _where_type_differs(table: TableShape, name: str, changes: list[str]) -> str:
    inside = "\n    ".join(changes)
    return f"""\
do $$
begin
  if exists (
    select from pg_attribute a
    where a.attrelid = to_regclass({literal(full_name(table))}) and a.attname = {literal(name)}
      and a.atttypid <> {literal(table.columns[name].type)}::regtype
  ) then
    {inside}
  end if;
end
$$;"""


def table_comment(table: TableShape) -> str:
    """What the table holds."""
    return f"comment on table {full_name(table)} is {literal(table.comment)};"


def set_comment(table: TableShape, name: str) -> str:
    """What the column holds, with its unit."""
    return f"comment on column {full_name(table)}.{identifier(name)} is {literal(table.columns[name].comment)};"


def add_column(table: TableShape, name: str) -> str:
    """A new column; nulls until the next run fills it."""
    return f"alter table {full_name(table)} add column if not exists {identifier(name)} {table.columns[name].type};"


def drop_column(table: TableShape, name: str) -> str:
    """A column that no contract names any more."""
    return f"alter table {full_name(table)} drop column if exists {identifier(name)};"


def retype(table: TableShape, name: str) -> str:
    """A column of another type: a cleaned one is made again and filled by the next run, a history is converted."""
    full, column, kind = full_name(table), identifier(name), table.columns[name].type
    if table.kind == "clean":
        changes = [f"alter table {full} drop column {column};", f"alter table {full} add column {column} {kind};"]
        return _where_type_differs(table, name, changes)
    return f"alter table {full} alter column {column} type {kind} using {column}::{kind};"


def tolerate_nulls(table: TableShape, name: str) -> str:
    """A column that may be null, or that is written no more."""
    return f"alter table {full_name(table)} alter column {identifier(name)} drop not null;"


def make_required(table: TableShape, name: str) -> str:
    """A column without nulls. Where older rows hold some it stays nullable, and only the contract forbids them."""
    return f"""\
do $$
begin
  alter table {full_name(table)} alter column {identifier(name)} set not null;
exception when not_null_violation then
  raise notice 'rows from before hold nulls in %', {literal(f"{table.relation}.{name}")};
end
$$;"""


def replace_key(table: TableShape) -> str:
    """Another primary key; it is refused where rows share it."""
    full, name = full_name(table), identifier(f"{table.relation}_pkey")
    key = ", ".join(identifier(column) for column in table.key)
    return f"alter table {full} drop constraint if exists {name};\nalter table {full} add primary key ({key});"


def reset_hashes(table: TableShape) -> str:
    """Every row counts as changed, so that the next run fills new columns. Only the catalog is written, unless a view
    of the user's own reads the hashes."""
    full = full_name(table)
    return f"""\
do $$
begin
  alter table {full} drop column if exists row_hash;
  alter table {full} add column row_hash text not null default '{_NO_HASH}';
  alter table {full} alter column row_hash drop default;
exception when dependent_objects_still_exist then
  update {full} set row_hash = '{_NO_HASH}' where true;
end
$$;
do $$
begin
  if to_regclass('public.etl_base') is not null then
    update public.etl_base set dirty = true where true;  -- the next night reads everything
  end if;
end
$$;
{set_comment(table, "row_hash")}"""


def make_indexes() -> str:
    """The indexes and settings that a cleaned table lacks; a column or a table that is made again lost them."""
    return "select public.etl_make_indexes();"


def open_to_readers() -> str:
    """Operators' rights on tables and columns that are new: the Supabase CLI runs the files alone."""
    return "select public.etl_open_to_readers();"


def grant_source(schema: str, name: str) -> str:
    """The right to read a source; without BYPASSRLS a policy that shows all of it. A missing source is left alone."""
    full = identifier(schema, name)
    return f"""\
do $$
begin
  if to_regclass({literal(full)}) is null then
    return;
  end if;
  grant usage on schema {identifier(schema)} to etl;
  grant select on {full} to etl;
  if not (select rolbypassrls from pg_roles where rolname = 'etl')
    and (select relkind in ('r', 'p') from pg_class where oid = {literal(full)}::regclass)  -- views have no policies
  then
    drop policy if exists etl_reads on {full};
    create policy etl_reads on {full} for select to etl using (true);
  end if;
exception when insufficient_privilege then
  raise warning 'the owner of % has to grant etl the right to read it', {literal(full)};
end
$$;
"""


def revoke_source(schema: str, name: str, sources: Iterable[tuple[str, str]]) -> str:
    """Take back the right to read what is no source any more, and its policy.

    sources: those of today. A view among them reads with its owner's rights, but for one with `security_invoker` and
    for what a function in it reads: then etl needs the right still.
    """
    full, names = identifier(schema, name), ", ".join(literal(identifier(*source)) for source in sources)
    return f"""\
do $$
declare
  former regclass;
begin
  former := to_regclass({literal(full)});  -- refused, too, where this login may not use the schema
  if former is null or exists (
    select from unnest(array[{names}]::text[]) s (name)
    cross join lateral public.etl_relations_behind(to_regclass(s.name)) b
    where cardinality(public.etl_view_functions(to_regclass(s.name))) > 0 or exists (
      select from pg_class v cross join lateral pg_options_to_table(v.reloptions) o
      join pg_rewrite w on w.ev_class = v.oid
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
      where v.oid = b.relation and d.refclassid = 'pg_class'::regclass and d.refobjid = former
        and o.option_name = 'security_invoker' and o.option_value::boolean)
  ) then
    return;
  end if;
  revoke select on {full} from etl;
  if (select relkind in ('r', 'p') from pg_class where oid = former) then
    drop policy if exists etl_reads on {full};
  end if;
exception when insufficient_privilege then
  raise warning 'the owner of % has to take back the right of etl to read it', {literal(full)};
end
$$;
"""


def registry(shape: Shape) -> str:
    """Which tables the functions may write, by the names that the contracts give them."""
    rows = ",\n  ".join(
        f"({literal(t.kind)}, {literal(t.name)}, {literal(full_name(t))}::regclass)" for t in shape.values()
    )
    return f"""\
create or replace function public.etl_tables() returns table (kind text, name text, relation regclass)
language sql stable set search_path = '' as
$$ values
  {rows}
$$;

revoke all on function public.etl_tables() from public, anon, authenticated;
grant execute on function public.etl_tables() to etl, service_role;
"""
