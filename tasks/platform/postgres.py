"""Connections to Postgres: what each is set up with, and the driver's errors as errors of ours."""

from __future__ import annotations

import atexit
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow as pa
from adbc_driver_manager.dbapi import Connection as Connection
from adbc_driver_postgresql import dbapi

from tasks.errors import AccessError, ConfigurationError, RequestRefused, ServiceUnavailable
from tasks.platform.quoting import identifier
from tasks.platform.remedies import OUTAGE
from tasks.retry import STATEMENT_TIMEOUT, classify, masked
from tasks.settings import Settings
from tasks.workspace import disk_problem

# The driver gives no SQLSTATE for a connection that was not made, so libpq's words have to do. "SSL" alone is in the
# words for a connection that broke, too.
_NOT_LET_IN = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|certificate|does not support SSL"
    r"|Tenant or user not found|no password",
    re.I,
)

_WRONG_LOGIN = re.compile(r"authentication failed|no password|Tenant or user not found", re.I)
_ADDRESS = "Copy the session pooler's address from the dashboard (Connect → Session pooler) into SUPABASE_DB_URL."
_CAUSES = (
    (r"could not translate host name", "no name server knows the host of SUPABASE_DB_URL", _ADDRESS),
    (r"Network is unreachable", "its host has an IPv6 address only", _ADDRESS),
    (r"Connection refused", "nothing listens at the host and port of SUPABASE_DB_URL", f"{OUTAGE} {_ADDRESS}"),
    (r"timeout expired|timed out", "it did not answer in time", f"{OUTAGE} Look at the network restrictions, too."),
)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,250}[A-Za-z0-9])?")

_SQLSTATE = re.compile(r"SQLSTATE:? (\w{5})")
_SAID = re.compile(r"(?:ERROR|FATAL|PANIC):\s+([^\n]+)")
_REPEATED = re.compile(r"Failed to execute query '.*': ", re.DOTALL)  # the driver repeats a whole script
TRANSACTION_POOLER = 6543
# By URL, once it is verified: a connection that has ended, and what its driver knows of the database's types. To share
# that makes the next connection ten times as quick, on both sides. A type that is made later is opaque to all of them;
# what we read is of built-in types, or cast to one.
_VERIFIED: dict[str, Connection] = {}
_ROUNDS = 3
_STATEMENT_GONE = "26000"  # prepared in one backend, executed in another
_IDLE_TOO_LONG = "25P03"  # the server ended the session: as good as a connection that broke


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

    session: more settings of Postgres's, name to value. TLS is as the URL says; all else is set by statements, which
    the session pooler passes on too. Raises ServiceUnavailable when nothing answers, AccessError for a wrong password
    or role; never shows the URL.
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
    with suppress(Exception):
        connection.close()


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
        first.close()
        raise
    first.adbc_connection.close()  # the session alone: its types stay
    atexit.register(first.close)
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
    parts = urlsplit(settings.supabase_db_url.get_secret_value())
    wanted = {
        "connect_timeout": str(max(2, round(settings.connect_timeout))),
        "application_name": "supabase-nightly",
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
    }
    # What the URL says stays as it is written: libpq decodes %20, and takes a plus sign for itself.
    said = {item.partition("=")[0] for item in parts.query.split("&")}
    ours = [f"{name}={quote(value)}" for name, value in wanted.items() if name not in said]
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, *ours]))))


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the driver's errors into ours: by SQLSTATE, the primary message only, masked.

    A stream of rows that breaks off is an error of Arrow's, with the driver's words inside.
    """
    try:
        yield
    except (dbapi.Error, pa.ArrowException, OSError) as error:
        if disk_problem(error):  # of ours: rows are written down while they come
            raise
        raise _classified(error) from None


def _classified(error: Exception) -> Exception:
    code, message = sqlstate_of(error), primary_message(error)
    if code and not code.startswith("00") and code != _IDLE_TOO_LONG:
        return classify(0, code, message)
    if _NOT_LET_IN.search(message):
        return _not_let_in(message)
    return _broken_off(error, message)


def _not_let_in(message: str) -> AccessError:
    said = masked(None, message.rpartition(" failed: ")[2])
    if _WRONG_LOGIN.search(message):
        said = f"user or password ({said})"
    return AccessError(
        f"The database refused {said}.",
        remedy="Look at the user, the password and sslmode in SUPABASE_DB_URL (in the dashboard under Connect), and at "
        "ETL_DB_ROLE.",
    )


def _broken_off(error: Exception, message: str) -> ServiceUnavailable:
    """The connection failed, or a stream of rows ended early: those come without SQLSTATE, with the server's words."""
    if _SAID.search(str(error)):
        gone = ServiceUnavailable(f"The database ended the answer early: {masked(None, message)}.")
        gone.code = STATEMENT_TIMEOUT if "canceling statement" in message else "08006"
    else:
        why, remedy = next(((w, r) for p, w, r in _CAUSES if re.search(p, str(error))), (type(error).__name__, OUTAGE))
        gone = ServiceUnavailable(f"The connection to the database failed ({why}).", remedy=remedy)
        gone.code = "08006"
    return gone


def sqlstate_of(error: Exception) -> str:
    """The SQLSTATE that the driver gives, or that its words hold; empty where the server said none."""
    found = _SQLSTATE.search(str(error))
    return str(getattr(error, "sqlstate", None) or (found[1] if found else ""))


def primary_message(error: Exception) -> str:
    """The server's message without its details, which repeat values of rows, and without the query."""
    primary = dict(getattr(error, "details", None) or ()).get("PG_DIAG_MESSAGE_PRIMARY")
    if primary:  # in any language of the server
        return bytes(primary).decode(errors="replace")
    text = _REPEATED.sub("", str(error))
    said = _SAID.search(text)
    return said[1] if said else text.partition("\n")[0]
