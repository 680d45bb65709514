"""What is kept of a row that a rule rejects: the columns of `etl_rejects` that cleaning fills."""

from __future__ import annotations

import pyarrow as pa

from tasks.contracts.model import ARROW_TYPES, Column

REJECTS: tuple[Column, ...] = (
    Column("table", "text", "The contract's name of the table."),
    Column("key", "text", "The row's key at the source, as text."),
    Column("rule", "text", "The rule that rejected it."),
    Column("column", "text", "The column that the rule looked at."),
    Column("came", "text", "What was in it, masked."),
    Column("expected", "text", "What the rule asks for."),
    Column("fingerprint", "bigint", "64 bits over the source row as it was read."),
    Column("rule_mask", "bigint", "The rules before the rejecting one that changed the row, a bit each."),
)
REJECT_SCHEMA = pa.schema([(column.name, ARROW_TYPES[column.kind]) for column in REJECTS])
