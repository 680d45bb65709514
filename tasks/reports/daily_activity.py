"""One row per day, without gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.cleaning.partials import DAY, Columns, Ints
from tasks.contracts import DAILY_ACTIVITY
from tasks.reports.facts import ReportFacts, as_report, share

WINDOWS = (7, 28)


def daily_activity(facts: ReportFacts) -> pa.Table:
    """Users, posts and distinct authors per day, from the first user or post to as_of's day."""
    signed_up_on = facts.signed_up // DAY
    first_posts_on = facts.authors["first_post_at"].to_numpy() // DAY
    everything = np.concatenate([signed_up_on, first_posts_on])
    first = int(everything.min()) if len(everything) else facts.last_day + 1
    posted = Posted.of(facts, Calendar(first, facts.last_day - first + 1))
    new_users, authors, monthly = posted.calendar.per_day(signed_up_on), posted.authors, posted.authors_within[28]
    return as_report(
        DAILY_ACTIVITY,
        {
            "date": first + np.arange(posted.calendar.days),
            "new_users": new_users,
            "posts": posted.posts,
            "authors": authors,
            "new_authors": posted.calendar.per_day(first_posts_on),
            "words": posted.words,
            "authors_7d": posted.authors_within[7],
            "authors_28d": monthly,
            "stickiness": share(authors, monthly),
            "total_users": np.cumsum(new_users),
            "total_posts": np.cumsum(posted.posts),
        },
    )


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days of the report. first: in days since the epoch."""

    first: int
    days: int

    def per_day(self, on: Ints, amounts: Ints | None = None) -> Ints:
        """How many, or the sum of the amounts, on each day."""
        counts = np.zeros(self.days, np.int64)
        np.add.at(counts, on - self.first, 1 if amounts is None else amounts)
        return counts

    def steps(self, rows: Columns, window: int) -> Ints:
        """Changes of the number of distinct authors within `window` days that end with a day, from day to day.

        An author counts from an active day until `window` days later, or until the next active day takes over: each is
        one step up and one down, and the sum of the steps is exact. rows: whole authors, sorted by author and day.
        """
        author, day = rows["author"], rows["day"]
        takes_over = np.full(len(day), np.iinfo(np.int64).max)
        same_author = author[1:] == author[:-1]
        takes_over[:-1][same_author] = day[1:][same_author]
        until = np.minimum(day + window, takes_over)
        steps = np.zeros(self.days + 1, np.int64)
        np.add.at(steps, day - self.first, 1)
        np.add.at(steps, np.minimum(until - self.first, self.days), -1)
        return steps


@dataclass(frozen=True, slots=True)
class Posted:
    """Per day: posts, words, distinct authors; by the length of a window that ends with the day, those within it."""

    calendar: Calendar
    posts: Ints
    words: Ints
    authors: Ints
    authors_within: dict[int, Ints]

    @classmethod
    def of(cls, facts: ReportFacts, calendar: Calendar) -> Posted:
        """Added up over groups of whole authors."""
        posts, words, authors = (np.zeros(calendar.days, np.int64) for _ in range(3))
        steps = {window: np.zeros(calendar.days + 1, np.int64) for window in WINDOWS}
        for group in facts.author_days.groups("author", "day", "posts", "words"):
            posts += calendar.per_day(group["day"], group["posts"])
            words += calendar.per_day(group["day"], group["words"])
            authors += calendar.per_day(group["day"])
            for window, of_window in steps.items():
                of_window += calendar.steps(group, window)
        within = {window: np.cumsum(of_window[:-1]) for window, of_window in steps.items()}
        return cls(calendar, posts, words, authors, within)
