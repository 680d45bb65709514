"""Connections to Postgres that read: set up for it, with their rows as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from adbc_driver_manager.dbapi import Connection

from tasks.platform import postgres
from tasks.platform.postgres import refusals
from tasks.settings import Settings

# The snapshot's holder idles while others read. Ranges are sorted in memory, and are what runs in parallel already;
# compiling their short expressions takes longer than it saves.
_SESSION = {
    "idle_in_transaction_session_timeout": "0",
    "work_mem": "64MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}


@contextmanager
def connect(settings: Settings, *, like: Connection | None = None) -> Iterator[Connection]:
    """A connection that reads as the settings' role. Errors of the driver inside come out as errors of ours.

    like: another connection, even a broken one, whose knowledge of the database's types is shared.
    """
    connection = postgres.connect(settings, like=like, session=_SESSION)
    try:
        with refusals():
            yield connection
    finally:
        with suppress(Exception):  # a connection that broke cannot be closed well
            connection.close()


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
