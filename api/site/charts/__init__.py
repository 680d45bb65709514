"""The charts of each report as Vega-Lite, made by Altair: to add one, write its function and its line here.

A chart is a plain function of the report's rows. Colours are names of the site's own (`$blue`), as it has two themes.
"""

from __future__ import annotations

from api.site.charts.base import DRAWING, ChartDef, Spec, daily, lines, spec_of
from api.site.charts.content import hours, quality_now, quality_over_time, words
from api.site.charts.people import cohorts, histogram, retention_by_age, status, windows

__all__ = ["CHARTS", "DRAWING", "OVERVIEW", "QUALITY", "ChartDef", "Spec", "spec_of"]

_STEPS = "By day, with the 7-day mean."
_POSTS = ChartDef("posts", "Posts", _STEPS, daily("posts", "Posts", "$blue"), wide=True, by_day=True)
_NEW_USERS = ChartDef("new-users", "New users", _STEPS, daily("new_users", "New users", "$teal"), by_day=True)
_AUTHORS = ChartDef(
    "authors",
    "Active authors",
    "Distinct users with a post on the day, in 7 and in 28 days.",
    lines({"authors": "1 day", "authors_7d": "7 days", "authors_28d": "28 days"}, "Authors"),
    by_day=True,
)
_STICKINESS = ChartDef(
    "stickiness",
    "Stickiness",
    "Authors of the day among those of 28 days, with the 7-day mean.",
    daily("stickiness", "Stickiness", "$violet", form=".1%"),
    by_day=True,
)
_GROWTH = ChartDef(
    "growth", "All users", "Users up to the end of each day.", lines({"total_users": "Users"}, "Users"), by_day=True
)
_COUNTS: list[float] = [1, 2, 3, 6, 11, 21, 51, 101, 501]
_RECENCY: list[float] = [0, 1, 7, 28, 90, 180, 365, 730]

CHARTS: dict[str, tuple[ChartDef, ...]] = {
    "user_statistics": (
        ChartDef("status", "Users by status", "All users in scope.", status),
        ChartDef("windows", "What is new", "New users and posts in the last day, week and month.", windows),
    ),
    "daily_activity": (_POSTS, _NEW_USERS, _AUTHORS, _STICKINESS, _GROWTH),
    "author_activity": (
        ChartDef("counts", "Posts of an author", "Authors by their posts.", histogram("post_count", _COUNTS, "Posts")),
        ChartDef(
            "recency",
            "Days since the last post",
            "Authors by how long ago they posted last.",
            histogram("days_since_last_post", _RECENCY, "Days"),
        ),
    ),
    "signup_cohorts": (
        ChartDef("cohorts", "Retention by cohort", "New users of a month with a post in later ones.", cohorts, True),
        ChartDef("by-age", "Retention by age", "All cohorts together, by months since sign-up.", retention_by_age),
    ),
    "post_statistics": (
        ChartDef("hours", "When people post", "Posts of the last 12 months by weekday and hour, UTC.", hours, True),
        ChartDef("words", "Length of posts", "Mean words of a post by month.", words),
    ),
    "data_quality": (
        ChartDef("rules", "Rules that found something", "Share of the rows that reached the rule.", quality_now, True),
    ),
}
OVERVIEW = (_POSTS, _AUTHORS, _NEW_USERS)
QUALITY = ChartDef(
    "history", "Shares over time", "The rules that affect most, one run a day.", quality_over_time, wide=True
)
