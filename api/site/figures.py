"""The headline of the overview: figures of a run, how they moved, and a line of how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from api.site.formats import change, decimal, percent, whole

SPARK_DAYS = 60
WEEK = 7


@dataclass(frozen=True, slots=True)
class Spark:
    """A line in a box of 120 × 32; `label` says it to those who do not see it."""

    path: str
    label: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure with its change."""

    title: str
    about: str
    value: str
    change: str
    direction: str
    against: str
    line: Spark


def tiles(stats: pd.DataFrame, daily: pd.DataFrame, quality: pd.DataFrame, as_of: datetime) -> list[Tile]:
    """The figures of a run from three of its reports. Sums, changes and lines are of whole days only."""
    row = stats.iloc[0]
    days = _whole_days(daily, as_of).set_index("date")
    week = "in 7 days" if len(days) == len(daily) else "in 7 whole days"
    found = [
        _running("Users", "in all", row["total_users"], days["total_users"]),
        _weekly("New users", week, days["new_users"]),
        _running("Active authors", "in 28 days", _last(days["authors_28d"]), days["authors_28d"]),
        _weekly("Posts", week, days["posts"]),
        _stickiness(days["stickiness"]),
        _rejected(quality),
    ]
    return [tile for tile in found if tile]


def _whole_days(daily: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """Without the last day while it is not over."""
    is_whole = as_of == as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    return daily if is_whole or daily.empty else daily.iloc[:-1]


def _running(title: str, about: str, value: float | None, line: pd.Series[Any]) -> Tile:
    """A level: against the level a week before."""
    text, direction = change(_at(line, WEEK), _last(line))
    return Tile(title, about, whole(value), text, direction, "in a week", spark(line.tail(SPARK_DAYS), title))


def _weekly(title: str, about: str, per_day: pd.Series[Any]) -> Tile:
    """A sum of seven days: against the seven days before."""
    value, sums = per_day.tail(WEEK).sum(), per_day.rolling(WEEK).sum().dropna()
    text, direction = change(_at(sums, WEEK), _last(sums))
    line = spark(sums.tail(SPARK_DAYS), title)
    return Tile(title, about, whole(value), text, direction, "on the week before", line)


def _stickiness(per_day: pd.Series[Any]) -> Tile:
    means = per_day.rolling(WEEK, min_periods=1).mean().dropna()
    last = _last(means)
    text, direction = change(_at(means, WEEK), last, points=True)
    title = "Stickiness"
    return Tile(title, "7-day mean", percent(last), text, direction, "in a week", spark(means.tail(SPARK_DAYS), title))


def _rejected(quality: pd.DataFrame) -> Tile:
    """The share of the rows read that a rule rejected; all rows reach a table's first rule."""
    read = quality.groupby("table")["rows_checked"].max().sum()
    rejected = quality.loc[quality["action"] == "rejected", "rows_affected"].sum()
    text = percent(rejected / read) if read else "–"
    return Tile("Rejected", "of the rows read", text, whole(rejected), "same", f"of {whole(read)} rows", Spark("", ""))


def _last(line: pd.Series[Any]) -> float | None:
    return None if line.empty or pd.isna(line.iloc[-1]) else float(line.iloc[-1])


def _at(line: pd.Series[Any], back: int) -> float | None:
    return float(line.iloc[-1 - back]) if len(line) > back and not pd.isna(line.iloc[-1 - back]) else None


def spark(line: pd.Series[Any], title: str) -> Spark:
    """The line of a series; empty for less than two values."""
    values = [float(value) for value in line.dropna()]
    if len(values) < 2:
        return Spark("", "")
    low, high = min(values), max(values)
    span, step = (high - low) or 1.0, 120 / (len(values) - 1)
    points = [f"{step * at:.1f} {30 - 28 * (value - low) / span:.1f}" for at, value in enumerate(values)]
    said = f"{title}, last {len(values)} days: from {decimal(values[0])} to {decimal(values[-1])}"
    return Spark("M" + " L".join(points), said)
