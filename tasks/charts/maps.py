"""Heat maps: retention by cohort, and when people post."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tasks.charts.marks import Labels, bars, heat_map, name_columns, name_rows
from tasks.charts.style import BLUE, QUIET, card, ink_on, nothing, percent, plural, top_of

COHORTS = 24  # a longer history than this is read in the report itself
_NAMED, _WRITTEN = 14, 30  # columns that have room for their names, and for a share in each cell
_CONTRAST = 0.5  # of the colours: the difference between 1 % and 4 % must show beside a first month of 40 %
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def retention(cohorts: pd.DataFrame, *, as_of: datetime) -> Figure:
    """Share of each month's new users who post in the months after. cohorts: the report signup_cohorts."""
    if cohorts.empty:
        return nothing(card("Retention by month of sign-up", "Share of a cohort with a post"), "No user yet.")
    months = sorted(cohorts.cohort_month.unique())[-COHORTS:]
    shown = cohorts[cohorts.cohort_month.isin(months)]
    shares = shown.pivot(index="cohort_month", columns="months_since", values="retention")
    sizes = shown.drop_duplicates("cohort_month").set_index("cohort_month").users
    figure = card(
        _retention_title(cohorts, as_of),
        _retention_subtitle(cohorts, as_of),
        height=max(3.4, 1.95 + 0.31 * len(shares)),
    )
    axes, bar = _map_axes(figure)
    _draw_shares(axes, bar, shares)
    name_rows(axes, [f"{month:%b %Y}  ·  {sizes[month]:,}" for month in shares.index])
    axes.set_title("sign-up  ·  users", fontsize=9.5, color=QUIET, x=-0.008, ha="right")
    return figure


def _retention_title(cohorts: pd.DataFrame, as_of: datetime) -> str:
    """The mean over complete months, weighted by the size of the cohorts."""
    whole = cohorts[_end_of_cell(cohorts) <= pd.Timestamp(as_of).tz_localize(None)]
    sums = whole.groupby("months_since", dropna=False)[["authors", "users"]].sum()
    shares = sums.authors / sums.users
    if shares.empty:
        return "Retention by month of sign-up"
    first = f"{percent(shares.iloc[0])} of new users post in their first month"
    later = int(min(3, shares.index.max()))
    return first if later < 1 else f"{first}, {percent(shares[later])} {_months(later)} later"


def _retention_subtitle(cohorts: pd.DataFrame, as_of: datetime) -> str:
    left = "" if cohorts.cohort_month.nunique() <= COHORTS else f" · the last {COHORTS} cohorts"
    running = (_end_of_cell(cohorts) > pd.Timestamp(as_of).tz_localize(None)).any()
    return f"Share of a month's new users with a post{left}" + (
        " · the last cell of a row is not complete" if running else ""
    )


def _end_of_cell(cohorts: pd.DataFrame) -> pd.Series[Any]:
    """First instant after the calendar month of each row."""
    month = cohorts.cohort_month.dt.year * 12 + cohorts.cohort_month.dt.month - 1 + cohorts.months_since + 1
    return pd.to_datetime({"year": month // 12, "month": month % 12 + 1, "day": 1})


def _months(number: int) -> str:
    return ("a month", "two months", "three months")[number - 1]


def _map_axes(figure: Figure) -> tuple[Axes, Axes]:
    grid = figure.add_gridspec(
        1, 2, width_ratios=(1, 0.018), left=0.155, right=0.93, top=top_of(figure, gap=1.28),
        bottom=0.62 / figure.get_figheight(), wspace=0.03,
    )  # fmt: skip
    return figure.add_subplot(grid[0]), figure.add_subplot(grid[1])


def _draw_shares(axes: Axes, bar: Axes, shares: pd.DataFrame) -> None:
    values = shares.to_numpy(dtype=float)
    norm = PowerNorm(_CONTRAST, 0, max(float(np.nanmax(values)), 0.01))
    mesh = heat_map(axes, values, norm=norm)
    columns = values.shape[1]
    named = range(0, columns, -(-columns // _NAMED))
    name_columns(axes, {column: str(column) for column in named}, unit="months since sign-up")
    tints = np.asarray(norm(values))
    shown = np.argwhere(~np.isnan(values)) if columns <= _WRITTEN else ()
    cells = [(x, y, _cell(values[y, x]), ink_on(tints[y, x])) for y, x in shown]
    Labels(axes, cells, size=9 if columns <= 16 else 7.5)
    _bar(axes, bar, mesh, FuncFormatter(lambda share, _: percent(share)))


def _cell(share: float) -> str:
    """A share in percent without its sign, with one decimal below ten: 41, 3.8, 0."""
    value = share * 100
    return "0" if value == 0 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def posting_hours(hours: pd.DataFrame) -> Figure:
    """Posts by weekday and hour (UTC). hours: the report post_statistics."""
    if hours.empty:
        return nothing(card("When people post", "Posts by weekday and hour (UTC)"), "No post yet.")
    grid = np.zeros((7, 24), dtype=np.int64)
    np.add.at(grid, (hours.weekday.to_numpy() - 1, hours.hour.to_numpy()), hours.posts.to_numpy())
    day, hour = np.unravel_index(int(grid.argmax()), grid.shape)
    span = " to ".join(dict.fromkeys((f"{hours.month.min():%B %Y}", f"{hours.month.max():%B %Y}")))
    figure = card(
        f"Most posts come on {WEEKDAYS[int(day)]}s between {hour}:00 and {hour + 1}:00",
        f"Share of the week's posts in each hour, in % (UTC) · {plural(grid.sum(), 'post')}, {span}",
        height=4.9,
    )
    cells = figure.add_gridspec(
        2, 2, width_ratios=(1, 0.13), height_ratios=(0.24, 1), left=0.105, right=0.945, top=top_of(figure, gap=1.1),
        bottom=0.125, wspace=0.03, hspace=0.06,
    )  # fmt: skip
    axes = figure.add_subplot(cells[1, 0])
    heat_map(axes, grid, vmin=0)
    name_rows(axes, WEEKDAYS)
    name_columns(axes, {hour: str(hour) for hour in range(24)}, unit="hour of the day (UTC)")
    _write_shares(axes, grid)
    _margin(figure.add_subplot(cells[0, 0], sharex=axes), grid.sum(axis=0), across=True)
    _margin(figure.add_subplot(cells[1, 1], sharey=axes), grid.sum(axis=1), across=False)
    return figure


def _write_shares(axes: Axes, grid: np.ndarray[Any, Any]) -> None:
    """The share of the week's posts in each cell, in percent."""
    top, whole = float(grid.max()), float(grid.sum())
    shown = np.argwhere(grid)
    Labels(axes, [(x, y, f"{100 * grid[y, x] / whole:.1f}", ink_on(grid[y, x] / top)) for y, x in shown], size=7.5)


def _margin(axes: Axes, sums: np.ndarray[Any, Any], *, across: bool) -> None:
    """Sums along one side of the map, as bars without an axis: the share of the largest is written on it."""
    bars(axes, np.arange(len(sums)), sums, 0.82, across=not across, color=BLUE, alpha=0.35)
    share = percent(sums.max() / sums.sum())
    at = int(sums.argmax())
    if across:
        axes.set_ylim(0, 1.05 * sums.max())
        axes.annotate(share, (at, sums[at]), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8.5)
    else:
        axes.set_xlim(0, 1.05 * sums.max())
        axes.annotate(share, (sums[at], at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.axis("off")


def _bar(axes: Axes, bar: Axes, image: Any, formatter: FuncFormatter) -> None:
    drawn = axes.figure.colorbar(image, cax=bar, format=formatter)
    drawn.outline.set_visible(False)
    bar.tick_params(length=0, labelsize=9)
    bar.grid(visible=False)
