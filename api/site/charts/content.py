"""Charts of posts and of data quality."""

from __future__ import annotations

import altair as alt
import pandas as pd

from api.site.charts.base import HEIGHT, Chart, rows, shades

WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
RULES_SHOWN = 8


def hours(frame: pd.DataFrame) -> Chart:
    """Posts by weekday and hour, of the last twelve months."""
    recent = frame[frame["month"] >= frame["month"].max() - pd.DateOffset(months=11)]
    some = recent.groupby(["weekday", "hour"], as_index=False)["posts"].sum()
    some["day"] = [WEEKDAYS[int(weekday) - 1] for weekday in some["weekday"]]
    return (
        alt.Chart(rows(some))
        .mark_rect()
        .encode(
            x=alt.X("hour:O", title="Hour (UTC)", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("day:O", title=None, sort=WEEKDAYS),
            color=shades("posts:Q", "Posts"),
            tooltip=[
                alt.Tooltip("day:O", title="Weekday"),
                alt.Tooltip("hour:O", title="Hour"),
                alt.Tooltip("posts:Q", title="Posts", format=","),
            ],
        )
        .properties(height=HEIGHT)
    )


def words(frame: pd.DataFrame) -> Chart:
    """Mean words of a post, by month."""
    sums = frame.groupby("month", as_index=False)[["posts", "words"]].sum()
    some = sums.assign(date=sums["month"], mean=sums["words"] / sums["posts"])[["date", "mean", "posts"]]
    return (
        alt.Chart(rows(some))
        .mark_line(point=True, color="$orange", strokeWidth=2.5)
        .encode(
            x=alt.X("date:T", title=None, scale=alt.Scale(type="utc")),
            y=alt.Y("mean:Q", title="Words a post", scale=alt.Scale(zero=False)),
            tooltip=[
                alt.Tooltip("date:T", title="Month", format="%b %Y"),
                alt.Tooltip("mean:Q", title="Words a post", format=",.1f"),
                alt.Tooltip("posts:Q", title="Posts", format=","),
            ],
        )
        .properties(height=HEIGHT)
    )


def quality_now(frame: pd.DataFrame) -> Chart:
    """Shares of the rules that affected anything, by action."""
    some = frame[frame["rows_affected"] > 0]
    some = some.assign(rule=some["table"] + ": " + some["rule"])
    return (
        alt.Chart(rows(some))
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            y=alt.Y("rule:N", title=None, sort="-x", axis=alt.Axis(labelLimit=230)),
            x=alt.X("share:Q", title="Share of rows", axis=alt.Axis(format=".1%")),
            color=alt.Color(
                "action:N", legend=alt.Legend(columns=3), scale=alt.Scale(domain=["changed", "rejected", "flagged"])
            ),
            tooltip=[
                alt.Tooltip("rule:N", title="Rule"),
                alt.Tooltip("action:N", title="Action"),
                alt.Tooltip("rows_affected:Q", title="Rows", format=","),
                alt.Tooltip("share:Q", title="Share", format=".2%"),
            ],
        )
        .properties(height=alt.Step(22))
    )


def quality_over_time(frame: pd.DataFrame) -> Chart:
    """Shares of the rules that affect most, over runs: `frame` as read_history gives it."""
    some = frame[frame["share"].notna()]
    some = some.assign(rule=some["table"] + ": " + some["rule"], at=some["as_of"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    lively = some.groupby("rule")["share"].max().nlargest(RULES_SHOWN).index
    some = some[some["rule"].isin(lively)]
    return (
        alt.Chart(rows(some[["at", "rule", "share", "rows_affected"]]))
        .mark_line(point={"size": 55}, strokeWidth=2)
        .encode(
            x=alt.X("at:T", title="As of", scale=_span(some["as_of"]), axis=alt.Axis(format="%-d %b", tickCount="day")),
            y=alt.Y("share:Q", title="Share of rows", axis=alt.Axis(format=".1%")),
            color=alt.Color(
                "rule:N", legend=alt.Legend(columns=2, labelLimit=240), scale=alt.Scale(scheme="tableau10")
            ),
            tooltip=[
                alt.Tooltip("rule:N", title="Rule"),
                alt.Tooltip("at:T", title="As of", format="%-d %b %Y %H:%M"),
                alt.Tooltip("share:Q", title="Share", format=".2%"),
                alt.Tooltip("rows_affected:Q", title="Rows", format=","),
            ],
        )
        .properties(height=300)
    )


def _span(instants: pd.Series[pd.Timestamp]) -> alt.Scale:
    """Of a single instant the day around it: otherwise there is no midnight in sight, and no date below the chart."""
    first, last = instants.min(), instants.max()
    if first < last:
        return alt.Scale(type="utc")
    ends = (first - pd.Timedelta(hours=12), last + pd.Timedelta(hours=12))
    return alt.Scale(type="utc", domain=[end.strftime("%Y-%m-%dT%H:%M:%SZ") for end in ends])
