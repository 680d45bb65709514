"""The partial tables of each month, as files: what the next night adds up instead of every post.

    state/author_days/2026-01.parquet       author and day: posts, words, first instant and the span to the last
    state/word_histogram/2026-01.parquet    hour slot and word count: posts, untitled posts

They are a cache of the month's cleaned file, as of the run's as_of. An author is the number of its id (`UserIndex`),
which takes half the bytes. It stands for a user as the id does, and goes with the files that name ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.cleaning.partials import AUTHOR_DAYS, DAY, WORD_HISTOGRAM, Columns
from tasks.cleaning.user_index import UserIndex
from tasks.files.manifest import FileEntry, entry_of
from tasks.files.parquet import WRITER

STATE = "state"
_SLOTS_IN_MONTH = 7 * 24
# first_at: µs into the day; span: µs from the first post of the day to the last.
_AUTHOR_SCHEMA = pa.schema(
    [pa.field(name, pa.int64(), nullable=False) for name in ("author", "day", "posts", "words", "first_at", "span")]
)
_HISTOGRAM_SCHEMA = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in WORD_HISTOGRAM.schema.names])


def author_days_path(month: str) -> str:
    return f"{STATE}/author_days/{month}.parquet"


def histogram_path(month: str) -> str:
    return f"{STATE}/word_histogram/{month}.parquet"


def month_of_path(path: str) -> str:
    """The month of a state file, or of a month's cleaned file."""
    return path.rpartition("month=")[2].partition("/")[0] if "month=" in path else Path(path).stem


def write_state(root: Path, index: UserIndex, author_days: Columns, histogram: Columns) -> list[FileEntry]:
    """A file of each kind for each month with posts in scope. root: the run's files; tables: sorted by their keys.

    None where two users have one number, which happens once in 10⁹ projects of 200,000 users: they have no state then,
    and each night computes it from the months' files.
    """
    if not index.has_numbers:
        return []
    days = author_days["day"].view("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    entries = []
    for month, rows in _by_month(author_days, days):
        entries.append(_write(root, author_days_path(month), _author_table(index, rows), ["posts", "words", "span"]))
    for month, rows in _by_month(histogram, histogram["slot"] // _SLOTS_IN_MONTH):
        table = pa.table(rows, schema=_HISTOGRAM_SCHEMA)
        entries.append(_write(root, histogram_path(month), table, ["posts", "untitled"]))
    return entries


def _by_month(columns: Columns, months: npt.NDArray[np.int64]) -> Iterator[tuple[str, Columns]]:
    """The rows of each month, in their order. months: of each row, since January 1970."""
    order = np.argsort(months, kind="stable")
    found, starts = np.unique(months[order], return_index=True)
    for month, rows in zip(found, np.split(order, starts[1:]), strict=True) if len(found) else ():
        yield str(np.datetime64(int(month), "M")), {name: values[rows] for name, values in columns.items()}


def _author_table(index: UserIndex, rows: Columns) -> pa.Table:
    """The rows of a month in the order of their authors' numbers: rising numbers take the fewest bytes."""
    author = index.numbers[rows["author"]]
    order = np.lexsort((rows["day"], author))
    columns = {
        "author": author,
        "day": rows["day"],
        "posts": rows["posts"],
        "words": rows["words"],
        "first_at": rows["first_post_at"] - rows["day"] * DAY,
        "span": rows["last_post_at"] - rows["first_post_at"],
    }
    return pa.table({name: values[order] for name, values in columns.items()}, schema=_AUTHOR_SCHEMA)


def _write(root: Path, path: str, table: pa.Table, repeating: list[str]) -> FileEntry:
    """repeating: columns in which values come again, for which a dictionary pays; the others rise, or nearly so."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    rising = {name: "DELTA_BINARY_PACKED" for name in table.schema.names if name not in repeating}
    options: dict[str, Any] = {**WRITER, "use_dictionary": repeating, "column_encoding": rising}
    pq.write_table(table, file, **options)
    return entry_of(file, root, rows=table.num_rows, version=2, kind="state")


def read_author_days(file: Path, index: UserIndex) -> Columns:
    """Author days with the authors' positions in `index`. ValueError when one is not in it."""
    table = pq.read_table(file)
    values = {name: table[name].to_numpy() for name in _AUTHOR_SCHEMA.names}
    author = index.positions_of_numbers(values["author"])
    if len(author) and author.min() < 0:
        raise ValueError("an author of a kept post is not among the kept users")
    first = values["day"] * DAY + values["first_at"]
    return {
        "author": author,
        **{name: values[name] for name in ("day", "posts", "words")},
        "first_post_at": first,
        "last_post_at": first + values["span"],
    }


def read_histogram(file: Path) -> Columns:
    table = pq.read_table(file)
    return {name: table[name].to_numpy() for name in WORD_HISTOGRAM.schema.names}


def empty(partial: Any = AUTHOR_DAYS) -> Columns:
    return {name: np.empty(0, np.int64) for name in partial.schema.names}
