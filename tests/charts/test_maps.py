"""Retention, posting hours and data quality: each text in its cell, each cell in its colour."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle

from tasks.charts.maps import posting_hours, retention
from tasks.charts.quality import data_quality
from tasks.contracts import POST_STATISTICS, SIGNUP_COHORTS
from tasks.reports.figures import PastRun
from tests.charts.drawn import bars, drawn, light, placed
from tests.publish.builders import AS_OF, reports

REPORT_ROWS = reports(np.random.default_rng(1), [])
HISTORY = [PastRun(AS_OF - timedelta(days=days), {("users", "clean_text"): 0.02 * days}) for days in range(1, 20)]


def _cohorts(*rows: tuple[date, int, int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["cohort_month", "months_since", "users", "authors"])
    shares = frame.assign(cohort_month=pd.to_datetime(frame.cohort_month), retention=frame.authors / frame.users)
    assert set(shares.columns) == set(SIGNUP_COHORTS.schema.names)
    return shares


NOVEMBER, DECEMBER, JANUARY = date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1)
COHORTS = _cohorts(
    (NOVEMBER, 0, 100, 60), (NOVEMBER, 1, 100, 40), (NOVEMBER, 2, 100, 10),
    (DECEMBER, 0, 300, 120), (DECEMBER, 1, 300, 30), (JANUARY, 0, 50, 1),
)  # fmt: skip


def test_retention_is_shown_of_complete_months() -> None:
    figure = retention(COHORTS, as_of=datetime(2026, 2, 1, tzinfo=UTC))
    whole, axes = drawn(figure), figure.axes[0]
    names, cells, cohorts = placed(axes)
    assert names == [(0, 0, "0"), (1, 0, "1"), (2, 0, "2")]
    assert cells == [(0, 0, "60"), (1, 0, "40"), (2, 0, "10"), (0, 1, "40"), (1, 1, "10"), (0, 2, "2.0")]
    assert light(axes, 1) == ["60", "40", "40"]
    assert [(y, text) for _, y, text in cohorts] == [
        (0, "Nov 2025  ·  100"),
        (1, "Dec 2025  ·  300"),
        (2, "Jan 2026  ·  50"),
    ]
    assert axes.get_ylim() == (2.5, -0.5)
    assert "40 % of new users post in their first month, 10 % two months later" in whole
    assert "is not complete" not in whole
    running = drawn(retention(COHORTS, as_of=datetime(2026, 1, 15, tzinfo=UTC)))
    assert "45 % of new users post in their first month, 40 % a month later" in running
    assert "is not complete" in running


def test_retention_of_the_first_days_has_no_figure_yet() -> None:
    first = drawn(retention(COHORTS[COHORTS.months_since == 0].tail(1), as_of=datetime(2026, 1, 9, tzinfo=UTC)))
    assert "Retention by month of sign-up" in first
    assert "No user yet." in drawn(retention(COHORTS.iloc[:0], as_of=AS_OF))


def test_small_shares_have_a_decimal_and_none_at_all_is_pale() -> None:
    for authors, says in ((0, "0"), (1, "0.1"), (38, "3.8"), (99, "9.9"), (100, "10")):
        figure = retention(_cohorts((NOVEMBER, 0, 1_000, authors)), as_of=AS_OF)
        drawn(figure)
        assert [text for *_, text in placed(figure.axes[0])[1]] == [says]
        assert light(figure.axes[0], 1) == ([] if authors < 3 else [says])


def test_retention_shows_the_last_two_years() -> None:
    months = pd.date_range("2022-01-01", "2026-01-01", freq="MS")
    rows = [(m.date(), k, 10, 5) for i, m in enumerate(months) for k in range(len(months) - i)]
    text = drawn(retention(_cohorts(*rows), as_of=AS_OF))
    assert "the last 24 cohorts" in text
    assert "Feb 2024" in text
    assert "Jan 2024" not in text
    assert "the last 24 cohorts" not in drawn(retention(_cohorts(*rows[-300:]), as_of=AS_OF)), "24 are all of them"


def test_a_few_cohorts_of_ten_years_leave_room_for_the_names_of_their_months() -> None:
    """Where few sign up, the last 24 cohorts go far back: their shares and months were written over each other."""
    rows = [(date(2016, 2, 1), month, 5, 1) for month in range(121)] + [(JANUARY, 0, 3, 3)]
    text = drawn(retention(_cohorts(*rows), as_of=AS_OF)).splitlines()
    months = [line for line in text if line.isdecimal()]
    assert months == [str(month) for month in range(0, 121, 9)]
    for count, written in ((30, 30), (31, 0)):
        assert len(placed(retention(_cohorts(*rows[:count]), as_of=AS_OF).axes[0])[1]) == written


def test_posting_hours_name_the_fullest_hour() -> None:
    hours = REPORT_ROWS[POST_STATISTICS].to_pandas(date_as_object=False)
    crowded = hours.assign(posts=np.where((hours.weekday == 7) & (hours.hour == 23), 23_456, hours.posts))
    text = drawn(posting_hours(crowded))
    assert "Most posts come on Sundays between 23:00 and 24:00" in text
    share = 100 * 23_456 / crowded.posts.sum()
    assert f"{share:.1f}" in text
    assert "Share of the week's posts in each hour, in % (UTC)" in text
    assert "hour of the day (UTC)" in text
    assert "No post yet." in drawn(posting_hours(hours.iloc[:0]))
    assert "· 1 post, " in drawn(posting_hours(hours.head(1).assign(posts=1)))


def test_posting_hours_stand_at_their_weekday_and_hour() -> None:
    rows = [
        (NOVEMBER, 2, 4, 30),
        (NOVEMBER, 3, 5, 14),
        (DECEMBER, 2, 4, 30),
        (DECEMBER, 2, 5, 36),
        (JANUARY, 7, 23, 10),
    ]
    hours = pd.DataFrame(rows, columns=["month", "weekday", "hour", "posts"])
    figure = posting_hours(hours.assign(month=pd.to_datetime(hours.month)))
    text, (axes, by_hour, by_day) = drawn(figure), figure.axes
    assert "Most posts come on Tuesdays between 4:00 and 5:00" in text
    assert "120 posts, November 2025 to January 2026" in text
    weekdays, names, cells = placed(axes)
    assert [(y, text) for _, y, text in weekdays][::6] == [(0, "Monday"), (6, "Sunday")]
    assert names == [(hour, 0, str(hour)) for hour in range(24)]
    assert cells == [(4, 1, "50.0"), (5, 1, "30.0"), (5, 2, "11.7"), (23, 6, "8.3")]
    assert light(axes, 2) == ["50.0", "30.0"]
    left, low, right, high = bars(by_hour)
    assert {(left[n] + right[n]) / 2: high[n] for n in range(24) if high[n]} == {4: 60, 5: 50, 23: 10}
    left, low, right, high = bars(by_day)
    assert {(low[n] + high[n]) / 2: right[n] for n in range(7) if right[n]} == {1: 96, 2: 14, 6: 10}
    assert [(mark.get_text(), mark.xy) for mark in by_hour.texts] == [("50 %", (4, 60))]  # type: ignore[attr-defined]
    assert [(mark.get_text(), mark.xy) for mark in by_day.texts] == [("80 %", (96, 1))]  # type: ignore[attr-defined]
    every_hour = [(NOVEMBER, 1 + n // 24, n % 24, 5) for n in range(7 * 24)]
    hours = pd.DataFrame(every_hour, columns=hours.columns).assign(month=pd.Timestamp(NOVEMBER))
    (shades,) = [drawn for drawn in posting_hours(hours).axes[0].collections if isinstance(drawn, QuadMesh)]
    assert shades.norm.vmin == 0, "as for the colour of the text"


def test_quality_shows_the_last_runs_in_their_order() -> None:
    text = drawn(data_quality([PastRun(AS_OF, HISTORY[0].shares), *HISTORY]))
    assert "Data quality: clean_text affected most rows, 2.0 % of users" in text
    assert "of the last 12 runs" in text
    assert "1 Feb" in text
    assert "19 Jan" not in text


def test_quality_has_a_row_for_each_rule_in_the_newest_run_s_order_and_a_column_for_each_as_of() -> None:
    newest = {("posts", "orphan"): 0.4, ("users", "new"): 0.00004, ("users", "clean_text"): 0.0, ("a_table", "x"): 0.04}
    before = {("users", "gone"): 0.2, ("users", "clean_text"): 0.001, ("posts", "orphan"): None}
    figure = data_quality(
        [PastRun(AS_OF, newest), PastRun(AS_OF - timedelta(days=2), before), PastRun(AS_OF - timedelta(days=1), before)]
    )
    assert "Data quality: orphan affected most rows, 40 % of posts" in drawn(figure)
    (axes,) = figure.axes
    cells, rules, days = placed(axes)
    assert [(y, text) for _, y, text in rules] == [
        (0, "users · new"), (1, "users · clean_text"), (2, "users · gone"), (3, "a_table · x"), (4, "posts · orphan"),
    ]  # fmt: skip
    assert days == [(0, 0, "30 Jan"), (1, 0, "31 Jan"), (2, 0, "1 Feb")]
    assert [text for _, _, text in cells] == [
        "–", "–", "< 0.01", "0.10", "0.10", "0", "20", "20", "–", "–", "–", "4.0", "–", "–", "40",
    ]  # fmt: skip
    assert [(x, y) for x, y, _ in cells] == [(x, y) for y in range(5) for x in range(3)]
    assert light(axes, 0) == ["20", "20", "4.0", "40"]
    (shades,) = [drawn for drawn in axes.collections if isinstance(drawn, QuadMesh)]
    tints: Any = np.ma.filled(np.ma.asarray(shades.get_array()), np.nan)[:, 2]
    assert np.allclose(tints, [0.15, 0, np.nan, 0.786, 1], atol=0.001, equal_nan=True)
    assert [np.asarray(line.get_ydata())[0] for line in axes.lines] == [2.5, 3.5], "between the tables"


def test_quality_marks_events_and_jumps() -> None:
    runs = [
        PastRun(AS_OF, {("users", "a"): 0.0, ("posts", "orphan"): 0.31}, event="accepted"),
        PastRun(AS_OF, {("posts", "orphan"): 0.31}, event="held"),
        PastRun(AS_OF - timedelta(days=1), {("users", "a"): 0.4, ("posts", "orphan"): 0.21 - 1e-9}),
    ]
    figure = data_quality(runs)
    text = drawn(figure)
    assert "accepted" in text
    assert "held" not in text  # before it was accepted
    framed = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [(round(patch.get_x() + 0.47, 9), round(patch.get_y() + 0.44, 9)) for patch in framed] == [(1, 1)]
    assert [mark.get_position()[0] for mark in figure.axes[0].texts] == [1]
    assert "by the as_of (UTC) of the only run" in drawn(data_quality(runs[:1]))


def test_quality_copes_with_new_rules_and_runs_at_any_hour() -> None:
    new = PastRun(AS_OF + timedelta(hours=5), {("posts", "orphan"): None})
    text = drawn(data_quality([replace(new, shares={("posts", "orphan"): 0.0}), new, *HISTORY[:2]]))
    assert "no rule affected a row" in text
    assert "05:00" in text
    assert "–" in text
    assert "No row was checked yet." in drawn(data_quality([new]))
