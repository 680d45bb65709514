"""What the base stored of the rows that a night touches: hashes, fingerprints, masks, rejects, positions in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.incremental.look_up import LookUp, look_up_keys
from tasks.incremental.mode import GoFull
from tasks.sink.model import REFUSED_RULE

KNOWN_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("row_hash", pa.string()),
        ("fingerprint", pa.int64()),
        ("rule_mask", pa.int64()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("user_id", pa.string()),
        ("rule", pa.string()),
        ("reject_fingerprint", pa.int64()),
        ("reject_mask", pa.int64()),
        ("file_created_at", pa.timestamp("us", tz="UTC")),
        ("file_user_id", pa.string()),
        ("reject_id", pa.string()),
    ]
)


def load_known(look_up: LookUp, table: str, keys: Sequence[str]) -> pa.Table:
    """A row of KNOWN_SCHEMA for each of these keys that the base read. row_hash, rule: null without one.

    GoFull when a row was stored without its rules, or a key takes too long to look up.
    """
    parts = [known_of(rows) for rows in look_up_keys(look_up, "etl_known", table, keys)]
    known = pa.concat_tables([KNOWN_SCHEMA.empty_table(), *parts]).combine_chunks()
    if masks(known).null_count:
        raise GoFull(f"rows of {table} are stored without the rules that changed them")
    if known.num_rows != len(pc.unique(known["key"])):
        raise GoFull(f"rows of {table} have more than one reject")
    return known


def known_of(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """What `etl_known` answers, as a table of KNOWN_SCHEMA."""
    if not rows:
        return KNOWN_SCHEMA.empty_table()
    columns = (pa.array([None if v is None else str(v) for v in c], pa.string()) for c in zip(*rows, strict=True))
    return pa.table([c.cast(f.type) for c, f in zip(columns, KNOWN_SCHEMA, strict=True)], schema=KNOWN_SCHEMA)


def masks(known: pa.Table) -> pa.Array:
    """The rules that changed or flagged each row: those of its reject, where it has one."""
    return pc.if_else(known["rule"].is_valid(), known["reject_mask"], known["rule_mask"]).combine_chunks()


def rejected_by(known: pa.Table) -> pa.Array:
    """The rule that rejected each row; null for kept rows, also those that the database refused."""
    refused = pc.equal(known["rule"], REFUSED_RULE)
    return pc.if_else(pc.fill_null(refused, False), pa.scalar(None, pa.string()), known["rule"]).combine_chunks()


def months(known: pa.Table) -> pa.Array:
    """The month, as 2026-01, in whose files each row is; null for rows that are in none."""
    refused = pc.fill_null(pc.equal(known["rule"], REFUSED_RULE), False)
    kept = known["rule"].is_null()
    none = pa.scalar(None, pa.timestamp("us", tz="UTC"))
    created = pc.if_else(refused, known["file_created_at"], pc.if_else(kept, known["created_at"], none))
    return month_names(created.combine_chunks())


def month_names(instants: pa.Array) -> pa.Array:
    """Months of instants (UTC), as 2026-01."""
    return pc.strftime(instants.cast(pa.timestamp("us")), format="%Y-%m")
