"""Changes over Postgres: one statement in the snapshot, streamed; and the rows of keys, in the same snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyarrow as pa

from tasks.contracts import USERS, Table
from tasks.errors import ServiceUnavailable
from tasks.platform.functions import Transaction
from tasks.platform.postgres import Connection, execute
from tasks.platform.quoting import literal
from tasks.retry import GiveUp, Retry, is_statement_timeout
from tasks.settings import Settings
from tasks.source.binary import from_driver
from tasks.source.changes import WHOLE, Changes, TooManyChanges
from tasks.source.connection import batches
from tasks.source.fingerprint import source_request
from tasks.source.model import TableInfo
from tasks.source.select import keys_query
from tasks.source.snapshot import Snapshot

_KEYS_AT_ONCE = 2_000
_BATCH_BYTES = 2**20
# A hash of two million known keys takes 130 MB; past this it goes to temporary files, of keys and fingerprints alone.
# The planner expects as many groups as rows and would sort them all, with 200 MB more; all equal rows are one group.
# Workers share that hash; the rejects are read by workers too, few as they may be, or nothing of the join is parallel.
_FOR_DETECTION = """
set local work_mem = '{memory}MB'; set local max_parallel_workers_per_gather = {workers};
set local min_parallel_table_scan_size = 0; set local enable_sort = off; set local jit = off"""
_WORKERS = 2
_MOST_IN_ONE_ANSWER = 500_000  # keys, of some 70 bytes; more than that come as a stream
_MEMORY = 256  # MB, of all of them together


class PostgresChanges:
    """Finds changes in the snapshot that `snapshot` gives for a table. end: ends it; the next is another."""

    one_instant = True

    def __init__(
        self,
        settings: Settings,
        snapshot: Callable[[TableInfo], AbstractContextManager[Snapshot]],
        info: Callable[[Table], TableInfo],
        end: Callable[[], None],
    ) -> None:
        self._settings, self._snapshot, self._info, self.end = settings, snapshot, info, end
        self._retry = Retry.of(settings)
        self._workers = _WORKERS

    def find(self, table: Table, most: int, rows: int) -> Changes:
        what = f"finding the changes of {table.at_source}"
        return self._retry.call(lambda: self._find(table, most), what)

    def fetch(self, table: Table, keys: pa.Array) -> pa.Table:
        what = f"{table.at_source}, rows asked for by key"
        return self._retry.call(lambda: self._fetch(table, keys), what)

    def look_up(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        def call() -> Any:
            with self._reader(None) as connection:
                return Transaction(connection).call(function, **arguments)

        return self._retry.call(call, function, give_up=give_up)

    def _find(self, table: Table, most: int) -> Changes:
        """One try. The next is without workers: shared memory (64 MB in a container) may not hold their hash."""
        found = Changes(table)
        try:
            with self._reader(table) as connection:
                if not self._collect_few(found, connection, most):
                    self._collect(found, connection, most)
        except ServiceUnavailable as error:
            if not is_statement_timeout(error):
                self._workers = 0
            raise
        return found

    def _collect_few(self, found: Changes, connection: Connection, most: int) -> bool:
        """Compare by buckets of keys. False where the database cannot, or found more than is worth it."""
        source = json.dumps(source_request(found.table))
        arguments = f"{literal(found.table.name)}, {literal(source)}, '', '', '{min(most, _MOST_IN_ONE_ANSWER)}'"
        query = f"select public.etl_find_few_changes({arguments})::text as answer"
        read = batches(connection, query, nbytes=_BATCH_BYTES, patience=self._settings.statement_timeout)
        rows = [row for batch in read for row in batch.to_pylist()]
        answer = json.loads(rows[0]["answer"] or "null")
        if answer is None or (answer["more"] and most > _MOST_IN_ONE_ANSWER):
            return False
        found.add(answer, most)
        return True

    def _collect(self, found: Changes, connection: Connection, most: int) -> None:
        source = source_request(found.table)
        arguments: dict[str, Any] = {"p_table": found.table.name, "p_source": source, "p_after": "", "p_until": ""}
        query = str(Transaction(connection).call("etl_find_changes_sql", **arguments))
        execute(connection, _FOR_DETECTION.format(workers=self._workers, memory=_MEMORY // (self._workers + 1)))
        for batch in batches(connection, query, nbytes=_BATCH_BYTES, patience=self._settings.statement_timeout):
            for row in batch.to_pylist():
                _add(found, row)
            if len(found.fingerprints) > most:
                raise TooManyChanges

    def _fetch(self, table: Table, keys: pa.Array) -> pa.Table:
        with self._reader(table) as connection:
            return rows_of_keys(connection, self._info(table), keys, patience=self._settings.statement_timeout)

    @contextmanager
    def _reader(self, table: Table | None) -> Iterator[Connection]:
        """A connection in the snapshot; SnapshotLost when that ended. table: whose rows are read, if any."""
        with self._snapshot(self._info(table or USERS)) as snapshot, snapshot.reader() as connection:
            yield connection


def rows_of_keys(connection: Connection, info: TableInfo, keys: pa.Array, *, patience: float) -> pa.Table:
    """The rows of these keys as the connection sees them, in the raw schema. patience: see `batches`."""
    schema = info.table.raw_schema
    rows = [schema.empty_table()]
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        query = keys_query(info, keys[start : start + _KEYS_AT_ONCE].to_pylist())
        read = batches(connection, query, nbytes=_BATCH_BYTES, patience=patience)
        found = [from_driver(batch, info) for batch in read if batch.num_rows]
        rows.append(pa.Table.from_batches(found, schema=schema))
    return pa.concat_tables(rows)


def _add(found: Changes, row: dict[str, Any]) -> None:
    """One row of the query: a key that differs, or without a key all others."""
    if row["key"] is not None:
        total = row["source_sum"]
        found.fingerprints[row["key"]] = int(total) if row["source_rows"] and total is not None else None
    found.source_rows += row["source_rows"]
    found.known_rows += row["known_rows"]
    found.target_rows += row["target_rows"]
    found.source_sum = (found.source_sum + int(row["source_sum"] or 0)) % WHOLE
    found.known_sum = (found.known_sum + int(row["known_sum"] or 0)) % WHOLE
