"""Posts and their words by month, weekday and hour."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.contracts import POST_STATISTICS
from tasks.reports.facts import ReportFacts, as_report, first_day_of
from tasks.reports.quantiles import quantiles_by_group


def post_statistics(facts: ReportFacts) -> pa.Table:
    """One row per hour slot with a post, from the histogram of words (sorted by slot and word count)."""
    slot, word_count, weight = (facts.histogram[name] for name in ("slot", "word_count", "posts"))
    starts = np.flatnonzero(np.diff(slot, prepend=-1))
    slots = slot[starts]
    posts, words, untitled = (
        np.add.reduceat(amounts, starts) for amounts in (weight, word_count * weight, facts.histogram["untitled"])
    )
    return as_report(
        POST_STATISTICS,
        {
            "month": first_day_of(slots // (7 * 24)),
            "weekday": slots // 24 % 7 + 1,
            "hour": slots % 24,
            "posts": posts,
            "words": words,
            "words_mean": words / posts,
            "words_median": quantiles_by_group(word_count, weight, starts, 0.5),
            "words_p90": quantiles_by_group(word_count, weight, starts, 0.9),
            "untitled_posts": untitled,
        },
    )
