"""The rules for posts, in their order. `_author` is the author's position among the kept users, null without one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.cleaning.rules.base import Facts, Flag, Frame, Reject, Rule, with_column
from tasks.cleaning.rules.common import (
    CLEAN_TEXT,
    CREATED_IN_FUTURE,
    MISSING_CREATED_AT,
    UPDATED_BEFORE_CREATED,
    describe_column,
    describe_invalid,
)
from tasks.cleaning.user_index import UserIndex
from tasks.contracts import POSTS


def with_author(frame: Frame, users: UserIndex) -> Frame:
    """Add `_author`, which the rules and the partial tables go by."""
    positions = users.positions(frame["user_id"])
    return with_column(frame, "_author", pa.array(positions, mask=positions < 0))


def has_no_author(frame: Frame, facts: Facts) -> pa.Array:
    """Posts whose `user_id` is null, or not the id of a kept user."""
    return frame["_author"].is_null()


def mark_before_signup(frame: Frame, facts: Facts) -> Frame:
    """`is_before_signup`: whether the post is older than its author's account."""
    if facts.users is None:
        raise ValueError("before_signup needs the kept users")
    signed_up = facts.users.created_at[frame["_author"].to_numpy()]
    created = frame["created_at"].cast(pa.int64()).to_numpy()
    return with_column(frame, "is_before_signup", pa.array(np.asarray(created < signed_up)))


POSTS_RULES: tuple[Rule, ...] = (
    describe_invalid(POSTS),
    CLEAN_TEXT,
    MISSING_CREATED_AT,
    CREATED_IN_FUTURE,
    Reject(
        "orphan",
        "user_id is null, or not the id of a kept user.",
        has_no_author,
        describe_column("user_id", "the id of a kept user"),
    ),
    UPDATED_BEFORE_CREATED,
    Flag(
        "before_signup",
        "The post was created before its author's account.",
        mark_before_signup,
        column="is_before_signup",
    ),
)
