"""Calling our SQL functions, over REST or on a Postgres connection: the same names, arguments and answers.

Every function takes text or jsonb and answers jsonb, and can be sent twice. Errors of class ET become errors of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import httpx
from adbc_driver_postgresql import dbapi

from tasks.errors import (
    AccessError,
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    RequestRefused,
    ServiceUnavailable,
    WriteError,
)
from tasks.platform.http import make_client, not_json
from tasks.platform.postgres import connect, release
from tasks.platform.refusals import refusals
from tasks.platform.traffic import TRAFFIC
from tasks.retry import GiveUp, Retry
from tasks.settings import Settings

_MISSING_FUNCTION = frozenset({"PGRST202", "42883"})
_BROKEN = re.compile(r"08\w{3}|57P0\d")
_ABOUT_A_ROW = re.compile(r"2[1-37]|44|P0")  # SQLSTATEs of cardinality, data, constraints, triggers, views, functions
_IDENTIFIER = re.compile(r"etl_[a-z_]+")


class Json(bytes):
    """What is JSON already, in UTF-8: it goes into a call as it is. Bytes, as decoding much text takes long."""

    __slots__ = ()


class Database(Protocol):
    """Our SQL functions in the project's database."""

    def call(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        """What `function` answers, from JSON. A str goes as text, everything else as jsonb.

        Tried again while the failure is transient, unless `give_up` says no. Raises LeaseHeld, LeaseLost, WriteError
        (with `code`), ConfigurationError for missing migrations, ServiceUnavailable, AccessError or RequestRefused.
        """


class RestDatabase:
    """Over PostgREST's `/rpc`. Not for use by several threads at once."""

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        client = make_client(settings, transport=transport)
        self._http = client.postgrest.session
        self._url = f"{settings.supabase_url.rstrip('/')}/rest/v1/rpc/"
        self._headers = {**dict(client.postgrest.headers), "content-type": "application/json"}
        self._retry = Retry.of(settings)

    def call(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        body = _object(arguments)
        with translated(function, arguments.get("p_table", "")):
            return self._retry.call(lambda: self._post(function, body), _calling(function), give_up=give_up)

    def _post(self, function: str, body: bytes) -> Any:
        response = self._http.post(self._url + function, content=body, headers=self._headers)
        try:
            return response.json() if response.content else None
        except ValueError:
            raise not_json(response) from None

    def close(self) -> None:
        self._http.close()


class PostgresDatabase:
    """On a Postgres connection that is made again when it breaks. Not for use by several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._retry = Retry.of(settings)
        self._connection: dbapi.Connection | None = None

    def call(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        with translated(function, arguments.get("p_table", "")):
            return self._retry.call(lambda: self._ask(function, arguments), _calling(function), give_up=give_up)

    def _ask(self, function: str, arguments: dict[str, Any]) -> Any:
        self._connection = self._connection or connect(self._settings)
        try:
            return ask(self._connection, function, arguments)
        except (ServiceUnavailable, RequestRefused) as error:
            if _BROKEN.fullmatch(error.code or "08000"):
                self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None  # never twice: the driver would count it twice
        if connection is not None:
            release(connection)


class Transaction:
    """Our SQL functions inside one transaction of a connection: nothing is tried again in here."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self.connection = connection

    def call(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        with translated(function, arguments.get("p_table", "")):
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
    parameters = [_parameter(value) for value in arguments.values()]
    TRAFFIC.add(sent=sum(map(len, parameters)))
    with refusals(), connection.cursor() as cursor:
        cursor.execute(statement, [parameter.decode() for parameter in parameters])
        row = cursor.fetchone()
    answer = row[0] if row and row[0] is not None else "null"
    TRAFFIC.add(received=len(answer))
    return json.loads(answer)


@contextmanager
def translated(function: str, table: str = "") -> Iterator[None]:
    """Errors that mean something to a run, by the SQLSTATEs that the migrations declare. table: that is worked on."""
    try:
        yield
    except RequestRefused as error:
        raise _meaning(function, table, error) from None


_WAIT = (
    "Start again when it has ended, or let runs wait for it with ETL_WAIT_FOR_LEASE. If its process is gone, its lease "
    "ends by itself after ETL_LEASE_SECONDS."
)


def _meaning(function: str, table: str, error: RequestRefused) -> Exception:
    said = _said(error)
    if error.code == "ET001":
        return LeaseHeld(f"Another run holds the lease: {said}.", remedy=_WAIT)
    if error.code == "ET002":
        return LeaseLost(
            f"Another run took over: {said}. This one writes no more.", remedy="Nothing: the other run does the work."
        )
    if error.code == "ET003":
        return too_many_refused(said)
    if error.code in _MISSING_FUNCTION:
        return ConfigurationError(
            f"The database has no function {function}: the migrations are not applied.",
            remedy="Run `make migrate`, or `supabase db push`.",
        )
    if isinstance(error, AccessError) or not re.fullmatch(r"[0-9A-Z]{5}", error.code or ""):
        return error
    if _ABOUT_A_ROW.match(error.code or ""):
        said = "a constraint, a type or a trigger refused a row"  # in its own words, which may hold data
    what = f"{function} of {table}" if table else function
    refused = WriteError(f"{what} was refused: {said} ({error.code}).", remedy=error.remedy)
    refused.code = error.code
    return refused


def too_many_refused(what: str) -> WriteError:
    """More rows than `max_refused_share` allows."""
    return WriteError(
        f"{what[0].upper()}{what[1:]}. The run is not committed.",
        remedy="See to the constraints and triggers of the cleaned table, or raise ETL_MAX_REFUSED_SHARE.",
    )


def _said(error: RequestRefused) -> str:
    """The server's words alone, without the name of the function and the codes around them."""
    text = error.message.removesuffix(".")
    return re.sub(r"^(Calling )?\w+: | \([^()]*\)$", "", text)


def _calling(function: str) -> str:
    """What is done, for messages."""
    return f"Calling {_name(function)}"


def _name(function: str) -> str:
    if not _IDENTIFIER.fullmatch(function):
        raise ValueError("not a function of ours")
    return function


def _parameter(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else _json(value)


def _cast(value: Any) -> str:
    return "::text" if isinstance(value, str) else "::jsonb"


def _object(arguments: Mapping[str, Any]) -> bytes:
    """A JSON object of the arguments, with what is JSON already put in as it is."""
    return b"{" + b",".join(_json(name) + b":" + _json(value) for name, value in arguments.items()) + b"}"


def _json(value: Any) -> bytes:
    return value if isinstance(value, Json) else json.dumps(value).encode()
