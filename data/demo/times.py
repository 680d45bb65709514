"""Instants as PostgreSQL keeps them, and the rhythm of a living product.

An instant is an int64: microseconds since 2000-01-01 UTC, with PostgreSQL's own values for the infinities. In this
form, and only in it, COPY takes infinities and years that Arrow and Python have no name for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Placed = np.ndarray[Any, np.dtype[np.int8]]  # each row's kind: an index into its table's kinds, −1 for a plain row

INFINITY = 2**63 - 1
MINUS_INFINITY = -(2**63)
NULL = MINUS_INFINITY + 1  # ours alone: becomes a null in Arrow

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
YEAR_1 = -730_119 * DAY  # 0001-01-01
YEAR_1900 = -36_524 * DAY
YEAR_1970 = -10_957 * DAY
YEAR_10000 = 2_921_940 * DAY
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY = 5  # 2000-01-01 was a Saturday; Monday is 0

# Posts by hour of the day in UTC: quiet nights, a peak after lunch, a smaller one in the evening.
_HOURS = np.cumsum([3, 2, 2, 1, 1, 2, 4, 7, 10, 12, 12, 11, 10, 13, 14, 13, 11, 10, 9, 11, 12, 10, 7, 5])


def instant(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def growing(count: int, since: int, until: int, rng: np.random.Generator, *, growth: float = 2.2) -> Numbers:
    """Instants in [since, until), e^growth times as dense at the end as at the beginning."""
    position = np.log1p(rng.random(count) * np.expm1(growth)) / growth
    elapsed: Numbers = (position * (until - since)).astype(np.int64)
    return since + elapsed.clip(0, until - since - 1)


def in_rhythm(times: Numbers, earliest: Numbers, until: int, rng: np.random.Generator) -> Numbers:
    """Move half of the weekend to the working days before it and the hours to where people are awake.

    An instant that would leave [earliest, until) stays as it was.
    """
    moved = _within(times - _weekend_shift(times, rng) * DAY, times, earliest, until)
    hour = np.searchsorted(_HOURS, rng.random(len(times)) * _HOURS[-1], side="right")
    of_day = hour * HOUR + rng.integers(0, HOUR, len(times))
    return _within(moved // DAY * DAY + of_day, moved, earliest, until)


def _weekend_shift(times: Numbers, rng: np.random.Generator) -> Numbers:
    weekday = (times // DAY + _EPOCH_WEEKDAY) % 7
    shift = weekday - 5 + rng.integers(1, 6, len(times))  # to one of Monday … Friday
    return np.where((weekday >= 5) & (rng.random(len(times)) < 0.5), shift, 0)


def _within(wanted: Numbers, otherwise: Numbers, earliest: Numbers, until: int) -> Numbers:
    return np.where((wanted >= earliest) & (wanted < until), wanted, otherwise)


def updates(created: Numbers, until: int, rng: np.random.Generator) -> Numbers:
    """When rows were last changed: most never, the others within days, none before it was created or after `until`."""
    later = np.where(rng.random(len(created)) < 0.25, rng.exponential(5 * DAY, len(created)), 0).astype(np.int64)
    updated: Numbers = np.minimum(created + later, np.maximum(created, until - 1))
    return updated


def to_arrow(times: Numbers) -> pa.Array:
    """int64 in Arrow, NULL as null."""
    return pa.array(times, pa.int64(), mask=times == NULL)
