"""The table `users`."""

from __future__ import annotations

from tasks.contracts.keys import USERS_KEY
from tasks.contracts.model import Column, Table
from tasks.contracts.row_hash import ROW_HASH

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
            on_null="rule",
            optional=True,
            cleaning="line",
        ),
        Column(
            "duplicate_of",
            USERS_KEY,
            "The first user with the same e-mail (earliest created_at, then smallest id); null when there is none.",
            derived=True,
        ),
        Column("created_at", "timestamptz", "When the account was made.", unit="UTC", nullable=False, on_null="rule"),
        Column(
            "updated_at",
            "timestamptz",
            "When the row was last changed, never before created_at.",
            unit="UTC",
            nullable=False,
            on_null="rule",
            optional=True,
        ),
        ROW_HASH,
    ),
)
