"""The partial tables of all months: carried where nothing of a month changed, else computed from the month's file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.arrow.ahead import ahead, beside
from tasks.cleaning.counts import Scope
from tasks.cleaning.partials import AUTHOR_DAYS, DAY, WINDOWS, Columns, Ints, add_up, to_micros
from tasks.cleaning.pieces import PartialTable, merge_pieces
from tasks.cleaning.reduced import PARTIALS, Reduced, clear_partials, piece_files, reducing
from tasks.cleaning.user_index import UserIndex
from tasks.contracts import POSTS
from tasks.files.manifest import FileEntry
from tasks.files.state import (
    author_days_path,
    histogram_path,
    month_of_path,
    read_author_days,
    read_histogram,
    write_state,
)
from tasks.incremental.look_up import LookUp, look_up_keys
from tasks.incremental.mode import GoFull
from tasks.platform.workers import Workers

if TYPE_CHECKING:
    from tasks.incremental.night import IncrementalNight

_BATCH_ROWS = 65_536
_PIECE_ROWS = 65_536  # of some 48 bytes, held a few times over while they are sorted
_COMPUTED, _CARRIED = 0, 1  # numbers of the files of pieces
_COMPUTED_GROUP = "computed_tables"  # of the months that are computed again, alone


class MonthPartials:
    """The partial tables of all posts in scope. posts: the cleaned files of this night, of all months."""

    def __init__(self, night: IncrementalNight, index: UserIndex, posts: list[FileEntry]) -> None:
        self._night, self._index = night, index
        self._of_month: dict[str, list[FileEntry]] = {}
        for entry in posts:
            self._of_month.setdefault(month_of_path(entry.path), []).append(entry)
        self.scope = Scope(night.as_of, 0, {})  # what reducing all posts would count

    def make(self, touched: set[str], look_up: LookUp, workers: Workers) -> list[FileEntry]:
        """Compute what changed, carry the rest: the run's partial tables, and the files of all months.

        New files are in the run's folder.
        """
        again = (touched | self._months_of_scope(look_up) | self._months_without()) & set(self._of_month)
        carried = [e for e in self._night.base.entries("state").values() if self._is_carried(e, again)]
        workspace = self._night.workspace
        clear_partials(workspace)
        with beside(partial(self._carry, carried)) as carry:
            reduced = self._compute(sorted(again))
            entries = self._write_state(reduced, workers)
            reduced.add(carry.result())
        reduced.merge(workspace, workers=workers)
        clear_partials(workspace, _COMPUTED_GROUP)
        self.scope = reduced.scope()
        return sorted([*entries, *carried], key=lambda entry: entry.path)

    def _write_state(self, computed: Reduced, workers: Workers) -> list[FileEntry]:
        """The files of the months computed again, from their pieces, which are merged pieces from here on."""
        tables = [PartialTable(self._night.workspace, partial, _COMPUTED_GROUP) for partial in PARTIALS]
        merged = merge_pieces([(of, computed.pieces[of.partial.name]) for of in tables], workers=workers)
        computed.pieces = {of.partial.name: pieces for of, pieces in zip(tables, merged, strict=True)}
        return write_state(self._night.workspace, group=_COMPUTED_GROUP, workers=workers)

    def _months_without(self) -> set[str]:
        """Months that the base has no partial tables of: none of their rows was in scope, or nobody kept them.

        All of them where two users have one number: then an author in a partial table could be either.
        """
        there = self._night.base.entries("state") if self._index.has_numbers else {}
        return {m for m in self._of_month if author_days_path(m) not in there or histogram_path(m) not in there}

    def _is_carried(self, entry: FileEntry, again: set[str]) -> bool:
        """Whether the base's partial table still holds: its month has files, and none of its rows is another."""
        month = month_of_path(entry.path)
        return month in self._of_month and month not in again

    def _carry(self, entries: list[FileEntry]) -> Reduced:
        """The base's partial tables of these months as pieces, and their posts by as_of."""
        files = dict(zip((e.path for e in entries), self._night.files.paths(entries), strict=True))
        of_authors = [file for path, file in files.items() if path == author_days_path(month_of_path(path))]
        months = {month_of_path(path) for path in files}
        windows = {days: self._posts_of_cut_day(self._night.as_of - days * DAY, months) for days in WINDOWS}
        posts = 0
        with piece_files(self._night.workspace, _CARRIED, self._index.size) as (author_days, histogram):
            for rows in self._author_days_of(of_authors):
                author_days.write(rows)
                posts += int(rows["posts"].sum())
                for days in WINDOWS:
                    whole = rows["day"] >= -(-(self._night.as_of - days * DAY) // DAY)
                    windows[days] += int(rows["posts"][whole].sum())
            for file in files.values():
                if file not in of_authors:
                    histogram.write(read_histogram(file))
        pieces = {file.partial.name: file.pieces for file in (author_days, histogram)}
        kept = sum(entry.rows for month in months for entry in self._of_month[month])
        return Reduced(self._night.as_of, kept - posts, windows, pieces)

    def _author_days_of(self, files: list[Path]) -> Iterator[Columns]:
        """Author days in key order, those of several months together: the fewer pieces, the less their merge holds."""
        held, size = list[Columns](), 0
        try:
            for rows in (rows for file in files for rows in read_author_days(file, self._index)):
                held, size = [*held, rows], size + len(rows["author"])
                if size >= _PIECE_ROWS:
                    yield add_up(AUTHOR_DAYS, held)
                    held, size = [], 0
        except ValueError as problem:
            raise GoFull(f"a partial table does not fit the users: {problem}") from None
        if held:
            yield add_up(AUTHOR_DAYS, held)

    def _posts_of_cut_day(self, edge: int, months: set[str]) -> int:
        """Posts in scope from an instant to the end of its day in these months, which no partial table has."""
        month = _month(edge)
        if not edge % DAY or month not in months:
            return 0
        end, total = -(-edge // DAY) * DAY, 0
        for author, created, _, _ in self._rows(month):
            inside = (created >= edge) & (created < end) & self._in_scope(author, created)
            total += int(inside.sum())
        return total

    def _in_scope(self, author: Ints, created: Ints) -> Any:
        return (created < self._night.as_of) & (self._index.created_at[author] < self._night.as_of)

    def _months_of_scope(self, look_up: LookUp) -> set[str]:
        """Months in which the scope of a row changes, as as_of moves, in either direction."""
        low, high = sorted((to_micros(self._night.base.as_of), self._night.as_of))
        if low == high:
            return set()
        first, last = map(_month, (low, high))
        passed = {month for month in self._of_month if first <= month <= last}
        created = self._index.created_at
        between = (created >= low) & (created < high)
        ids = self._index.table["id"].filter(pa.array(between)).cast(pa.string()).to_pylist()
        found = look_up_keys(look_up, "etl_months_of", POSTS.name, ids, name="p_values", p_column="created_at")
        return passed.union(*found)

    def _compute(self, months: list[str]) -> Reduced:
        """Pieces of the partial tables of these months, from their posts."""
        signed_up = self._index.created_at
        with reducing(self._night.workspace, _COMPUTED, self._night.as_of, signed_up) as (partials, reduced):
            rows = ((month, batch) for month in months for batch in self._rows(month))
            for _, batches in groupby(ahead(rows), key=itemgetter(0)):
                for _, (author, created, words, untitled) in batches:
                    partials.add(author=author, created=created, words=words, untitled=untitled)
                if partials.author_days.held >= _PIECE_ROWS:
                    partials.end()  # no key of a month is in another one: there is nothing to add up any more
        return reduced

    def _rows(self, month: str) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
        """Author position, created_at, word_count and 1 for untitled, of a month's posts."""
        titled = "has_title" in {column.name for column in POSTS.file_columns}
        names = ["user_id", "created_at", "word_count", *(["has_title"] if titled else [])]
        for entry in self._of_month.get(month, []):
            new = self._night.root / entry.path
            with pq.ParquetFile(new if new.exists() else self._night.files.path(entry)) as parquet:
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=names):
                    yield self._reduced(batch, titled=titled)

    def _reduced(self, batch: pa.RecordBatch, *, titled: bool) -> tuple[Ints, Ints, Ints, Ints]:
        author = self._index.positions(batch["user_id"])
        if len(author) and author.min() < 0:
            raise GoFull("a kept post has an author who is not kept")
        created = batch["created_at"].cast(pa.int64()).to_numpy()
        untitled = pc.invert(batch["has_title"]) if titled else pa.array(np.ones(batch.num_rows, np.bool_))
        return author, created, batch["word_count"].to_numpy(), untitled.cast(pa.int64()).to_numpy()


def _month(micros: int) -> str:
    """The month of an instant, as 2026-01."""
    return str(np.datetime64(micros, "us").astype("datetime64[M]"))
