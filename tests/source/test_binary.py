"""Postgres's binary form to Arrow: uuids as Postgres writes them, odd dates and floats held or named as over REST."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from local_stack import Stack
from tasks.contracts import Column
from tasks.source.binary import uuid_texts
from tests.source.kit import posts_at, read, settings_for, source_table

COLUMNS = (
    Column("content", "text", ""),
    Column("day", "date", ""),
    Column("score", "float", ""),
    Column("day_as_instant", "timestamptz", "", source="since"),
    Column("price", "float", ""),
)
# day, score (as SQL), what `_invalid` must say
ROWS = (
    ("null", "null", None),
    ("'0001-01-01'", "'-0.5'", None),
    ("'9999-12-31'", "'1e300'", None),
    ("'0001-12-31 BC'", "'1'", "day: not a date"),
    ("'10000-01-01'", "'1'", "day: not a date"),
    ("'5874897-12-31'", "'1'", "day: not a date"),
    ("'4713-01-01 BC'", "'1'", "day: not a date"),
    ("'infinity'", "'NaN'", "day: infinity"),
    ("'-infinity'", "'1'", "day: -infinity"),
    ("null", "'-infinity'", "score: not a float"),
)
SINCE = {
    "null": None, "'1970-01-01'": None, "'9999-12-31'": None, "'10000-01-01'": "after 9999",
    "'294277-01-01'": "after 9999", "'5874897-12-31'": "after 9999", "'4714-11-24 BC'": "before 1970",
    "'infinity'": "infinity", "'-infinity'": "-infinity",
}  # fmt: skip
SOURCE = "content uuid, day date, score float, since date, price numeric"
PRICES = {"0.1": None, "1e-400": None, "1e400": "not a float", "'NaN'": "not a float"}  # of a numeric


def test_dates_and_floats_are_held_or_named_alike(stack: Stack, tmp_path: Path) -> None:
    with source_table(stack, key="bigint", columns=SOURCE) as name:
        rows = [
            *(f"{day}, {score}, null, null" for day, score, _ in ROWS),
            *(f"null, null, {since}, null" for since in SINCE),
            *(f"null, null, null, {price}" for price in PRICES),
        ]
        for number, row in enumerate(rows):
            stack.query(f"insert into public.{name} values ({number}, gen_random_uuid(), {row})")
        table = posts_at(name, "bigint", COLUMNS)
        both = {t: read(settings_for(stack, t, tmp_path), table, tmp_path / t)[0] for t in ("rest", "postgres")}
    since = (what and f"day_as_instant: {what}" for what in SINCE.values())
    prices = (what and f"price: {what}" for what in PRICES.values())
    assert both["postgres"]["_invalid"].to_pylist() == [*(what for *_, what in ROWS), *since, *prices]
    assert both["postgres"].equals(both["rest"])


@given(values=st.lists(st.none() | st.uuids(), max_size=40), start=st.integers(0, 5))
def test_uuids_read_as_postgres_writes_them(values: list[UUID | None], start: int) -> None:
    cells = pa.array([value and value.bytes for value in values], pa.binary(16)).slice(start)
    texts = uuid_texts(cells)
    texts.validate(full=True)
    assert texts.to_pylist() == [value and str(value) for value in values[start:]]
