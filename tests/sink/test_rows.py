"""What JSON cannot carry by itself arrives in Postgres as it was, and comes back as it was."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_stack import Stack
from tasks.contracts import POSTS, USER_STATISTICS
from tasks.settings import Transport
from tasks.sink.rows import as_array, cut, to_json
from tests.sink.kit import AS_OF, TRANSPORTS, Night, empty, expected_state, post, settings_for, work

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("whole", pa.int64()),
        ("share", pa.float64()),
        ("flag", pa.bool_()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
    ]
)
MICROS = st.integers(0, 253_402_300_799_999_999).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
ROW = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "share": st.none() | st.floats(),
        "flag": st.none() | st.booleans(),
        "at": st.none() | MICROS,
        "day": st.none() | st.dates(),
    }
)
ODD_FLOATS = [math.nan, math.inf, -math.inf, 5e-324, 0.1, 1.7976931348623157e308, None]


def from_json(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as PostgREST or `to_json` write them, as a table of the schema."""
    columns = [as_kind([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def as_kind(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_boolean(kind):
        return pa.array(values, kind)
    texts = pa.array([None if v is None else str(v) for v in values], pa.string())
    if pa.types.is_timestamp(kind):
        return pc.cast(texts, kind)
    return texts.cast(kind)


@given(rows=st.lists(ROW, max_size=8))
def test_every_value_survives_the_way_there_and_back(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    back = from_json(json.loads(as_array(to_json(table))), SCHEMA)
    assert repr(back.to_pylist()) == repr(table.to_pylist())  # by repr: NaN is NaN, and -0.0 is not 0.0


def test_a_missing_instant_of_pandas_is_null() -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(pd.Series([None, "2026-01-01T00:00:00Z"]))})
    assert [json.loads(row)["at"] for row in to_json(pa.Table.from_pandas(frame)).to_pylist()] == [
        None,
        "2026-01-01 00:00:00+00:00",
    ]


def test_a_decimal_keeps_its_digits() -> None:
    table = pa.table({"price": [Decimal("12345678901234567890.10"), None]})
    assert to_json(table).to_pylist() == ['{"price":"12345678901234567890.10"}', '{"price":null}']


@given(sizes=st.lists(st.integers(0, 50)), rows=st.integers(1, 6), size=st.integers(1, 120))
def test_batches_cover_all_rows_within_their_bounds(sizes: list[int], rows: int, size: int) -> None:
    texts = pa.array(["x" * n for n in sizes], pa.string())
    parts = list(cut(texts, rows=rows, size=size))
    assert [i for start, length in parts for i in range(start, start + length)] == list(range(len(sizes)))
    for start, length in parts:
        assert length <= rows
        assert length == 1 or sum(n + 1 for n in sizes[start : start + length]) <= size
        more = sizes[start : start + length + 1]
        assert length in (rows, len(sizes) - start) or sum(n + 1 for n in more) > size, "no more would fit"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_postgres_holds_what_was_sent(stack: Stack, tmp_path: Path, transport: Transport) -> None:
    empty(stack)
    odd = [
        post(
            1,
            word_count=2**63 - 1,
            char_count=2**53 + 1,
            title='"quoted" \\ back\tslash',
            content="\u2028\u0001\u007f\U0001f600 e\u0301",
        ),
        post(2, content="", title=None, created_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        post(3, created_at=datetime(1970, 1, 1, tzinfo=UTC), updated_at=AS_OF + timedelta(microseconds=1)),
        post(4, content="NULL", title="\\N"),
    ]
    work(settings_for(stack, transport, tmp_path), Night(posts=odd))
    expected_state(stack, Night(posts=odd))  # hashed by Postgres from what it holds


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_odd_floats_and_large_integers_come_back_over_rest(stack: Stack, tmp_path: Path, transport: Transport) -> None:
    empty(stack)
    setup = settings_for(stack, transport, tmp_path)
    for day, value in enumerate(ODD_FLOATS):
        figures = {"posts_per_user_mean": value, "total_posts": 2**53 + 1}
        work(setup, Night(statistics=figures, days=[{"date": date(2026, 1, 1)}]), as_of=AS_OF + timedelta(days=day))
    key = setup.supabase_service_key.get_secret_value()
    answer = httpx.get(
        f"{stack.url}/rest/v1/user_statistics?order=as_of", headers={"apikey": key, "authorization": f"Bearer {key}"}
    )
    back = from_json(answer.json(), USER_STATISTICS.schema)
    assert repr(back["posts_per_user_mean"].to_pylist()) == repr(ODD_FLOATS)
    assert set(back["total_posts"].to_pylist()) == {2**53 + 1}
    assert back["as_of"][1].as_py() == AS_OF + timedelta(days=1)


def test_the_contracts_use_no_kind_that_is_not_tried_here() -> None:
    assert {field.type for table in (POSTS.clean_schema, USER_STATISTICS.schema) for field in table} <= {
        f.type for f in SCHEMA
    }
