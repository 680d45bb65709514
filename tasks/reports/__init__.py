"""The reports, each a function of the same facts. To add one: its contract, its function, its line here, its test."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from tasks.reports.author_activity import author_activity
from tasks.reports.daily_activity import daily_activity
from tasks.reports.data_quality import data_quality
from tasks.reports.facts import ReportFacts
from tasks.reports.post_statistics import post_statistics
from tasks.reports.signup_cohorts import signup_cohorts
from tasks.reports.user_statistics import user_statistics

BUILDERS: dict[str, Callable[[ReportFacts], pa.Table]] = {
    "user_statistics": user_statistics,
    "daily_activity": daily_activity,
    "author_activity": author_activity,
    "signup_cohorts": signup_cohorts,
    "post_statistics": post_statistics,
    "data_quality": data_quality,
}

__all__ = ["BUILDERS", "ReportFacts"]
