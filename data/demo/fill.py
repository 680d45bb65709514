"""Write the demo into the source tables of users and posts with COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as postgres
import pyarrow as pa

from data.demo import times
from data.demo.people import DAYS_BACK, make_people
from data.demo.plan import DemoCounts, expected_counts
from data.demo.posts import make_posts
from data.demo.sources import SOURCES, as_declared, full_name, unfit
from tasks.contracts import Table
from tasks.errors import ConfigurationError, ServiceUnavailable, WriteError
from tasks.platform.libpq import address

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

USERS, POSTS, SEED = 20_000, 200_000, 20_260_101
Progress = Callable[[int, int | None], None]


def load(
    db_url: str,
    users: int = USERS,
    posts: int = POSTS,
    seed: int = SEED,
    *,
    until: datetime | None = None,
    days: int = DAYS_BACK,
    progress: Progress = lambda done, total: None,
) -> DemoCounts:
    """Fill the empty tables in one transaction; the same arguments give the same rows, ids too.

    until: where the demo's time ends (aware; a few rows lie up to 13 hours later); by default today 00:00 UTC, so that
    the demo looks alive. days: how long before that the first user signs up. progress: called with rows done and rows
    in all.
    Returns what a run must find, where the contracts are those of the repository. Raises ConfigurationError when the
    tables are missing or hold rows, or the demo does not fit the contracts, WriteError when the database refuses,
    ServiceUnavailable when it does not answer, ValueError for fewer than 200 rows in a table.
    """
    expected = expected_counts(users, posts)
    if reason := unfit():
        raise ConfigurationError(f"{reason} Nothing was written.", remedy="Fill the tables with rows of your own.")
    chunks = as_declared(make_tables(users, posts, seed, until=until, days=days))
    try:
        with postgres.connect(address(db_url)) as connection:
            _require_empty(connection)
            _copy(connection, chunks, users + posts, progress)
            connection.commit()
    except adbc_driver_manager.Error as error:
        raise _named(error) from None  # the driver's own words may hold values of a row
    return expected


def make_tables(
    users: int = USERS, posts: int = POSTS, seed: int = SEED, *, until: datetime | None = None, days: int = DAYS_BACK
) -> Iterable[tuple[str, pa.Table]]:
    """Table name and rows, users first, in the form that COPY takes.

    Ids are 16 bytes, instants int64 microseconds since 2000-01-01 with PostgreSQL's infinities (see data.demo.times).
    """
    expected_counts(users, posts)
    end = times.instant(until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
    if not users:
        return
    people = make_people(users, seed=seed, since=end - days * times.DAY, until=end)
    yield "users", people.table
    for chunk in make_posts(posts, people, seed=seed, until=end):
        yield "posts", chunk


def _require_empty(connection: Connection) -> None:
    with connection.cursor() as cursor:
        for table in SOURCES.values():
            cursor.execute(f"select exists (select from {full_name(table)})")  # noqa: S608
            if cursor.fetchone() != (False,):
                raise ConfigurationError(
                    f"{table.at_source} holds rows, and the demo data only goes into empty tables; "
                    "nothing was written.",
                    remedy="Use a new database, or `python -m local_stack reset`.",
                )


def _copy(connection: Connection, chunks: Iterable[tuple[Table, pa.Table]], total: int, progress: Progress) -> None:
    """One COPY a chunk, in PostgreSQL's binary format: the bytes of an int64 are those of a timestamptz, and 16 bytes
    are a uuid, which is how infinities get in."""
    done = 0
    with connection.cursor() as cursor:
        for table, rows in chunks:
            cursor.adbc_ingest(table.source, rows, mode="append", db_schema_name=table.source_schema)
            done += rows.num_rows
            progress(done, total)
        cursor.execute(f"analyze {', '.join(full_name(table) for table in SOURCES.values())}")


def _named(error: adbc_driver_manager.Error) -> Exception:
    lacks_column = not error.sqlstate and isinstance(error, adbc_driver_manager.ProgrammingError)  # the driver looks
    if lacks_column or error.sqlstate in ("42P01", "42703"):
        tables = " and ".join(table.at_source for table in SOURCES.values())
        return ConfigurationError(
            f"The tables {tables}, or columns of theirs, are missing; nothing was written.",
            remedy="The embedded stack makes them: `python -m local_stack up`.",
        )
    if not error.sqlstate or error.sqlstate.startswith(("08", "57")):
        return ServiceUnavailable("The database did not answer; nothing was written.")
    refused = WriteError(f"The database refused the demo data (SQLSTATE {error.sqlstate}); nothing was written.")
    refused.code = error.sqlstate
    return refused
