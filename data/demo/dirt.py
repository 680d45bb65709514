"""The dirt that the demo holds, kind by kind: how often, what it does to a row, and which rules must notice.

A row has at most one kind, so the figures of a cleaning report follow from the counts of the kinds alone, without any
cleaning code: `trips` are the rules of the definitions that a row of the kind is affected by. Kinds that trip nothing
look dirty, or lie on a boundary, and must be left alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from data.demo.changes import (
    TextChange,
    TimeChange,
    at,
    become,
    capitals,
    earlier,
    fill_to,
    null_time,
    past_until,
    wrap,
)
from data.demo.times import (
    DAY,
    HOUR,
    INFINITY,
    MINUS_INFINITY,
    SECOND,
    YEAR_1,
    YEAR_1900,
    YEAR_1970,
    YEAR_10000,
)

# Whose post it is: somebody kept, a user who is rejected, one who signs up at or after `until`, or nobody.
Author = Literal["kept", "rejected", "late", "none"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of row. `per_10k`: how many in 10,000 rows.

    created, updated: what becomes of the instants; for posts `created` is given the author's sign-up when
    `from_signup` says so, and `updated` is always given `created_at`.
    email_of: whose address the user has too.
    late: at or after the demo's `until`, so out of the scope of reports as of then.
    """

    name: str
    per_10k: float
    trips: tuple[str, ...] = ()
    texts: Mapping[str, TextChange] = field(default_factory=dict)
    created: TimeChange | None = None
    updated: TimeChange | None = None
    email_of: Literal["plain", "rejected"] | None = None
    author: Author = "kept"
    from_signup: bool = False
    late: bool = False


_ACCENTS = unicodedata.normalize("NFD", "é ñ ř й が")
_JAMO = unicodedata.normalize("NFD", "한글")
_OUTER = ((" ", ""), ("", "  "), ("\u3000", "\u3000"), ("\u00a0", ""), ("\u2003", "\u2028"), ("\t", "\n"))
_INVISIBLE = (("\u200b", ""), ("", " \u2060x"), ("\ufeff", ""), ("x\u200b", ""))
_BIDI = (("\u202e", "\u202c"), ("\u2066", "\u2069"), ("", "\u202a"))
_CONTROL = (("", "\x07"), ("\x1b[1m", ""), ("", " \x7fx"), ("", "x\x85x"))
_LINES = (("", "\nJr."), ("", "\tJr."), ("", "\r\nJr."), ("", "\rJr."))
# Left as they are: joiners, direction marks, inner spaces of any kind, a Mongolian vowel separator at the end.
_HARMLESS = (("", " 👨‍👩‍👧"), ("می\u200cخواهم ", ""), ("\u200f", "\u200e"), ("x\u00a0 \u3000", ""), ("", "\u180e"))
_INVALID_EMAILS = (
    "no-at-sign.example.com", "two@signs@example.com", "@example.com", "someone@localhost", "someone@example..com",
    "someone@.example.com", "someone@example.com.", "someone@", "some one@example.com", "someone@exam\u00a0ple.com",
    "x" * 243 + "@example.com", "@",
)  # fmt: skip
_BAD_INSTANTS = (YEAR_1970 - 1, YEAR_1900, YEAR_1, YEAR_10000, 10 * YEAR_10000)

CLEAN, LOWER, EMAIL, STATUS = "clean_text", "lowercase_email", "invalid_email", "normalise_status"
UPDATED, DUPLICATE, BEFORE = "updated_before_created", "duplicate_email", "before_signup"

# A year or more ahead of any run that a demo may live to see.
_WRONG_CLOCK = past_until(5 * 366 * DAY, 50 * 366 * DAY)

# The same in both tables.
_INSTANTS = (
    Kind("created_infinity", 2, ("invalid_value",), created=at(INFINITY, MINUS_INFINITY)),
    Kind("created_out_of_range", 4, ("invalid_value",), created=at(*_BAD_INSTANTS)),
    Kind("updated_infinity", 2, ("invalid_value",), updated=at(INFINITY, MINUS_INFINITY)),
    Kind("updated_out_of_range", 2, ("invalid_value",), updated=at(*_BAD_INSTANTS)),
    Kind("both_infinite", 1, ("invalid_value",), created=at(INFINITY), updated=at(MINUS_INFINITY)),
    Kind("no_created_at", 8, ("missing_created_at",), created=null_time()),
    Kind("no_instants", 2, ("missing_created_at",), created=null_time(), updated=null_time()),
    Kind("wrong_clock", 6, ("created_in_future",), created=_WRONG_CLOCK),
    Kind("never_updated", 90, (UPDATED,), updated=null_time()),
    Kind("updated_before", 70, (UPDATED,), updated=earlier(1, 30 * DAY)),
    Kind("updated_one_microsecond_before", 2, (UPDATED,), updated=earlier(1, 2)),
    Kind("updated_at_1970", 1, (UPDATED,), updated=at(YEAR_1970)),
    Kind("updated_at_the_end_of_9999", 1, updated=at(YEAR_10000 - 1)),
)

USER_KINDS: tuple[Kind, ...] = (
    *_INSTANTS,
    Kind("late", 4, created=past_until(0, 12 * HOUR), late=True),
    Kind("late_at_until", 1, created=past_until(0, 1), late=True),
    Kind("name_outer_space", 40, (CLEAN,), {"name": wrap(*_OUTER)}),
    Kind("name_invisible", 10, (CLEAN,), {"name": wrap(*_INVISIBLE)}),
    Kind("name_bidi", 5, (CLEAN,), {"name": wrap(*_BIDI)}),
    Kind("name_decomposed", 20, (CLEAN,), {"name": wrap(("", f" {_ACCENTS}"), ("", f" {_JAMO}"))}),
    Kind("name_lines", 10, (CLEAN,), {"name": wrap(*_LINES)}),
    Kind("name_control", 6, (CLEAN,), {"name": wrap(*_CONTROL)}),
    Kind("name_empty", 10, (CLEAN,), {"name": become("", "   ", "\u200b", "\u3000\n")}),
    Kind("name_harmless", 15, (), {"name": wrap(*_HARMLESS)}),
    Kind("no_name", 60, (), {"name": become(None)}),
    Kind("bio_crlf", 30, (CLEAN,), {"bio": wrap(("", "\r\n— R."), ("", "\r— R."))}),
    Kind("bio_control", 6, (CLEAN,), {"bio": wrap(*_CONTROL)}),
    Kind("bio_invisible", 6, (CLEAN,), {"bio": wrap(*_INVISIBLE)}),
    Kind("bio_blank", 10, (CLEAN,), {"bio": become("", " \n\t ", "\ufeff", "\x01")}),
    Kind("bio_several_lines", 40, (), {"bio": wrap(("", "\n\n\t— R."))}),
    Kind("email_outer_space", 25, (CLEAN,), {"email": wrap(*_OUTER)}),
    Kind("email_invisible", 6, (CLEAN,), {"email": wrap(("\u200b", ""), ("", "\u2060"), ("\ufeff", ""))}),
    Kind("email_empty", 10, (CLEAN,), {"email": become("", " ")}),
    Kind("no_email", 300, (), {"email": become(None)}),
    Kind("email_capitals", 80, (LOWER,), {"email": capitals()}),
    Kind("email_foreign_capital", 4, (), {"email": wrap(("Ö", ""), ("Ж", ""))}),
    Kind("email_254", 2, (), {"email": fill_to(254)}),
    Kind("email_255", 2, (EMAIL,), {"email": fill_to(255)}),
    Kind("email_invalid", 60, (EMAIL,), {"email": become(*_INVALID_EMAILS)}),
    Kind("email_tab_inside", 2, (CLEAN, EMAIL), {"email": become("some\tone@example.com")}),
    Kind("email_capitals_invalid", 5, (LOWER, EMAIL), {"email": become("SOMEONE", "Some.One@Localhost")}),
    Kind("status_case", 60, (STATUS,), {"status": become("Active", "ACTIVE", "Inactive", "iNACTIVE")}),
    Kind("status_unknown", 150, (STATUS,), {"status": become("banned", "pending", "Other", "ACTİVE", "1")}),
    Kind("status_other", 10, (), {"status": become("other")}),
    Kind("no_status", 80, (STATUS,), {"status": become(None)}),
    Kind("status_outer_space", 10, (CLEAN,), {"status": become(" active", "inactive\n")}),
    Kind("status_both", 5, (CLEAN, STATUS), {"status": become("Active ", "\u00a0INACTIVE", "", "ban\u200bned")}),
    Kind("duplicate", 60, (DUPLICATE,), email_of="plain"),
    Kind("duplicate_in_capitals", 15, (LOWER, DUPLICATE), {"email": capitals()}, email_of="plain"),
    Kind("duplicate_with_space", 10, (CLEAN, DUPLICATE), {"email": wrap(*_OUTER)}, email_of="plain"),
    Kind("twin_of_a_rejected", 3, email_of="rejected"),
    Kind(
        "everything", 5, (CLEAN, LOWER, STATUS, UPDATED, DUPLICATE),
        {"name": wrap(*_OUTER), "email": capitals("\ufeff", " "), "status": become("Active\u200b", None)},
        updated=null_time(), email_of="plain",
    ),
)  # fmt: skip

POST_KINDS: tuple[Kind, ...] = (
    *_INSTANTS,
    Kind("late", 4, created=past_until(0, 12 * HOUR), late=True),
    Kind("late_author", 1, created=past_until(12 * HOUR, 13 * HOUR), author="late", late=True),
    Kind("before_late_author", 1, (BEFORE,), created=earlier(1, 9 * DAY), from_signup=True, author="late", late=True),
    Kind("title_outer_space", 40, (CLEAN,), {"title": wrap(*_OUTER)}),
    Kind("title_invisible", 10, (CLEAN,), {"title": wrap(*_INVISIBLE)}),
    Kind("title_bidi", 4, (CLEAN,), {"title": wrap(*_BIDI)}),
    Kind("title_decomposed", 20, (CLEAN,), {"title": wrap(("", f" {_ACCENTS}"), ("", f" {_JAMO}"))}),
    Kind("title_lines", 10, (CLEAN,), {"title": wrap(*_LINES)}),
    Kind("title_control", 4, (CLEAN,), {"title": wrap(*_CONTROL)}),
    Kind("title_empty", 15, (CLEAN,), {"title": become("", "   ", "\u2060")}),
    Kind("title_harmless", 15, (), {"title": wrap(*_HARMLESS)}),
    Kind("no_title", 800, (), {"title": become(None)}),
    Kind("content_crlf", 120, (CLEAN,), {"content": wrap(("", "\r\nThanks!"), ("", "\rThanks!"))}),
    Kind("content_outer_space", 60, (CLEAN,), {"content": wrap(*_OUTER)}),
    Kind("content_invisible", 20, (CLEAN,), {"content": wrap(*_INVISIBLE)}),
    Kind("content_bidi", 4, (CLEAN,), {"content": wrap(*_BIDI)}),
    Kind("content_decomposed", 20, (CLEAN,), {"content": wrap(("", f" {_ACCENTS}"), ("", f" {_JAMO}"))}),
    Kind("content_control", 6, (CLEAN,), {"content": wrap(*_CONTROL)}),
    Kind("content_blank", 8, (CLEAN,), {"content": become("", "\u3000", "\u200b\n")}),
    Kind("content_harmless", 40, (), {"content": wrap(*_HARMLESS, ("", "\n\t- one\n\t- two"))}),
    Kind("no_content", 15, (), {"content": become(None)}),
    Kind("nobodys", 50, ("orphan",), author="none"),
    Kind("of_a_rejected", 40, ("orphan",), author="rejected"),
    Kind("nobodys_with_crlf", 4, (CLEAN, "orphan"), {"content": wrap(("", "\r\nThanks!"))}, author="none"),
    Kind("before_signup", 30, (BEFORE,), created=earlier(SECOND, 60 * DAY), from_signup=True),
    Kind("one_microsecond_before_signup", 2, (BEFORE,), created=earlier(1, 2), from_signup=True),
    Kind("at_signup", 2, created=earlier(0, 1), from_signup=True),
    Kind(
        "everything", 4, (CLEAN, UPDATED, BEFORE),
        {"title": wrap(*_OUTER), "content": wrap(*_CONTROL)},
        created=earlier(SECOND, 60 * DAY), updated=null_time(), from_signup=True,
    ),
)  # fmt: skip
