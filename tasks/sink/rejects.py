"""The run's rejects in the order in which the database keeps them: by key as text, then rule, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from tasks.arrow.duckdb import open_duckdb, small_duckdb
from tasks.contracts import REJECT_SCHEMA, Table
from tasks.workspace import Workspace

BATCH_ROWS = 50_000
_MEMORY = "256MB"

# The hash is that of `etl_rejects_page`. Cleaning gives a null key as the text `null`; several such rows are one.
_ORDERED = """
  select *, key || chr(31) || rule as id, md5(concat_ws(chr(31), coalesce("column", chr(30)), coalesce(came, chr(30)),
         coalesce(expected, chr(30)), coalesce(fingerprint::varchar, chr(30)),
         coalesce(rule_mask::varchar, chr(30)))) as row_hash
  from (
    select "table", key, rule,
           min("column") as "column", min(came) as came, min(expected) as expected,
           min(fingerprint) as fingerprint, min(rule_mask) as rule_mask
    from rejects group by "table", key, rule
  ) once
  order by id
"""


def sorted_rejects(workspace: Workspace, table: Table) -> Iterator[pa.RecordBatch]:
    """Each reject once, with `id` and `row_hash` beside its columns. Sorted on disk when there are many."""
    spool = workspace.rejects(table)
    if not spool.files():
        return
    many = spool.rows() > BATCH_ROWS
    with open_duckdb(memory=_MEMORY, spill_to=workspace.root / "sorting") if many else small_duckdb() as connection:
        rejects = pa.RecordBatchReader.from_batches(REJECT_SCHEMA, spool.batches())
        connection.register("rejects", rejects)
        yield from connection.sql(_ORDERED).to_arrow_reader(BATCH_ROWS)
