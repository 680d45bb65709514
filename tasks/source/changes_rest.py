"""Changes over REST: a call per key range, cut from the source and from what is known, halved where one times out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pyarrow as pa

from tasks.arrow.ahead import Submit, together
from tasks.contracts import Table
from tasks.errors import RequestRefused, ServiceUnavailable
from tasks.platform.functions import RestDatabase
from tasks.retry import GiveUp, is_statement_timeout
from tasks.settings import Settings
from tasks.source import preflight
from tasks.source.alarm import fetch_by_keys
from tasks.source.api import Api, key_text
from tasks.source.changes import CannotFindChanges, Changes, TooManyChanges
from tasks.source.fingerprint import source_request
from tasks.source.model import TableInfo
from tasks.source.ranges import Key, KeyRange, Plan, cuts_from

# A call scans both tables as a whole where keys are random, however few of them it is for: the fewer calls, the less is
# scanned. So many rows of 400 bytes take a second and a half of one core.
ROWS_PER_CALL = 1_500_000
CALLS_AT_ONCE = 2  # each with a parallel worker, where the server has one
MOST_KEYS = 50_000  # in one answer
MOST_TIMEOUTS = 24  # a view into which a key cannot be pushed costs a full scan each time


class RestChanges:
    """Finds changes by key ranges. open_api, open_database: clients, one a thread. info: from the preflight."""

    one_instant = False

    def __init__(
        self,
        settings: Settings,
        open_api: Callable[[], Api],
        open_database: Callable[[], AbstractContextManager[RestDatabase]],
        info: Callable[[Table], TableInfo],
    ) -> None:
        self._settings, self._open, self._database, self._info = settings, open_api, open_database, info
        self._timeouts = 0
        self._lock = threading.Lock()

    def find(self, table: Table, most: int, rows: int) -> Changes:
        found, workers = Changes(table), min(CALLS_AT_ONCE, self._settings.ranges)
        with together(workers, "changes") as submit:
            waiting = {submit(self._ask, table, within) for within in self._ranges(table, rows)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    waiting |= self._take(found, future, most, submit, table)
        return found

    def fetch(self, table: Table, keys: pa.Array) -> pa.Table:
        with self._open() as api:
            return fetch_by_keys(api, self._info(table), keys)

    def look_up(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        with self._database() as database:
            return database.call(function, give_up=give_up, **arguments)

    def end(self) -> None:
        """Nothing is held between two requests."""

    def _take(self, found: Changes, future: Future[Any], most: int, submit: Submit, table: Table) -> set[Future[Any]]:
        """Add an answer; a range that gave none is asked for in halves."""
        within, answer = future.result()
        if answer is not None and not answer["more"]:
            found.add(answer, most)
            return set()
        if answer is not None and len(found.fingerprints) + len(answer["changed"]) > most:
            raise TooManyChanges
        return {submit(self._ask, table, half) for half in halves(within, table)}

    def _ask(self, table: Table, within: KeyRange) -> tuple[KeyRange, dict[str, Any] | None]:
        """The answer for a range; None when it took too long."""
        arguments: dict[str, Any] = {
            "p_table": table.name,
            "p_source": source_request(table),
            "p_after": key_text(within.after),
            "p_until": key_text(within.until),
            "p_most": MOST_KEYS,
        }
        with self._database() as database:
            try:
                return within, dict(database.call("etl_find_changes", give_up=is_statement_timeout, **arguments))
            except (ServiceUnavailable, RequestRefused) as error:
                if not is_statement_timeout(error):
                    raise
                self._count_timeout(table)
                return within, None

    def _count_timeout(self, table: Table) -> None:
        with self._lock:
            self._timeouts += 1
            if self._timeouts > MOST_TIMEOUTS:
                raise CannotFindChanges(f"finding the changes of {table.source} timed out {self._timeouts} times")

    def _ranges(self, table: Table, known: int) -> tuple[KeyRange, ...]:
        """Ranges of about equal rows, by keys of the source; by those known where these are more, as it was emptied."""
        rows = self._info(table).rows
        parts = max(1, min(128, round(max(rows, known) / ROWS_PER_CALL)))
        if parts == 1:
            return Plan((), "").ranges
        with self._database() as database:
            if known > 2 * rows:
                keys = database.call("etl_sample_known", p_table=table.name, p_parts=parts)
            else:
                keys = database.call("etl_sample_keys", **preflight.sample_of(table, parts))
        return Plan(cuts_from(keys, table.key.kind), "").ranges


def halves(within: KeyRange, table: Table) -> tuple[KeyRange, KeyRange]:
    """A range cut in the middle of its key space. CannotFindChanges when it has one key only."""
    low, high = _number(within.after, table, -1), _number(within.until, table, 1)
    middle = (low + high) // 2
    if middle in (low, high):
        raise CannotFindChanges(f"one key of {table.source} takes longer than the statement timeout")
    cut: Key = str(UUID(int=middle)) if table.key.kind == "uuid" else middle
    return KeyRange(within.index, within.after, cut), KeyRange(within.index, cut, within.until)


def _number(key: Key | None, table: Table, end: int) -> int:
    """A key as a number; the ends of the key space where there is none."""
    if table.key.kind == "uuid":
        return UUID(str(key)).int if key is not None else (-1 if end < 0 else 2**128 - 1)
    return int(key) if key is not None else (-(2**63) - 1 if end < 0 else 2**63 - 1)
