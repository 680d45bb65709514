"""Checks of the direct connection: address, encryption, role."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from adbc_driver_postgresql import dbapi

from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.doctor.machine import LOCAL_HOSTS
from tasks.settings import Settings

POOLER_PORT = 6543


def address_is_right(settings: Settings) -> Iterator[Finding]:
    """The transaction pooler cannot hold a snapshot, and an unverified connection can be read by others."""
    if not settings.supabase_db_url.get_secret_value():
        yield ok("postgres", "SUPABASE_DB_URL is not set: tables are read and written over REST.")
        return
    url = urlsplit(settings.supabase_db_url.get_secret_value())
    if url.port == POOLER_PORT:
        mend = "Use the session pooler (port 5432) or the direct address."
        yield fail("postgres", "SUPABASE_DB_URL names the transaction pooler, port 6543.", mend)
    mode = parse_qs(url.query).get("sslmode", ["prefer"])[0]
    if url.hostname not in LOCAL_HOSTS and mode not in ("require", "verify-ca", "verify-full"):
        mend = "Add ?sslmode=verify-full and the project's CA certificate (sslrootcert=…), or at least sslmode=require."
        yield warn("postgres", "The connection may be unencrypted.", mend)
    yield from _connects(settings)


def _connects(settings: Settings) -> Iterator[Finding]:
    try:
        connection = dbapi.connect(settings.supabase_db_url.get_secret_value())
    except dbapi.Error as error:
        yield fail("postgres", *_why_not(str(error)))
        return
    with connection, connection.cursor() as cursor:
        yield from _role(cursor, settings)


def _role(cursor: dbapi.Cursor, settings: Settings) -> Iterator[Finding]:
    role = settings.db_role
    try:
        if role:
            cursor.execute(f'set role "{role.replace(chr(34), "")}"')
        cursor.execute("select current_user::text, current_setting('server_version')")
        user, version = cursor.fetchone() or ("?", "?")
    except dbapi.Error:
        mend = "Run `make migrate`: it makes the role and grants it to the login role."
        yield fail("postgres", f"The role {role} cannot be taken.", mend)
        return
    yield ok("postgres", f"Connected to PostgreSQL {version} as {user}.")


def _why_not(text: str) -> tuple[str, str]:
    """What a driver's message means; the message itself may hold the address with its user."""
    if "password authentication failed" in text or "no password supplied" in text:
        return (
            "The database refused user or password.",
            "Reset it in Project settings → Database.",
        )
    if "could not translate host name" in text:
        return "The host of SUPABASE_DB_URL is unknown.", "Copy the address of the session pooler anew."
    if "Network is unreachable" in text:
        return "The host has an IPv6 address only.", "Use the session pooler's address, port 5432."
    if "certificate" in text or "SSL" in text:
        return "The encryption failed.", "Give the project's CA certificate: sslrootcert=… in SUPABASE_DB_URL."
    return "No connection to the database.", "Check host and port of SUPABASE_DB_URL, and the network restrictions."
