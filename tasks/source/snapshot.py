"""One instant of a database, shared: a transaction that holds it, and connections that read in it.

The product's tables are locked (ACCESS SHARE, as by any SELECT) from before the snapshot until the reading ends: a
table that is rewritten or truncated meanwhile would look empty or partial in an older snapshot. Nothing is held before
the reading or after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from tasks.errors import PipelineError, ServiceUnavailable
from tasks.platform.postgres import Connection, execute
from tasks.platform.refusals import refusals
from tasks.settings import Settings
from tasks.source.connection import connect, scalar
from tasks.source.model import TableInfo
from tasks.source.select import lock_query
from tasks.source.slices import Extent, extent_query

_BEGIN = "begin isolation level repeatable read read only"
_NOT_THERE = frozenset({"22023", "42704", "55000"})  # how Postgres says that a snapshot is gone, by version


class SnapshotLost(Exception):
    """The transaction that held the snapshot has ended; what is read from now on is another instant."""


class Snapshot:
    """Holds a snapshot, and the tables' ACCESS SHARE locks, until it is closed. name: of the exported snapshot."""

    def __init__(self, settings: Settings, tables: Sequence[TableInfo]) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._locked: set[str] = set()
        try:
            self._locker = self._stack.enter_context(connect(settings))
            with refusals():
                execute(self._locker, "begin read only")
            for info in tables:
                self.lock(info)
            self._holder = self._stack.enter_context(connect(settings))
            with refusals():
                execute(self._holder, _BEGIN)
                self.name = str(scalar(self._holder, "select pg_export_snapshot()"))
        except BaseException:
            self._stack.close()
            raise

    def lock(self, info: TableInfo) -> None:
        """Lock a table, in a transaction of its own: the snapshot's would see it as it was before the lock.

        `select … limit 0`, not `lock table`: it takes the same lock, on views and with column grants too.
        """
        query = lock_query(info)
        if query not in self._locked:
            with refusals():
                execute(self._locker, query)
            self._locked.add(query)

    def extent(self, info: TableInfo) -> Extent:
        """The table's size. SnapshotLost when the transaction has ended."""
        try:
            with refusals(), self._holder.cursor() as cursor:
                cursor.execute(extent_query(info))
                pages, nbytes = cursor.fetchone() or (0, 0)
        except ServiceUnavailable:
            raise SnapshotLost from None
        return Extent(pages, nbytes)

    def close(self) -> None:
        """End the transactions."""
        self._stack.close()

    def alive(self) -> bool:
        """Whether the transactions are still there: their server may have ended them."""
        try:
            with refusals():
                return all(scalar(held, "select 1") == 1 for held in (self._locker, self._holder))
        except PipelineError:
            return False

    def reader(self) -> AbstractContextManager[Connection]:
        """Another connection at the same instant. SnapshotLost when it cannot be had any more."""
        return reader_at(self._settings, self.name)


@contextmanager
def reader_at(settings: Settings, name: str) -> Iterator[Connection]:
    """A connection at the instant of an exported snapshot. SnapshotLost when it cannot be had any more."""
    with connect(settings) as connection:
        # A stream of rows has no limit as a whole, since it waits for us too: `batches` limits each wait instead.
        execute(connection, f"{_BEGIN}; set local statement_timeout = 0")
        try:
            with refusals():
                execute(connection, f"set transaction snapshot '{name}'")
        except PipelineError as error:
            if getattr(error, "code", None) in _NOT_THERE:
                raise SnapshotLost from None
            raise
        yield connection


class Readers:
    """Connections at a snapshot's instant that are used again, until they break or all is read."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._idle: list[tuple[Connection, ExitStack]] = []

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection for one thread; whatever ends the block early ends it too."""
        try:
            connection, stack = self._idle.pop()
        except IndexError:
            stack = ExitStack()
            connection = stack.enter_context(self._snapshot.reader())
        with stack:
            yield connection
            self._idle.append((connection, stack.pop_all()))
