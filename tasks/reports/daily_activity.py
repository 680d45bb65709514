"""One row per day, without gaps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.cleaning.partials import DAY
from tasks.contracts import DAILY_ACTIVITY
from tasks.reports.facts import Ints, ReportFacts, as_report, share


def daily_activity(facts: ReportFacts) -> pa.Table:
    """Users, posts and distinct authors per day, from the first user or post to as_of's day."""
    signed_up_on = facts.signed_up // DAY
    posted_on = facts.author_days["day"]
    everything = np.concatenate([signed_up_on, posted_on])
    first = int(everything.min()) if len(everything) else facts.last_day + 1
    days = facts.last_day - first + 1

    def per_day(on: Ints, amounts: Ints | None = None) -> Ints:
        counts = np.zeros(days, np.int64)
        np.add.at(counts, on - first, 1 if amounts is None else amounts)
        return counts

    new_users, posts = per_day(signed_up_on), per_day(posted_on, facts.author_days["posts"])
    authors, monthly = per_day(posted_on), distinct_authors(facts, first=first, days=days, window=28)
    return as_report(
        DAILY_ACTIVITY,
        {
            "date": first + np.arange(days),
            "new_users": new_users,
            "posts": posts,
            "authors": authors,
            "new_authors": per_day(facts.authors["first_post_at"].to_numpy() // DAY),
            "words": per_day(posted_on, facts.author_days["words"]),
            "authors_7d": distinct_authors(facts, first=first, days=days, window=7),
            "authors_28d": monthly,
            "stickiness": share(authors, monthly),
            "total_users": np.cumsum(new_users),
            "total_posts": np.cumsum(posts),
        },
    )


def distinct_authors(facts: ReportFacts, *, first: int, days: int, window: int) -> Ints:
    """Per day, the distinct authors of the `window` days that end with it.

    An author counts from an active day until `window` days later, or until the next active day takes over: each is one
    step up and one down, and the sum of the steps is exact. Author days are sorted by author and day.
    """
    author, day = facts.author_days["author"], facts.author_days["day"]
    takes_over = np.full(len(day), np.iinfo(np.int64).max)
    same_author = author[1:] == author[:-1]
    takes_over[:-1][same_author] = day[1:][same_author]
    until = np.minimum(day + window, takes_over)
    steps = np.zeros(days + 1, np.int64)
    np.add.at(steps, day - first, 1)
    np.add.at(steps, np.minimum(until - first, days), -1)
    return np.cumsum(steps[:-1])
