"""What is asked of arrays, tables or batches at every stage: which values differ, what is left."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def differs(before: pa.Array | pa.ChunkedArray, after: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Per row, whether the two differ; null equals null only."""
    unequal = pc.fill_null(pc.not_equal(before, after), False)
    if not before.null_count and not after.null_count:
        return unequal
    return pc.or_(unequal, pc.xor(before.is_null(), after.is_null()))


def without(keys: pa.Array, others: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The keys that are not among the others."""
    return keys.filter(pc.invert(pc.is_in(keys, value_set=others)))


def rows_without(rows: pa.Table, column: str, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows whose value in a column is not among the keys."""
    return rows.filter(pc.invert(pc.is_in(rows[column], value_set=keys)))


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array; a single chunk is not copied."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
