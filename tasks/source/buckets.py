"""Sorted buckets of rows as files of a raw spool."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from tasks.arrow.rebatch import bounded
from tasks.source.batches import filled_of, require_rising
from tasks.source.binary import from_driver
from tasks.source.model import TableInfo
from tasks.source.patch import Bounds
from tasks.source.ranges import KeyRange
from tasks.source.sorting import Bucket, Sorter
from tasks.workspace import Spool


def write_bucket(sorter: Sorter, bucket: Bucket, info: TableInfo, spool: Spool, bounds: Bounds) -> Counter[str]:
    """A sorted bucket as a file of the raw spool. Returns non-null values by column. ReadError unless keys rise."""
    raw = _converted(sorter.read(bucket), info, bucket.index)
    spool.write(bucket.index, bounded([raw], rows=bounds.rows, nbytes=bounds.nbytes))
    return filled_of(raw, info)


def _converted(rows: pa.RecordBatch | None, info: TableInfo, index: int) -> pa.RecordBatch:
    if rows is None:
        return pa.RecordBatch.from_pylist([], schema=info.table.raw_schema)
    raw = from_driver(rows, info)
    where = f"{info.table.source_schema}.{info.table.source}"
    require_rising(raw.column(info.table.key.name), KeyRange(index, None, None), where)
    return raw
