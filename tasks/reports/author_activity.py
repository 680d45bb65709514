"""One row per posting user."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.cleaning.partials import DAY, Ints
from tasks.contracts import AUTHOR_ACTIVITY
from tasks.reports.facts import ReportFacts, as_report
from tasks.reports.quantiles import Floats, quantiles_by_group


def author_activity(facts: ReportFacts) -> pa.Table:
    """What each author posted, when, how steadily, and how long after signing up."""
    authors = facts.authors
    position = authors.index.to_numpy()
    signed_up = facts.users.created_at[position]
    users = facts.users.rows(position, "id", "status")
    posts, words = authors["posts"].to_numpy(), authors["words"].to_numpy()
    first, last = authors["first_post_at"].to_numpy(), authors["last_post_at"].to_numpy()
    streaks, gaps = _rhythm(facts)
    return as_report(
        AUTHOR_ACTIVITY,
        {
            "user_id": users["id"],
            "status": users["status"],
            "signed_up_at": signed_up,
            "post_count": posts,
            "first_post_at": first,
            "last_post_at": last,
            "active_days": authors["active_days"].to_numpy(),
            "longest_streak_days": streaks,
            "median_gap_days": gaps,
            "words": words,
            "words_per_post": words / posts,
            "days_to_first_post": (first - signed_up) / DAY,
            "days_since_last_post": (facts.as_of - last) / DAY,
        },
    )


def _rhythm(facts: ReportFacts) -> tuple[Ints, Floats]:
    """Longest streak and median gap of each author, in days."""
    streaks, gaps = [np.empty(0, np.int64)], [np.empty(0)]
    for group in facts.author_days.groups("author", "day"):
        position, active_days = np.unique(group["author"], return_counts=True)
        streaks.append(longest_streaks(group["day"], active_days))
        gaps.append(median_gaps(group["author"], group["day"], position))
    return np.concatenate(streaks), np.concatenate(gaps)


def longest_streaks(day: Ints, active_days: Ints) -> Ints:
    """Most consecutive days of each author. day: sorted by author and day; active_days: days of each author."""
    author_starts = np.cumsum(active_days) - active_days
    breaks = np.diff(day, prepend=day[0]) != 1
    breaks[author_starts] = True
    streak_starts = np.flatnonzero(breaks)
    lengths = np.diff(streak_starts, append=len(day))
    return np.maximum.reduceat(lengths, np.searchsorted(streak_starts, author_starts))


def median_gaps(author: Ints, day: Ints, position: Ints) -> Floats:
    """Median days between neighbouring active days of each author; NaN with one active day."""
    neighbours = author[1:] == author[:-1]
    gap, of = np.diff(day)[neighbours], author[1:][neighbours]
    gap = np.sort(of << 32 | gap) & 0xFFFFFFFF  # of each author: `of` is sorted, and stays as it is
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    medians = np.full(len(position), np.nan)
    found = quantiles_by_group(gap, np.ones(len(gap), np.int64), starts, 0.5)
    medians[np.searchsorted(position, of[starts])] = found
    return medians
