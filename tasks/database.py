"""Calling our SQL functions, over REST or on a Postgres connection: the same names, arguments and answers.

Every function takes text or jsonb and answers jsonb, and can be sent twice. Errors of class ET become errors of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from adbc_driver_postgresql import dbapi

from tasks.client import TRAFFIC, make_client
from tasks.errors import (
    AccessError,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    PipelineError,
    RequestRefused,
    ServiceUnavailable,
    WriteError,
)
from tasks.retry import Retry, classify, masked
from tasks.settings import Settings

_MISSING_FUNCTION = frozenset({"PGRST202", "42883"})
_BROKEN = re.compile(r"08\w{3}|57P0\d")
_IDENTIFIER = re.compile(r"etl_[a-z_]+")


class Json(str):
    """Text that is JSON already: it goes into a call as it is."""

    __slots__ = ()


class Database(Protocol):
    """Our SQL functions in the project's database."""

    def call(self, function: str, *, give_up: Callable[[Exception], bool] | None = None, **arguments: Any) -> Any:
        """What `function` answers, from JSON. A str goes as text, everything else as jsonb.

        Tried again while the failure is transient, unless `give_up` says no. Raises LeaseHeld, LeaseLost, WriteError
        (with `code`), ConfigurationError for missing migrations, ServiceUnavailable, AccessError or RequestRefused.
        """


class RestDatabase:
    """Over PostgREST's `/rpc`. Not for use by several threads at once."""

    def __init__(self, settings: Settings) -> None:
        client = make_client(settings)
        self._http = client.postgrest.session
        self._url = f"{settings.supabase_url.rstrip('/')}/rest/v1/rpc/"
        self._headers = {**dict(client.postgrest.headers), "content-type": "application/json"}
        self._retry = Retry.of(settings)

    def call(self, function: str, *, give_up: Callable[[Exception], bool] | None = None, **arguments: Any) -> Any:
        body = _object(arguments).encode()
        with translated(function):
            return self._retry.call(lambda: self._post(function, body), _name(function), give_up=give_up)

    def _post(self, function: str, body: bytes) -> Any:
        response = self._http.post(self._url + function, content=body, headers=self._headers)
        TRAFFIC.add(received=len(response.content))
        try:
            return response.json() if response.content else None
        except ValueError:
            raise ServiceUnavailable("The answer broke off.") from None

    def close(self) -> None:
        self._http.close()


class PostgresDatabase:
    """On a Postgres connection that is made again when it breaks. Not for use by several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._retry = Retry.of(settings)
        self._connection: dbapi.Connection | None = None

    def call(self, function: str, *, give_up: Callable[[Exception], bool] | None = None, **arguments: Any) -> Any:
        with translated(function):
            return self._retry.call(lambda: self._ask(function, arguments), _name(function), give_up=give_up)

    def _ask(self, function: str, arguments: dict[str, Any]) -> Any:
        self._connection = self._connection or connect(self._settings)
        try:
            return ask(self._connection, function, arguments)
        except (ServiceUnavailable, RequestRefused) as error:
            if _BROKEN.fullmatch(error.code or "08000"):
                self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            with suppress(dbapi.Error):
                self._connection.close()
            self._connection = None


class Transaction:
    """Our SQL functions inside one transaction of a connection: nothing is tried again in here."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self.connection = connection

    def call(self, function: str, *, give_up: Callable[[Exception], bool] | None = None, **arguments: Any) -> Any:
        with translated(function):
            return ask(self.connection, function, arguments)


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database over the transport of the settings."""
    kind = PostgresDatabase if settings.resolved_transport == "postgres" else RestDatabase
    database = kind(settings)
    try:
        yield database
    finally:
        database.close()


def ask(connection: dbapi.Connection, function: str, arguments: Mapping[str, Any]) -> Any:
    """Call a function on a connection; the answer from JSON. Errors of ours, by SQLSTATE."""
    casts = [f"{name} => ${i}{_cast(value)}" for i, (name, value) in enumerate(arguments.items(), 1)]
    statement = f"select public.{_name(function)}({', '.join(casts)})::text"
    with refusals(), connection.cursor() as cursor:
        cursor.execute(statement, [_parameter(value) for value in arguments.values()])
        answer = cursor.fetchone()
    return json.loads(answer[0]) if answer and answer[0] is not None else None


def connect(settings: Settings, *, autocommit: bool = True) -> dbapi.Connection:
    """A Postgres connection in UTC that has become `settings.db_role`, with the statement timeout of the settings.

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
    """Turn the driver's errors into ours: by SQLSTATE, the primary message only, masked."""
    try:
        yield
    except dbapi.Error as error:
        raise _classified(error) from None


def _classified(error: dbapi.Error) -> Exception:
    code, message = error.sqlstate or None, primary_message(error)
    lost = code is None or code.startswith("00")
    if lost and re.search(r"connect|server closed|timeout|terminat|SSL|EOF|could not (send|receive)", message, re.I):
        gone = ServiceUnavailable("The connection to Postgres failed or broke off.")
        gone.code = "08006"
        return gone
    return classify(0, code, message)


def primary_message(error: dbapi.Error) -> str:
    """The server's message without its details, which repeat values of rows."""
    details = dict(error.details or ())
    primary = details.get("PG_DIAG_MESSAGE_PRIMARY") or details.get(b"PG_DIAG_MESSAGE_PRIMARY")
    if isinstance(primary, bytes):
        return primary.decode(errors="replace")
    return str(primary) if primary else str(error).splitlines()[0]


@contextmanager
def translated(function: str) -> Iterator[None]:
    """Errors that mean something to a run, by the SQLSTATEs that the migrations declare."""
    try:
        yield
    except RequestRefused as error:
        raise _meaning(function, error) from None


def _meaning(function: str, error: RequestRefused) -> Exception:
    said = _said(error)
    if error.code == "ET001":
        return LeaseHeld(f"Another run is at work: {said}.", remedy="Wait for it; a dead one is replaced in its term.")
    if error.code == "ET002":
        return LeaseLost(f"Another run took over: {said}. This one writes no more.")
    if error.code in _MISSING_FUNCTION:
        return ConfigurationError(f"The database has no function {function}.", remedy="Run `make migrate`.")
    if isinstance(error, AccessError) or not re.fullmatch(r"[0-9A-Z]{5}", error.code or ""):
        return error
    refused = WriteError(f"{function} was refused: {said} ({error.code}).")
    refused.code = error.code
    return refused


def _said(error: RequestRefused) -> str:
    """The server's words alone, without the name of the function and the codes around them."""
    text = error.message.removesuffix(".")
    return re.sub(r"^\w+: | \(HTTP .*\)$", "", text)


def masked_refusal(code: str, message: str) -> str:
    """What the database said of a row that it refused, without anything of the row."""
    return masked(code, message)


def _name(function: str) -> str:
    if not _IDENTIFIER.fullmatch(function):
        raise ValueError("not a function of ours")
    return function


def _parameter(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def _cast(value: Any) -> str:
    return "::text" if isinstance(value, str) and not isinstance(value, Json) else "::jsonb"


def _object(arguments: Mapping[str, Any]) -> str:
    """A JSON object of the arguments, with what is JSON already put in as it is."""
    pairs = (
        f"{json.dumps(name)}:{value if isinstance(value, Json) else json.dumps(value)}"
        for name, value in arguments.items()
    )
    return "{" + ",".join(pairs) + "}"
