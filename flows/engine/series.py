"""Several runs on one reading: the rows of the sources are read and cleaned once, and each instant is a run of its own.

The lease is free between two runs, and a run that waits for it goes first. An instant that another series commits
meanwhile is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from flows.engine import stages
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import read_and_clean, report_and_commit, start_of
from flows.engine.run import Run, open_next, open_run
from tasks.cleaning.counts import CleanCounts
from tasks.errors import LeaseHeld, TransientError
from tasks.ledger.as_of import AsOf
from tasks.ledger.lease import Ticket
from tasks.ledger.ledger import Ledger, NotNeeded, Start
from tasks.platform.functions import open_database
from tasks.settings import Settings, settings_over

logger = logging.getLogger(__name__)
Commit = Callable[[datetime, Callable[[], RunOutcome]], None]


def run_series(request: RunRequest, instants: Sequence[datetime], commit: Commit) -> None:
    """One run for each instant, in their order. commit: is given the instant and what does its run, and calls that;
    not for one that somebody else has committed since this was called.

    A failure that a new start may fix reads and cleans again, and continues with the instant that failed; so many new
    starts are made without an instant in between as one run may have. Raises what `run_pipeline` raises.
    """
    settings = settings_over(request.transport)
    with open_database(settings) as database:
        since = Ledger(database, settings).clock()
    left, earlier, failures = list(instants), tuple[Ticket, ...](), 0
    while left:
        attempt = _Attempt(settings, request, left, earlier, since)
        try:
            attempt.run(commit)
        except LeaseHeld:
            raise
        except TransientError as error:
            failures = 1 if attempt.committed else failures + 1
            if failures > settings.run_retries:
                raise
            logger.warning("%s Started again in %g s.", error, settings.run_retry_seconds)
            time.sleep(settings.run_retry_seconds)
        left = left[attempt.committed :]
        # The last of the earlier tries is resumed, with its as_of: those of another instant must not be among them.
        earlier = (*(() if attempt.committed else earlier), *attempt.tickets[attempt.committed :])


class _Attempt:
    """The runs of a series from one reading on, until the first failure."""

    def __init__(
        self,
        settings: Settings,
        request: RunRequest,
        instants: Sequence[datetime],
        earlier: tuple[Ticket, ...],
        since: datetime,
    ) -> None:
        self.settings, self.request, self.instants, self.earlier = settings, request, instants, earlier
        self.since = since
        self.tickets: list[Ticket] = []
        self.committed = 0

    def run(self, commit: Commit) -> None:
        """Read and clean for the first instant, then one run for each; only that one where another series has it."""
        first, *others = self.instants
        try:
            with open_run(self.settings, self._request(first), self._start(first)) as run:
                users, posts = read_and_clean(run)
                commit(first, lambda: report_and_commit(run, users, posts))
                self.committed += 1
                for instant in others:
                    self._next(run, instant, users, posts, commit)
        except NotNeeded:
            self.tickets.clear()
            self.committed += 1

    def _next(self, first: Run, instant: datetime, users: CleanCounts, posts: CleanCounts, commit: Commit) -> None:
        with suppress(NotNeeded), open_next(first, self._request(instant), self._start(instant)) as run:
            commit(instant, lambda: report_and_commit(run, users, stages.reduce_the_posts(run, posts)))
        self.committed += 1

    def _request(self, instant: datetime) -> RunRequest:
        return replace(self.request, as_of=AsOf.instant(instant))

    def _start(self, instant: datetime) -> Start:
        start = start_of(self.settings, self._request(instant), self.earlier if not self.tickets else ())
        self.tickets.append(start.ticket)
        return replace(start, needed=lambda ledger: not ledger.has_committed(instant, self.since))
