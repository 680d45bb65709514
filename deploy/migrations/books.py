"""Which migrations are applied: the pipeline's own books, `public.etl_migrations`.

The Supabase CLI's history (`supabase_migrations.schema_migrations`) is the product's: it is read, so that files which
`supabase db push` applied are not applied twice, and never written.
"""

# ruff: noqa: S608 - versions and names come from our own files, quoted

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from deploy.migrations.database import Run, exists
from deploy.migrations.files import Migration
from deploy.migrations.taken import TAKEN_REMEDY, taken_names
from tasks.errors import ConfigurationError
from tasks.platform.quoting import literal

_HISTORY = "supabase_migrations.schema_migrations"
COPIED = "supabase_nightly_"  # begins the name of each copy of ours in a product's folder
# Of an earlier release: it applied a file again when its checksum differed.
_CHECKSUMS = "supabase_migrations.etl_applied"

OPEN_BOOKS = """\
create table if not exists public.etl_migrations (
  version text primary key, name text not null, applied_at timestamptz not null default now()
);
comment on table public.etl_migrations is 'Migrations of the nightly pipeline that are applied here.';
alter table public.etl_migrations enable row level security;
revoke all on public.etl_migrations from public;
do $$
declare
  role_name text;
begin
  for role_name in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated', 'service_role') loop
    execute format('revoke all on public.etl_migrations from %I', role_name);
  end loop;
end
$$;
"""


def open_books(run: Run, files: Sequence[Migration]) -> None:
    """Make the books where they are missing, and take over what an earlier release or the Supabase CLI applied.

    The CLI's history counts only when the books are new and our tables are there: it still lists what a rollback took.
    Raises ConfigurationError where nothing of ours was applied and something of the product's has one of our names.
    """
    new = not exists(run, "public.etl_migrations")
    if new:
        _require_free_names(run, files)
        run(OPEN_BOOKS, "Making the list of applied migrations")
    if exists(run, _CHECKSUMS):
        _take_over(run, files)
    elif new and exists(run, "public.etl_runs"):
        pushed = set(in_the_clis_history(run, files))
        _note(run, [m for m in files if m.version in pushed])


def _require_free_names(run: Run, files: Sequence[Migration]) -> None:
    if taken := run(taken_names(files))[0][0]:
        raise ConfigurationError(f"There is already {taken}. Nothing was applied.", remedy=TAKEN_REMEDY)


def _take_over(run: Run, files: Sequence[Migration]) -> None:
    """Note the files that were applied as they are now; those that changed since are applied one last time."""
    known = {str(version): str(sha256) for version, sha256 in run(f"select version, sha256 from {_CHECKSUMS}")}
    _note(run, [m for m in files if known.get(m.version) == hashlib.sha256(m.path.read_bytes()).hexdigest()])


def _note(run: Run, files: Sequence[Migration]) -> None:
    if files:
        run("\n".join(entry(m) for m in files), "Noting what is applied already")


def forget_checksums(run: Run) -> bool:
    """Drop the earlier release's list, once everything is applied; whether there was one."""
    if not exists(run, _CHECKSUMS):
        return False
    run(f"drop table {_CHECKSUMS}", "Dropping the earlier list of applied migrations")
    return True


def entry(migration: Migration) -> str:
    """The statement that notes a migration as applied."""
    version, name = literal(migration.version), literal(migration.name)
    return f"insert into public.etl_migrations (version, name) values ({version}, {name}) on conflict do nothing;"


def applied(run: Run) -> set[str]:
    """The versions that are applied."""
    return {str(version) for (version,) in run("select version from public.etl_migrations")}


def in_the_clis_history(run: Run, files: Sequence[Migration]) -> list[str]:
    """Our versions in the Supabase CLI's history: pushed with it, or written there by an earlier release of ours."""
    if not exists(run, _HISTORY):
        return []
    known = {(str(version), str(name)) for version, name in run(f"select version, name from {_HISTORY}")}
    return [m.version for m in files if (m.version, m.name) in known]


def copies_in_the_clis_history(run: Run) -> list[str]:
    """Versions in the Supabase CLI's history of copies of our files in the product's folder."""
    if not exists(run, _HISTORY):
        return []
    ours = f"select version from {_HISTORY} where starts_with(name, {literal(COPIED)}) order by version"
    return [str(version) for (version,) in run(ours)]
