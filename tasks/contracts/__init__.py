"""The tables and reports of the pipeline, each declared once.

From these files come the select lists, the Arrow schemas, the checks, the tables in Postgres, the columns that may
leave in a file, the Parquet metadata and the data dictionary. Other table names, other column names, a bigint key,
extra columns, no `bio`, a further table: edit or add a file of this folder, and nothing else. It imports nothing of
ours.
"""

from __future__ import annotations

from tasks.contracts.checks import check_tables
from tasks.contracts.keys import POSTS_KEY, USERS_KEY
from tasks.contracts.model import (
    ARROW_TYPES,
    FINGERPRINT,
    POSTGRES_TYPES,
    RULE_MASK,
    Cleaning,
    Column,
    InFile,
    Kind,
    OnNull,
    Report,
    Table,
)
from tasks.contracts.posts import POSTS
from tasks.contracts.rejects import REJECT_SCHEMA, REJECTS
from tasks.contracts.reports import (
    AUTHOR_ACTIVITY,
    DAILY_ACTIVITY,
    DATA_QUALITY,
    POST_STATISTICS,
    REPORTS,
    SIGNUP_COHORTS,
    USER_STATISTICS,
)
from tasks.contracts.row_hash import ROW_HASH, STAMPS
from tasks.contracts.users import USERS

# The first two carry the reports. A further table needs no more than its declaration and its place here.
TABLES: tuple[Table, ...] = (USERS, POSTS)
check_tables(TABLES, REPORTS)
FURTHER_TABLES: tuple[Table, ...] = tuple(table for table in TABLES if table not in (USERS, POSTS))

__all__ = [
    "ARROW_TYPES",
    "AUTHOR_ACTIVITY",
    "DAILY_ACTIVITY",
    "DATA_QUALITY",
    "FINGERPRINT",
    "FURTHER_TABLES",
    "POSTGRES_TYPES",
    "POSTS",
    "POSTS_KEY",
    "POST_STATISTICS",
    "REJECTS",
    "REJECT_SCHEMA",
    "REPORTS",
    "ROW_HASH",
    "RULE_MASK",
    "SIGNUP_COHORTS",
    "STAMPS",
    "TABLES",
    "USERS",
    "USERS_KEY",
    "USER_STATISTICS",
    "Cleaning",
    "Column",
    "InFile",
    "Kind",
    "OnNull",
    "Report",
    "Table",
]
