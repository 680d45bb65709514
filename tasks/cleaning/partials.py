"""What is left of the posts for the reports: two partial tables that add up, and a few counts.

Any cut of the posts into batches, in any order, adds up to the same tables: they hold integers only, by key.
- author days: per author and day, posts, words, first and last instant;
- word histogram: per hour slot (month × weekday × hour) and word count, posts and posts without a title.
Memory grows with author-days and with distinct word counts, not with posts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.cleaning.counts import Scope

Ints = npt.NDArray[np.int64]
Columns = dict[str, Ints]

HOUR = 3_600_000_000  # µs
DAY = 24 * HOUR
WINDOWS = (1, 7, 30)  # days
_MERGE_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial table: two key columns below 2^31, and what is done with the others when rows of a key meet."""

    name: str
    keys: tuple[str, str]
    combine: Mapping[str, np.ufunc]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.int64()) for name in (*self.keys, *self.combine)])


# author: the position among the kept users (see UserIndex); day: days since the epoch; instants in µs.
AUTHOR_DAYS = Partial(
    "author_days",
    ("author", "day"),
    {"posts": np.add, "words": np.add, "first_post_at": np.minimum, "last_post_at": np.maximum},
)
# slot: see `hour_slots`.
WORD_HISTOGRAM = Partial("word_histogram", ("slot", "word_count"), {"posts": np.add, "untitled": np.add})


def add_up(partial: Partial, parts: Sequence[Columns]) -> Columns:
    """Rows of equal keys made one, sorted by key."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in (*partial.keys, *partial.combine)}
    first, second = partial.keys
    packed = columns[first] << 32 | columns[second]
    order = np.argsort(packed, kind="stable")
    packed = packed[order]
    starts = np.flatnonzero(np.diff(packed, prepend=-1))
    summed = {first: packed[starts] >> 32, second: packed[starts] & 0xFFFFFFFF}
    for name, ufunc in partial.combine.items():
        summed[name] = ufunc.reduceat(columns[name][order], starts) if len(starts) else columns[name]
    return summed


def hour_slots(created: Ints) -> Ints:
    """Month × weekday × hour of instants (µs, UTC) as one number: (months since 1970 × 7 + weekday − 1) × 24 + hour."""
    hours = created // HOUR
    days = hours // 24
    months = created.view("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    return np.asarray((months * 7 + weekday) * 24 + hours % 24, np.int64)


@dataclass
class Accumulator:
    """A partial table as it grows: merged now and then, so that it holds little more than its distinct keys."""

    partial: Partial
    _parts: list[Columns] = field(default_factory=list)
    _pending: int = 0
    _merged: int = 0

    def add(self, rows: Columns) -> None:
        part = add_up(self.partial, [rows])
        self._parts.append(part)
        self._pending += len(part[self.partial.keys[0]])
        if self._pending > max(_MERGE_ROWS, self._merged):
            self._merge()

    def merge(self, other: Accumulator) -> None:
        """Add the rows of another table of the same kind."""
        self.add(other.columns())

    def columns(self) -> Columns:
        """The table so far: rows of distinct keys, in their order."""
        self._merge()
        return self._parts[0]

    def _merge(self) -> None:
        empty = {name: np.empty(0, np.int64) for name in self.partial.schema.names}
        merged = add_up(self.partial, self._parts or [empty])
        self._parts, self._pending, self._merged = [merged], 0, len(merged[self.partial.keys[0]])

    def table(self) -> pa.Table:
        return pa.table(self.columns(), schema=self.partial.schema)


@dataclass
class PostPartials:
    """Everything that the reports need of the posts in scope, and the count of those that are not.

    as_of: µs. signed_up: created_at of the kept users by position, µs.
    """

    as_of: int
    signed_up: Ints
    author_days: Accumulator = field(default_factory=lambda: Accumulator(AUTHOR_DAYS))
    histogram: Accumulator = field(default_factory=lambda: Accumulator(WORD_HISTOGRAM))
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

    def merge(self, other: PostPartials) -> None:
        """Add what another unit found in its posts."""
        for days, posts in other.windows.items():
            self.windows[days] += posts
        self.after_as_of += other.after_as_of
        self.author_days.merge(other.author_days)
        self.histogram.merge(other.histogram)

    def __getstate__(self) -> dict[str, Any]:
        """What travels from a worker: all but the sign-ups, which every process has in its user index."""
        for table in (self.author_days, self.histogram):
            table.columns()
        return {**self.__dict__, "signed_up": np.empty(0, np.int64)}

    def save(self, folder: Path) -> None:
        """Write the partial tables as Arrow files."""
        for accumulator in (self.author_days, self.histogram):
            save_partial(folder, accumulator.partial, accumulator.table())

    def scope(self) -> Scope:
        """The posts by as_of."""
        return Scope(self.as_of, self.after_as_of, dict(self.windows))


def save_partial(folder: Path, partial: Partial, table: pa.Table) -> None:
    path = folder / f"{partial.name}.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, partial.schema) as writer:
        writer.write_table(table)


def load_partial(folder: Path, partial: Partial) -> Columns:
    with pa.OSFile(str(folder / f"{partial.name}.arrow"), "rb") as source, pa.ipc.open_file(source) as reader:
        table = reader.read_all()
    return {name: table[name].to_numpy() for name in partial.schema.names}
