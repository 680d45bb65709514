"""Figures as the reports site writes them: of the days that they say, and with the digits that they have."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import pyarrow as pa
import pytest

from api.site.figures import tiles
from api.site.formats import change, percent
from api.site.tables import Query, view
from tasks.contracts import Column, Report


def test_a_weekly_figure_and_its_change_are_of_the_same_days() -> None:
    daily = pd.DataFrame({"date": pd.date_range("2026-01-01", periods=15), "posts": [10] * 7 + [20] * 7 + [1]})
    daily = daily.assign(new_users=1, total_users=1, authors_28d=1, stickiness=0.5)
    quality = pd.DataFrame({"table": ["posts"], "rows_checked": [1], "rows_affected": [0], "action": ["rejected"]})
    stats = pd.DataFrame({"total_users": [1]})
    for as_of, about, shown in (
        ("2026-01-15T12:00Z", "in 7 whole days", ("140", "+70 (+100.0 %)")),
        ("2026-01-16T00:00Z", "in 7 days", ("121", "+41 (+51.2 %)")),
    ):
        tile = next(t for t in tiles(stats, daily, quality, datetime.fromisoformat(as_of)) if t.title == "Posts")
        assert (tile.about, (tile.value, tile.change)) == (about, shown)


def test_a_key_that_is_a_number_is_shown_digit_by_digit() -> None:
    report = Report(
        "author_activity", "Per user.", ("user_id",), (Column("user_id", "bigint", "Key.", nullable=False),)
    )
    keys = [-(2**63), -1, 1_234_567, 2**53 + 1, 2**63 - 1]
    table = pa.table({"user_id": keys})
    assert view(table, report, Query("/", "run")).rows == [[str(key)] for key in keys]
    assert view(table, report, Query("/", "run", q="-1")).rows == [["-1"]]


@pytest.mark.parametrize(
    ("old", "new", "points", "text"),
    [
        (0.0012, 0.0015, True, "+0.03 points"),
        (0.125, 0.1, True, "−2.5 points"),
        (1_000_000, 1_000_003, False, "+3"),
        (10, 12, False, "+2 (+20.0 %)"),
        (0, 3, False, "+3"),
    ],
)
def test_a_small_change_is_not_shown_as_none(old: float, new: float, points: bool, text: str) -> None:
    assert change(old, new, points=points)[0] == text


def test_a_share_of_two_digits_is_written_with_them() -> None:
    shares = (0.0006, 0.00004, 0.0, 0.1234)
    assert [percent(share, 2) for share in shares] == ["0.06 %", "< 0.01 %", "0.00 %", "12.34 %"]
    assert [percent(share) for share in shares] == ["< 0.1 %", "< 0.1 %", "0.0 %", "12.3 %"]
