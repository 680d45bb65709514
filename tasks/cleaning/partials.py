"""What is left of the posts for the reports: two partial tables that add up, and a few counts.

Any cut of the posts into batches, in any order, adds up to the same tables: they hold integers only, by key.
- author days: per author and day, posts, words, first and last instant;
- word histogram: per hour slot (month × weekday × hour) and word count, posts and posts without a title.
What is in memory of them is bounded; the tables themselves are on disk, see tasks/cleaning/pieces.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.cleaning.counts import Scope

Ints = npt.NDArray[np.int64]
Columns = dict[str, Ints]

HOUR = 3_600_000_000  # µs
DAY = 24 * HOUR
WINDOWS = (1, 7, 30)  # days
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MERGE_ROWS = 200_000
_PARTITIONS, _LEAST_SPAN = 16, 8_192
SPILL_ROWS = 400_000  # of some 48 bytes; twice as many and a batch are in memory at most


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial table: two key columns below 2^31, and what is done with the others when rows of a key meet.

    span: how many values of the first key a partition has, whatever the rows and whoever works.
    """

    name: str
    keys: tuple[str, str]
    combine: Mapping[str, np.ufunc]
    span: int = 2**31

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.int64()) for name in (*self.keys, *self.combine)])

    def cut_for(self, values: int) -> Partial:
        """The same for a first key of so many values: a few partitions of a small table too, to work on at once."""
        return replace(self, span=min(self.span, max(_LEAST_SPAN, -(-values // _PARTITIONS))))


# author: the position among the kept users (see UserIndex); day: days since the epoch; instants in µs.
AUTHOR_DAYS = Partial(
    "author_days",
    ("author", "day"),
    {"posts": np.add, "words": np.add, "first_post_at": np.minimum, "last_post_at": np.maximum},
    span=250_000,
)
# slot: see `hour_slots`.
WORD_HISTOGRAM = Partial("word_histogram", ("slot", "word_count"), {"posts": np.add, "untitled": np.add})


def add_up(partial: Partial, parts: Sequence[Columns]) -> Columns:
    """Rows of equal keys made one, sorted by key."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in (*partial.keys, *partial.combine)}
    first, second = partial.keys
    packed = packed_keys(partial, columns)
    order = np.argsort(packed)  # not stable, which is slower: sums, minima and maxima do not ask for an order
    packed = packed[order]
    starts = np.flatnonzero(np.diff(packed, prepend=-1))
    summed = {first: packed[starts] >> 32, second: packed[starts] & 0xFFFFFFFF}
    for name, ufunc in partial.combine.items():
        summed[name] = ufunc.reduceat(columns[name][order], starts)
    return summed


def packed_keys(partial: Partial, rows: Columns) -> Ints:
    """Both keys of each row as one number, in whose order the rows are sorted."""
    first, second = partial.keys
    return np.asarray(rows[first] << 32 | rows[second], np.int64)


def empty(partial: Partial) -> Columns:
    """No rows."""
    return {name: np.empty(0, np.int64) for name in partial.schema.names}


def to_micros(instant: datetime) -> int:
    """Whole µs since the epoch, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def month_of(micros: Ints) -> Ints:
    """Months since January 1970 of instants, µs."""
    return np.asarray(micros.view("datetime64[us]").astype("datetime64[M]").astype(np.int64), np.int64)


def hour_slots(created: Ints) -> Ints:
    """Month × weekday × hour of instants (µs, UTC) as one number: (months since 1970 × 7 + weekday − 1) × 24 + hour."""
    hours = created // HOUR
    weekday = (hours // 24 + 3) % 7  # 1970-01-01 was a Thursday
    return np.asarray((month_of(created) * 7 + weekday) * 24 + hours % 24, np.int64)


@dataclass
class Accumulator:
    """A partial table as it grows: merged now and then, and handed to `spill` when it has `SPILL_ROWS` distinct keys.

    spill: takes sorted rows of distinct keys; what it got in several calls adds up to the table.
    """

    partial: Partial
    spill: Callable[[Columns], None]
    _parts: list[Columns] = field(default_factory=list)
    _pending: int = 0
    _merged: int = 0

    @property
    def held(self) -> int:
        """Rows in memory."""
        return self._pending + self._merged

    def add(self, rows: Columns) -> None:
        part = add_up(self.partial, [rows])
        self._parts.append(part)
        self._pending += len(part[self.partial.keys[0]])
        if self._pending > max(_MERGE_ROWS, self._merged):
            self._merge()
        if self._merged >= SPILL_ROWS:
            self.end()

    def end(self) -> None:
        """Hand over what is left."""
        if self._parts:
            self.spill(add_up(self.partial, self._parts))
        self._parts, self._pending, self._merged = [], 0, 0

    def _merge(self) -> None:
        merged = add_up(self.partial, self._parts)
        self._parts, self._pending, self._merged = [merged], 0, len(merged[self.partial.keys[0]])


@dataclass
class PostPartials:
    """Everything that the reports need of the posts in scope, and the count of those that are not.

    as_of: µs. signed_up: created_at of the kept users by position, µs.
    """

    as_of: int
    signed_up: Ints
    author_days: Accumulator
    histogram: Accumulator
    windows: dict[int, int] = field(default_factory=lambda: dict.fromkeys(WINDOWS, 0))
    after_as_of: int = 0

    def add(self, *, author: Ints, created: Ints, words: Ints, untitled: Ints) -> None:
        """Reduce a batch of kept posts. author: position; created: µs; untitled: 1 where the title is null."""
        inside = (created < self.as_of) & (self.signed_up[author] < self.as_of)
        self.after_as_of += len(created) - int(inside.sum())
        author, created, words, untitled = (column[inside] for column in (author, created, words, untitled))
        if not len(created):
            return
        for days in WINDOWS:
            self.windows[days] += int((created >= self.as_of - days * DAY).sum())
        one = np.ones(len(created), np.int64)
        self.author_days.add(
            {
                "author": author,
                "day": created // DAY,
                "posts": one,
                "words": words,
                "first_post_at": created,
                "last_post_at": created,
            }
        )
        self.histogram.add({"slot": hour_slots(created), "word_count": words, "posts": one, "untitled": untitled})

    def end(self) -> Scope:
        """Hand over what is left of both tables. Returns the posts by as_of."""
        self.author_days.end()
        self.histogram.end()
        return Scope(self.as_of, self.after_as_of, dict(self.windows))
