"""Connections to Postgres by ADBC, set up for reading, with errors of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from adbc_driver_manager import Error, ProgrammingError
from adbc_driver_manager import dbapi as manager
from adbc_driver_postgresql import dbapi

from tasks.errors import AccessError, PipelineError, RequestRefused, ServiceUnavailable
from tasks.retry import classify
from tasks.settings import Settings
from tasks.source.select import quoted

APPLICATION = "supabase-nightly"
Connection = manager.Connection
_REFUSED = re.compile(
    r"password authentication failed|role \".*\" does not exist|database \".*\" does not exist|no pg_hba\.conf entry"
    r"|SSL|certificate|Tenant or user not found|authentication",
)
# The snapshot's holder idles while others read. Ranges are sorted in memory, and are what runs in parallel already;
# compiling their short expressions takes longer than it saves.
_SESSION = """
set application_name = '{application}'; set statement_timeout = '{seconds}s'; set timezone = 'UTC';
set idle_in_transaction_session_timeout = 0; set work_mem = '64MB'; set max_parallel_workers_per_gather = 0;
set jit = off
"""
_SQLSTATE = re.compile(r"SQLSTATE:? (\w{5})")
_SAID = re.compile(r"(?:ERROR|FATAL|PANIC):\s+([^\n]+)")


@contextmanager
def connect(settings: Settings, *, like: Connection | None = None) -> Iterator[Connection]:
    """A connection that reads as the settings' role. Errors inside come out as errors of ours.

    like: another connection, even a broken one, whose knowledge of the database's types is shared: that makes a
    connection ten times as quick. TLS is as the URL says. Everything else is set by statements, which the session
    pooler passes on too.
    """
    with translated():
        connection = _opened(settings) if like is None else _another(like)
        try:
            _set_up(connection, settings)
            yield connection
        finally:
            with suppress(Exception):  # a connection that broke cannot be closed well
                connection.close()


def _opened(settings: Settings) -> Connection:
    connection: Connection = dbapi.connect(settings.supabase_db_url.get_secret_value(), autocommit=True)
    return connection


def _another(connection: Connection) -> Connection:
    clone: Connection = connection.adbc_clone()
    clone.adbc_connection.set_autocommit(True)
    return clone


def _set_up(connection: Connection, settings: Settings) -> None:
    execute(connection, _SESSION.format(application=APPLICATION, seconds=settings.statement_timeout))
    if settings.db_role:
        _take_role(connection, settings.db_role)


def _take_role(connection: Connection, role: str) -> None:
    try:
        with translated():
            execute(connection, f"set role {quoted(role)}")
    except RequestRefused as error:
        raise AccessError(
            f"The login of SUPABASE_DB_URL may not take the role {role} ({error.code}).",
            remedy="Run `make migrate`, which makes the role etl, or name another one in ETL_DB_ROLE.",
        ) from None


def execute(connection: Connection, statement: str) -> None:
    """Run a statement that returns no rows, or several in one round trip."""
    with connection.cursor() as cursor:
        # Not executescript, which commits first: a cloned connection takes itself for one without autocommit.
        cursor.adbc_statement.set_sql_query(statement)
        cursor.adbc_statement.execute_update()


def scalar(connection: Connection, query: str) -> Any:
    """The one value that a query returns."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        return row[0] if row else None


def batches(connection: Connection, query: str, *, nbytes: int) -> Iterator[pa.RecordBatch]:
    """The rows of a query as they come, in batches of about `nbytes` bytes."""
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(nbytes)})
        cursor.execute(query)
        with cursor.fetch_record_batch() as reader:
            yield from reader


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors as errors of ours, without statements, addresses or values."""
    try:
        yield
    except (Error, pa.ArrowException, OSError) as error:
        raise explained(error) from None


def explained(error: Exception) -> PipelineError | Exception:
    """The error of ours for one of the driver, or of a stream of it that broke off."""
    text = str(error)
    said = _SAID.search(text)
    found = _SQLSTATE.search(text)
    code = getattr(error, "sqlstate", None) or (found.group(1) if found else None)
    if code:
        return classify(0, code, said.group(1) if said else "the database refused")
    if _REFUSED.search(text):
        return AccessError(
            f"The database refused the connection ({said.group(1) if said else 'TLS'}).".replace('"', ""),
            remedy="Look at the user, the password, the database and sslmode in SUPABASE_DB_URL, and at ETL_DB_ROLE.",
        )
    if isinstance(error, ProgrammingError):
        return RequestRefused("the driver refused (no code)")
    return ServiceUnavailable(f"The connection to the database failed ({type(error).__name__}).")
