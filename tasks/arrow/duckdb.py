"""DuckDB in memory over Arrow, without extensions: nothing is fetched, nothing reaches the disk unless asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

_LOCAL = threading.local()
_CONFIG: dict[str, Any] = {
    "threads": "1",  # as quick as several on batches that come one at a time, and the rows stay in order
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


@contextmanager
def open_duckdb(*, memory: str | None = None, spill_to: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own. memory: the limit, such as `256MB`; beyond it DuckDB writes to the folder `spill_to`."""
    wanted = {"memory_limit": memory, "temp_directory": spill_to}
    config: dict[str, Any] = {**_CONFIG, **{name: str(value) for name, value in wanted.items() if value is not None}}
    with duckdb.connect(":memory:", config=config) as connection:
        yield connection


@contextmanager
def small_duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for what fits into memory: to the database that the thread has, as a new one takes 20 ms."""
    with _connection_of_thread().cursor() as connection:
        yield connection


def select_column(columns: Mapping[str, pa.Array], expression: str) -> pa.Array:
    """The value of an SQL expression for each row, in the order of the rows.

    columns: by the names that the expression uses; these are the caller's own, so nothing in them needs quotes.
    """
    connection = _connection_of_thread()
    connection.register("frame", pa.table(dict(columns)))
    try:
        rows = connection.sql(f"select {expression} as value from frame").to_arrow_table()  # noqa: S608 - our own names
    finally:
        connection.unregister("frame")
    return rows["value"].combine_chunks()


def _connection_of_thread() -> duckdb.DuckDBPyConnection:
    """One per thread, as a new connection takes longer than a batch."""
    if not hasattr(_LOCAL, "connection"):
        _LOCAL.connection = duckdb.connect(":memory:", config=_CONFIG)
    connection: duckdb.DuckDBPyConnection = _LOCAL.connection
    return connection
