"""The database's shape: what the contracts ask for as SQL, applied in order, with a way back.

`python -m scripts.migrations [up|render|rollback]`; `up` and `rollback` use SUPABASE_DB_URL. The files under
`supabase/migrations/` are plain SQL that the Supabase CLI can push as well; both keep one list of applied versions.
"""

# ruff: noqa: S608 - names and texts come from our own files, quoted

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbc_driver_postgresql import dbapi

from scripts.migration_sql import quoted, render_sources, render_tables, text
from tasks.contracts import TABLES
from tasks.errors import ConfigurationError, PipelineError, ServiceUnavailable, WriteError
from tasks.platform.postgres import primary_message
from tasks.retry import masked
from tasks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent / "supabase"
MIGRATIONS = ROOT / "migrations"
TABLES_FILE = MIGRATIONS / "20261122000200_tables.sql"
_LOCK = 5_826_411_934  # any number; two migrators at once take turns

# As the Supabase CLI makes it, and beside it what each file held when it was applied: a contract may change later.
_BOOKS = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
create table if not exists supabase_migrations.etl_applied (
  version text primary key, sha256 text not null, applied_at timestamptz not null default now()
);
"""


_AGAIN = "start again; what is applied is passed over."
# What to do about a refusal, by SQLSTATE; anything else lies in the file or in what stands in its way.
_REMEDIES = [
    (r"42501|28\w{3}", "Set SUPABASE_DB_URL to the role that owns the database (on Supabase: postgres)"),
    (r"2BP01", "Something of your own uses what has to change: drop that first and make it anew afterwards"),
    (r"40\w{3}|53\w{3}|55P03|57\w{3}", "The database was busy or going down: wait"),
    (r"P0001", "Do what it says"),
]


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `<version>_<name>.sql`."""

    path: Path

    @property
    def version(self) -> str:
        return self.path.name.partition("_")[0]

    @property
    def name(self) -> str:
        return self.path.stem.partition("_")[2]

    @property
    def sql(self) -> str:
        return self.path.read_text()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def migrations() -> list[Migration]:
    """All of them, in order."""
    return [Migration(path) for path in sorted(MIGRATIONS.glob("*.sql"))]


def render() -> bool:
    """Write the migration that the contracts ask for. True when it changed."""
    wanted = render_tables()
    if TABLES_FILE.exists() and TABLES_FILE.read_text() == wanted:
        return False
    TABLES_FILE.write_text(wanted)
    return True


def migrate(db_url: str) -> list[str]:
    """Apply every file that is new or changed, each in one transaction; returns their names.

    Raises WriteError with the file's name, the server's message and its SQLSTATE when the database refuses one: that
    file then left nothing behind. Raises ServiceUnavailable when the connection breaks meanwhile.
    """
    render()
    with _connect(db_url) as run:
        run(_BOOKS, "The list of applied migrations")
        applied = dict(run("select version, sha256 from supabase_migrations.etl_applied"))
        todo = [m for m in migrations() if applied.get(m.version) != m.sha256 or _sources_closed(m, run)]
        for migration in todo:
            _apply(migration, run)
        if todo:
            run("notify pgrst, 'reload schema'")
    return [migration.path.stem for migration in todo]


def create_source_tables(db_url: str) -> None:
    """The user's own tables, for the embedded stack, which has no user: as the contracts describe them."""
    with _connect(db_url) as run:
        run(render_sources(), "Making the source tables")


def rollback(db_url: str) -> None:
    """Take back everything that `migrate` made, but the bucket and its files."""
    with _connect(db_url) as run:
        run(f"begin;\n{(ROOT / 'rollback.sql').read_text()}\ncommit;", "rollback.sql")


def _apply(migration: Migration, run: _Run) -> None:
    version, name = text(migration.version), text(migration.name)
    run(
        f"""begin;
{migration.sql}
insert into supabase_migrations.schema_migrations (version, name, statements)
values ({version}, {name}, array[{text(migration.sql)}])
on conflict (version) do update set name = excluded.name, statements = excluded.statements;
insert into supabase_migrations.etl_applied (version, sha256) values ({version}, {text(migration.sha256)})
on conflict (version) do update set sha256 = excluded.sha256, applied_at = now();
commit;""",
        migration.path.name,
    )


def _sources_closed(migration: Migration, run: _Run) -> bool:
    """Whether a source table appeared after its grants were given out."""
    if migration.path != TABLES_FILE:
        return False
    names = ", ".join(text(quoted(t.source_schema, t.source)) for t in TABLES)
    sources = f"unnest(array[{names}]) name where to_regclass(name) is not null"
    closed = run(f"select count(*) from {sources} and not has_table_privilege('etl', to_regclass(name), 'select')")
    return bool(closed[0][0])


class _Run:
    """Runs SQL on one connection: rows of a query, or nothing for a script."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = connection

    def __call__(self, sql: str, what: str = "A look at the database") -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            try:
                if not sql.startswith("select"):
                    cursor.executescript(sql)
                    return []
                cursor.execute(sql)
                return list(cursor.fetchall())
            except dbapi.Error as error:
                raise _refused(error, what) from None


def _refused(error: dbapi.Error, what: str) -> PipelineError:
    said, code = primary_message(error), error.sqlstate
    if not code:
        return ServiceUnavailable(f"{what}: the connection broke ({masked(None, said)}).", remedy=f"Wait, and {_AGAIN}")
    if code != "P0001":  # which our own files raise, to name what stands in the way
        said = masked(code, said)
    remedy = next((way for codes, way in _REMEDIES if re.fullmatch(codes, code)), "Mend what it names")
    message = f"{what} was refused: {said} (SQLSTATE {code}). Nothing of it was applied."
    refused = WriteError(message, remedy=f"{remedy}, and {_AGAIN}")
    refused.code = code
    return refused


@contextmanager
def _connect(db_url: str) -> Iterator[_Run]:
    try:
        connection = dbapi.connect(db_url, autocommit=True)
    except dbapi.Error as error:
        # Masked: a password with an unescaped `@` or `/` is taken for a host, and would be told as one.
        said = masked(None, primary_message(error)).removeprefix("IO: [libpq] Failed to connect: ")
        raise ConfigurationError(
            f"SUPABASE_DB_URL cannot be reached: {said}.",
            remedy="Look at its host, port, user and password (special characters as %40, %2F …).",
        ) from None
    try:
        run = _Run(connection)
        run(f"set client_min_messages = warning; select pg_advisory_lock({_LOCK})")
        yield run
    finally:
        connection.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """`up` applies, `render` writes the generated migration, `rollback` takes back: 0 done, 1 failed, 2 no URL."""
    parser = argparse.ArgumentParser(prog="python -m scripts.migrations", description=__doc__)
    parser.add_argument("action", nargs="?", default="up", choices=["up", "render", "rollback"])
    action = parser.parse_args(arguments).action
    if action == "render":
        print(f"{TABLES_FILE.name}: {'written' if render() else 'as the contracts ask'}")
        return 0
    db_url = Settings().supabase_db_url.get_secret_value()
    if not db_url:
        print("SUPABASE_DB_URL is not set: the URL of the database's owner.", file=sys.stderr)
        return 2
    try:
        _carry_out(action, db_url)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _carry_out(action: str, db_url: str) -> None:
    if action == "up":
        print("\n".join(f"applied {name}" for name in migrate(db_url)) or "nothing to apply")
    else:
        rollback(db_url)
        print("taken back")


if __name__ == "__main__":
    sys.exit(main())
