"""Arrow rows to JSON that Postgres reads back without loss, and back again. The only place where that is done.

JSON has one kind of number, and no instants, NaN or infinities, so: integers go as text (a JSON parser on the way may
round beyond 2^53), instants as ISO text with all microseconds, NaN and infinities by the names that Postgres knows.
A null is null: Arrow, unlike pandas, distinguishes it from NaN, so no NaT and no "NaT" can arise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import whole
from tasks.arrow.duckdb import select_column
from tasks.platform.functions import Json
from tasks.platform.quoting import identifier


def to_json(batch: pa.RecordBatch | pa.Table) -> pa.Array:
    """Each row as the text of a JSON object, in the order of the rows. Done in DuckDB: no Python per row."""
    if batch.num_rows == 0:
        return pa.array([], pa.string())
    columns = {f"c{i}": _carried(whole(batch.column(i))) for i in range(batch.num_columns)}
    members = ", ".join(f"{identifier(name)} := {_text(f'c{i}', batch.schema.field(name).type)}"
                        for i, name in enumerate(batch.schema.names))  # fmt: skip
    return select_column(columns, f"to_json(struct_pack({members}))::varchar")


def as_array(texts: pa.Array) -> Json:
    """The rows as one JSON array."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return Json(b"[%b]" % pc.binary_join(whole, ",")[0].as_buffer())


def cut(texts: pa.Array, *, rows: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of batches of at most `rows` rows and `size` bytes; a row that is larger goes alone."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64) + 1)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        fits = int(np.searchsorted(ends, before + size, side="right")) - start
        length = max(1, min(rows, fits))
        yield start, length
        start += length


def _carried(array: pa.Array) -> pa.Array:
    """The column in a form that DuckDB writes without loss."""
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    return _float_text(array) if pa.types.is_floating(array.type) else array


def _text(name: str, kind: pa.DataType) -> str:
    """A column of the frame as an expression that JSON carries: text, truth values and null."""
    if pa.types.is_timestamp(kind):
        return f"({name}::varchar || '+00:00')"
    return name if pa.types.is_boolean(kind) or pa.types.is_string(kind) else f"{name}::varchar"


def _float_text(array: pa.Array) -> pa.Array:
    """Shortest text that reads back as the same float."""
    text = array.cast(pa.string())
    for arrow, postgres in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        text = pc.if_else(pc.equal(text, arrow), postgres, text)
    return text
