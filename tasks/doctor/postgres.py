"""Checks of the direct connection: address, encryption, role."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.doctor.machine import LOCAL_HOSTS
from tasks.errors import PipelineError
from tasks.platform.postgres import connect, release
from tasks.platform.refusals import refusals
from tasks.platform.rights import login_rights
from tasks.settings import Settings


def address_is_right(settings: Settings) -> Iterator[Finding]:
    """The transaction pooler cannot hold a snapshot, and an unverified connection can be read by others."""
    if not settings.supabase_db_url.get_secret_value():
        yield ok("postgres", "SUPABASE_DB_URL is not set: tables are read and written over REST.")
        return
    url = urlsplit(settings.supabase_db_url.get_secret_value())
    mode = parse_qs(url.query).get("sslmode", [os.environ.get("PGSSLMODE", "prefer")])[0]
    if url.hostname not in LOCAL_HOSTS and mode not in ("require", "verify-ca", "verify-full"):
        remedy = (
            "Add ?sslmode=verify-full and the project's CA certificate (sslrootcert=…), or at least sslmode=require."
        )
        yield warn("postgres", "The connection may be unencrypted.", remedy)
    yield from _connects(settings)


def _connects(settings: Settings) -> Iterator[Finding]:
    """By the door that runs take: what it refuses, and why, is what a run would say."""
    try:
        connection = connect(settings)
    except PipelineError as error:
        yield fail("postgres", error.message, error.remedy)
        return
    try:
        with refusals(), connection.cursor() as cursor:
            cursor.execute("select current_user::text, current_setting('server_version')")
            user, version = cursor.fetchone() or ("?", "?")
    finally:
        release(connection)
    yield ok("postgres", f"Connected to PostgreSQL {version} as {user}.")
    if settings.resolved_transport == "postgres":
        yield ok("postgres", str(login_rights(settings)))
