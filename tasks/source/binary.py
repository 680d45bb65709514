"""Postgres's binary values, as the driver hands them over, to Arrow: what `convert.py` does to JSON.

The database sends its columns as they are, because every expression in a SELECT costs it more than all of this costs
us. The driver adds the years from 1970 to 2000 without looking, so what lies beyond 64 bits comes back from the other
side: as numbers that Postgres has no instants for, which distinguishes them. Seen with adbc-driver-postgresql 1.13.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import ARROW_TYPES, Column
from tasks.source.convert import EARLIEST, LATEST, conform, finite, named
from tasks.source.fingerprint import COLUMN
from tasks.source.model import TableInfo

_HEX = np.frombuffer(b"".join(b"%02x" % n for n in range(256)), np.uint16)  # two letters a byte
_DIGITS = np.dtype([("a", "V8"), ("b", "V4"), ("c", "V4"), ("d", "V4"), ("e", "V12")])
_DASHED = np.dtype([("a", "V8"), ("-1", "V1"), ("b", "V4"), ("-2", "V1"), ("c", "V4"), ("-3", "V1"), ("d", "V4"),
                    ("-4", "V1"), ("e", "V12")])  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Span:
    """The values of a type that can be held, from `low` to before `high`, and how the driver gives those that cannot.

    least: below it is no value of Postgres's, only what went round the end. early, late: names of all others.
    """

    ticks: pa.DataType
    low: int
    high: int
    infinity: int
    minus_infinity: int
    least: int
    early: str
    late: str


_INSTANTS = _Span(
    pa.int64(), EARLIEST, LATEST, -9_222_425_352_054_775_809, -9_222_425_352_054_775_808, -211_000_000_000_000_000,
    "before 1970", "after 9999",
)  # fmt: skip
_DATES = _Span(
    pa.int32(), -719_162, 2_932_897, -2_147_472_692, -2_147_472_691, -3_000_000, "not a date", "not a date"
)  # fmt: skip


def from_driver(batch: pa.RecordBatch, info: TableInfo) -> pa.RecordBatch:
    """A batch of the query's columns as one of the table's raw schema.

    What a column cannot hold is null, and named in `_invalid`.
    """
    columns: dict[str, pa.Array] = {}
    problems: list[pa.Array] = []
    for column in info.columns:
        columns[column.name], found = _held(batch.column(column.name), column)
        if found is not None:
            problems.append(found)
    if COLUMN in batch.schema.names:
        columns[COLUMN] = batch.column(COLUMN)
    return conform(columns, pc.coalesce(*problems) if problems else None, info)


def _held(cell: pa.Array, column: Column) -> tuple[pa.Array, pa.Array | None]:
    """The column's values and, where some cannot be held, what is wrong with each (null where nothing is)."""
    if isinstance(cell.type, pa.UuidType):
        return uuid_texts(cell.storage), None
    held = cell.cast(ARROW_TYPES[column.kind])
    if column.kind == "timestamptz":
        return _within(held, _INSTANTS, column)
    if column.kind == "date":
        return _within(held, _DATES, column)
    return finite(held, column) if column.kind == "float" else (held, None)


def _within(values: pa.Array, span: _Span, column: Column) -> tuple[pa.Array, pa.Array | None]:
    ticks = values.cast(span.ticks)
    reach = pc.min_max(ticks).as_py()
    if reach["min"] is None or (reach["min"] >= span.low and reach["max"] < span.high):
        return values, None
    good = pc.and_(pc.greater_equal(ticks, span.low), pc.less(ticks, span.high))
    late = pc.or_(pc.greater_equal(ticks, span.high), pc.less(ticks, span.least))
    cases = (pc.fill_null(good, True), pc.equal(ticks, span.infinity), pc.equal(ticks, span.minus_infinity), late)
    what = pc.case_when(
        pc.make_struct(*(pc.fill_null(case, False) for case in cases)),
        pa.scalar(None, pa.string()), *named(column, "infinity", "-infinity", span.late, span.early),
    )  # fmt: skip
    return pc.if_else(good, values, pa.scalar(None, values.type)), what


def uuid_texts(cells: pa.FixedSizeBinaryArray) -> pa.StringArray:
    """Uuids of 16 bytes as Postgres writes them: lower case, with dashes."""
    rows = len(cells)
    values = np.frombuffer(cells.buffers()[1], np.uint8)[16 * cells.offset : 16 * (cells.offset + rows)]
    digits = np.take(_HEX, values).view(_DIGITS)
    letters = np.full(rows * _DASHED.itemsize, ord("-"), np.uint8)
    for group in "abcde":
        letters.view(_DASHED)[group] = digits[group]
    offsets = np.arange(rows + 1, dtype=np.int32) * _DASHED.itemsize
    return pa.Array.from_buffers(pa.string(), rows, [_validity(cells), pa.py_buffer(offsets), pa.py_buffer(letters)])


def _validity(cells: pa.Array) -> Any:
    """Which cells are not null, counted from the first of this slice."""
    return pc.is_valid(cells).buffers()[1] if cells.null_count else None
