"""The rules that both tables share."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.rules.base import Change, Describe, Facts, Frame, Reject, as_mask, constant, with_column
from tasks.cleaning.rules.text import clean_texts
from tasks.contracts import Column, Table

GRACE = 86_400_000_000  # µs by which a clock may be ahead of the database's
_EXPECTED = {
    "uuid": "a uuid",
    "bigint": "an integer of 64 bits",
    "text": "a text",
    "timestamptz": "an instant from 1970 to 9999",
    "date": "a date",
    "int": "an integer of 64 bits",
    "float": "a number",
    "bool": "true or false",
}


def has_invalid_value(frame: Frame, facts: Facts) -> pa.Array:
    """Rows with a value that its column cannot hold; the transports say which in `_invalid`."""
    offends = as_mask(frame["_invalid"].is_valid())
    for column in must_come_filled(facts.table):
        offends = offends | as_mask(frame[column.name].is_null())
    return pa.array(offends)


def must_come_filled(table: Table) -> list[Column]:
    """Columns of the source that may not be null, and that no rule fills or checks."""
    return [c for c in table.source_columns if c.must_come_filled]


def describe_invalid(table: Table) -> Reject:
    """The rule `invalid_value` of one table: `_invalid` reads `<column>: <actual value>`."""
    expected = {c.name: _EXPECTED[c.kind] for c in table.source_columns}

    def describe(frame: Frame) -> tuple[pa.Array, pa.Array, pa.Array]:
        said = frame["_invalid"]
        for column in must_come_filled(table):
            is_null = pc.and_(said.is_null(), frame[column.name].is_null())
            said = pc.if_else(is_null, f"{column.name}: null", said)
        parts = pc.extract_regex(said, r"(?s)^(?P<column>.+): (?P<actual>.+)$")
        column, actual = pc.struct_field(parts, 0), pc.struct_field(parts, 1)
        where = pc.index_in(column, pa.array(list(expected)))
        return column, actual, pa.array(list(expected.values())).take(where)

    return Reject(
        "invalid_value",
        "A value that its column cannot hold; an instant that is infinite, before 1970 or after 9999; a null key.",
        has_invalid_value,
        describe,
    )


def clean_text(frame: Frame, facts: Facts) -> Frame:
    """Every text column that its contract says to clean, as a line or as a block."""
    for column in facts.table.source_columns:
        if column.cleaning:
            # Where no rule fills it later, a text that may not be null stays empty.
            texts = clean_texts(frame[column.name], column.cleaning, keep_empty=column.must_come_filled)
            frame = with_column(frame, column.name, texts)
    return frame


def lacks_created_at(frame: Frame, facts: Facts) -> pa.Array:
    """Rows without `created_at`."""
    return frame["created_at"].is_null()


def created_in_future(frame: Frame, facts: Facts) -> pa.Array:
    """Rows created more than 24 hours after the run started."""
    return pc.greater(frame["created_at"].cast(pa.int64()), facts.latest)


def fill_updated_at(frame: Frame, facts: Facts) -> Frame:
    """`updated_at` where it is not null and not before `created_at`, else `created_at`, which may be null too."""
    if "updated_at" not in facts.table:
        return frame
    created, updated = frame["created_at"], frame["updated_at"]
    wrong = pc.or_(updated.is_null(), pc.fill_null(pc.less(updated, created), False))
    return with_column(frame, "updated_at", pc.if_else(wrong, created, updated))


def describe_column(name: str, expected: str) -> Describe:
    """What a rejecting rule says of its rows: one column, its value as text, and what was expected there."""

    def describe(frame: Frame) -> tuple[pa.Array, pa.Array, pa.Array]:
        return constant(frame, name), value_as_text(frame[name]), constant(frame, expected)

    return describe


def value_as_text(values: pa.Array) -> pa.Array:
    """Ids and instants as text; `null` for null. Never used for a text that a person wrote."""
    if pa.types.is_timestamp(values.type):
        # Without its zone first: a zone needs the machine's database of them, UTC does not.
        values = pc.binary_join_element_wise(values.cast(pa.timestamp("us")).cast(pa.string()), "Z", "")
    return pc.fill_null(values.cast(pa.string()), "null")


CLEAN_TEXT = Change(
    "clean_text",
    "Newlines become \\n; control and invisible characters go (in a line, tab and newline become a space); NFC; outer "
    "white space goes; empty becomes null.",
    clean_text,
)
MISSING_CREATED_AT = Reject(
    "missing_created_at", "created_at is null.", lacks_created_at, describe_column("created_at", "an instant")
)
CREATED_IN_FUTURE = Reject(
    "created_in_future",
    "created_at is later than 24 hours after the run began: a wrong clock.",
    created_in_future,
    describe_column("created_at", "at most 24 hours after the run began"),
)
UPDATED_BEFORE_CREATED = Change(
    "updated_before_created",
    "updated_at is null or before created_at: it becomes created_at.",
    fill_updated_at,
)
