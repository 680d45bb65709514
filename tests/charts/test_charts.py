"""The charts: the same bytes for the same figures, readable with much, little and no data."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tasks.charts import CHARTS, draw_charts
from tasks.charts.lines import activity, growth
from tasks.charts.maps import posting_hours, retention
from tasks.charts.marks import Labels
from tasks.charts.quality import data_quality
from tasks.charts.style import drawing, ink_on, percent, plural, save, short, tick_percent
from tasks.contracts import DAILY_ACTIVITY, POST_STATISTICS, SIGNUP_COHORTS, Report
from tasks.files.manifest import FileEntry
from tasks.reports.figures import PastRun
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import AS_OF, empty_reports, make_workspace, reports

REPORT_ROWS = reports(np.random.default_rng(1), [])
HISTORY = [PastRun(AS_OF - timedelta(days=days), {("users", "clean_text"): 0.02 * days}) for days in range(1, 20)]


def _frame(report: Report) -> pd.DataFrame:
    frame: pd.DataFrame = REPORT_ROWS[report].to_pandas(date_as_object=False)
    return frame


def _labels(axes: Axes) -> list[str]:
    return [text for drawn in axes.collections if isinstance(drawn, Labels) for text in drawn.texts]


def _texts(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        texts += [*_labels(axes), *(text.get_text() for text in axes.texts)]
        texts += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        texts += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return "\n".join(texts)


def _drawn(figure: Figure) -> str:
    save(figure, Path("/dev/null"))
    return _texts(figure)


def _draw(tmp_path: Path, name: str) -> tuple[Workspace, list[FileEntry]]:
    workspace = make_workspace(tmp_path, name, users=30, posts=50)
    return workspace, draw_charts(workspace, as_of=AS_OF, history=HISTORY, settings=Settings())


def test_all_charts_are_drawn_alike_twice(tmp_path: Path) -> None:
    workspace, first = _draw(tmp_path, "a")
    with mpl.rc_context({"font.size": 30, "axes.grid": False}):  # someone's own matplotlibrc
        _, second = _draw(tmp_path, "b")
    assert first == second
    assert [entry.path for entry in first] == [f"charts/{name}.png" for name in CHARTS]
    for entry in first:
        with Image.open(workspace.files / entry.path) as image:
            assert image.format == "PNG"
            assert image.width == 1440
            assert "Software" not in image.info
            assert np.asarray(image.convert("RGBA"))[..., 3].min() == 255, "opaque, so it reads on dark pages too"


def test_empty_tables_give_charts_that_say_so(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, users=0, posts=0)
    for report, rows in empty_reports().items():
        workspace.spool("reports", report.name, report.schema).write(0, rows.to_batches())
    assert len(draw_charts(workspace, as_of=AS_OF, history=[], settings=Settings())) == len(CHARTS)


@pytest.fixture(autouse=True)
def _style() -> Any:
    with drawing():
        yield


def test_growth_names_the_totals_and_their_day() -> None:
    daily = _frame(DAILY_ACTIVITY)
    text = _drawn(growth(daily, as_of=AS_OF))
    last = daily.iloc[-1]
    assert f"{last.total_users:,} users and {last.total_posts:,} posts by 31 January 2026" in text
    assert "users a day" in text
    assert "No user and no post yet." in _drawn(growth(daily.iloc[:0], as_of=AS_OF))


def test_growth_of_one_day_shows_it() -> None:
    daily = _frame(DAILY_ACTIVITY).head(1).assign(total_users=1, total_posts=1, new_users=1, posts=1)
    text = _drawn(growth(daily, as_of=AS_OF))
    assert "1 user and 1 post by 1 June 2025" in text
    assert "+1 user and +1 post in the last 1 day (UTC)" in text


def test_months_without_a_post_have_no_fractions_of_a_post() -> None:
    days = pd.date_range("2026-01-01", periods=120)
    daily = pd.DataFrame({"date": days, "new_users": 1, "posts": 0, "total_users": range(1, 121), "total_posts": 3})
    figure = growth(daily, as_of=datetime(2026, 5, 1, tzinfo=UTC))
    _drawn(figure)
    (axes,) = [axes for axes in figure.axes if axes.get_ylabel() == "posts a day"]
    assert axes.get_ylim() == (0.0, 1.0)
    assert {"0", "1"} <= set(_labels(axes))
    assert [text for text in _labels(axes) if "." in text] == []


def test_a_day_that_is_not_over_is_marked_and_not_in_the_mean() -> None:
    days = pd.date_range("2026-01-01", periods=10)
    daily = pd.DataFrame({"date": days, "new_users": 10, "posts": 10, "total_users": range(10), "total_posts": 5})
    daily.loc[9, ["new_users", "posts"]] = 0
    noon = datetime(2026, 1, 10, 12, tzinfo=UTC)
    figure = growth(daily, as_of=noon)
    assert "a day that is not over" in _drawn(figure)
    per_day = [axes for axes in figure.axes if "mean of 7 days" in axes.get_title(loc="left")]
    for axes in per_day:
        (mark,) = axes.texts
        assert mark.get_text().split() == ["not", "over"]
        assert mark.get_window_extent().x0 > axes.get_window_extent().x1, "it covers neither bars nor line"
        assert set(np.asarray(axes.lines[0].get_ydata(), float)) == {10.0}, "the mean is of whole days"
    whole = growth(daily, as_of=datetime(2026, 1, 11, tzinfo=UTC))
    assert "not\nover" not in _drawn(whole)
    assert np.asarray(whole.axes[1].lines[0].get_ydata(), float).min() < 10


def test_the_last_ninety_days_have_an_axis_of_their_own() -> None:
    daily = _frame(DAILY_ACTIVITY)
    assert len(daily) > 90
    figure = growth(daily, as_of=AS_OF)
    assert "last 90 days" in _drawn(figure)
    assert [len(bars.get_paths()) for bars in figure.axes[1].collections if isinstance(bars, PolyCollection)] == [90]


def test_stickiness_is_not_scaled_by_the_first_days() -> None:
    days = pd.date_range("2025-01-01", periods=200)
    daily = pd.DataFrame({"date": days, "posts": 5, "authors_7d": 50, "authors_28d": 100, "stickiness": 0.1})
    daily.loc[:6, "stickiness"] = 1.0
    figure = activity(daily, as_of=AS_OF)
    assert figure.axes[1].get_ylim()[1] < 0.2


def test_activity_names_weekly_and_monthly_authors() -> None:
    daily = _frame(DAILY_ACTIVITY)
    last = daily.iloc[-1]
    text = _drawn(activity(daily, as_of=AS_OF))
    assert f"{last.authors_7d:,} weekly and {last.authors_28d:,} monthly active authors" in text
    assert "in four weeks" in text
    assert "+0 %" not in text
    assert not re.search(r"\d\.0 %", text), "an axis reads 8 %, 16 %"
    assert "in four weeks" not in _drawn(activity(daily.head(20), as_of=AS_OF))
    assert "No post yet." in _drawn(activity(daily.assign(posts=0), as_of=AS_OF))


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
    whole = _drawn(retention(COHORTS, as_of=datetime(2026, 2, 1, tzinfo=UTC)))
    assert "40 % of new users post in their first month, 10 % two months later" in whole
    assert "is not complete" not in whole
    running = _drawn(retention(COHORTS, as_of=datetime(2026, 1, 15, tzinfo=UTC)))
    assert "45 % of new users post in their first month, 40 % a month later" in running
    assert "is not complete" in running
    assert "Nov 2025  ·  100" in running


def test_retention_of_the_first_days_has_no_figure_yet() -> None:
    first = _drawn(retention(COHORTS[COHORTS.months_since == 0].tail(1), as_of=datetime(2026, 1, 9, tzinfo=UTC)))
    assert "Retention by month of sign-up" in first
    assert "No user yet." in _drawn(retention(COHORTS.iloc[:0], as_of=AS_OF))


def test_retention_shows_the_last_two_years() -> None:
    months = pd.date_range("2022-01-01", "2026-01-01", freq="MS")
    rows = [(m.date(), k, 10, 5) for i, m in enumerate(months) for k in range(len(months) - i)]
    text = _drawn(retention(_cohorts(*rows), as_of=AS_OF))
    assert "the last 24 cohorts" in text
    assert "Feb 2024" in text
    assert "Jan 2024" not in text


def test_a_few_cohorts_of_ten_years_leave_room_for_the_names_of_their_months() -> None:
    """Where few sign up, the last 24 cohorts go far back: their shares and months were written over each other."""
    rows = [(date(2016, 2, 1), month, 5, 1) for month in range(121)] + [(JANUARY, 0, 3, 3)]
    text = _drawn(retention(_cohorts(*rows), as_of=AS_OF)).splitlines()
    months = [line for line in text if line.isdecimal()]
    assert months == [str(month) for month in range(0, 121, 9)]


def test_posting_hours_name_the_fullest_hour() -> None:
    hours = _frame(POST_STATISTICS)
    crowded = hours.assign(posts=np.where((hours.weekday == 7) & (hours.hour == 23), 23_456, hours.posts))
    text = _drawn(posting_hours(crowded))
    assert "Most posts come on Sundays between 23:00 and 24:00" in text
    share = 100 * 23_456 / crowded.posts.sum()
    assert f"{share:.1f}" in text
    assert "Share of the week's posts in each hour, in % (UTC)" in text
    assert "hour of the day (UTC)" in text
    assert "No post yet." in _drawn(posting_hours(hours.iloc[:0]))
    assert "· 1 post, " in _drawn(posting_hours(hours.head(1).assign(posts=1)))


def test_quality_shows_the_last_runs_in_their_order() -> None:
    text = _drawn(data_quality([PastRun(AS_OF, HISTORY[0].shares), *HISTORY]))
    assert "Data quality: clean_text affected most rows, 2.0 % of users" in text
    assert "of the last 12 runs" in text
    assert "1 Feb" in text
    assert "19 Jan" not in text


def test_quality_marks_events_and_jumps() -> None:
    runs = [
        PastRun(AS_OF, {("posts", "orphan"): 0.31}, event="accepted"),
        PastRun(AS_OF, {("posts", "orphan"): 0.31}, event="held"),
        PastRun(AS_OF - timedelta(days=1), {("posts", "orphan"): 0.01}),
    ]
    figure = data_quality(runs)
    text = _drawn(figure)
    assert "accepted" in text
    assert "held" not in text  # before it was accepted
    framed = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [round(patch.get_x() + 0.47) for patch in framed] == [1]


def test_quality_copes_with_new_rules_and_runs_at_any_hour() -> None:
    new = PastRun(AS_OF + timedelta(hours=5), {("posts", "orphan"): None})
    text = _drawn(data_quality([replace(new, shares={("posts", "orphan"): 0.0}), new, *HISTORY[:2]]))
    assert "no rule affected a row" in text
    assert "05:00" in text
    assert "–" in text
    assert "No row was checked yet." in _drawn(data_quality([new]))


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.314, "31 %"),
        (0.0996, "10 %"),
        (0.042, "4.2 %"),
        (0.0096, "1.0 %"),
        (0.0003, "0.03 %"),
        (0.00005, "0.01 %"),
        (1e-6, "< 0.01 %"),
    ],
)
def test_shares_read_as_percentages(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.08, "8 %"), (0.16, "16 %"), (0.025, "2.5 %"), (0, "0 %")])
def test_an_axis_has_no_needless_decimals(share: float, text: str) -> None:
    assert tick_percent(share) == text


def test_numbers_are_short() -> None:
    assert [short(n) for n in (950, 12_000, 1_500_000)] == ["950", "12k", "1.5M"]
    assert [short(n) for n in (999, 1_000, -1_000, 1_000_000, 1e9)] == ["999", "1k", "-1k", "1M", "1G"]
    assert [plural(n, "user") for n in (0, 1, 2_000)] == ["0 users", "1 user", "2,000 users"]
    assert [ink_on(share) == "#ffffff" for share in (0, 0.49, 0.5, 1)] == [False, False, True, True]


def test_drawing_leaves_the_process_as_it_was() -> None:
    before = dict(mpl.rcParams)
    with drawing():
        save(growth(_frame(DAILY_ACTIVITY), as_of=AS_OF), Path("/dev/null"))
    assert dict(mpl.rcParams) == before
