"""Charts over days: growth and activity."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tasks.charts.style import BLUE, LEFT, ORANGE, RIGHT, TEAL, card, count_axis, nothing, percent, plural, top_of

_dates: Any = dates  # it has no types
NO_DAYS = "No user and no post yet."


def growth(daily: pd.DataFrame) -> Figure:
    """Users and posts in total, and how many came each day. daily: the report daily_activity."""
    if daily.empty:
        return nothing(card("Growth of users and posts", "Totals by day (UTC)"), NO_DAYS)
    last, month = daily.iloc[-1], daily.tail(30)
    figure = card(
        f"{plural(last.total_users, 'user')} and {plural(last.total_posts, 'post')} by {last.date:%-d %B %Y}",
        f"+{plural(month.new_users.sum(), 'user')} and +{plural(month.posts.sum(), 'post')} "
        f"in the last {plural(len(month), 'day')} (UTC)",
    )
    grid = figure.add_gridspec(
        2, 2, height_ratios=(1.7, 1), left=LEFT, right=RIGHT, top=top_of(figure), bottom=0.075, hspace=0.42, wspace=0.2
    )
    for column, (noun, total, new, colour) in enumerate(
        (("users", "total_users", "new_users", BLUE), ("posts", "total_posts", "posts", ORANGE))
    ):
        _total(figure.add_subplot(grid[0, column]), daily, total, noun, colour)
        _per_day(figure.add_subplot(grid[1, column]), daily, new, noun, colour)
    return figure


def _total(axes: Axes, daily: pd.DataFrame, column: str, noun: str, colour: str) -> None:
    axes.fill_between(daily.date, daily[column], color=colour, alpha=0.16, linewidth=0)
    axes.plot(daily.date, daily[column], color=colour, linewidth=2, marker=_marker(daily))
    axes.set_title(f"{noun.capitalize()} in total")
    _days(axes, daily)
    count_axis(axes, noun)


def _per_day(axes: Axes, daily: pd.DataFrame, column: str, noun: str, colour: str) -> None:
    axes.fill_between(daily.date, daily[column], step="mid", color=colour, alpha=0.28, linewidth=0)
    axes.plot(daily.date, _week(daily[column]), color=colour, linewidth=1.6, marker=_marker(daily))
    axes.set_title(f"New {noun} a day, and the mean of 7 days")
    _days(axes, daily)
    count_axis(axes, f"{noun} a day")


def activity(daily: pd.DataFrame) -> Figure:
    """Weekly and monthly active authors, and how often authors come back. daily: the report daily_activity."""
    if daily.empty or not daily.posts.any():
        return nothing(
            card("Weekly and monthly active authors", "Distinct users with a post, by day (UTC)"), "No post yet."
        )
    last = daily.iloc[-1]
    figure = card(
        f"{last.authors_7d:,} weekly and {last.authors_28d:,} monthly active authors",
        f"Distinct users with a post in the 7 and 28 days up to each day (UTC){_trend(daily)}",
    )
    grid = figure.add_gridspec(
        2, 1, height_ratios=(2.3, 1), left=LEFT, right=0.87, top=top_of(figure), bottom=0.075, hspace=0.4
    )
    authors = figure.add_subplot(grid[0])
    for column, label, colour in (("authors_28d", "28 days", BLUE), ("authors_7d", "7 days", ORANGE)):
        authors.plot(daily.date, daily[column], color=colour, linewidth=2, marker=_marker(daily))
        _label(authors, daily, column, label, colour)
    authors.set_title("Active authors")
    _days(authors, daily)
    count_axis(authors, "users")
    _stickiness(figure.add_subplot(grid[1]), daily)
    return figure


def _label(axes: Axes, daily: pd.DataFrame, column: str, label: str, colour: str) -> None:
    """The line's name at its end, where the eye is: no legend to look up."""
    last, apart = daily.iloc[-1], daily.authors_28d.iloc[-1] - daily.authors_7d.iloc[-1]
    close = apart < 0.16 * daily.authors_28d.max()
    axes.annotate(
        f"{label}\n{last[column]:,}",
        (last.date, last[column]),
        xytext=(9, 0),
        textcoords="offset points",
        color=colour,
        fontweight="bold",
        va=("bottom" if column == "authors_28d" else "top") if close else "center",
        annotation_clip=False,
    )


def _stickiness(axes: Axes, daily: pd.DataFrame) -> None:
    smooth = _week(daily.stickiness)
    axes.plot(daily.date, smooth, color=TEAL, linewidth=1.8, marker=_marker(daily))
    axes.fill_between(daily.date, smooth, color=TEAL, alpha=0.14, linewidth=0)
    axes.set_title("Stickiness: share of the 28 days' authors who post on a day (mean of 7 days)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share")
    _days(axes, daily)


def _trend(daily: pd.DataFrame) -> str:
    """How the monthly figure moved in four weeks, when there were any authors then."""
    if len(daily) <= 28 or not (before := daily.authors_28d.iloc[-29]):
        return ""
    change = daily.authors_28d.iloc[-1] / before - 1
    return f" · monthly {change:+.0%} in four weeks".replace("%", " %").replace("-", "−")


def _week(values: pd.Series[float]) -> pd.Series[float]:
    return values.rolling(7, min_periods=1).mean()


def _marker(daily: pd.DataFrame) -> str:
    """Dots while the days are few: a line of one point shows nothing."""
    return "o" if len(daily) <= 7 else ""


def _days(axes: Axes, daily: pd.DataFrame) -> None:
    few = len(daily) <= 7
    locator = _dates.DayLocator() if few else _dates.AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    concise = _dates.ConciseDateFormatter(locator, show_offset=False)
    axes.xaxis.set_major_formatter(_dates.DateFormatter("%-d %b") if few else concise)
    room = pd.Timedelta(hours=12)
    axes.set_xlim(daily.date.iloc[0] - room, daily.date.iloc[-1] + room)
