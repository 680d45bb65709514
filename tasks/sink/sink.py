"""A sink: the project's own tables over one transport. What both have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from tasks.platform.functions import Database
from tasks.settings import Transport
from tasks.sink.job import LoadJob, Written
from tasks.sink.model import LoadCounts
from tasks.sink.target import TargetReader


class Verify(Protocol):
    """Asks the database whether what must hold after the writing does; raises where not."""

    def __call__(self, database: Database, refused: Mapping[str, list[str]], *, in_transaction: bool) -> None:
        """refused: keys that the database refused, by table. in_transaction: the rejects have them already, and a
        call that fails ends the load."""


class Loading(Protocol):
    """One try to load, while its client or connection is open. The ledger says `loading` from its start on."""

    def write(self) -> dict[str, Written]:
        """Write the differences: deletes, posts before authors; rows, authors before posts; rejects."""

    def commit(self, written: Mapping[str, Written], verify: Verify | None) -> dict[str, LoadCounts]:
        """Aggregates, refused rows and the ledger's commit, in one transaction.

        verify: what must hold before it; it raises.
        """


class Sink(Protocol):
    """Compare, write, commit, and what is written already."""

    transport: Transport

    def compare(self) -> AbstractContextManager[TargetReader]:
        """What the tables hold, as streams in key order."""

    def open(self, job: LoadJob) -> AbstractContextManager[Loading]:
        """Begin to load."""

    def committed(self, job: LoadJob) -> dict[str, LoadCounts] | None:
        """The counts of the run when an earlier try committed it and its answer was lost; None when not."""

    def retried(self, load: Callable[[], dict[str, LoadCounts]]) -> dict[str, LoadCounts]:
        """The load, tried again as a whole where a failed one leaves nothing."""
