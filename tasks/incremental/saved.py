"""What an incremental night did not have to read."""

from __future__ import annotations

from tasks.incremental.base import Base
from tasks.incremental.gather import Gathered


def saved(gathered: Gathered, base: Base) -> dict[str, int]:
    """Rows that were not read, and about how many bytes they are, by what a row had at the last full read."""
    rows = nbytes = 0
    row_bytes = base.facts.row_bytes if base.facts else {}
    for touched in gathered.tables:
        left = max(0, touched.changes.source_rows - touched.rows.num_rows)
        rows += left
        nbytes += round(left * row_bytes.get(touched.table.name, 0.0))
    return {"rows": rows, "bytes": nbytes}
