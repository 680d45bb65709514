"""What the reports are made of: kept users, author days, word histogram and counts, all within scope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tasks.cleaning.counts import CleanCounts
from tasks.cleaning.partials import AUTHOR_DAYS, DAY, Columns, Ints, empty, month_of
from tasks.cleaning.pieces import PartialTable
from tasks.cleaning.user_index import UserIndex
from tasks.contracts import Report
from tasks.reports.quantiles import Floats

_OF_AUTHORS = dict(AUTHOR_DAYS.combine)  # days of an author add up as posts of a day do


@dataclass(frozen=True)
class ReportFacts:
    """Input of every report.

    as_of: µs since the epoch, exclusive. author_days, histogram: see tasks/cleaning/partials.py; in scope already.
    Author days are read in groups of whole authors: together they may be larger than memory.
    counts: per table what cleaning counted.
    """

    as_of: int
    users: UserIndex
    author_days: PartialTable
    histogram: Columns
    counts: Mapping[str, CleanCounts]

    @cached_property
    def in_scope(self) -> npt.NDArray[np.bool_]:
        """Per kept user, whether it was created before as_of."""
        return np.asarray(self.users.created_at < self.as_of, np.bool_)

    @cached_property
    def signed_up(self) -> Ints:
        """created_at of the users in scope, µs."""
        return self.users.created_at[self.in_scope]

    @cached_property
    def months_of_users(self) -> Ints:
        """The month of created_at of every kept user, by position."""
        return month_of(self.users.created_at)

    @property
    def last_day(self) -> int:
        """as_of's day: that of the last µs before it, in days since the epoch."""
        return (self.as_of - 1) // DAY

    @cached_property
    def authors(self) -> pd.DataFrame:
        """One row per posting user, by position: posts, words, first_post_at, last_post_at, active_days."""
        groups = self.author_days.groups("author", *_OF_AUTHORS)
        return pd.concat([_of_authors(empty(AUTHOR_DAYS)), *map(_of_authors, groups)])


def _of_authors(days: Columns) -> pd.DataFrame:
    """One row per author. days: whole authors, sorted by author."""
    author = days["author"]
    starts = np.flatnonzero(np.diff(author, prepend=-1))
    columns = {name: add.reduceat(days[name], starts) for name, add in _OF_AUTHORS.items()}
    columns["active_days"] = np.diff(starts, append=len(author))
    return pd.DataFrame(columns, index=pd.Index(author[starts], name="author"))


def as_report(report: Report, columns: Mapping[str, Any]) -> pa.Table:
    """The columns as the report's contract has them: names, order and types. Instants come as µs, days as days."""
    arrays = [_typed(columns[field.name], field.type) for field in report.schema]
    return pa.Table.from_arrays(arrays, schema=report.schema)


def _typed(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(kind)
    values = np.asarray(values)
    if pa.types.is_date32(kind):
        return pa.array(values.astype(np.int32)).cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(values.astype(np.int64)).cast(kind)
    # NaN is how numpy says that there is no value.
    return pa.array(values, kind, from_pandas=True)


def share(part: Any, whole: Any) -> Floats:
    """part / whole; NaN, which becomes null, where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shares: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
    return shares


def first_day_of(months: Ints) -> Ints:
    """The first day of a month, in days since the epoch."""
    return np.asarray(months.view("datetime64[M]").astype("datetime64[D]").astype(np.int64), np.int64)
