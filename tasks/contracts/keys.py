"""The kind of key that the source tables have."""

from __future__ import annotations

from tasks.contracts.model import Kind

# The kind of key that the two tables have at the source: "uuid" or "bigint".
USERS_KEY: Kind = "uuid"
POSTS_KEY: Kind = "uuid"
