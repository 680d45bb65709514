"""The rules for users, in their order."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.rules.base import Change, Facts, Flag, Frame, Rule, with_column
from tasks.cleaning.rules.common import (
    CLEAN_TEXT,
    CREATED_IN_FUTURE,
    MISSING_CREATED_AT,
    UPDATED_BEFORE_CREATED,
    describe_invalid,
)
from tasks.cleaning.words import WIDE_WHITE_SPACE
from tasks.contracts import ARROW_TYPES, USERS

MAX_EMAIL = 254  # characters, the longest path of RFC 5321 without its brackets
_EMAIL = r"\A[^@]+@[^@.]+(\.[^@.]+)+\z"
_WHITE_SPACE = rf"[\t-\r ]|{WIDE_WHITE_SPACE}"


def lowercase_email(frame: Frame, facts: Facts) -> Frame:
    """A–Z in the e-mail become a–z; other letters stay as they are."""
    if "email" not in facts.table:
        return frame
    return with_column(frame, "email", pc.ascii_lower(frame["email"]))


def drop_invalid_email(frame: Frame, facts: Facts) -> Frame:
    """Null for what cannot be an e-mail address. Shape only: whether it receives mail is not checked."""
    if "email" not in facts.table:
        return frame
    email = frame["email"]
    shaped = pc.match_substring_regex(email, _EMAIL)
    tight = pc.invert(pc.match_substring_regex(email, _WHITE_SPACE))
    short = pc.less_equal(pc.utf8_length(email), MAX_EMAIL)
    valid = pc.and_(pc.and_(shaped, tight), short)
    return with_column(frame, "email", pc.if_else(valid, email, pa.scalar(None, pa.string())))


def normalise_status(frame: Frame, facts: Facts) -> Frame:
    """`active` and `inactive` whatever their case, `other` for the rest and for null."""
    if "status" not in facts.table:
        return frame
    status = pc.ascii_lower(frame["status"])
    known = pc.is_in(status, value_set=pa.array(["active", "inactive"]))
    return with_column(frame, "status", pc.if_else(known, status, "other"))


def mark_duplicates(frame: Frame, facts: Facts) -> Frame:
    """`duplicate_of`: the id of the first user with the same e-mail, null for the first and for those without."""
    if facts.first_of is None:
        raise ValueError("duplicate_email needs the first user of each e-mail")
    ids = facts.first_of["id"].combine_chunks()
    firsts = facts.first_of["first"].combine_chunks()
    position = pc.index_in(frame[facts.table.key.name].cast(ids.type), value_set=ids)
    return with_column(frame, "duplicate_of", firsts.take(position).cast(ARROW_TYPES[facts.table.key.kind]))


def first_of_each_email(keys: pa.Table) -> pa.Table:
    """Which user is the first with the same e-mail, for each that is not it.

    keys: email, created_at and id of kept users; texts as large_string, which may have more than 2 GiB together.
    Returns (id, first). Memory: the keys, and a hash per e-mail.
    """
    keys = keys.filter(keys["email"].is_valid())
    counted = pc.value_counts(keys["email"])
    shared = counted.field(0).filter(pc.greater(counted.field(1), 1))
    keys = keys.filter(pc.is_in(keys["email"], value_set=shared))
    keys = keys.sort_by([("email", "ascending"), ("created_at", "ascending"), ("id", "ascending")])
    email, ids = keys["email"].combine_chunks(), keys["id"].combine_chunks()
    firsts = keys.group_by("email", use_threads=False).aggregate([("id", "first")])
    first = firsts["id_first"].combine_chunks().take(pc.index_in(email, value_set=firsts["email"].combine_chunks()))
    return pa.table({"id": ids, "first": first}).filter(pc.not_equal(ids, first))


USERS_RULES: tuple[Rule, ...] = (
    describe_invalid(USERS),
    CLEAN_TEXT,
    Change("lowercase_email", "A–Z in the e-mail become a–z.", lowercase_email),
    Change(
        "invalid_email",
        "The e-mail becomes null unless it has the shape of one: no white space, one @, something before it, two "
        "labels joined by a dot after it, at most 254 characters.",
        drop_invalid_email,
    ),
    Change(
        "normalise_status",
        "The status in lower case; anything but active and inactive becomes other.",
        normalise_status,
    ),
    MISSING_CREATED_AT,
    CREATED_IN_FUTURE,
    UPDATED_BEFORE_CREATED,
    Flag(
        "duplicate_email",
        "Users with the same e-mail: all but the earliest get the first one's id in duplicate_of.",
        mark_duplicates,
        column="duplicate_of",
        whole_table=True,
    ),
)
