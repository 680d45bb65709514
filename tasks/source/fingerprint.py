"""The source as our SQL functions take it: they select its rows, and fingerprint exactly what they select."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import Table

FINGERPRINT_FUNCTION = "etl_fingerprint_sql"
ROWS_FUNCTION = "etl_rows"
ROWS_BY_KEY_FUNCTION = "etl_rows_by_key"
COLUMN = "_fingerprint"


def source_request(table: Table) -> dict[str, Any]:
    """The argument `p_source` of our functions. Columns that the source lacks are left out there."""
    columns = [{"name": c.name, "source": c.source_name, "kind": c.kind} for c in table.source_columns]
    return {"schema": table.source_schema, "table": table.source, "key": table.key.source_name, "columns": columns}


def sum_of(fingerprints: pa.Array | pa.ChunkedArray) -> int:
    """The sum modulo 2⁶⁴; null counts as nothing."""
    halves = pc.fill_null(fingerprints, 0).cast(pa.int64())
    high = pc.shift_right(halves, 32)
    low = pc.subtract(halves, pc.shift_left(high, 32))
    return ((int(pc.sum(high).as_py() or 0) << 32) + int(pc.sum(low).as_py() or 0)) % 2**64
