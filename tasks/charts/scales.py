"""The scales of charts over days, drawn as marks: matplotlib's own axes were two thirds of such a chart's time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.markers import TICKDOWN
from matplotlib.ticker import MaxNLocator

from tasks.charts.marks import Labels, moved
from tasks.charts.style import GRID, LABEL_SIZE, QUIET, short, tick_percent

_dates: Any = dates  # it has no types
_LEFT, _UNIT = 3.5, 35  # points from the axes to its numbers and to their unit
_BELOW, _TICK = 10.5, 3.5  # points from the axes to the middle of its dates, and of a tick's length


def count_axis(axes: Axes, unit: str) -> None:
    """Whole numbers with thousands separated, from zero to one at least."""
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))  # where all is zero there are no fractions of a post
    _value_axis(axes, MaxNLocator(nbins=5, integer=True), short, unit)


def share_axis(axes: Axes, top: float | None) -> None:
    """Shares as percentages, from zero to `top`, or to where they end."""
    axes.set_ylim(0, top)
    _value_axis(axes, MaxNLocator(nbins=4), tick_percent, "share")


def _value_axis(axes: Axes, locator: MaxNLocator, text: Callable[[float], str], unit: str) -> None:
    """A line across for each round number, which stands at its left."""
    low, high = axes.get_ylim()
    values = [float(value) for value in locator.tick_values(low, high) if low <= value <= high]
    across = axes.get_yaxis_transform()
    axes.hlines(values, 0, 1, transform=across, colors=GRID, linewidth=0.8, zorder=0.5)
    numbers = [(0, value, text(value), QUIET) for value in values]
    Labels(axes, numbers, size=LABEL_SIZE, align=1, pixels=across + moved(axes, -_LEFT, 0))
    axes.set_yticks([])
    axes.set_ylabel(unit)
    axes.yaxis.set_label_coords(0, 0.5, axes.transAxes + moved(axes, -_UNIT, 0))


def date_axis(axes: Axes, daily: pd.DataFrame) -> None:
    """The days of `daily` from edge to edge: each while they are few, then as many round dates as have room."""
    few, room = len(daily) <= 7, pd.Timedelta(hours=12)
    first, last = daily.date.iloc[0] - room, daily.date.iloc[-1] + room
    locator = _dates.DayLocator() if few else _dates.AutoDateLocator(minticks=3, maxticks=7)
    form = _dates.DateFormatter("%-d %b") if few else _dates.ConciseDateFormatter(locator, show_offset=False)
    low, high = _dates.date2num([first, last])
    days = [day for day in locator.tick_values(first, last) if low <= day <= high]
    along = axes.get_xaxis_transform()
    tick: dict[str, Any] = {
        "marker": TICKDOWN,
        "markersize": _TICK,
        "color": QUIET,
        "linestyle": "none",
        "clip_on": False,
    }
    axes.plot(days, [0] * len(days), transform=along, scalex=False, scaley=False, **tick)
    names = [(day, 0, name, QUIET) for day, name in zip(days, form.format_ticks(days), strict=True)]
    Labels(axes, names, size=LABEL_SIZE, pixels=along + moved(axes, 0, -_BELOW))
    axes.set_xticks([])
    axes.set_xlim(low, high)
