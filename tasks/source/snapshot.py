"""One instant of a database, shared: a transaction that holds it, and connections that read in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from tasks.errors import PipelineError
from tasks.platform.postgres import Connection, execute, refusals
from tasks.settings import Settings
from tasks.source.connection import connect, scalar

_BEGIN = "begin isolation level repeatable read read only"
_NOT_THERE = frozenset({"22023", "42704", "55000"})  # how Postgres says that a snapshot is gone, by version


class SnapshotLost(Exception):
    """The transaction that held the snapshot has ended; what is read from now on is another instant."""


class Snapshot:
    """Holds a snapshot for as long as its transaction lives. began: the database's clock when it was taken (UTC)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        try:
            self._holder = self._stack.enter_context(connect(settings))
            with refusals():
                execute(self._holder, _BEGIN)
                self.name = str(scalar(self._holder, "select pg_export_snapshot()"))
                clock = scalar(self._holder, "select clock_timestamp()")
        except BaseException:
            self._stack.close()
            raise
        self.began: datetime = clock.astimezone(UTC)

    def close(self) -> None:
        """End the transaction."""
        self._stack.close()

    def call(self, function: str, *arguments: str) -> Any:
        """A SQL function of ours, seen at this instant; `arguments` are SQL."""
        with refusals():
            return json.loads(scalar(self._holder, f"select public.{function}({', '.join(arguments)})::text"))

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Another connection at the same instant. SnapshotLost when it cannot be had any more."""
        with connect(self._settings, like=self._holder) as connection:
            execute(connection, _BEGIN)
            try:
                with refusals():
                    execute(connection, f"set transaction snapshot '{self.name}'")
            except PipelineError as error:
                if getattr(error, "code", None) in _NOT_THERE:
                    raise SnapshotLost from None
                raise
            yield connection
