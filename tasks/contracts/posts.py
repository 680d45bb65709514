"""The table `posts`."""

from __future__ import annotations

from tasks.contracts.keys import POSTS_KEY, USERS_KEY
from tasks.contracts.model import Column, Table
from tasks.contracts.row_hash import ROW_HASH

POSTS = Table(
    name="posts",
    source="posts",
    clean="clean_posts",
    by_month="created_at",
    description="What users posted, one row a post, after cleaning.",
    columns=(
        Column("id", POSTS_KEY, "The post's key at the source.", nullable=False),
        Column("user_id", USERS_KEY, "The author, a user that was kept.", nullable=False, on_null="rule"),
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
        Column("created_at", "timestamptz", "When the post was made.", unit="UTC", nullable=False, on_null="rule"),
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
