"""The six reports."""

from __future__ import annotations

from tasks.contracts.keys import USERS_KEY
from tasks.contracts.model import Column, Report


def _count(name: str, description: str, unit: str) -> Column:
    return Column(name, "int", description, unit=unit, nullable=False)


def _quantile(name: str, description: str, unit: str) -> Column:
    return Column(name, "float", description, unit=unit)


USER_STATISTICS = Report(
    name="user_statistics",
    description="The headline figures of users and posts in scope, one row a run.",
    keys=("as_of",),
    in_postgres=True,
    columns=(
        Column("as_of", "timestamptz", "The instant of the figures, exclusive.", unit="UTC", nullable=False),
        _count("total_users", "Users created before as_of.", "users"),
        _count("active_users", "Of them, with status `active`.", "users"),
        _count("inactive_users", "Of them, with status `inactive`.", "users"),
        _count("other_users", "Of them, with any other status.", "users"),
        _count("duplicate_accounts", "Of them, with the e-mail of an earlier user.", "users"),
        _count("users_without_email", "Of them, without a usable e-mail.", "users"),
        _count("new_users_1d", "Signed up in the 24 hours before as_of.", "users"),
        _count("new_users_7d", "Signed up in the 7 × 24 hours before as_of.", "users"),
        _count("new_users_30d", "Signed up in the 30 × 24 hours before as_of.", "users"),
        _count("posting_users", "Users with at least one post.", "users"),
        _count("total_posts", "Posts created before as_of by users in scope.", "posts"),
        _count("posts_1d", "Posts of the 24 hours before as_of.", "posts"),
        _count("posts_7d", "Posts of the 7 × 24 hours before as_of.", "posts"),
        _count("posts_30d", "Posts of the 30 × 24 hours before as_of.", "posts"),
        _quantile("posts_per_user_mean", "total_posts / total_users; null without users.", "posts per user"),
        _quantile("posts_per_author_median", "Median posts of a posting user, interpolated.", "posts per author"),
        _quantile("posts_per_author_p90", "90th percentile of the same.", "posts per author"),
        _quantile("posts_per_author_p99", "99th percentile of the same.", "posts per author"),
        Column("posts_per_author_max", "int", "Most posts of one user; null without posts.", unit="posts per author"),
    ),
)

DAILY_ACTIVITY = Report(
    name="daily_activity",
    description="One row per day (UTC), without gaps, from the first user or post to as_of's day.",
    keys=("date",),
    in_postgres=True,
    columns=(
        Column("date", "date", "Calendar day in UTC.", unit="day", nullable=False),
        _count("new_users", "Users who signed up on the day.", "users"),
        _count("posts", "Posts of the day.", "posts"),
        _count("authors", "Distinct users with a post on the day.", "users"),
        _count("new_authors", "Users whose first post ever was on the day.", "users"),
        _count("words", "Words in the day's posts.", "words"),
        _count("authors_7d", "Distinct authors in the 7 days that end with this one.", "users"),
        _count("authors_28d", "Distinct authors in the 28 days that end with this one.", "users"),
        Column("stickiness", "float", "authors / authors_28d; null when authors_28d is 0.", unit="share"),
        _count("total_users", "Users up to the end of the day.", "users"),
        _count("total_posts", "Posts up to the end of the day.", "posts"),
    ),
)

AUTHOR_ACTIVITY = Report(
    name="author_activity",
    description="One row per user with at least one post.",
    keys=("user_id",),
    names_users=True,
    columns=(
        Column("user_id", USERS_KEY, "The user's key at the source.", nullable=False),
        Column("status", "text", "`active`, `inactive` or `other`.", nullable=False),
        Column("signed_up_at", "timestamptz", "The user's created_at.", unit="UTC", nullable=False),
        _count("post_count", "The user's posts.", "posts"),
        Column("first_post_at", "timestamptz", "The first of them.", unit="UTC", nullable=False),
        Column("last_post_at", "timestamptz", "The last of them.", unit="UTC", nullable=False),
        _count("active_days", "Days (UTC) with a post.", "days"),
        _count("longest_streak_days", "Most consecutive days with a post.", "days"),
        Column("median_gap_days", "float", "Median gap between neighbouring active days; null with one.", unit="days"),
        _count("words", "Words in the user's posts.", "words"),
        Column("words_per_post", "float", "words / post_count.", unit="words per post", nullable=False),
        Column(
            "days_to_first_post",
            "float",
            "first_post_at − signed_up_at; may be negative.",
            unit="days",
            nullable=False,
        ),
        Column("days_since_last_post", "float", "as_of − last_post_at.", unit="days", nullable=False),
    ),
)

SIGNUP_COHORTS = Report(
    name="signup_cohorts",
    description="Retention: one row per month of sign-up and month since, zeros included.",
    keys=("cohort_month", "months_since"),
    columns=(
        Column("cohort_month", "date", "First day of the month of sign-up.", unit="month", nullable=False),
        _count("months_since", "Calendar months since the month of sign-up.", "months"),
        _count("users", "Size of the cohort.", "users"),
        _count("authors", "Of them, with a post in that month; posts before the cohort's month count at 0.", "users"),
        Column("retention", "float", "authors / users.", unit="share", nullable=False),
    ),
)

POST_STATISTICS = Report(
    name="post_statistics",
    description="One row per month, weekday and hour (UTC) with a post.",
    keys=("month", "weekday", "hour"),
    columns=(
        Column("month", "date", "First day of the month.", unit="month", nullable=False),
        _count("weekday", "1 Monday … 7 Sunday.", "ISO weekday"),
        _count("hour", "0 … 23.", "hour of the day"),
        _count("posts", "Posts in that hour.", "posts"),
        _count("words", "Words in them.", "words"),
        Column("words_mean", "float", "Mean words of a post.", unit="words per post", nullable=False),
        Column("words_median", "float", "Median words of a post, interpolated.", unit="words per post", nullable=False),
        Column("words_p90", "float", "90th percentile of the same.", unit="words per post", nullable=False),
        _count("untitled_posts", "Posts whose title is null after cleaning.", "posts"),
    ),
)

DATA_QUALITY = Report(
    name="data_quality",
    description="What each cleaning rule saw and did, one row per table and rule, in the order of the rules.",
    keys=("table", "rule"),
    sorted_by_keys=False,  # in the order in which the rules are applied
    columns=(
        Column("table", "text", "`users` or `posts`.", nullable=False),
        Column("rule", "text", "Name of the rule.", nullable=False),
        Column("action", "text", "`rejected`, `changed` or `flagged`.", nullable=False),
        _count("rows_checked", "Rows that reached the rule.", "rows"),
        _count("rows_affected", "Rows that it rejected, changed or flagged.", "rows"),
        Column("share", "float", "rows_affected / rows_checked; null when nothing was checked.", unit="share"),
    ),
)

REPORTS: tuple[Report, ...] = (
    USER_STATISTICS,
    DAILY_ACTIVITY,
    AUTHOR_ACTIVITY,
    SIGNUP_COHORTS,
    POST_STATISTICS,
    DATA_QUALITY,
)
