"""What the files of a run have of the rows that the database refused: kept with the reject, for the next night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import Table
from tasks.workspace import Spool


def contributions(spool: Spool, table: Table, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By key: `rule_mask`, and `in_file`: the instant by whose month the files are split, as created_at, and user_id.

    spool: the rows that were to be written. keys: as text, few.
    """
    found: dict[str, dict[str, Any]] = {}
    wanted = pa.array(list(keys), pa.string())
    if not len(wanted):
        return found
    for batch in spool.batches():
        ids = batch.column(table.key.name).cast(pa.string())
        rows = batch.filter(pc.is_in(ids, value_set=wanted))
        if rows.num_rows:
            found |= _by_key(rows, table)
    return found


def _by_key(rows: pa.RecordBatch, table: Table) -> dict[str, dict[str, Any]]:
    of = {"created_at": table.by_month or "created_at", "user_id": "user_id"}
    names = {name: column for name, column in of.items() if column in table}
    listed = rows.select([table.key.name, "rule_mask", *names.values()]).to_pylist()
    return {str(row[table.key.name]): _contribution(row, names) for row in listed}


def _contribution(row: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """names: of columns, by what they are called there."""
    cells = {name: row[column] for name, column in names.items()}
    in_file = {
        name: cell.isoformat() if name == "created_at" else str(cell)
        for name, cell in cells.items()
        if cell is not None  # as a further table's created_at may be
    }
    return {"rule_mask": row["rule_mask"], "in_file": in_file}
