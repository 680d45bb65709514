"""When a run is due: what changed since the last one, by counts alone; no clock, no database, no network of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime

from tasks.live.counts import Counts

KEPT = 512  # polls remembered, to find the counts of the instant at which a run of others started to read
MAX_BACKOFF_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A run after so many changes, or so many seconds after the first; `every` seconds from start to start at least."""

    changes: int
    seconds: float
    every: float


class Book:
    """What is published and what is pending. Times are seconds of a monotonic clock that the caller reads."""

    def __init__(self, rhythm: Rhythm, base: Counts | None = None) -> None:
        self.rhythm = rhythm
        self.base = base  # the counts that a committed run has read, or more of them
        self.pending = 0
        self.first: float | None = None  # when the oldest pending change was seen
        self.last_start: float | None = None
        self.not_before = 0.0  # after failures
        self.failures = 0
        self._at_start: Counts | None = None  # of the run that is running
        self._credited: datetime | None = None  # when the newest committed run started, of those that were seen
        self._polls: deque[Counts] = deque(maxlen=KEPT)

    @property
    def running(self) -> bool:
        return self._at_start is not None

    def observe(self, counts: Counts, now: float) -> int:
        """Take in a poll; returns how many changes are new since the poll before."""
        before = self._polls[-1] if self._polls else self.base
        self._date_back(counts.clock)
        self._polls.append(counts)
        self._credit(counts)
        self._count(counts, now)
        return counts.since(before)

    def _date_back(self, clock: datetime) -> None:
        """The database's clock may have been set back: what was counted before that is of now at the latest.

        Else what a run publishes would be older than that until the clock has caught up, and run follow run.
        """
        self._polls = deque((_no_later(poll, clock) for poll in self._polls), maxlen=KEPT)
        self.base = self.base and _no_later(self.base, clock)
        self._at_start = self._at_start and _no_later(self._at_start, clock)

    def _credit(self, counts: Counts) -> None:
        """A committed run, whoever started it, has what was there by `read_at`: what the last poll before that counted.

        So a night as of midnight takes back what a run of later had published, and that is pending again. What kept
        ours back, as a metric that a person has accepted since, is over: nothing waits for that any more.
        """
        if counts.read_at is None or counts.started_at == self._credited:
            return
        self._credited = counts.started_at
        if counts.read_at > counts.clock:
            return  # by a clock that was set back since: which polls were before it is not known
        self.failures, self.not_before = 0, 0.0
        seen = [poll for poll in self._polls if poll.clock <= counts.read_at]
        if seen:
            self.base = seen[-1]
        elif self.base and self.base.clock > counts.read_at:
            self.base = None  # it was taken back while nobody watched

    def _count(self, counts: Counts, now: float) -> None:
        self.pending = counts.since(self._at_start or self.base)
        if not self.pending:
            self.first = None
        elif self.first is None:
            self.first = now

    def due_at(self) -> float | None:
        """When the pending changes start a run; None when there are none, or a run is running."""
        if self.running or self.first is None:
            return None
        wanted = self.first if self.pending >= self.rhythm.changes else self.first + self.rhythm.seconds
        allowed = self.last_start + self.rhythm.every if self.last_start is not None else wanted
        return max(wanted, allowed, self.not_before)

    def start(self, counts: Counts, now: float) -> None:
        """A run starts, and reads at least what `counts` has."""
        self._at_start, self.last_start = counts, now
        self.pending, self.first = 0, None

    def commit(self) -> None:
        """The run has committed: what was counted at its start is published."""
        if self._at_start is not None and (self.base is None or self._at_start.clock >= self.base.clock):
            self.base = self._at_start
        self._at_start, self.failures, self.not_before = None, 0, 0.0

    def fail(self, now: float, *, least: float = 0.0) -> None:
        """The run has failed: its changes are pending again, later each time. least: seconds to wait at any rate."""
        self._at_start = None
        self.failures += 1
        pause = min(MAX_BACKOFF_SECONDS, max(self.rhythm.every, 10.0) * 2 ** (self.failures - 1))
        self._again(now, max(pause, least))

    def give_way(self, now: float, seconds: float) -> None:
        """Another run has the right of way: not a failure, try again in `seconds`."""
        self._at_start = None
        self._again(now, seconds)

    def _again(self, now: float, seconds: float) -> None:
        self.not_before = now + seconds
        self.pending = self._polls[-1].since(self.base)
        self.first = now if self.pending else None


def _no_later(counts: Counts, clock: datetime) -> Counts:
    return counts if counts.clock <= clock else replace(counts, clock=clock)
