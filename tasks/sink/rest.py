"""Writing over REST: differences in batches, several in flight, through functions that check the lease.

A batch has the hash of its content for a name, and the database remembers what it answered: sent again because the
answer was lost, it is counted once.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from tasks.arrow.ahead import Submit, together
from tasks.arrow.rebatch import slices
from tasks.contracts import Table
from tasks.platform.functions import Database, RestDatabase, open_database
from tasks.retry import GiveUp, in_halves, is_statement_timeout
from tasks.settings import Settings, Transport
from tasks.sink.job import LoadJob, Written, begin, commit, json_batches, refused_keys, write_rejects
from tasks.sink.model import LoadCounts, deletes, reject_changes, reject_deletes
from tasks.sink.rows import as_array
from tasks.sink.sink import Loading, Verify
from tasks.sink.target import ANSWER_ROWS, TargetReader
from tasks.sink.too_slow import explained

_DELETES_IN_ONE_CALL = 5_000
Answer = dict[str, Any]


class RestSink:
    """The project's tables over REST: rows change batch by batch, and the commit is one transaction."""

    transport: Transport = "rest"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def compare(self) -> Iterator[TargetReader]:
        """What the tables hold, a page a call."""
        with open_database(self._settings) as database:
            yield TargetReader(database, min(ANSWER_ROWS, self._settings.batch_rows))

    @contextmanager
    def open(self, job: LoadJob) -> Iterator[Loading]:
        """Begin to load."""
        with open_database(self._settings) as database:
            begin(database, job)
            yield _RestLoading(database, job)

    def committed(self, job: LoadJob) -> dict[str, LoadCounts] | None:
        """Not asked: a lost answer to the commit is asked for again by the call itself."""
        return None

    def retried(self, load: Callable[[], dict[str, LoadCounts]]) -> dict[str, LoadCounts]:
        """Once: every call in it is tried again by itself."""
        return load()


class _RestLoading:
    def __init__(self, database: Database, job: LoadJob) -> None:
        self._database, self._job = database, job

    def write(self) -> dict[str, Written]:
        """Several batches at once, each under its own name."""
        job = self._job
        written = {table.name: Written() for table in job.tables}
        with _open_writers(job.settings) as writers:
            for table in reversed(job.tables):
                calls = (_call(_delete, job, table, ids) for ids in _id_batches(job, table))
                with explained(self._database, job, f"Deleting {job.plans[table.name].deletes:,} rows", table.clean):
                    _collect(writers.run(calls), job, table, written[table.name])
            for table in job.tables:
                calls = (_call(_write, job, table, rows) for rows in _row_batches(job, table))
                with explained(self._database, job, f"Writing {job.to_write(table):,} rows", table.clean):
                    _collect(writers.run(calls), job, table, written[table.name])
        for table in job.tables:
            rows = sum(spool(job.workspace, table).rows() for spool in (reject_deletes, reject_changes))
            with explained(self._database, job, f"Writing {rows:,} rejects of {table.name}", "etl_reject_rows"):
                write_rejects(self._database, job, table, _too_much)
        return written

    def commit(self, written: Mapping[str, Written], verify: Verify | None) -> dict[str, LoadCounts]:
        """The commit alone, once `verify` has passed: what was written is there already."""
        if verify:
            verify(self._database, refused_keys(written), in_transaction=False)
        with self._job.committing():
            return commit(self._database, self._job, written)


def _collect(answers: Iterator[tuple[int, list[Answer]]], job: LoadJob, table: Table, written: Written) -> None:
    for rows, of_batch in answers:
        for answer in of_batch:
            written.add(answer)
        job.require_few_refused(table, written)
        job.passed(rows)


def _id_batches(job: LoadJob, table: Table) -> Iterator[list[str]]:
    for batch in deletes(job.workspace, table).batches():
        yield from (ids.column(0).to_pylist() for ids in slices(batch, _DELETES_IN_ONE_CALL))


def _row_batches(job: LoadJob, table: Table) -> Iterator[pa.Array]:
    for batch in job.rows_to_write(table).batches():
        yield from json_batches(batch, rows=job.settings.write_rows, size=job.settings.write_bytes)


Call = Callable[[Database], tuple[int, list[Answer]]]
Send = Callable[[Database, LoadJob, Table, Any, GiveUp | None], Answer]


def _call(send: Send, job: LoadJob, table: Table, items: Any) -> Call:
    """Sends a batch; where it is too much for one request (time, size) its halves."""

    def call(database: Database) -> tuple[int, list[Answer]]:
        return len(items), in_halves(partial(send, database, job, table), items, _too_much)

    return call


def _delete(database: Database, job: LoadJob, table: Table, ids: list[str], give_up: GiveUp | None) -> Answer:
    name = _name("delete", table, ",".join(ids).encode())
    arguments = {"p_batch": name, "p_table": table.name, "p_ids": ids}
    return dict(database.call("etl_delete", give_up=give_up, **job.run.evidence, **arguments))


def _write(database: Database, job: LoadJob, table: Table, rows: pa.Array, give_up: GiveUp | None) -> Answer:
    body = as_array(rows)
    arguments = {"p_batch": _name("write", table, body), "p_table": table.name, "p_limit": job.limit(table)}
    return dict(database.call("etl_write", give_up=give_up, **job.run.evidence, **arguments, p_rows=body))


def _too_much(error: Exception) -> bool:
    """The statement timeout, or a body that is too large: fewer rows at once may pass."""
    return is_statement_timeout(error) or getattr(error, "status", 0) == 413


def _name(what: str, table: Table, content: bytes) -> str:
    return f"{what}/{table.name}/{hashlib.sha256(content).hexdigest()[:32]}"


@contextmanager
def _open_writers(settings: Settings) -> Iterator[_Writers]:
    with ExitStack() as clients, together(settings.writers, "writer") as submit:
        yield _Writers(settings, submit, clients)


class _Writers:
    """Threads that each have a client of their own; a bounded number of batches is held at any time."""

    def __init__(self, settings: Settings, submit: Submit, clients: ExitStack) -> None:
        self._settings, self._submit, self._clients = settings, submit, clients
        self._local = threading.local()

    def run(self, calls: Iterator[Call]) -> Iterator[tuple[int, list[Answer]]]:
        """The answers, in the order in which they come. The first failure ends it, once what is in flight is done."""
        waiting: set[Future[tuple[int, list[Answer]]]] = set()
        for call in calls:
            waiting.add(self._submit(self._call, call))
            if len(waiting) >= 2 * self._settings.writers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in waiting:
            yield future.result()

    def _call(self, call: Call) -> tuple[int, list[Answer]]:
        if not hasattr(self._local, "database"):
            self._local.database = self._clients.enter_context(closing(RestDatabase(self._settings)))
        return call(self._local.database)
