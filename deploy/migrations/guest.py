"""Our migrations in the folder of a product that has migrations of its own, so that its `supabase db push` stays whole.

Each file gets a version of its own there. It notes itself in our books as well, so that it is applied once, whichever
of `supabase db push` and `make migrate` comes first.
"""

from __future__ import annotations

import re
from pathlib import Path

from deploy.migrations.books import COPIED, OPEN_BOOKS, entry
from deploy.migrations.files import Migration, migrations, next_versions
from deploy.migrations.taken import TAKEN_REMEDY, taken_names
from tasks.errors import ConfigurationError
from tasks.platform.quoting import literal

_TAG = "$supabase_nightly$"
# What each copy notes in our books: by it a file is known that somebody renamed, or joined with others.
_ENTRY = re.compile(r"^ *insert into public\.etl_migrations \(version, name\) values \('(\d+)'", re.MULTILINE)


def copy_into(folder: Path) -> list[Path]:
    """Write the files that a folder does not have yet; returns their paths, in order.

    Raises ConfigurationError where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder.", remedy="Name the product's own supabase/migrations.")
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in folder.glob("*.sql"))
    there = {version for text in texts for version in _ENTRY.findall(text)}
    new = [migration for migration in migrations() if migration.version not in there]
    paths: list[Path] = []
    for migration, version in zip(new, next_versions(folder, len(new)), strict=True):
        path = folder / f"{version}_{COPIED}{migration.path.stem}.sql"
        first = not there and not paths
        path.write_text((_require_free_names() if first else "") + _guarded(migration), encoding="utf-8")
        paths.append(path)
    return paths


def _require_free_names() -> str:
    """Before all others: refuses a database without anything of ours where something has one of our names."""
    return f"""\
do {_TAG}
declare
  taken text := ({taken_names(migrations())});
begin
  if taken is not null then
    raise exception 'There is already %. {TAKEN_REMEDY}', taken;
  end if;
end
{_TAG};
"""


def _guarded(migration: Migration) -> str:
    return f"""\
-- {migration.path.name} of supabase-nightly, under a version of this folder. It does nothing where `make migrate`
-- applied it.
set lock_timeout = '5s';
{OPEN_BOOKS}
do {_TAG}
begin
  if exists (select from public.etl_migrations where version = {literal(migration.version)}) then
    return;
  end if;
  execute {_TAG.replace("nightly", "nightly_file")}
{migration.sql}
{_TAG.replace("nightly", "nightly_file")};
  {entry(migration)}
end
{_TAG};
reset lock_timeout;
"""
