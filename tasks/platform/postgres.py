"""Connections to Postgres: what each is set up with, and what is left of it."""

from __future__ import annotations

import atexit
import re
from collections.abc import Mapping
from contextlib import closing, suppress
from urllib.parse import urlsplit

from adbc_driver_manager.dbapi import Connection as Connection
from adbc_driver_postgresql import dbapi

from tasks.errors import AccessError, ConfigurationError, RequestRefused
from tasks.platform.libpq import address
from tasks.platform.quoting import identifier
from tasks.platform.refusals import refusals
from tasks.settings import Settings

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,250}[A-Za-z0-9])?")

TRANSACTION_POOLER = 6543
# By URL, once it is verified: a connection that has ended, and what its driver knows of the database's types. To share
# that makes the next connection ten times as quick, on both sides. A type that is made later is opaque to all of them;
# what we read is of built-in types, or cast to one.
_VERIFIED: dict[str, Connection] = {}
_ROUNDS = 3
_STATEMENT_GONE = "26000"  # prepared in one backend, executed in another


def connecting_to(settings: Settings) -> str:
    """`Connecting to the database at HOST:PORT`, for messages; without the address where the URL is not well formed."""
    parts = urlsplit(settings.supabase_db_url.get_secret_value())
    try:
        host, port = parts.hostname or "", parts.port or 5432
    except ValueError:  # a password with an unescaped `/` or `@` would be shown as host or port
        return "Connecting to the database"
    well_formed = _HOST.fullmatch(host) and parts.netloc.count("@") < 2
    return f"Connecting to the database at {host}:{port}" if well_formed else "Connecting to the database"


def connect(
    settings: Settings,
    *,
    autocommit: bool = True,
    session: Mapping[str, str] | None = None,
) -> Connection:
    """A connection in UTC that has become `settings.db_role`, with the statement timeout of the settings.

    session: more settings of Postgres's, name to value. TLS is as the URL says, or PGSSLMODE; all else is set by
    statements, which the session pooler passes on too. Raises ServiceUnavailable when nothing answers, AccessError for
    a wrong password or role; never shows the URL.
    """
    require_sessions(settings)
    with refusals():
        connection = _another(_VERIFIED[_url(settings)], autocommit)
    try:
        with refusals():
            execute(connection, _session(settings, session or {}))
        if settings.db_role:
            _take_role(connection, settings.db_role)
        if not autocommit:
            connection.commit()
    except BaseException:
        release(connection)
        raise
    return connection


def release(connection: Connection) -> None:
    """Close a connection and leave nothing on the server's side: a pooler may hand it to somebody else."""
    with suppress(Exception):  # with autocommit there is none; without, the driver opens the next one by itself
        connection.adbc_connection.rollback()
        connection.adbc_connection.set_autocommit(True)
    with suppress(Exception):  # a connection that broke cannot be closed well
        execute(connection, "rollback")
        execute(connection, "discard all")
    _close(connection)


def _close(connection: Connection) -> None:
    """Close a connection once; again, when the driver said that it could not.

    Threads that connect and close at once make it lose count of its connections, for good: then it closes one, reports
    `Open connection count underflowed`, and takes it for open (apache/arrow-adbc, issue 4753).
    """
    for _ in range(2):
        with suppress(Exception):
            connection.close()
            return


def require_sessions(settings: Settings) -> None:
    """Verify, once a process and address, that a connection keeps its backend from one statement to the next.

    A pooler in transaction mode lends a backend for a transaction: what `set role` leaves there is the next client's.
    So nothing is set before this. Two connections are open at once: without a session of its own, the second is given
    the backend of the first, or the first is given another one while the second holds its transaction. Raises
    ConfigurationError for the transaction pooler.
    """
    url = _url(settings)
    if urlsplit(url).port == TRANSACTION_POOLER:
        raise _no_sessions(f"SUPABASE_DB_URL names the transaction pooler (port {TRANSACTION_POOLER})")
    if url in _VERIFIED:
        return
    with refusals():
        first = dbapi.connect(url, autocommit=True)
    try:
        if not _keeps_its_backend(first):
            raise _no_sessions("SUPABASE_DB_URL leads to a pooler in transaction mode")
    except BaseException:
        _close(first)
        raise
    first.adbc_connection.close()  # the session alone: its types stay
    atexit.register(_close, first)
    _VERIFIED[url] = first


def _keeps_its_backend(first: Connection) -> bool:
    try:
        return _have_a_backend_each(first)
    except RequestRefused as error:
        if error.code != _STATEMENT_GONE:
            raise
        return False


def _have_a_backend_each(first: Connection) -> bool:
    with refusals(), closing(_another(first, autocommit=True)) as second:
        for _ in range(_ROUNDS):
            mine = _backend(first)
            execute(second, "begin")
            kept = _backend(second) != mine and _backend(first) == mine
            execute(second, "rollback")
            if not kept:
                return False
    return True


def _backend(connection: Connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        row = cursor.fetchone()
    if row and not isinstance(row[0], int):  # the driver looks its types up by names, and finds them quoted
        raise ConfigurationError(
            "The login of SUPABASE_DB_URL has quote_all_identifiers = on, with which the driver knows no type of the "
            "database. Nothing was set, read or written.",
            remedy="Set it off for the login (alter role … set quote_all_identifiers = off), or take it away from the "
            "database (alter database … reset quote_all_identifiers).",
        )
    return int(row[0]) if row else 0


def _no_sessions(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}: statements of one connection do not share a session there. Nothing was set, read or written.",
        remedy="Use the session pooler (port 5432) or the direct address, as the dashboard shows under Connect.",
    )


def _another(connection: Connection, autocommit: bool) -> Connection:
    clone = connection.adbc_clone()
    clone.adbc_connection.set_autocommit(autocommit)
    return clone


def execute(connection: Connection, statement: str) -> None:
    """Run a statement that returns no rows, or several in one round trip."""
    with connection.cursor() as cursor:
        # Not executescript, which commits first: a cloned connection takes itself for one without autocommit.
        cursor.adbc_statement.set_sql_query(statement)
        cursor.adbc_statement.execute_update()


def _session(settings: Settings, more: Mapping[str, str]) -> str:
    # A holder of locks that is paused inside its transaction must not keep them past its term.
    wanted = {
        "timezone": "UTC",
        # What a login or a database may have set otherwise.
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        "row_security": "on",  # off is an error where a policy lets etl read all
        "lock_timeout": "0",  # a run says for what it waits
        "client_min_messages": "warning",
        "statement_timeout": f"{settings.statement_timeout}s",
        "idle_in_transaction_session_timeout": f"{settings.lease_seconds}s",
        # Where a database's default is stricter, a heartbeat beside the load would end it, and a start could not wait.
        "default_transaction_isolation": "read committed",
        **more,
    }
    return "; ".join(f"set {name} = '{value}'" for name, value in wanted.items())


def _take_role(connection: Connection, role: str) -> None:
    try:
        with refusals():
            execute(connection, f"set role {identifier(role)}")
    except RequestRefused as error:
        raise AccessError(
            f"The login of SUPABASE_DB_URL may not take the role {role} ({error.code}).",
            remedy="Run `make migrate`, which makes the role etl, or name another one in ETL_DB_ROLE.",
        ) from None


def _url(settings: Settings) -> str:
    """The URL of the settings, with a timeout for connecting and keepalives where it says nothing of them."""
    return address(
        settings.supabase_db_url.get_secret_value(),
        connect_timeout=str(max(2, round(settings.connect_timeout))),
        application_name="supabase-nightly",
        keepalives_idle="30",
        keepalives_interval="10",
        keepalives_count="3",
    )
