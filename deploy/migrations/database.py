"""The owner's connection that migrations go through, and what the database's refusals mean."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from adbc_driver_postgresql import dbapi
from pydantic import SecretStr

from tasks.errors import ConfigurationError, PipelineError, RequestRefused, ServiceUnavailable, WriteError
from tasks.platform.libpq import address
from tasks.platform.postgres import release, require_sessions
from tasks.platform.quoting import literal
from tasks.platform.refusals import primary_message, refusals, sqlstate_of
from tasks.retry import masked
from tasks.settings import Settings

LOCK_TIMEOUT_SECONDS = 5
LOCK_TRIES = 6
OLDEST = 15  # the release of PostgreSQL that brought `security_invoker` views; hosted projects run 15 and 17
_LOCK = 5_826_411_934  # any number; two migrators at once take turns
_WHO_MIGRATES = """\
select pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1
  and database = (select oid from pg_database where datname = current_database())
  and (classid::bigint << 32) | objid::bigint = {}"""
# The files hold texts in UTF-8, with backslashes, and make indexes of large tables, for minutes; what a login or
# a database has set otherwise does not count.
_SESSION = f"""\
set lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; set statement_timeout = 0; set client_encoding = 'UTF8';
set standard_conforming_strings = on"""
_LOCKED = frozenset({"55P03", "40P01"})
_AGAIN = "start again; what is applied is passed over."
# What to do about a refusal, by SQLSTATE; anything else lies in the file or in an object of that name.
_REMEDIES = [
    (r"42501|28\w{3}", "Set SUPABASE_DB_URL to the role that owns the database (on Supabase: postgres)"),
    (r"2BP01", "Something of your own uses what has to change: drop that first, create it again afterwards"),
    (r"55P03|40P01", "Another session holds a lock on the table (see pg_stat_activity): wait until it ends"),
    (r"40\w{3}|53\w{3}|57\w{3}", "The database was busy or going down: wait"),
    (r"P0001", "Do what it says"),
]


class Run(Protocol):
    """Runs SQL on the connection: rows of a query, or nothing for a script. `what` names it in errors."""

    def __call__(self, sql: str, what: str = ...) -> list[tuple[Any, ...]]: ...


def say_nothing(_: str) -> None:
    """Say nothing."""


@contextmanager
def connected(db_url: str, *, say: Callable[[str], None] = say_nothing) -> Iterator[Run]:
    """A connection in which no statement waits for a lock longer than seconds; one migrator at a time.

    say: called with who is waited for.
    Raises ConfigurationError when nothing answers at the URL, which is never shown, or a transaction pooler does.
    """
    try:
        with refusals():
            connection = dbapi.connect(address(db_url), autocommit=True)
    except (RequestRefused, ServiceUnavailable) as error:
        remedy = error.remedy or "Check its host, port, user and password (special characters as %40, %2F …)."
        raise ConfigurationError(f"SUPABASE_DB_URL cannot be reached: {error.message}", remedy=remedy) from None
    try:
        require_sessions(Settings(_env_file=None, supabase_db_url=SecretStr(db_url)))
        run = _Run(connection)
        _take_turns(run, say)
        run(_SESSION, "Setting the session up")
        yield run
    finally:
        release(connection)


def _take_turns(run: Run, say: Callable[[str], None]) -> None:
    """Wait for whoever migrates this database already, however long its files take: a hosted login has two minutes."""
    run("set client_min_messages = warning; set statement_timeout = 0; set lock_timeout = 0", "Setting the session up")
    if run(f"select pg_try_advisory_lock({_LOCK})")[0][0]:
        return
    pids = ", ".join(str(pid) for (pid,) in run(_WHO_MIGRATES.format(_LOCK)))
    say(f"Another migration of this database is running (session {pids}): this one waits until it has ended.")
    run(f"select pg_advisory_lock({_LOCK})", "Waiting for another migrator")


class _Run:
    """Runs SQL on one connection."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = connection

    def __call__(self, sql: str, what: str = "A query of the database") -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            try:
                if not sql.startswith("select"):
                    cursor.executescript(sql)
                    return []
                cursor.execute(sql)
                return list(cursor.fetchall())
            except dbapi.Error as error:
                refused = _refused(error, what)
        with suppress(dbapi.Error), self._connection.cursor() as cursor:
            cursor.executescript("rollback")  # of a script that started a transaction; a further try starts its own
        raise refused


def require_release(run: Run) -> None:
    """Raises ConfigurationError for a server that is older than what the migrations need."""
    release = int(run("select current_setting('server_version_num')::integer / 10000")[0][0])
    if release < OLDEST:
        raise ConfigurationError(
            f"The database runs PostgreSQL {release}; {OLDEST} or newer is needed. Nothing was applied.",
            remedy="Upgrade the project (on Supabase: Project Settings, Infrastructure), then start again.",
        )


def exists(run: Run, relation: str) -> bool:
    """Whether there is a table or view of this name, quoted where it must be."""
    return bool(run(f"select to_regclass({literal(relation)}) is not null")[0][0])


def with_lock_retries(
    run: Run,
    sql: str,
    what: str,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run a transaction, again while a lock is not to be had: between the tries nobody queues behind it.

    At most for a minute in total. say: called before each further try, with what waits and for how long.
    """
    for attempt in range(LOCK_TRIES):
        try:
            run(sql, what)
            return
        except WriteError as error:
            if error.code not in _LOCKED or attempt == LOCK_TRIES - 1:
                raise
            pause = 2.0**attempt
            say(f"{what}: another session holds a lock; try {attempt + 2} of {LOCK_TRIES} in {pause:.0f} s")
            sleep(pause)


def _refused(error: dbapi.Error, what: str) -> PipelineError:
    said, code = primary_message(error), sqlstate_of(error)
    if not code:
        return ServiceUnavailable(f"{what}: the connection broke ({masked(None, said)}).", remedy=f"Wait, and {_AGAIN}")
    if code != "P0001":  # which our own files raise, to name what is in the way
        said = masked(code, said)
    remedy = next((way for codes, way in _REMEDIES if re.fullmatch(codes, code)), "Fix what it names")
    message = f"{what} was refused: {said} (SQLSTATE {code}). Nothing of it was applied."
    refused = WriteError(message, remedy=f"{remedy}, and {_AGAIN}")
    refused.code = code
    return refused
