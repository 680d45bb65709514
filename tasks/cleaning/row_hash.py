"""`row_hash`: 128 bits over a cleaned row that any database with md5 can recompute.

md5, in lower-case hex, over the columns of the contract in its order but `row_hash` itself and the two columns behind
it (STAMPS), each as text, joined by U+001F; null is U+001E. Ids and integers in decimal or canonical form, instants as
whole µs since the epoch, dates as YYYY-MM-DD, booleans `true` and `false`, floats as the hex of their IEEE 754 bits
(Postgres: `encode(float8send(x), 'hex')`). In Postgres: md5(concat_ws(E'\\x1f', coalesce(id::text, E'\\x1e'), …)). Not
for secrecy: for equality.
"""

from __future__ import annotations

import threading

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import STAMPS, Column, Table

_LOCAL = threading.local()


def row_hashes(frame: pa.RecordBatch, table: Table) -> pa.Array:
    """The hash of each row, in the order of the rows: 32 characters each."""
    columns = [c for c in table.columns if c.name not in STAMPS]
    arrays = {f"c{i}": _hashable(frame[column.name], column) for i, column in enumerate(columns)}
    parts = ", ".join(f"coalesce({_text_of(f'c{i}', c)}, chr(30))" for i, c in enumerate(columns))
    connection = _connection()
    connection.register("frame", pa.table(arrays))
    try:
        # No column name is in the statement: only our own c0, c1 …
        hashes = connection.sql(f"select md5(concat_ws(chr(31), {parts})) as h from frame").to_arrow_table()  # noqa: S608
    finally:
        connection.unregister("frame")
    return hashes["h"].combine_chunks()


def _text_of(name: str, column: Column) -> str:
    return f"printf('%016x', {name})" if column.kind == "float" else f"{name}::varchar"


def _hashable(array: pa.Array, column: Column) -> pa.Array:
    if column.kind == "timestamptz":
        return array.cast(pa.int64())
    if column.kind == "float":
        bits = np.ascontiguousarray(pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)).view(np.uint64)
        return pc.if_else(array.is_valid(), pa.array(bits), pa.scalar(None, pa.uint64()))
    return array


def _connection() -> duckdb.DuckDBPyConnection:
    """One connection per thread, without extensions: nothing is fetched, nothing touches the disk."""
    if not hasattr(_LOCAL, "connection"):
        _LOCAL.connection = duckdb.connect(
            ":memory:",
            config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False},
        )
    connection: duckdb.DuckDBPyConnection = _LOCAL.connection
    return connection
