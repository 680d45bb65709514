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

# The columns that the totals, the charts and the reports site go by; no other column and no other report is needed.
NEEDED: dict[str, tuple[str, ...]] = {
    "user_statistics": (
        *("as_of", "total_users", "active_users", "inactive_users", "other_users", "posting_users", "total_posts"),
        *(f"{what}_{days}d" for what in ("new_users", "posts") for days in (1, 7, 30)),
    ),
    "daily_activity": (
        *("date", "new_users", "posts", "authors", "new_authors", "words", "authors_7d", "authors_28d", "stickiness"),
        *("total_users", "total_posts"),
    ),
    "author_activity": ("post_count", "words", "days_since_last_post"),
    "signup_cohorts": ("cohort_month", "months_since", "users", "authors", "retention"),
    "post_statistics": ("month", "weekday", "hour", "posts", "words"),
    "data_quality": ("table", "rule", "action", "rows_checked", "rows_affected", "share"),
}


def check_builders(builders: Mapping[str, object]) -> None:
    """Raise ConfigurationError unless reports and functions belong to each other, and nothing NEEDED is gone."""
    declared = {report.name: report for report in REPORTS}
    for name in declared.keys() - builders.keys():
        raise ConfigurationError(
            f"The report {name} is declared, and no function builds it.",
            remedy=f"Write `def {name}(facts: ReportFacts) -> pa.Table` in tasks/reports/{name}.py, and add its line "
            "to BUILDERS in tasks/reports/__init__.py.",
        )
    for name, columns in NEEDED.items():
        if name not in declared:
            raise _gone(f"report {name}", name)
        for column in columns:
            if column not in declared[name].schema.names:
                raise _gone(f"column {column} of the report {name}", column)
    for name in builders.keys() - declared.keys():
        raise ConfigurationError(
            f"tasks/reports/ builds a report {name} that is not declared.",
            remedy="Declare it in tasks/contracts/reports.py, and add it to REPORTS there.",
        )


def _gone(what: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"The {what} is gone, and the pipeline goes by it.",
        remedy=f"Declare and build it again. To do without it, take `{name}` out of what uses it: "
        "tasks/reports/checks.py, tasks/charts/, api/site/, and NEEDED in tasks/reports/__init__.py.",
    )


check_builders(BUILDERS)

__all__ = ["BUILDERS", "ReportFacts"]
