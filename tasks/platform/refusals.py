"""The driver's errors as errors of ours: by SQLSTATE where there is one, else by the words of the server or libpq."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from tasks.errors import AccessError, ConfigurationError, RequestRefused, ServiceUnavailable
from tasks.platform.remedies import OUTAGE, VALUE
from tasks.retry import STATEMENT_TIMEOUT, classify, masked
from tasks.settings.fields import ESCAPED
from tasks.workspace import disk_problem

# The driver gives no SQLSTATE for a connection that was not made, so libpq's words have to do. "SSL" alone is in the
# words for a connection that broke, too.
_WRONG_LOGIN = re.compile(r"authentication failed|no password|user not found in the database", re.I)
# How the hosted pooler says that, now and before; it has not looked at the password then. Sources: lib/supavisor/errors
# of supabase/supavisor, and https://github.com/orgs/supabase/discussions/50190 for the causes.
_UNKNOWN = re.compile(r"tenant(/| or )user .*not found|no tenant identifier|invalid format for user", re.I)
_FROM_HERE = re.compile("not in tenant allow_list")
_NOT_LET_IN = re.compile(
    r"does not exist|no pg_hba\.conf entry|certificate|does not support SSL|SSL connection is required"
    rf"|{_WRONG_LOGIN.pattern}|{_UNKNOWN.pattern}|{_FROM_HERE.pattern}",
    re.I,
)
_ADDRESS = "Copy the session pooler's address from the dashboard (Connect → Session pooler) into SUPABASE_DB_URL."
_UNVERIFIED = re.compile(r"root certificate|certificate verify failed|server certificate|sslrootcert")
_CERTIFICATE = (
    "sslmode=verify-full needs a host that the certificate names, and the project's CA certificate on this machine: "
    "download it from the dashboard (Database → Settings → SSL Configuration) and name it in SUPABASE_DB_URL, as in "
    "sslmode=verify-full&sslrootcert=/etc/supabase-ca.crt. sslmode=require encrypts too, and verifies nothing."
)
# A connection URI that libpq cannot use; its words are not repeated, they may be a part of the password.
_NO_URI = re.compile(r"invalid (percent-encoded token|URI query parameter|port number|(sslmode|integer) value)")
_CAUSES = (
    (
        r"could not translate host name",
        "no name server knows the host of SUPABASE_DB_URL",
        f"{ESCAPED}. {_ADDRESS}",
    ),
    (r"Network is unreachable|Cannot assign requested address", "its host has an IPv6 address only", _ADDRESS),
    (r"Connection refused", "nothing listens at the host and port of SUPABASE_DB_URL", f"{OUTAGE} {_ADDRESS}"),
    (
        r"max client|too many clients|remaining connection slots|unable to check out connection",
        "the database, or its pooler, has no connection left",
        "Other programs hold them. Raise the pool size (Database → Settings → Connection pooling) or lower ETL_RANGES.",
    ),
    (
        r"too many authentication failures",
        "the pooler takes no login for two minutes, after too many with a wrong password",
        "Look for the program that has a wrong password, which may be this one, then start again.",
    ),
    (r"timeout expired|timed out", "it did not answer in time", f"{OUTAGE} Look at the network restrictions, too."),
)
_SQLSTATE = re.compile(r"SQLSTATE:? (\w{5})")
_SAID = re.compile(r"(ERROR|FATAL|PANIC):\s+(.+?)(?=\n[A-Z ]+:\s|\Z)", re.DOTALL)
_REPEATED = re.compile(r"Failed to execute query '.*': ", re.DOTALL)  # the driver repeats a whole script
_IDLE_TOO_LONG = "25P03"  # the server ended the session: as good as a connection that broke
_CONNECTING = "connection to server"  # libpq's own words, whatever the server's are after them
_FROM_AFAR = re.compile(rf"\[libpq\]|{_CONNECTING}|(ERROR|FATAL|PANIC):")
# How the server's own errors begin in the middle of a stream, where they have no SQLSTATE. Others may be of a function,
# in words that hold data.
_PASSING = re.compile(
    r"canceling statement due to (statement timeout|lock timeout|user request|conflict with recovery)|deadlock detected"
    r"|could not (serialize access|resize shared memory|extend file|write to file|read block|open file)"
    r"|out of (shared )?memory"
)
_DENIED = re.compile(
    r"permission denied for (table|view|materialized view|function|schema|sequence)( (etl|clean)_\w+)?"
)
_OWN_WORDS = "a function of the source failed, or the server; its words may hold data, and its log has them"
_KINDS = (
    "(timestamp|date|time|interval|integer|bigint|smallint|numeric|real|double precision|boolean|uuid|json|jsonb|oid)"
)
_OF_A_VALUE = re.compile(
    rf"({_KINDS}|value|date/time field value)( field overflow| out of range( for (type )?{_KINDS})?)"
    rf"|(date/time field )?value(?= \")|invalid input syntax for type {_KINDS}( with time zone)?"
    rf"|invalid input value for enum|invalid byte sequence for encoding|division by zero|cannot cast type {_KINDS}"
    r"|malformed (array|range|record) literal|more than one row returned by a subquery"
)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the driver's errors into ours: by SQLSTATE, the primary message only, masked.

    A stream of rows that breaks off is an error of Arrow's, with the driver's words inside. One without them is of what
    is done here with the rows, and stays what it is.
    """
    try:
        yield
    except (dbapi.Error, pa.ArrowException, OSError) as error:
        if disk_problem(error) or not _of_the_driver(error):  # of ours: rows are handled while they come
            raise
        raise _classified(error) from None


def _of_the_driver(error: Exception) -> bool:
    return isinstance(error, dbapi.Error) or bool(_FROM_AFAR.search(str(error)))


def _classified(error: Exception) -> Exception:
    code, message, text = sqlstate_of(error), primary_message(error), str(error)
    if code and not code.startswith("00") and code != _IDLE_TOO_LONG:
        return classify(0, code, message)
    said = _SAID.search(text)
    if said and said[1] == "ERROR" and _CONNECTING not in text:
        return _ended_early(said[2])
    if _NO_URI.search(message):
        return _no_uri()
    if _NOT_LET_IN.search(message):
        return _not_let_in(message)
    return _broken_off(text, type(error).__name__, said[2] if said else "")


def _no_uri() -> ConfigurationError:
    return ConfigurationError(
        "SUPABASE_DB_URL is no address that PostgreSQL's client can use.",
        remedy="Look at what follows the ? in it: pgbouncer=true and the like are for other clients. "
        f"{ESCAPED}. {_ADDRESS}",
    )


def _not_let_in(message: str) -> AccessError:
    said = masked(None, message.rpartition(" failed: ")[2])
    if _UNVERIFIED.search(message):
        return AccessError(f"The certificate of the database cannot be verified ({said}).", remedy=_CERTIFICATE)
    if _UNKNOWN.search(message):
        remedy = (
            "It goes by the host and the user, not by the password: the user is postgres.<ref>, of another role "
            f"<role>.<ref>, and a region has several hosts. {_ADDRESS} It knows no paused project, either: restore it."
        )
        return AccessError(f"The pooler knows no such project or user ({said}).", remedy=remedy)
    if _FROM_HERE.search(message):
        remedy = "Add this machine's address to the project's network restrictions (Database → Settings)."
        return AccessError("The project takes no connection from this machine's address.", remedy=remedy)
    remedy = "Look at the user, the password and sslmode in SUPABASE_DB_URL (in the dashboard under Connect)"
    if _WRONG_LOGIN.search(message):
        return AccessError(f"The database refused user or password ({said}).", remedy=f"{remedy}. {ESCAPED}.")
    return AccessError(f"The database refused {said}.", remedy=f"{remedy}, and at ETL_DB_ROLE.")


def _ended_early(words: str) -> Exception:
    """An error in a stream of rows. A value that cannot be computed or a missing right stays so; others may pass."""
    if value := _OF_A_VALUE.match(words):
        return RequestRefused(f"The database cannot compute a value of a row: {value[0]}.", remedy=VALUE)
    if denied := _DENIED.match(words):
        return classify(0, "42501", denied[0])
    passing = _PASSING.match(words)
    gone = ServiceUnavailable(f"The database ended the answer early: {passing[0] if passing else _OWN_WORDS}.")
    gone.code = STATEMENT_TIMEOUT if words.startswith("canceling statement") else "08006"
    return gone


def _broken_off(text: str, kind: str, words: str) -> ServiceUnavailable:
    """The connection was not made or has ended. words: what the server said at that, if it said anything."""
    said = masked(None, words) if words else kind
    if words and _CONNECTING not in text:
        gone = ServiceUnavailable(f"The database ended the answer early: {said}.")
    else:
        why, remedy = next(((w, r) for p, w, r in _CAUSES if re.search(p, text)), (said, OUTAGE))
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
    return said[2] if said else text.partition("\n")[0]
