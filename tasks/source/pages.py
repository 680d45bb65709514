"""Keyset pages over one key range. The server's row cap is found, never assumed; only an empty page ends a range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from tasks.errors import ServiceUnavailable
from tasks.platform.quoting import url_column
from tasks.retry import is_statement_timeout
from tasks.source.api import Answer, Api, PageTooLarge
from tasks.source.batches import require_rising
from tasks.source.model import TableInfo
from tasks.source.ranges import Key, KeyRange

FIRST_ROWS = 1_000  # what a hosted project gives in one answer, unless it is set otherwise
Ask = Callable[[Key | None, int], Any]
_CALM = 8  # good pages after a halving before a page may grow again


class PageSize:
    """How many rows to ask for next, between 1 and `ceiling`, so that a body stays well below `most` bytes."""

    def __init__(self, ceiling: int, most: int) -> None:
        self.rows = min(ceiling, FIRST_ROWS)
        self._ceiling, self._most = ceiling, most
        self._largest = 0
        self._calm = 0

    def learn(self, answer: Answer) -> None:
        """Take in a page that came: grow while bodies are small, shrink before they are too large."""
        received = len(answer.rows)
        self._largest = max(self._largest, received)
        self._calm -= self._calm > 0
        fitting = max(1, self._most * received // (2 * max(1, answer.size)))
        if not self._calm:
            self.rows = max(1, min(self._ceiling, 2 * self.rows, fitting))

    def halve(self) -> bool:
        """Ask for half of what the server gives at most; False when it is one row already."""
        if self.rows <= 1:
            return False
        most = min(self.rows, self._largest or self.rows)
        self.rows, self._largest, self._calm = max(1, most // 2), 0, _CALM
        return True


def pages(
    api: Api, info: TableInfo, within: KeyRange, ask: Ask, make: Callable[[list[Any]], pa.RecordBatch], most: int
) -> Iterator[pa.RecordBatch]:
    """The rows of a range in key order, a batch a page.

    ask: the request for so many rows after a key, in key order.
    make: turns the rows of a page into a batch with the table's key in it.
    most: bytes of one body, unless a single row is larger.
    """
    table = info.table
    size, after, number = PageSize(api.settings.page_rows, most), within.after, 0
    while True:
        what = f"{table.at_source}, page {number + 1} of range {within.index + 1}"
        answer = fetch(api, partial(ask, after), size, what, most)
        if not answer.rows:
            return
        batch = make(answer.rows)
        keys = batch.column(table.key.name)
        require_rising(keys, KeyRange(within.index, after, within.until), what)
        yield batch
        after, number = keys[-1].as_py(), number + 1


def rows_of(api: Api, info: TableInfo, within: KeyRange) -> Ask:
    """Asks for whole rows, each with its fingerprint."""
    return lambda after, rows: api.rows(info.table, after, within.until, rows)


def keys_of_source(api: Api, info: TableInfo, within: KeyRange, columns: str) -> Ask:
    """Asks for the keys alone. columns: the select list."""
    table, name = info.table, url_column(info.table.key.source_name)

    def ask(after: Key | None, rows: int) -> Any:
        return api.within(api.select(table, columns), table, after, within.until).order(name).limit(rows)

    return ask


def fetch(api: Api, query: Callable[[int], Any], size: PageSize, what: str, most: int) -> Answer:
    """One page. A statement timeout or a body too large halves it and goes on; a single row is taken as it is."""
    while True:
        smallest = size.rows <= 1
        try:
            answer = api.send(query(size.rows), what, most=None if smallest else most, halve=not smallest)
        except PageTooLarge:
            size.halve()
        except ServiceUnavailable as error:
            if smallest or not is_statement_timeout(error) or not size.halve():
                raise
        else:
            size.learn(answer)
            return answer
