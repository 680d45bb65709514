"""`row_hash`: 128 bits over a cleaned row that any database with md5 can recompute.

md5, in lower-case hex, over the columns of the contract in its order but `row_hash` itself and the two columns behind
it (STAMPS), each as text, joined by U+001F; null is U+001E. Ids and integers in decimal or canonical form, instants as
whole µs since the epoch, dates as YYYY-MM-DD, booleans `true` and `false`, floats as the hex of their IEEE 754 bits
(Postgres: `encode(float8send(x), 'hex')`). In Postgres: md5(concat_ws(E'\\x1f', coalesce(id::text, E'\\x1e'), …)). Not
for secrecy: for equality.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.duckdb import select_column
from tasks.contracts import STAMPS, Column, Table


def row_hashes(frame: pa.RecordBatch, table: Table) -> pa.Array:
    """The hash of each row, in the order of the rows: 32 characters each."""
    columns = [c for c in table.columns if c.name not in STAMPS]
    arrays = {f"c{i}": _hashable(frame[column.name], column) for i, column in enumerate(columns)}
    parts = ", ".join(f"coalesce({_text_of(f'c{i}', c)}, chr(30))" for i, c in enumerate(columns))
    return select_column(arrays, f"md5(concat_ws(chr(31), {parts}))")


def _text_of(name: str, column: Column) -> str:
    return f"printf('%016x', {name})" if column.kind == "float" else f"{name}::varchar"


def _hashable(array: pa.Array, column: Column) -> pa.Array:
    if column.kind == "timestamptz":
        return array.cast(pa.int64())
    if column.kind == "float":
        bits = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False).view(np.uint64)
        return pc.if_else(array.is_valid(), pa.array(bits), pa.scalar(None, pa.uint64()))
    return array
