"""Charts of users: how many, how active, how faithful."""

from __future__ import annotations

from collections.abc import Callable

import altair as alt
import numpy as np
import pandas as pd

from api.site.charts.base import HEIGHT, Chart, bars, rows, shades

COHORTS = 24
_STATUS = {"active_users": "active", "inactive_users": "inactive", "other_users": "other"}
_WINDOWS = (("1d", "1 day"), ("7d", "7 days"), ("30d", "30 days"))


def status(frame: pd.DataFrame) -> Chart:
    """Users by status."""
    row = frame.iloc[-1]
    some = [{"status": said, "users": int(row[name])} for name, said in _STATUS.items()]
    return bars(pd.DataFrame(some), "status", "users", "Users")


def windows(frame: pd.DataFrame) -> Chart:
    """New users and posts of a day, a week, a month."""
    row = frame.iloc[-1]
    kinds = (("new users", "new_users"), ("posts", "posts"))
    some = [
        {"window": said, "kind": kind, "count": int(row[f"{name}_{short}"])}
        for short, said in _WINDOWS
        for kind, name in kinds
    ]
    return (
        alt.Chart(rows(pd.DataFrame(some)))
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            y=alt.Y("window:N", title=None, sort=None),
            yOffset=alt.YOffset("kind:N", sort=None),
            x=alt.X("count:Q", title=None, axis=alt.Axis(format=",d")),
            color=alt.Color("kind:N", sort=None),
            tooltip=["window:N", "kind:N", alt.Tooltip("count:Q", format=",")],
        )
        .properties(height=HEIGHT)
    )


def histogram(column: str, edges: list[float], title: str) -> Callable[[pd.DataFrame], Chart]:
    """Authors by classes of a figure, counted here: there may be a million of them."""

    def make(frame: pd.DataFrame) -> Chart:
        counts, _ = np.histogram(frame[column].astype(float), bins=[*edges, np.inf])
        named = [_class(low, high) for low, high in zip(edges, [*edges[1:], np.inf], strict=True)]
        return bars(pd.DataFrame({title: named, "authors": counts}), title, "authors", "Authors")

    return make


def _class(low: float, high: float) -> str:
    if np.isinf(high):
        return f"{low:,.0f} and more"
    return f"{low:,.0f}" if high - low == 1 else f"{low:,.0f} to {high - 1:,.0f}"


def cohorts(frame: pd.DataFrame) -> Chart:
    """Retention by month of sign-up and month since, of the last two years."""
    months = sorted(frame["cohort_month"].unique())[-COHORTS:]
    some = frame[frame["cohort_month"].isin(months) & (frame["months_since"] < COHORTS)]
    some = some.assign(cohort=some["cohort_month"].dt.strftime("%Y-%m")).drop(columns="cohort_month")
    return (
        alt.Chart(rows(some))
        .mark_rect()
        .encode(
            x=alt.X("months_since:O", title="Months since sign-up", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("cohort:O", title="Signed up in"),
            color=shades("retention:Q", "Retention", ".0%"),
            tooltip=[
                alt.Tooltip("cohort:O", title="Signed up in"),
                alt.Tooltip("months_since:O", title="Months since"),
                alt.Tooltip("users:Q", title="Users", format=","),
                alt.Tooltip("authors:Q", title="With a post", format=","),
                alt.Tooltip("retention:Q", title="Retention", format=".1%"),
            ],
        )
        .properties(height=alt.Step(18))
    )


def retention_by_age(frame: pd.DataFrame) -> Chart:
    """All cohorts together, by months since sign-up."""
    sums = frame.groupby("months_since", as_index=False)[["users", "authors"]].sum()
    sums = sums[sums["months_since"] <= COHORTS].assign(retention=lambda table: table["authors"] / table["users"])
    return (
        alt.Chart(rows(sums))
        .mark_line(point=True, color="$teal", strokeWidth=2.5)
        .encode(
            x=alt.X("months_since:Q", title="Months since sign-up"),
            y=alt.Y("retention:Q", title="Users with a post", axis=alt.Axis(format=".0%")),
            tooltip=[
                alt.Tooltip("months_since:Q", title="Months since"),
                alt.Tooltip("users:Q", title="Users", format=","),
                alt.Tooltip("retention:Q", title="Retention", format=".1%"),
            ],
        )
        .properties(height=HEIGHT)
    )
