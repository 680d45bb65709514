"""Charts over days: growth and activity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.charts.marks import bars
from tasks.charts.scales import count_axis, date_axis, share_axis
from tasks.charts.style import (
    BLUE,
    LEFT,
    ORANGE,
    QUIET,
    RIGHT,
    TEAL,
    card,
    nothing,
    plural,
    top_of,
)

_dates: Any = dates  # it has no types
NO_DAYS = "No user and no post yet."
RECENT = 90  # days
_WARM_UP = 28  # days until a share of the last 28 days' authors means what it says
_HEADROOM = 1.15


@dataclass(frozen=True, slots=True)
class Days:
    """daily_activity, with its last day known to be whole or not."""

    daily: pd.DataFrame
    is_last_whole: bool

    @classmethod
    def of(cls, daily: pd.DataFrame, as_of: datetime) -> Days:
        """The last day is whole when as_of is a midnight (UTC)."""
        return cls(daily, as_of.time() == time())

    @property
    def whole(self) -> pd.DataFrame:
        """The days that are over."""
        return self.daily if self.is_last_whole else self.daily.iloc[:-1]

    def recent(self) -> Days:
        """The last 90 days of it."""
        return Days(self.daily.tail(RECENT), self.is_last_whole)


def growth(daily: pd.DataFrame, *, as_of: datetime) -> Figure:
    """How many users and posts there are, and how many come a day. daily: the report daily_activity.

    Above: totals since the beginning. Below: the last 90 days, with the mean of 7 whole days; a day that is not over
    yet is drawn apart and not in the mean.
    """
    if daily.empty:
        return nothing(card("Growth of users and posts", "Totals by day (UTC)"), NO_DAYS)
    days = Days.of(daily, as_of)
    last, month = daily.iloc[-1], days.whole.tail(30)
    figure = card(
        f"{plural(last.total_users, 'user')} and {plural(last.total_posts, 'post')} by {_until(days)}",
        f"+{plural(month.new_users.sum(), 'user')} and +{plural(month.posts.sum(), 'post')} "
        f"in the last {plural(len(month), 'day' if days.is_last_whole else 'whole day')} (UTC)",
    )
    grid = figure.add_gridspec(
        2, 2, height_ratios=(1, 1.25), left=LEFT, right=RIGHT, top=top_of(figure), bottom=0.075, hspace=0.42, wspace=0.2
    )
    for column, (noun, total, new, colour) in enumerate(
        (("users", "total_users", "new_users", BLUE), ("posts", "total_posts", "posts", ORANGE))
    ):
        _total(figure.add_subplot(grid[0, column]), daily, total, noun, colour)
        _per_day(figure.add_subplot(grid[1, column]), days, new, noun, colour)
    return figure


def _until(days: Days) -> str:
    date = f"{days.daily.iloc[-1].date:%-d %B %Y}"
    return date if days.is_last_whole else f"{date}, a day that is not over"


def _total(axes: Axes, daily: pd.DataFrame, column: str, noun: str, colour: str) -> None:
    axes.fill_between(daily.date, daily[column], color=colour, alpha=0.16, linewidth=0)
    axes.plot(daily.date, daily[column], color=colour, linewidth=2, marker=_marker(daily))
    axes.set_title(f"{noun.capitalize()} in total")
    date_axis(axes, daily)
    count_axis(axes, noun)


def _per_day(axes: Axes, days: Days, column: str, noun: str, colour: str) -> None:
    recent, whole = days.recent().daily, days.recent().whole
    mean = _week(days.whole[column]).tail(len(whole))
    bars(axes, _dates.date2num(whole.date), whole[column].to_numpy(), 0.9, color=colour, alpha=0.28)
    if not days.is_last_whole:
        today = recent.iloc[-1]
        axes.bar(
            [today.date], [today[column]], width=0.9, facecolor="none", edgecolor=colour, linewidth=0.9, linestyle=":"
        )
        axes.annotate(
            "not\nover", (1, 0), xycoords="axes fraction", xytext=(4, 1), textcoords="offset points", ha="left",
            va="bottom", fontsize=8, color=QUIET, annotation_clip=False,
        )  # fmt: skip
    axes.plot(whole.date, mean, color=colour, linewidth=1.8, marker=_marker(whole))
    span = f"last {len(recent)} days" if len(days.daily) > len(recent) else "by day"
    axes.set_title(f"New {noun}, {span}, and the mean of 7 days")
    date_axis(axes, recent)
    count_axis(axes, f"{noun} a day")


def activity(daily: pd.DataFrame, *, as_of: datetime) -> Figure:
    """Weekly and monthly active authors, and how often authors come back. daily: the report daily_activity."""
    if daily.empty or not daily.posts.any():
        return nothing(
            card("Weekly and monthly active authors", "Distinct users with a post, by day (UTC)"), "No post yet."
        )
    days, last = Days.of(daily, as_of), daily.iloc[-1]
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
    date_axis(authors, daily)
    count_axis(authors, "users")
    _stickiness(figure.add_subplot(grid[1]), days)
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


def _stickiness(axes: Axes, days: Days) -> None:
    whole = days.whole
    smooth = _week(whole.stickiness)
    axes.plot(whole.date, smooth, color=TEAL, linewidth=1.8, marker=_marker(whole))
    axes.fill_between(whole.date, smooth, color=TEAL, alpha=0.14, linewidth=0)
    axes.set_title("Stickiness: share of the 28 days' authors who post on a day (mean of 7 days)")
    share_axis(axes, _ceiling(whole, smooth))
    date_axis(axes, days.daily)


def _ceiling(whole: pd.DataFrame, smooth: pd.Series[float]) -> float | None:
    """The top of the scale, from the days after the first 28 with authors: before, a few people are 100 %."""
    first = whole.index[whole.posts > 0].min()
    later = smooth[smooth.index >= first + _WARM_UP].dropna()
    return float(later.quantile(0.995)) * _HEADROOM if len(later) >= _WARM_UP else None


def _trend(daily: pd.DataFrame) -> str:
    """How the monthly figure moved in four weeks, when there were any authors then."""
    if len(daily) <= 28 or not (before := daily.authors_28d.iloc[-29]):
        return ""
    change = daily.authors_28d.iloc[-1] / before - 1
    moved = f"{change:+.0%}".replace("%", " %").replace("-", "−") if abs(change) >= 0.005 else "unchanged"
    return f" · monthly {moved} in four weeks"


def _week(values: pd.Series[float]) -> pd.Series[float]:
    return values.rolling(7, min_periods=1).mean()


def _marker(daily: pd.DataFrame) -> str:
    """Dots while the days are few: a line of one point shows nothing."""
    return "o" if len(daily) <= 7 else ""
