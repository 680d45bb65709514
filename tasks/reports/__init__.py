"""The reports, each a function of the same facts. To add one: its contract, its function, its line here, its test."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from tasks.contracts import REPORTS
from tasks.errors import ConfigurationError
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

# What the totals, the guard, the charts and the reports site go by; no other report is needed.
NEEDED = ("user_statistics", "daily_activity", "author_activity", "signup_cohorts", "post_statistics", "data_quality")


def check_builders(builders: Mapping[str, object]) -> None:
    """Raise ConfigurationError unless reports and functions belong to each other, and no NEEDED one is gone."""
    declared = {report.name for report in REPORTS}
    for name in declared - builders.keys():
        raise ConfigurationError(
            f"The report {name} is declared, and no function builds it.",
            remedy=f"Write `def {name}(facts: ReportFacts) -> pa.Table` in tasks/reports/{name}.py, and add its line "
            "to BUILDERS in tasks/reports/__init__.py.",
        )
    if missing := [name for name in NEEDED if name not in declared | builders.keys()]:
        raise ConfigurationError(
            f"The report {missing[0]} is gone, and the pipeline goes by it.",
            remedy=f"Declare and build it again. To do without it, take `{missing[0]}` out of tasks/reports/checks.py, "
            "tasks/charts/, api/site/charts/ and the list NEEDED in tasks/reports/__init__.py.",
        )
    for name in builders.keys() - declared:
        raise ConfigurationError(
            f"tasks/reports/ builds a report {name} that is not declared.",
            remedy="Declare it in tasks/contracts/reports.py, and add it to REPORTS there.",
        )


check_builders(BUILDERS)

__all__ = ["BUILDERS", "ReportFacts"]
