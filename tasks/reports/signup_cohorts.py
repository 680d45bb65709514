"""Retention by month of sign-up and month since."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.cleaning.partials import DAY, Columns, Ints, month_of
from tasks.contracts import SIGNUP_COHORTS
from tasks.reports.facts import ReportFacts, as_report, first_day_of


def signup_cohorts(facts: ReportFacts) -> pa.Table:
    """Per cohort and month since, how many of the cohort posted; months without posts are zeros."""
    cohorts, sizes = np.unique(month_of(facts.signed_up), return_counts=True)
    last_month = int(month_of(np.array([facts.as_of - 1]))[0])
    spans = last_month - cohorts + 1
    starts = np.cumsum(spans) - spans
    months_since = np.arange(spans.sum()) - np.repeat(starts, spans)
    users = np.repeat(sizes, spans)
    authors = np.zeros(len(users), np.int64)
    for group in facts.author_days.groups("author", "day"):
        cohort, since = _active_months(facts, group)
        np.add.at(authors, starts[np.searchsorted(cohorts, cohort)] + since, 1)
    return as_report(
        SIGNUP_COHORTS,
        {
            "cohort_month": np.repeat(first_day_of(cohorts), spans),
            "months_since": months_since,
            "users": users,
            "authors": authors,
            "retention": authors / users,
        },
    )


def _active_months(facts: ReportFacts, rows: Columns) -> tuple[Ints, Ints]:
    """Cohort and month since of each author's active months, each once; what is before the cohort counts at 0."""
    author, day = rows["author"], rows["day"]
    months = month_of(np.arange(day.max() + 1) * DAY)  # of days, of which there are few
    month, cohort = months[day], facts.months_of_users[author]
    since = np.maximum(month - cohort, 0)
    # Author days are sorted by author and day, so equal pairs stand side by side.
    new = (np.diff(author, prepend=-1) != 0) | (np.diff(since, prepend=-1) != 0)
    return cohort[new], since[new]
