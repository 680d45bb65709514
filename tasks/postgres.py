"""A Postgres connection that writes: what it is set up with, and its driver's errors as errors of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from tasks.errors import AccessError, PipelineError, ServiceUnavailable
from tasks.retry import classify
from tasks.settings import Settings

# The driver gives no SQLSTATE for a connection that was not made, so libpq's words have to do.
_NOT_LET_IN = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|certificate|Tenant or user not found|no password", re.I
)

_SQLSTATE = re.compile(r"SQLSTATE:? (\w{5})")
_SAID = re.compile(r"(?:ERROR|FATAL|PANIC):\s+([^\n]+)")
_REPEATED = re.compile(r"Failed to execute query '.*': ", re.DOTALL)  # the driver repeats a whole script
_IDLE_TOO_LONG = "25P03"  # the server ended the session: as good as a connection that broke


def connect(settings: Settings, *, autocommit: bool = True) -> dbapi.Connection:
    """A connection in UTC that has become `settings.db_role`, with the statement timeout of the settings.

    Raises ServiceUnavailable when nothing answers, AccessError for a wrong password or role; never shows the URL.
    """
    with refusals():
        connection = dbapi.connect(_url(settings), autocommit=autocommit)
    try:
        with refusals(), connection.cursor() as cursor:
            cursor.executescript(_session(settings))
            connection.commit()
    except PipelineError:
        connection.close()
        raise
    return connection


def _session(settings: Settings) -> str:
    # A holder that is paused inside its transaction must not keep its rows locked past its term.
    role = f'set role "{settings.db_role.replace(chr(34), chr(34) * 2)}";' if settings.db_role else ""
    return f"""
        set timezone = 'UTC'; set client_min_messages = warning;
        set statement_timeout = '{settings.statement_timeout}s';
        set idle_in_transaction_session_timeout = '{settings.lease_seconds}s';
        {role}"""


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
    return urlunsplit(parts._replace(query=urlencode({**wanted, **dict(parse_qsl(parts.query))})))


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the driver's errors into ours: by SQLSTATE, the primary message only, masked.

    A stream of rows that breaks off is an error of Arrow's, with the driver's words inside.
    """
    try:
        yield
    except (dbapi.Error, pa.ArrowException, OSError) as error:
        raise _classified(error) from None


def _classified(error: Exception) -> Exception:
    found = _SQLSTATE.search(str(error))
    code = getattr(error, "sqlstate", None) or (found[1] if found else "")
    message = primary_message(error)
    if code and not code.startswith("00") and code != _IDLE_TOO_LONG:
        return classify(0, code, message)
    if _NOT_LET_IN.search(message):
        return AccessError(
            "The database refused the connection.",
            remedy="Look at the user, the password and sslmode in SUPABASE_DB_URL, and at ETL_DB_ROLE.",
        )
    gone = ServiceUnavailable(f"The connection to the database failed ({type(error).__name__}).")
    gone.code = "08006"
    return gone


def primary_message(error: Exception) -> str:
    """The server's message without its details, which repeat values of rows, and without the query."""
    told = dict(getattr(error, "details", None) or ()).get("PG_DIAG_MESSAGE_PRIMARY")
    if told:  # in any language of the server
        return bytes(told).decode(errors="replace")
    text = _REPEATED.sub("", str(error))
    said = _SAID.search(text)
    return said[1] if said else text.partition("\n")[0]
