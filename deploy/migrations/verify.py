"""Whether the database has what the migrations make. Some of it depends on rights that the login may lack."""

from __future__ import annotations

import json
from collections.abc import Iterator

from deploy.migrations.bucket import lacking_in_storage
from deploy.migrations.database import Run
from deploy.migrations.difference import statements
from deploy.migrations.files import last_shape, migrations
from deploy.migrations.rights import BOOKS
from deploy.migrations.shape import wanted_shape
from tasks.contracts import TABLES
from tasks.errors import ConfigurationError
from tasks.platform.quoting import identifier, literal
from tasks.sink.schema import differences

# The policies that the migrations make in Storage, by name, and the table that each is on.
STORAGE_POLICIES = {
    "analysts read reports": "storage.objects",
    "analysts upload to reports": "storage.objects",
    "operators delete exports of reports": "storage.objects",
    "etl keeps the reports": "storage.objects",
    "etl sees its bucket": "storage.buckets",
}
_OWNER = "as a role that may (on Supabase: postgres, or in the dashboard)"


def verify(run: Run) -> None:
    """Raise ConfigurationError that names everything that is missing, and what to do about it."""
    if statements(last_shape(), wanted_shape()):
        raise ConfigurationError(
            "The contracts ask for what no migration makes.",
            remedy="Run `make migration`, which writes it as a new file, and then `make migrate`.",
        )
    if missing := [*_tables(run), *_storage(run), *_sources(run)]:
        listed = "\n".join(f"  {what}: {fix}" for what, fix in missing)
        raise ConfigurationError(f"The migrations are applied, but not all of it is there:\n{listed}")


def _tables(run: Run) -> Iterator[tuple[str, str]]:
    found = json.loads(run("select public.etl_own_tables()::text")[0][0])
    for difference in differences(found):
        yield difference.what, difference.fix
    for (name,) in run(_UNLOGGED):
        yield f"a crash of the server empties {name}, which is unlogged", f"alter table {name} set logged; {_OWNER}"


_UNLOGGED = f"""\
select c.oid::regclass::text from pg_class c
where c.relpersistence = 'u' and (c.oid in (select t.relation from public.etl_tables() t)
  or c.relnamespace = 'public'::regnamespace and c.relname in ({BOOKS}, 'etl_seed', 'etl_migrations'))
order by 1"""  # noqa: S608 - names of our own


def _storage(run: Run) -> Iterator[tuple[str, str]]:
    if run("select to_regclass('storage.objects') is null")[0][0]:
        return  # a plain PostgreSQL
    if not run("select count(*) from storage.buckets where id = 'reports'")[0][0]:
        yield "there is no bucket reports", "create it in the dashboard under Storage, private"
    if lacking := lacking_in_storage(run):
        yield (
            "the role etl lacks rights on Storage's tables",
            f"{' '.join(lacking)} {_OWNER}; without them runs need SUPABASE_SERVICE_KEY",
        )
    held = {(str(name), str(table)) for name, table in run(_POLICIES)}
    for name, table in STORAGE_POLICIES.items():
        if (name, table) not in held:
            # The whole file would put functions back that later ones replaced.
            block = f'of {_file_of(name)} only the block that makes it ("do $$" to "$$;")'
            yield f'there is no policy "{name}" on {table}', f"run {block} {_OWNER}"


def _file_of(policy: str) -> str:
    """The newest file that makes a policy of this name."""
    made = f'create policy "{policy}" on {STORAGE_POLICIES[policy]}'
    return next(f"supabase/migrations/{m.path.name}" for m in reversed(migrations()) if made in m.sql)


_POLICIES = """\
select p.polname::text, n.nspname || '.' || c.relname from pg_policy p join pg_class c on c.oid = p.polrelid
join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'storage'"""


def _sources(run: Run) -> Iterator[tuple[str, str]]:
    """Sources that are there and that etl may not read: made after the migrations, or someone else's."""
    for table in TABLES:
        full = identifier(table.source_schema, table.source)
        there, readable, hidden = run(_READABLE.format(literal(full)))[0]
        if there and not readable:
            grant = f"grant usage on schema {identifier(table.source_schema)} to etl; grant select on {full} to etl;"
            if hidden:
                grant += f" create policy etl_reads on {full} for select to etl using (true);"
            yield f"the role etl may not read {table.at_source}", f"{grant} {_OWNER}"


_READABLE = """\
select relation is not null, coalesce(has_table_privilege('etl', relation, 'select')
       and has_schema_privilege('etl', (select c.relnamespace from pg_class c where c.oid = relation), 'usage')
       and (select not c.relrowsecurity or (select r.rolbypassrls from pg_roles r where r.rolname = 'etl')
              or exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'etl_reads')
            from pg_class c where c.oid = relation), false),
       exists (select from pg_class c where c.oid = relation and c.relrowsecurity)
         and not exists (select from pg_policy p where p.polrelid = relation and p.polname = 'etl_reads')
from (select to_regclass({}) as relation) x"""
