"""What batches that were read must be like, and what they hold."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import ReadError
from tasks.source.model import TableInfo
from tasks.source.ranges import KeyRange


def require_rising(keys: pa.Array, within: KeyRange, what: str) -> None:
    """ReadError unless keys rise strictly, without nulls, inside their range: else keyset pages are no evidence."""
    if keys.null_count:
        raise ReadError(
            f"{what}: a row whose key is null came back, though the column was not null before. Nothing was published.",
            remedy="Did somebody change the table while it was read? Start the run again.",
        )
    rising = len(keys) < 2 or pc.all(pc.less(keys[:-1], keys[1:])).as_py()
    first, last = keys[0].as_py(), keys[-1].as_py()
    inside = (within.after is None or first > within.after) and (within.until is None or last <= within.until)
    if not (rising and inside):
        raise ReadError(
            f"{what}: the rows are not in the order of their keys, or a key came twice. Nothing was published.",
            remedy="Look for keys that a table that inherits repeats, a rule or view that sorts or repeats rows, "
            "a proxy or cache in front of the API.",
        )


def filled_of(batch: pa.RecordBatch, info: TableInfo) -> Counter[str]:
    """Non-null values of each column that the source has; a value that its column cannot hold is none."""
    return Counter({c.name: batch.num_rows - batch.column(c.name).null_count for c in info.columns})
