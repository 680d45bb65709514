"""The loop of `watch`: ask for the counts, decide by the book, start a run, keep the health file."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

import psutil

from flows.engine.child import END_SECONDS, ChildOutcome, ChildRun
from tasks.contracts import TABLES
from tasks.errors import PipelineError
from tasks.live.book import Book, Rhythm
from tasks.live.counts import LATE_SECONDS, Counts, fetch_counts, keep_base, kept_base
from tasks.live.health import (
    PollHealth,
    RealtimeHealth,
    RunHealth,
    WatchHealth,
    health_path,
    notify_systemd,
    write_private,
)
from tasks.live.night import Night
from tasks.live.realtime import Listener
from tasks.platform.functions import Database
from tasks.platform.identity import Identity
from tasks.retry import GiveUp
from tasks.settings import Settings

logger = logging.getLogger(__name__)
HOUR = 3_600.0
SPACING_SECONDS = 1.0  # between two polls, however many hints come
DEAF_POLLS = 2  # polls in a row that found changes of which Realtime said nothing
HELD_SECONDS = 3_600.0  # a held run waits for a person

Say = Callable[[str], None]


class Running(Protocol):
    """A run that was started."""

    def wait(self) -> ChildOutcome: ...
    def end(self) -> None: ...
    def kill(self) -> None: ...


class Watch:
    """One watch: what it knows and does. `stop` ends it cleanly, from a signal handler or another task."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        identity: Identity,
        *,
        start_run: Callable[[], Running] = ChildRun,
        say: Say = logger.debug,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self._database, self._start_run, self._say = settings, database, start_run, say
        self._clock = clock
        rhythm = Rhythm(settings.watch_changes, settings.watch_minutes * 60, settings.watch_every_minutes * 60)
        self._kept = kept_base(settings)
        self.book = Book(rhythm, self._kept)
        self.night = Night.of(settings)
        silence = settings.watch_silence_minutes * 60
        self.listener = Listener(settings.supabase_url, identity, TABLES, self.hint, silence=silence)
        self._listening: asyncio.Task[None] | None = None
        self._run: Running | None = None
        self._run_task: asyncio.Task[ChildOutcome] | None = None
        self._wake, self._stopping = asyncio.Event(), False
        self._eager_until, self._eager = 0.0, SPACING_SECONDS
        self._deaf, self._heard = 0, 0
        self._poll_error, self._blocked = "", ""
        self._unwritten: dict[str, str] = {}  # by file, why the disk does not take it
        self._started = datetime.now(UTC)
        self._runs = {"started": 0, "committed": 0, "failed": 0, "without_changes": 0}
        self._last, self._last_seconds = "", 0.0
        self._hour_at, self._hour = self._clock() + HOUR, dict(self._runs) | {"changes": 0}

    def stop(self) -> None:
        """End after what is being done now; a run that is running is asked to end."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Watch until `stop`."""
        try:
            while not self._stopping:
                if counts := await self._poll():
                    self._listen(counts)
                    self._decide(counts)
                self._write_health("running" if self._run else "watching")
                self._log_the_hour()
                await self._sleep()
        finally:
            await self._end()

    async def _poll(self) -> Counts | None:
        self._wake.clear()
        try:
            tries = 1 if self._poll_error else 2  # in an outage each poll would log its second try, a line every time
            counts = await asyncio.to_thread(fetch_counts, self._database, give_up=_after(tries))
        except PipelineError as error:
            if not self._poll_error:
                logger.warning("watch: %s It is asked again every %g s.", error, self.settings.watch_poll_seconds)
            self._poll_error = error.message
            return None
        if self._poll_error:
            logger.warning("watch: the database answers again.")
        self._poll_error = ""
        return counts

    def _listen(self, counts: Counts) -> None:
        """Realtime where it is enabled for a source; it may be enabled at any time."""
        wanted = self.settings.watch_realtime == "auto" and bool(counts.published)
        if wanted and self._listening is None:
            self._listening = asyncio.create_task(self.listener.run())
        elif not wanted and self._listening is None:
            off = self.settings.watch_realtime == "off"
            self.listener.figures.why = "ETL_WATCH_REALTIME is off" if off else "not enabled for the sources"

    def hint(self) -> None:
        """Something changed, says Realtime; the counts may know a little later."""
        self._eager_until, self._eager = self._clock() + LATE_SECONDS, SPACING_SECONDS
        self._wake.set()

    def _decide(self, counts: Counts) -> None:
        now = self._clock()
        new = self.book.observe(counts, now)
        if self.book.base is not self._kept:
            self._keep_base()
        self._hour["changes"] += new
        self._notice_deafness(new, counts)
        if self._run is not None:
            if self.night.yields(counts.clock):  # the database's: this machine's may be hours wrong
                self._run.end()
            return
        due = self.book.due_at()
        if due is None or due > now:
            self._blocked = ""
            return
        closed = self.night.closed_until(counts.clock, last_started=counts.started_at, run_seconds=self._last_seconds)
        if counts.running or closed:
            self._blocked = f"run {counts.running} is running" if counts.running else f"the night, until {closed:%H:%M}"
            return
        self._start(counts, now)

    def _keep_base(self) -> None:
        """For a watch that starts after this one; where the disk does not take it, again at the next poll."""
        base = self.book.base
        if self._written("base", lambda: keep_base(self.settings, base)):
            self._kept = base

    def _written(self, what: str, write: Callable[[], None]) -> bool:
        """Whether a file could be written. What keeps it from that is logged once, not at every poll."""
        problem = ""
        try:
            write()
        except PipelineError as error:
            problem = str(error)
            if problem != self._unwritten.get(what):
                logger.warning("watch: %s", problem)
        self._unwritten[what] = problem
        return not problem

    def _notice_deafness(self, new: int, counts: Counts) -> None:
        """Changes that the poll finds and Realtime did not announce: its connection is open, and delivers nothing."""
        heard, self._heard = self.listener.figures.messages - self._heard, self.listener.figures.messages
        if not self.listener.listening or heard or not new:
            self._deaf = 0 if heard else self._deaf
            return
        self._deaf += 1
        if self._deaf >= DEAF_POLLS:
            self._deaf = 0
            self.listener.restart("the counts changed and no message arrived")

    def _start(self, counts: Counts, now: float) -> None:
        self._say(f"{self.book.pending:,} changes: a run starts")
        self._blocked = ""
        self.book.start(counts, now)
        self._runs["started"] += 1
        try:
            self._run = run = self._start_run()
        except (OSError, EOFError) as error:  # no memory or no process was left for it
            self._account(ChildOutcome("failed", message=f"It could not be started ({type(error).__name__})."))
            return
        self._run_task = asyncio.create_task(asyncio.to_thread(run.wait))
        self._run_task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[ChildOutcome]) -> None:
        self._run = self._run_task = None
        self._wake.set()
        if not task.cancelled():
            self._account(task.result())

    def _account(self, outcome: ChildOutcome) -> None:
        now = self._clock()
        self._last = f"{outcome.status} {outcome.run_id}".strip()
        if outcome.status == "committed":
            self._last_seconds = outcome.seconds
            self.book.commit()
            self._runs["committed"] += 1
            self._runs["without_changes"] += outcome.changed == 0
            self._say(f"committed {outcome.run_id} in {outcome.seconds:.1f} s: {outcome.changed:,} rows changed")
        elif outcome.status in ("lease held", "ended"):
            self.book.give_way(now, max(LATE_SECONDS, self.settings.watch_poll_seconds))
        else:
            self._runs["failed"] += 1
            self.book.fail(now, least=HELD_SECONDS if outcome.status == "held" else 0.0)
            pause = self.book.not_before - now
            logger.warning("watch: the run %s: %s It is tried again in %.0f s.", outcome.status, outcome.message, pause)

    async def _sleep(self) -> None:
        """Until the next poll: the usual pause, or sooner for a hint, a run that ended, or one that is due."""
        now = self._clock()
        pause = self.settings.watch_poll_seconds
        if self._run is not None:  # the closer a poll is to the start of its reading, the less is left over
            pause = min(pause, SPACING_SECONDS)
        if now < self._eager_until and not self.book.pending:
            pause, self._eager = min(pause, self._eager), self._eager * 2
        least, due = SPACING_SECONDS, self.book.due_at()
        if due is not None and not self._blocked:
            left = due - now if due > now else SPACING_SECONDS  # it is due and did not start: nobody could be asked
            pause, least = min(pause, left), min(least, left)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause)
        if not self._stopping and (rest := least - (self._clock() - now)) > 0:
            await asyncio.sleep(rest)

    async def _end(self) -> None:
        notify_systemd("STOPPING=1")
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        if self._run is not None and self._run_task is not None:
            run, task = self._run, self._run_task
            run.end()
            done, _ = await asyncio.wait({task}, timeout=END_SECONDS)
            if not done:
                run.kill()
                await asyncio.wait({task}, timeout=END_SECONDS)
        self.listener.figures.state = "off"
        self._write_health("stopped")

    def _write_health(self, state: str) -> None:
        notify_systemd("READY=1\nWATCHDOG=1")
        heard = self.listener.figures
        health = WatchHealth(
            state=state,
            updated_at=datetime.now(UTC),
            started_at=self._started,
            pending=self.book.pending,
            blocked_by=self._blocked,
            poll=PollHealth(every_seconds=self.settings.watch_poll_seconds, error=self._poll_error),
            realtime=RealtimeHealth(state=heard.state, why=heard.why, connects=heard.connects, messages=heard.messages),
            runs=RunHealth(**self._runs, failing=self.book.failures, last=self._last),
            memory_mib=round(psutil.Process().memory_info().rss / 2**20),
        )
        self._written("health", lambda: write_private(health_path(self.settings), health.model_dump(mode="json")))

    def _log_the_hour(self) -> None:
        if self._clock() < self._hour_at:
            return
        runs = {name: self._runs[name] - self._hour[name] for name in self._runs}
        logger.info(
            "watch: in the last hour %d changes, %d runs committed, %d failed; Realtime %s, %d messages in all; %d MiB",
            self._hour["changes"],
            runs["committed"],
            runs["failed"],
            self.listener.figures.state,
            self.listener.figures.messages,
            psutil.Process().memory_info().rss // 2**20,
        )
        self._hour_at, self._hour = self._clock() + HOUR, dict(self._runs) | {"changes": 0}


def _after(tries: int) -> GiveUp:
    """So often a poll is tried: twice, as its connection may have been closed meanwhile; then the next poll asks."""
    failures = itertools.count(1)
    return lambda _: next(failures) >= tries
