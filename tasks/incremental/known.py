"""What the base stored of the rows that a night touches: hashes, fingerprints, masks, rejects, positions in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import Table
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


def load_known(look_up: LookUp, table: Table, keys: Sequence[str]) -> pa.Table:
    """A row of KNOWN_SCHEMA for each of these keys that the base read. row_hash, rule: null without one.

    GoFull when a row was stored without its rules, or a key takes too long to look up.
    """
    parts = known_parts(look_up, table, keys)
    known = pa.concat_tables([KNOWN_SCHEMA.empty_table(), *parts]).combine_chunks()
    if masks(known).null_count:
        raise GoFull(f"rows of {table.name} are stored without the rules that changed them")
    if known.num_rows != len(pc.unique(known["key"])):
        raise GoFull(f"rows of {table.name} have more than one reject")
    return known


def known_parts(look_up: LookUp, table: Table, keys: Sequence[str]) -> Iterator[pa.Table]:
    """The same in parts, unverified. created_at: the instant by whose month the table's files are split."""
    for rows in look_up_keys(look_up, "etl_known", table.name, keys):
        part = known_of(rows)
        split_otherwise = table.by_month not in (None, "created_at")
        yield _with_instants(look_up, table, part) if split_otherwise and part.num_rows else part


def _with_instants(look_up: LookUp, table: Table, known: pa.Table) -> pa.Table:
    """With the table's own instants as created_at. GoFull where the database writes them as nobody else reads them."""
    keys, at = known["key"].to_pylist(), KNOWN_SCHEMA.get_field_index("created_at")
    found: dict[str, str | None] = {}
    for pairs in look_up_keys(look_up, "etl_values", table.name, keys, p_column=table.by_month):
        found |= dict(pairs)
    try:
        instants = pa.array([found.get(key) for key in keys], pa.string()).cast(KNOWN_SCHEMA.field(at).type)
    except pa.ArrowInvalid:
        raise GoFull(f"the database writes {table.by_month} of {table.name} in a DateStyle other than ISO") from None
    return known.set_column(at, KNOWN_SCHEMA.field(at), instants)


def known_of(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """What `etl_known` answers, as a table of KNOWN_SCHEMA."""
    if not rows:
        return KNOWN_SCHEMA.empty_table()
    columns = (pa.array([None if v is None else str(v) for v in c], pa.string()) for c in zip(*rows, strict=True))
    return pa.table([c.cast(f.type) for c, f in zip(columns, KNOWN_SCHEMA, strict=True)], schema=KNOWN_SCHEMA)


def masks(known: pa.Table) -> pa.Array:
    """The rules that changed or flagged each row: those of its reject, where it has one."""
    return pc.if_else(known["rule"].is_valid(), known["reject_mask"], known["rule_mask"]).combine_chunks()


def is_refused(known: pa.Table) -> pa.Array:
    """Rows that the database refused."""
    return pc.fill_null(pc.equal(known["rule"], REFUSED_RULE), False).combine_chunks()


def months(known: pa.Table) -> pa.Array:
    """The month, as 2026-01, in whose files each row is; null for rows that are in none."""
    none = pa.scalar(None, pa.timestamp("us", tz="UTC"))
    kept = pc.if_else(known["rule"].is_null(), known["created_at"], none)
    created = pc.if_else(is_refused(known), known["file_created_at"], kept)
    return month_names(created.combine_chunks())


def month_names(instants: pa.Array) -> pa.Array:
    """Months of instants (UTC), as 2026-01."""
    return pc.strftime(instants.cast(pa.timestamp("us")), format="%Y-%m")
