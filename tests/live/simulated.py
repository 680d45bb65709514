"""A watch in simulated time: its own loop, clock and decisions, with a database and runs that are played.

Nothing sleeps: when all that is left is to wait, the clock moves on to the next timer. So hours of changes, polls,
hints and runs take a second, and every instant is known exactly.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from flows.engine.child import ChildOutcome
from flows.engine.watching import Watch
from tasks.errors import ServiceUnavailable
from tasks.platform.functions import Database
from tasks.platform.identity import Identity
from tasks.retry import GiveUp, Retry
from tasks.settings import Settings

EPOCH = datetime(2026, 1, 31, tzinfo=UTC)
AT_ONCE = Retry(sleep=lambda _: None)


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: a wait moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is simulated."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self.set_default_executor(_Inline(self))

    def time(self) -> float:
        return self._clock.now


class _Inline(ThreadPoolExecutor):
    """What would run in a thread runs at once; what blocks says so by returning a future of its own."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(1)
        self._loop = loop

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done = Future[Any]()
        try:
            result = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - handed on, as a thread's is
            done.set_exception(error)
            return done
        if isinstance(result, Future):
            return result
        done.set_result(result)
        return done


@dataclass
class Started:
    """A run as it was started, and what it read."""

    at: float
    ended: float
    changes: list[float]


@dataclass
class Project:
    """A database that counts changes, and runs that publish them. Instants are seconds of the loop's clock.

    every_change: when each was made. runs: those that were started. away: from when until when it does not answer.
    full: until when the machine has no process left for a run.
    """

    loop: Loop
    chance: random.Random
    every_change: list[float] = field(default_factory=list)
    runs: list[Started] = field(default_factory=list)
    away: tuple[float, float] = (0, 0)
    full: float = 0

    def change(self) -> None:
        self.every_change.append(self.loop.time())

    def call(self, function: str, /, *, give_up: GiveUp | None = None, **_: Any) -> Mapping[str, Any]:
        """The answer of `etl_changes`."""
        assert function == "etl_changes"
        return AT_ONCE.call(self._answer, f"Calling {function}", give_up=give_up)

    def _answer(self) -> Mapping[str, Any]:
        now = self.loop.time()
        if self.away[0] <= now < self.away[1]:
            raise ServiceUnavailable("The connection failed.")
        committed = [run for run in self.runs if run.ended <= now]
        running = [run for run in self.runs if run.ended > now]
        last = _instant(committed[-1].at) if committed else None
        return {
            "clock": _instant(now),
            "epoch": "one",
            "sources": {"posts": {"changes": len(self.every_change), "marker": "m", "counted": True}},
            "running": "a run" if running else None,
            "committed": {"began": last, "started_at": last, "as_of": last} if last else None,
        }

    def start_run(self) -> _Run:
        now = self.loop.time()
        if now < self.full:
            raise EOFError
        assert not [run for run in self.runs if run.ended > now], "never two at once"
        read = {at for run in self.runs for at in run.changes}
        new = [at for at in self.every_change if at not in read]
        self.runs.append(Started(now, now + self.chance.uniform(2, 90), new))
        return _Run(self.loop, self.runs[-1])


@dataclass
class _Run:
    loop: Loop
    started: Started

    def wait(self) -> ChildOutcome:
        done = Future[ChildOutcome]()
        seconds = self.started.ended - self.started.at
        outcome = ChildOutcome("committed", "run", len(self.started.changes), seconds=seconds)
        self.loop.call_at(self.started.ended, done.set_result, outcome)
        return cast(ChildOutcome, done)

    def end(self) -> None: ...
    def kill(self) -> None: ...


def _instant(at: float) -> str:
    return (EPOCH + timedelta(seconds=at)).isoformat()


def watch_for(
    seconds: float, folder: Path, seed: int, *, away: tuple[float, float] = (0, 0), full: float = 0, **settings: object
) -> Project:
    """A watch over so much time, with changes at random. Hints are lost, doubled, late or of nothing, then all lost.

    settings: those of the watch. Long, as what happens in the simulated time is one story.
    """
    chance, loop = random.Random(seed), Loop()
    project = Project(loop, chance, away=away, full=full)
    values: dict[str, object] = {
        "supabase_url": "http://127.0.0.1:9",
        "supabase_service_key": "key",
        "data_dir": folder,
        "watch_clear_minutes": 0,
        "cron": "0 0 29 2 *",
    }
    known = Settings(_env_file=None, **{**values, **settings})  # type: ignore[arg-type]

    pace = known.watch_minutes * 60 + known.watch_poll_seconds

    async def play() -> None:
        watch = Watch(
            known,
            cast(Database, project),
            cast(Identity, None),
            start_run=project.start_run,
            clock=loop.time,
        )
        watching = asyncio.create_task(watch.run())
        while loop.time() < seconds:
            await asyncio.sleep(chance.expovariate(1 / (chance.choice((0.1, 2, 10)) * pace)))
            for _ in range(chance.choice((0, 1, 1, 1, 7))):
                project.change()
            for _ in range(chance.choice((0, 0, 1, 2)) if loop.time() < seconds / 2 else 0):
                loop.call_later(chance.uniform(0, 20), watch.hint)
        await asyncio.sleep(1_000)  # without changes: all of them are published
        watch.stop()
        await watching

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
    return project
