"""JSON to Arrow: both forms of a timestamp, and nothing that crashes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts import POSTS
from tasks.errors import ReadError
from tasks.source.convert import to_arrow
from tasks.source.model import TableInfo

TYPES = {"uuid": "uuid", "text": "text", "timestamptz": "timestamp with time zone"}
INFO = TableInfo(POSTS, {c.source_name: TYPES[c.kind] for c in POSTS.source_columns}, 0)
ODD = ["infinity", "2026-01-31", "0001-01-01T00:00:00+00:00 BC", "2026-13-01T00:00:00Z", "0000-00-00T00:00:00"]
KEY = "00000000-0000-4000-8000-000000000000"


def row(**cells: object) -> dict[str, object]:
    return {"id": KEY, **cells}


@given(st.datetimes(), st.sampled_from(["T", " "]), st.sampled_from(["+00:00", "+00", "Z", "+05:30", "-11:00", ""]))
def test_an_instant_is_read_in_any_form(moment: datetime, separator: str, zone: str) -> None:
    text = moment.isoformat(sep=separator) + zone
    meant = datetime.fromisoformat(text)
    expected = (meant if meant.tzinfo else meant.replace(tzinfo=UTC)).timestamp()
    got = to_arrow([row(created_at=text)], INFO).to_pylist()[0]
    if got["_invalid"] is None:
        assert got["created_at"].timestamp() == expected
    else:
        assert not 0 <= expected < 253402300800


@given(st.lists(st.one_of(st.none(), st.text(), st.sampled_from(ODD))))
def test_any_text_is_an_instant_or_named(texts: list[str | None]) -> None:
    rows = to_arrow([row(created_at=t) for t in texts], INFO).to_pylist()
    for text, got in zip(texts, rows, strict=True):
        assert (got["created_at"] is None) == (text is None or got["_invalid"] is not None)


def test_one_page_may_hold_instants_with_and_without_a_zone_dates_and_none_of_them() -> None:
    """Of a column without a time zone; pyarrow takes none of them beside the others."""
    texts = ["2026-01-31T01:00:00+01:00", "2026-01-31 00:00:00", "2026-01-31", "2026-13-31", None]
    rows = to_arrow([row(created_at=text) for text in texts], INFO)
    instant = datetime(2026, 1, 31, tzinfo=UTC)
    assert rows["created_at"].to_pylist() == [instant, instant, instant, None, None]
    assert rows["_invalid"].to_pylist() == [None, None, None, "created_at: not a timestamptz", None]


@pytest.mark.parametrize("beside", [[], ["infinity"]])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1970-01-01T00:00:00Z", None),
        ("1969-12-31T23:59:59.999999Z", "created_at: before 1970"),
        ("9999-12-31T23:59:59.999999Z", None),
        ("9999-12-31T23:00:00-01:00", "created_at: after 9999"),
        ("0044-03-15T12:00:00+00:00 BC", "created_at: before 1970"),
        ("10000-01-01T00:00:00+00:00", "created_at: after 9999"),
    ],
)
def test_the_first_and_the_last_instant_are_in(text: str, says: str | None, beside: list[str]) -> None:
    rows = to_arrow([row(created_at=value) for value in [text, *beside]], INFO).to_pylist()
    assert (rows[0]["_invalid"], rows[0]["created_at"] is None) == (says, says is not None)


def test_the_first_offending_column_is_named() -> None:
    batch = to_arrow([row(created_at="infinity", updated_at="-infinity"), row(updated_at="-infinity")], INFO)
    assert batch["_invalid"].to_pylist() == ["created_at: infinity", "updated_at: -infinity"]


@pytest.mark.parametrize("rows", [[1], ["text"], [row(title=5)], [row(id={})]])
def test_other_types_than_promised_are_an_error(rows: list[object]) -> None:
    with pytest.raises(ReadError, match=r"public\.posts"):
        to_arrow(rows, INFO)
