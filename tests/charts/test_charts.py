"""The charts: the same bytes for the same figures, readable with much, little and no data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from PIL import Image

from tasks.charts import CHARTS, draw_charts
from tasks.charts.lines import activity, growth
from tasks.charts.marks import Labels
from tasks.charts.quality import data_quality
from tasks.charts.style import drawing, ink_on, percent, plural, save, short, tick_percent
from tasks.contracts import DAILY_ACTIVITY, DATA_QUALITY, Report
from tasks.files.manifest import FileEntry
from tasks.reports.figures import PastRun
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.charts.drawn import bars, drawn, labels, line, placed
from tests.publish.builders import AS_OF, empty_reports, make_workspace, reports

REPORT_ROWS = reports(np.random.default_rng(1), [])
HISTORY = [PastRun(AS_OF - timedelta(days=days), {("users", "clean_text"): 0.02 * days}) for days in range(1, 20)]
LATER = [PastRun(AS_OF + timedelta(days=days), HISTORY[0].shares) for days in range(1, 20)]


def _frame(report: Report) -> pd.DataFrame:
    frame: pd.DataFrame = REPORT_ROWS[report].to_pandas(date_as_object=False)
    return frame


def _week(values: pd.Series[Any]) -> list[float]:
    """Means of seven days, or of as many as there were."""
    return [round(float(np.mean(values[max(0, end - 7) : end])), 6) for end in range(1, len(values) + 1)]


def _number(days: Any) -> Any:
    """Days as matplotlib's axes have them."""
    return mpl.dates.date2num(days)  # type: ignore[no-untyped-call]


def _draw(tmp_path: Path, name: str, *, later: Sequence[PastRun] = ()) -> tuple[Workspace, list[FileEntry]]:
    workspace = make_workspace(tmp_path, name, users=30, posts=50)
    before = workspace.files / "charts" / "of_an_attempt_before.png"
    before.parent.mkdir(parents=True)
    before.touch()
    return workspace, draw_charts(workspace, as_of=AS_OF, history=[*later, *HISTORY], settings=Settings())


def test_all_charts_are_drawn_alike_twice(tmp_path: Path) -> None:
    workspace, first = _draw(tmp_path, "a")
    with mpl.rc_context({"font.size": 30, "lines.linestyle": ":"}):  # someone's own matplotlibrc
        _, second = _draw(tmp_path, "b", later=LATER)
    assert first == second, "of a past day, too: the nights after it are not its own"
    assert [entry.path for entry in first] == [f"charts/{name}.png" for name in CHARTS]
    rows = workspace.spool("reports", DATA_QUALITY.name, DATA_QUALITY.schema).table().to_pylist()
    shares = {(row["table"], row["rule"]): row["share"] for row in rows}
    save(data_quality([PastRun(AS_OF, shares), *HISTORY]), tmp_path / "of_the_same_shares.png")
    drawn = {path.name: path.read_bytes() for path in (workspace.files / "charts").iterdir()}
    assert drawn["data_quality.png"] == (tmp_path / "of_the_same_shares.png").read_bytes()
    assert len(drawn) == len(CHARTS)
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


def test_growth_names_the_totals_and_their_day() -> None:
    daily = _frame(DAILY_ACTIVITY)
    text = drawn(growth(daily, as_of=AS_OF))
    last = daily.iloc[-1]
    assert f"{last.total_users:,} users and {last.total_posts:,} posts by 31 January 2026" in text
    assert "users a day" in text
    assert "No user and no post yet." in drawn(growth(daily.iloc[:0], as_of=AS_OF))


def test_growth_of_one_day_shows_it() -> None:
    daily = _frame(DAILY_ACTIVITY).head(1).assign(total_users=1, total_posts=1, new_users=1, posts=1)
    figure = growth(daily, as_of=AS_OF)
    text = drawn(figure)
    assert {axes.lines[0].get_marker() for axes in figure.axes} == {"o"}, "a line of one point shows nothing"
    assert "1 user and 1 post by 1 June 2025" in text
    assert "+1 user and +1 post in the last 1 day (UTC)" in text


@pytest.mark.parametrize(
    ("days", "names"),
    [(7, [f"{day} Jan" for day in range(1, 8)]), (5_000, ["2028", "2032", "2036"])],
)
def test_dates_and_counts_stand_inside_their_axes(days: int, names: list[str]) -> None:
    daily = pd.DataFrame({"date": pd.date_range("2026-01-01", periods=days), "posts": 13, "total_posts": range(days)})
    axes = growth(daily.assign(new_users=1, total_users=1), as_of=AS_OF).axes[2]
    dates, counts = placed(axes)
    assert [name for *_, name in dates] == names
    (first, last), top = axes.get_xlim(), axes.get_ylim()[1]
    assert all(first <= day <= last for day, *_ in dates)
    assert all(0 <= count <= top for _, count, _ in counts)


def test_months_without_a_post_have_no_fractions_of_a_post() -> None:
    days = pd.date_range("2026-01-01", periods=120)
    daily = pd.DataFrame({"date": days, "new_users": 1, "posts": 0, "total_users": range(1, 121), "total_posts": 3})
    figure = growth(daily, as_of=datetime(2026, 5, 1, tzinfo=UTC))
    drawn(figure)
    (axes,) = [axes for axes in figure.axes if axes.get_ylabel() == "posts a day"]
    assert axes.get_ylim() == (0.0, 1.0)
    assert {"0", "1"} <= set(labels(axes))
    assert [text for text in labels(axes) if "." in text] == []


def test_a_day_that_is_not_over_is_marked_and_not_in_the_mean() -> None:
    days = pd.date_range("2026-01-01", periods=10)
    daily = pd.DataFrame({"date": days, "new_users": 10, "posts": 10, "total_users": range(10), "total_posts": 5})
    daily.loc[9, ["new_users", "posts"]] = 0
    noon = datetime(2026, 1, 10, 12, tzinfo=UTC)
    figure = growth(daily, as_of=noon)
    assert "a day that is not over" in drawn(figure)
    per_day = [axes for axes in figure.axes if "mean of 7 days" in axes.get_title(loc="left")]
    for axes in per_day:
        (mark,) = axes.texts
        assert mark.get_text().split() == ["not", "over"]
        assert mark.get_window_extent().x0 > axes.get_window_extent().x1, "it covers neither bars nor line"
        assert set(np.asarray(axes.lines[0].get_ydata(), float)) == {10.0}, "the mean is of whole days"
    whole = growth(daily, as_of=datetime(2026, 1, 11, tzinfo=UTC))
    assert "not\nover" not in drawn(whole)
    assert np.asarray(whole.axes[1].lines[0].get_ydata(), float).min() < 10


DAYS = pd.date_range("2026-01-01", periods=100)
MICROSECOND = datetime(2026, 4, 10, 0, 0, 0, 1, tzinfo=UTC)  # of the last of these days


def _any_daily(*columns: str) -> pd.DataFrame:
    """100 days with other numbers in each column."""
    rng = np.random.default_rng(2)
    return pd.DataFrame({"date": DAYS, **{name: rng.integers(10_000, 1_000_000, len(DAYS)) for name in columns}})


def test_growth_draws_each_column_where_it_belongs_and_the_last_ninety_days_on_an_axis_of_their_own() -> None:
    daily = _any_daily("new_users", "posts", "total_users", "total_posts")
    figure = growth(daily, as_of=MICROSECOND)
    text, month, whole = drawn(figure), daily[69:99], daily[10:99]
    assert f"+{month.new_users.sum():,} users and +{month.posts.sum():,} posts in the last 30 whole days" in text
    assert "New posts, last 90 days, and" in text
    for number, (total, new) in enumerate((("total_users", "new_users"), ("total_posts", "posts"))):
        above, below = figure.axes[2 * number : 2 * number + 2]
        area = above.collections[0].get_paths()[0].vertices
        assert line(above) == list(daily[total])
        assert np.asarray(area)[:, 1].max() == daily[total].max()
        assert line(below) == _week(daily[new][:99])[10:], "the mean of its first days is of those before, too"
        left, _, right, heights = bars(below)
        assert heights == list(whole[new])
        assert np.allclose(np.add(left, right) / 2, _number(whole.date))
        (today,) = below.patches
        assert isinstance(today, Rectangle)
        assert today.get_height() == daily[new][99]
        middle = today.get_x() + today.get_width() / 2
        assert np.allclose([middle, *below.get_xlim()], _number(DAYS[99]) + np.array([0, -89.5, 0.5]))
        first, dates = _number(DAYS[0]), placed(below)[0]
        assert [(x - first, name) for x, _, name in dates] == [(31, "Feb"), (59, "Mar"), (90, "Apr")]
        assert list(np.asarray(below.lines[1].get_xdata())) == [x for x, *_ in dates], "each stands at its tick"
    assert "New posts, by day, and" in drawn(growth(daily.tail(90), as_of=MICROSECOND))


def test_stickiness_is_not_scaled_by_the_first_days() -> None:
    days = pd.date_range("2025-01-01", periods=200)
    daily = pd.DataFrame({"date": days, "posts": 5, "authors_7d": 50, "authors_28d": 100, "stickiness": 0.1})
    daily.loc[:99, ["posts", "stickiness"]] = 0, np.nan
    daily.loc[100:106, "stickiness"] = 1.0
    figure = activity(daily, as_of=AS_OF)
    assert figure.axes[1].get_ylim()[1] < 0.2
    assert activity(daily[100:155], as_of=AS_OF).axes[1].get_ylim()[1] == 1.0 * 1.05, "too few to leave any out"
    assert "5 posts" not in drawn(activity(daily[:101], as_of=MICROSECOND)), "its only posts are of a day not over"


def test_activity_draws_each_column_where_it_belongs() -> None:
    daily = _any_daily("posts", "authors_7d", "authors_28d").assign(stickiness=np.linspace(0, 1, 100) ** 2)
    daily.loc[99, ["authors_7d", "authors_28d"]] = 1_234, 900_000
    figure = activity(daily, as_of=MICROSECOND)
    text, (authors, share) = drawn(figure), figure.axes
    assert "1,234 weekly and 900,000 monthly active authors" in text
    lines = dict(zip(["authors_28d", "authors_7d"], authors.lines, strict=False))
    for (column, curve), name in zip(lines.items(), authors.texts, strict=True):
        assert list(np.asarray(curve.get_ydata())) == list(daily[column])
        assert name.get_text() == f"{column[8:-1]} days\n{daily[column][99]:,}"
        assert (name.xy[1], name.get_color()) == (daily[column][99], curve.get_color())  # type: ignore[attr-defined]
    assert [name.get_verticalalignment() for name in authors.texts] == ["center", "center"]
    assert share.get_ylim()[0] == 0
    assert line(share) == _week(daily.stickiness[:99]), "the last day is not over"
    daily.loc[99, "authors_7d"] = 899_999
    close = activity(daily, as_of=MICROSECOND).axes[0].texts
    assert [name.get_verticalalignment() for name in close] == ["bottom", "top"], "beside each other they would be one"


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        (200, 230, "+15 %"),
        (200, 202, "+1 %"),
        (200, 180, "−10 %"),
        (1_000, 1_004, "unchanged"),
        (1_000, 996, "unchanged"),
    ],
)
def test_activity_says_how_the_month_moved_in_four_weeks(before: int, now: int, says: str) -> None:
    daily = pd.DataFrame({"date": DAYS[:29], "posts": 1, "authors_7d": 9, "authors_28d": 7, "stickiness": 0.5})
    daily.loc[[0, 28], "authors_28d"] = before, now
    assert f" · monthly {says} in four weeks" in drawn(activity(daily, as_of=AS_OF))
    assert "in four weeks" not in drawn(activity(daily[1:], as_of=AS_OF))


def test_activity_names_weekly_and_monthly_authors() -> None:
    daily = _frame(DAILY_ACTIVITY)
    last = daily.iloc[-1]
    text = drawn(activity(daily, as_of=AS_OF))
    assert f"{last.authors_7d:,} weekly and {last.authors_28d:,} monthly active authors" in text
    assert "in four weeks" in text
    assert "+0 %" not in text
    assert not re.search(r"\d\.0 %", text), "an axis reads 8 %, 16 %"
    assert "in four weeks" not in drawn(activity(daily.head(20), as_of=AS_OF))
    assert "No post yet." in drawn(activity(daily.assign(posts=0), as_of=AS_OF))


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


def test_labels_are_as_wide_as_their_text_and_stand_at_their_point_even_outside_the_axes() -> None:
    axes, font = Figure().add_subplot(), FontProperties(family="DejaVu Sans")
    for align, middle in ((0.5, 0.0), (1, -0.5)):
        drawn = Labels(axes, [(0, 0, "1,234 users", "black")], size=10, align=align)
        box, expected = (
            p.get_extents() for p in (drawn.get_paths()[0], TextPath((0, 0), "1,234 users", 10, prop=font))
        )
        assert box.width == pytest.approx(expected.width, rel=0.03)
        assert (box.x0 + box.x1) / 2 == pytest.approx(middle * expected.width, abs=1)
        assert not drawn.get_clip_on()


def test_drawing_leaves_the_process_as_it_was() -> None:
    before = dict(mpl.rcParams)
    with drawing():
        save(growth(_frame(DAILY_ACTIVITY), as_of=AS_OF), Path("/dev/null"))
    assert dict(mpl.rcParams) == before
