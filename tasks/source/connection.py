"""Connections to Postgres that read: set up for it, with their rows as Arrow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from adbc_driver_manager.dbapi import Connection, Cursor

from tasks.errors import PipelineError, ServiceUnavailable
from tasks.platform import postgres
from tasks.platform.refusals import refusals
from tasks.platform.traffic import count_received
from tasks.settings import Settings

# The snapshot's holder idles while others read; the keepalives let the server notice in two minutes that this side is
# gone. Slices are what runs in parallel already; compiling their short expressions takes longer than it
# saves.
_SESSION = {
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # What fingerprints depend on beside the time zone.
    "datestyle": "ISO",
    "extra_float_digits": "1",
}
CANCELLED = "57014"


@contextmanager
def connect(settings: Settings) -> Iterator[Connection]:
    """A connection that reads as the settings' role. Errors of the driver inside come out as errors of ours."""
    connection = postgres.connect(settings, session=_SESSION)
    try:
        with refusals():
            yield connection
    finally:
        postgres.release(connection)


def scalar(connection: Connection, query: str) -> Any:
    """The one value that a query returns."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        return row[0] if row else None


def batches(connection: Connection, query: str, *, nbytes: int, patience: float) -> Iterator[pa.RecordBatch]:
    """The rows of a query as they come, in batches of about `nbytes` bytes.

    patience: seconds to wait for the first batch and for each further one; then the statement is cancelled, and
    ServiceUnavailable names the cause. What the caller does between two batches does not count.
    """
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(nbytes)})
        wait = _Patience(cursor, patience)
        with wait.limited():
            cursor.execute(query)
            stream = cursor.fetch_record_batch()
        with stream as reader:
            arriving = count_received(reader)
            while True:
                with wait.limited():
                    batch = next(arriving, None)
                if batch is None:
                    return
                yield batch


class _Patience:
    """Cancels what a cursor does when one wait takes too long."""

    def __init__(self, cursor: Cursor, seconds: float) -> None:
        self._cursor, self._seconds = cursor, seconds
        self._ended = threading.Event()  # a cancel may arrive during the next wait only

    @contextmanager
    def limited(self) -> Iterator[None]:
        """One wait. ServiceUnavailable, with the cause, when it was cancelled."""
        timer = threading.Timer(self._seconds, self._cancel)
        timer.daemon = True
        timer.start()
        try:
            with refusals():
                yield
        except PipelineError:
            if self._ended.is_set():
                raise _stalled(self._seconds) from None
            raise
        finally:
            timer.cancel()

    def _cancel(self) -> None:
        self._ended.set()
        self._cursor.adbc_cancel()


def _stalled(seconds: float) -> ServiceUnavailable:
    error = ServiceUnavailable(
        f"The database sent no row for {seconds:.0f} s; the statement was cancelled.",
        remedy="Look for locks on the table and for an overloaded database (pg_stat_activity), or raise "
        "ETL_STATEMENT_TIMEOUT.",
    )
    error.code = CANCELLED
    return error
