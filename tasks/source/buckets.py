"""Sorted buckets of rows as files of a raw spool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from tasks.arrow.rebatch import bounded
from tasks.source.batches import filled_of, require_rising
from tasks.source.binary import from_driver
from tasks.source.model import TableInfo
from tasks.source.patch import Bounds
from tasks.source.ranges import KeyRange
from tasks.source.runs import Bucket
from tasks.source.sorting import Sorter
from tasks.workspace import Spool


def write_bucket(sorter: Sorter, bucket: Bucket, info: TableInfo, spool: Spool, bounds: Bounds) -> Counter[str]:
    """A sorted bucket as a file of the raw spool. Returns non-null values by column. ReadError unless keys rise."""
    filled = Counter({column.name: 0 for column in info.columns})
    converted = _converted(sorter, bucket, info, bounds, filled)
    spool.write(bucket.index, bounded(converted, rows=bounds.rows, nbytes=bounds.nbytes))
    return filled


def _converted(
    sorter: Sorter, bucket: Bucket, info: TableInfo, bounds: Bounds, filled: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """The bucket's rows as the raw spool has them, as much at a time as is written at once."""
    last, where = None, info.table.at_source
    for rows in sorter.read(bucket, nbytes=max(1, bounds.nbytes // 4)):
        raw = from_driver(rows, info)
        keys = raw.column(info.table.key.name)
        require_rising(keys, KeyRange(bucket.index, last, None), where)
        last = keys[-1].as_py()
        filled.update(filled_of(raw, info))
        yield raw
