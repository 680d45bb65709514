"""The tables and reports of the pipeline, each declared once.

From this file come the select lists, the Arrow schemas, the checks, the tables in Postgres, the columns that may leave
in a file, the Parquet metadata and the data dictionary. Other table names, other column names, a bigint key, extra
columns or no `bio`: edit this file, and nothing else. It imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Kind = Literal["uuid", "bigint", "text", "timestamptz", "date", "int", "float", "bool"]
Cleaning = Literal["line", "block"]
InFile = Literal["value", "presence", "absent"]

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "uuid": pa.string(),
    "bigint": pa.int64(),
    "text": pa.string(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
POSTGRES_TYPES: dict[Kind, str] = {
    "uuid": "uuid",
    "bigint": "bigint",
    "text": "text",
    "timestamptz": "timestamptz",
    "date": "date",
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or a report.

    name: what it is called in everything that the pipeline writes.
    source: its name at the source, where that differs.
    nullable: whether a null is allowed in what the pipeline writes.
    optional: whether the source may lack the column; it is null throughout then.
    personal: identifies a person; never leaves in a file, a log or a message.
    cleaning: how its text is cleaned: as one line, or as a block that may have several.
    derived: made by the pipeline, not read from the source.
    in_file: what a cleaned Parquet file has of it: the value, `has_<name>`, or nothing.
    """

    name: str
    kind: Kind
    description: str
    unit: str | None = None
    source: str | None = None
    nullable: bool = True
    optional: bool = False
    personal: bool = False
    cleaning: Cleaning | None = None
    derived: bool = False
    in_file: InFile = "value"

    def __post_init__(self) -> None:
        if self.personal and self.in_file == "value":
            raise ValueError(f"column {self.name} is personal: in_file must be 'presence' or 'absent'")

    @property
    def source_name(self) -> str:
        return self.source or self.name

    @property
    def field(self) -> pa.Field[pa.DataType]:
        return pa.field(self.name, ARROW_TYPES[self.kind], nullable=self.nullable)


@dataclass(frozen=True, slots=True)
class Table:
    """A source table, and the cleaned table that is made of it. The first column is the key.

    by_month: the instant by whose month (UTC) the cleaned files are split into folders; None does not split.
    """

    name: str
    source: str
    clean: str
    description: str
    columns: tuple[Column, ...]
    source_schema: str = "public"
    by_month: str | None = None
    version: int = 1

    @property
    def key(self) -> Column:
        return self.columns[0]

    @property
    def source_columns(self) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if not c.derived)

    @property
    def raw_schema(self) -> pa.Schema:
        """What a transport delivers: the source's columns, all nullable, and `_invalid`, why a row cannot be held."""
        fields = [pa.field(c.name, ARROW_TYPES[c.kind]) for c in self.source_columns]
        return pa.schema([*fields, pa.field("_invalid", pa.string())])

    @property
    def clean_schema(self) -> pa.Schema:
        """What the cleaned table in Postgres holds, column by column."""
        return pa.schema([c.field for c in self.columns])

    @property
    def file_columns(self) -> tuple[Column, ...]:
        """The columns of the cleaned Parquet files: no personal text, `has_…` in its place."""
        return tuple(_in_file(c) for c in self.columns if c.in_file != "absent")

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def __contains__(self, name: str) -> bool:
        return any(c.name == name for c in self.columns)


def _in_file(column: Column) -> Column:
    if column.in_file == "value":
        return column
    return Column(f"has_{column.name}", "bool", f"Whether the row has a {column.name} after cleaning.", nullable=False)


@dataclass(frozen=True, slots=True)
class Report:
    """A Parquet file of aggregates. `keys` identify a row and give the order of the rows."""

    name: str
    description: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    names_users: bool = False
    in_postgres: bool = False
    version: int = 1

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([c.field for c in self.columns])


# The kind of key that the two tables have at the source: "uuid" or "bigint".
USERS_KEY: Kind = "uuid"
POSTS_KEY: Kind = "uuid"

ROW_HASH = Column(
    "row_hash",
    "text",
    "md5 over the other columns in this order, as text, joined by U+001F, null as U+001E, instants as microseconds.",
    nullable=False,
    derived=True,
    in_file="absent",
)

USERS = Table(
    name="users",
    source="users",
    clean="clean_users",
    description="People with an account, one row each, after cleaning.",
    columns=(
        Column("id", USERS_KEY, "The user's key at the source.", nullable=False),
        Column("name", "text", "Display name.", optional=True, personal=True, cleaning="line", in_file="presence"),
        Column(
            "email",
            "text",
            "E-mail address in lower case; null when it could not be one.",
            optional=True,
            personal=True,
            cleaning="line",
            in_file="presence",
        ),
        Column(
            "bio",
            "text",
            "What users say of themselves.",
            optional=True,
            personal=True,
            cleaning="block",
            in_file="presence",
        ),
        Column(
            "status",
            "text",
            "`active`, `inactive`, or `other` for anything else.",
            nullable=False,
            optional=True,
            cleaning="line",
        ),
        Column(
            "duplicate_of",
            USERS_KEY,
            "The first user with the same e-mail (earliest created_at, then smallest id); null when there is none.",
            derived=True,
        ),
        Column("created_at", "timestamptz", "When the account was made.", unit="UTC", nullable=False),
        Column(
            "updated_at",
            "timestamptz",
            "When the row was last changed, never before created_at.",
            unit="UTC",
            nullable=False,
            optional=True,
        ),
        ROW_HASH,
    ),
)

POSTS = Table(
    name="posts",
    source="posts",
    clean="clean_posts",
    by_month="created_at",
    description="What users posted, one row a post, after cleaning.",
    columns=(
        Column("id", POSTS_KEY, "The post's key at the source.", nullable=False),
        Column("user_id", USERS_KEY, "The author, a user that was kept.", nullable=False),
        Column("title", "text", "Title.", optional=True, personal=True, cleaning="line", in_file="presence"),
        Column("content", "text", "The text of the post.", personal=True, cleaning="block", in_file="absent"),
        Column(
            "word_count",
            "int",
            "Maximal runs of non-white-space in content; 0 for null.",
            unit="words",
            nullable=False,
            derived=True,
        ),
        Column(
            "char_count",
            "int",
            "Code points in content; 0 for null.",
            unit="characters",
            nullable=False,
            derived=True,
        ),
        Column(
            "is_before_signup",
            "bool",
            "Whether the post is older than its author's account.",
            nullable=False,
            derived=True,
        ),
        Column("created_at", "timestamptz", "When the post was made.", unit="UTC", nullable=False),
        Column(
            "updated_at",
            "timestamptz",
            "When the row was last changed, never before created_at.",
            unit="UTC",
            nullable=False,
            optional=True,
        ),
        ROW_HASH,
    ),
)

TABLES: tuple[Table, ...] = (USERS, POSTS)


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
        Column("as_of", "timestamptz", "The instant that the figures speak of, exclusive.", unit="UTC", nullable=False),
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
