"""PostgREST's JSON to Arrow, column by column: either form of a timestamp, every digit, nothing changed silently.

The rows of a page become one struct array in C++, and all further work is columnar. Values that a column cannot hold
become null and are named in `_invalid`; `binary.py` does the same to Postgres's own form, and a test holds the two to
each other.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import ARROW_TYPES, Column, Kind
from tasks.errors import ReadError
from tasks.source.fingerprint import COLUMN
from tasks.source.model import TableInfo

EARLIEST = 0  # 1970-01-01, in microseconds since the epoch
LATEST = 253_402_300_800_000_000  # 10000-01-01
_INSTANT = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?$"
_PLAIN_DATE = r"^\d{4}-\d\d-\d\d$"
# Of our functions for rows these come as text, and so does the fingerprint.
_TEXTS: frozenset[Kind] = frozenset({"bigint", "int", "float", "timestamptz", "date"})


def to_arrow(rows: list[Any], info: TableInfo) -> pa.RecordBatch:
    """A page of rows as a batch of the table's raw schema. ReadError when the server sent other types than it said."""
    fields = [(c.name, pa.string() if c.kind in _TEXTS else ARROW_TYPES[c.kind]) for c in info.columns]
    try:
        cells = pa.array(rows, type=pa.struct([*fields, (COLUMN, pa.string())]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ReadError(
            f"{info.table.at_source}: a page holds values of other types than the preflight "
            f"saw ({type(error).__name__}). Nothing was published.",
            remedy="Did somebody change a column's type while it was read? Start the run again.",
        ) from None
    columns: dict[str, pa.Array] = {}
    problems: list[pa.Array] = []
    *values, fingerprints = cells.flatten()
    for column, cell in zip(info.columns, values, strict=True):
        columns[column.name], found = _held(cell, column)
        if found is not None:
            problems.append(found)
    columns[COLUMN] = fingerprints.cast(pa.int64())
    return conform(columns, pc.coalesce(*problems) if problems else None, info)


def conform(columns: dict[str, pa.Array], invalid: pa.Array | None, info: TableInfo) -> pa.RecordBatch:
    """A batch of the raw schema; a column that the source lacks is null throughout."""
    schema = info.table.raw_schema
    rows = len(columns[info.table.key.name])
    columns["_invalid"] = pa.nulls(rows, pa.string()) if invalid is None else invalid
    arrays = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _held(cell: pa.Array, column: Column) -> tuple[pa.Array, pa.Array | None]:
    """The column's values and, where some cannot be held, what is wrong with each (null where nothing is)."""
    if column.kind == "timestamptz":
        return _instants(cell, column)
    if column.kind == "date":
        return _dates(cell, column)
    if column.kind == "float":
        return finite(pc.cast(cell, pa.float64()), column)
    return cell.cast(ARROW_TYPES[column.kind]), None


def _instants(cell: pa.Array, column: Column) -> tuple[pa.Array, pa.Array | None]:
    try:
        values = pc.cast(cell, ARROW_TYPES["timestamptz"])
    except pa.ArrowInvalid:
        return _odd_instants(cell, column)
    ticks = values.cast(pa.int64())
    reach = pc.min_max(ticks).as_py()
    if reach["min"] is None or (reach["min"] >= EARLIEST and reach["max"] < LATEST):
        return values, None
    return _in_bounds(values, cell, column)


def _odd_instants(cell: pa.Array, column: Column) -> tuple[pa.Array, pa.Array | None]:
    """The slow way, for pages in which some text is no instant that Arrow knows."""
    plain = pc.match_substring_regex(cell, _INSTANT)
    dates = pc.match_substring_regex(cell, _PLAIN_DATE)
    texts = pc.if_else(pc.or_(plain, dates), cell, pa.scalar(None, pa.string()))
    return _in_bounds(_zoned(texts), cell, column)


def _zoned(texts: pa.Array) -> pa.Array:
    """Instants of texts with a zone, without one (UTC then), or of a date alone, mixed."""
    zone = pc.match_substring_regex(texts, r"(Z|[+-]\d\d(:?\d\d)?)$")
    time = pc.match_substring(texts, ":")
    with_zone = pc.if_else(pc.and_(zone, time), texts, pa.scalar(None, pa.string()))
    without = pc.if_else(pc.and_(zone, time), pa.scalar(None, pa.string()), texts)
    utc = ARROW_TYPES["timestamptz"]
    return pc.coalesce(_cast(with_zone, utc), _cast(without, pa.timestamp("us")).cast(utc))


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The texts as `kind`, null where one is none (a 13th month); those are found by halving, as they are rare."""
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, kind)
        middle = len(texts) // 2
        return pa.concat_arrays([_cast(texts[:middle], kind), _cast(texts[middle:], kind)])


def _in_bounds(values: pa.Array, cell: pa.Array, column: Column) -> tuple[pa.Array, pa.Array]:
    ticks = values.cast(pa.int64())
    early = pc.or_kleene(pc.less(ticks, EARLIEST), pc.ends_with(cell, " BC"))
    late = pc.or_kleene(pc.greater_equal(ticks, LATEST), pc.match_substring_regex(cell, r"^\d{5,}-"))
    good = pc.fill_null(pc.and_(pc.greater_equal(ticks, EARLIEST), pc.less(ticks, LATEST)), False)
    what = pc.case_when(
        pc.make_struct(pc.or_(good, pc.is_null(cell)), *(pc.equal(cell, t) for t in ("infinity", "-infinity")),
                       pc.fill_null(early, False), pc.fill_null(late, False)),
        pa.scalar(None, pa.string()), *named(column, "infinity", "-infinity", "before 1970", "after 9999",
                                              "not a timestamptz"),
    )  # fmt: skip
    return pc.if_else(good, values, pa.scalar(None, values.type)), what


def named(column: Column, *words: str) -> list[pa.Scalar]:
    """What `_invalid` says of a column, for each of the words."""
    return [pa.scalar(f"{column.name}: {word}") for word in words]


def _dates(cell: pa.Array, column: Column) -> tuple[pa.Array, pa.Array | None]:
    plain = pc.match_substring_regex(cell, _PLAIN_DATE)
    values = _cast(pc.if_else(plain, cell, pa.scalar(None, pa.string())), pa.date32())
    if values.null_count == cell.null_count:
        return values, None
    conditions = pc.make_struct(
        pc.is_null(cell), pc.is_valid(values), *(pc.equal(cell, t) for t in ("infinity", "-infinity"))
    )
    none = pa.scalar(None, pa.string())
    return values, pc.case_when(conditions, none, none, *named(column, "infinity", "-infinity", "not a date"))


def finite(values: pa.Array, column: Column) -> tuple[pa.Array, pa.Array | None]:
    """Floats, and what is wrong with those that are infinite or no number: None when there are none."""
    good = pc.fill_null(pc.is_finite(values), True)
    if pc.all(good).as_py() in (True, None):
        return values, None
    none, wrong = pa.scalar(None, pa.string()), pa.scalar(f"{column.name}: not a float")
    return pc.if_else(good, values, pa.scalar(None, pa.float64())), pc.if_else(good, none, wrong)
