"""The nights of one history: what happens around each, and whether it left what a full one would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from flows.engine.outcome import RunOutcome
from tasks.errors import RunHeld
from tasks.incremental.base import base_run
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import open_database
from tasks.publish.restore import restore
from tasks.publish.retention import retain
from tasks.settings import Transport
from tests.incremental import histories
from tests.incremental.kit import full_disk, stored
from tests.incremental.oracle import problems
from tests.incremental.world import World
from tests.pipeline.conftest import Runner
from tests.pipeline.killed import run_in_child
from tests.without_charts import SWITCH

# In their order: an instant before the current run's is asked for as the past. `midnight` after `now` goes back.
AS_OFS = (
    "2025-10-20T00:00:00+00:00", "2025-11-30T12:34:56.789+00:00", "2025-12-31T23:59:59.999999+00:00",
    "2026-01-01T00:00:00+00:00", "2026-01-10T00:00:00+00:00", "2026-01-31T00:00:00+00:00",
)  # fmt: skip
STAGES = (
    "Check sources", "Find changes", "Clean users", "Clean posts", "Merge with the last run", "Build reports",
    "Compare with Postgres", "Verify stored rows", "Write files", "Publish", "Load and commit", "Move pointer",
)  # fmt: skip
_BEFORE_WRITING = ("Publish",) * 6  # rows are written next: most can go wrong there
# Nobody waits for the term of a lease whose process is killed: how leases end is a matter of other tests. It is short
# all the same: a heartbeat that the process had sent may arrive after its death.
_KILLED = {SWITCH: "1", "ETL_LEASE_SECONDS": "2"}
_LEASE_ENDS = "update etl_runs set heartbeat = heartbeat - interval '1 day' where status in ('running', 'loading')"


class Nights:
    """The nights of one history, and what is chosen for them."""

    def __init__(self, world: World, run: Runner) -> None:
        self.world, self._run, self.rng = world, run, world.rng
        rows = self.rng.choice((3, 7, 1_000))
        self.options = {
            "ETL_MAX_CHANGED_SHARE": "1", "ETL_MAX_REFUSED_SHARE": "1", "ETL_ROW_GROUP_ROWS": str(rows),
            "ETL_PART_ROWS": str(rows * self.rng.choice((1, 2))), "ETL_RUN_RETRIES": "0", "ETL_LEASE_SECONDS": "60",
        }  # fmt: skip
        self.charts = False
        self.log: list[str] = []
        self.instants = list(AS_OFS)
        self.runs: list[RunOutcome] = []

    def night(self) -> None:
        """What happened, a night, and whether it left what a full one would."""
        transport: Transport = self.rng.choice(("postgres", "rest"))
        self.log.append(", ".join(histories.happen(self.world)))
        if self.rng.random() < 0.3:
            self._killed(transport)
        if self.rng.random() < 0.1:
            self._breaks_off(transport)
        if self.rng.random() < 0.1:
            self._disturbed()
        self._one(transport)
        if self.rng.random() < 0.3:
            self.rng.choice((self._restore, self._retain, self._rehearse))()

    def quiet_night(self) -> None:
        """Right after a night, as of the same instant, nothing is written; unless a clock's time has come meanwhile."""
        self.charts = True
        outcome = self._one("postgres")
        self.charts = False
        if any(rule["rule"] == "created_in_future" and rule["rows_affected"] for rule in outcome.quality):
            return
        before = self.world.project.writes()
        again = self._commit("postgres", str(outcome.as_of.isoformat()))
        self.log.append(f"quiet: {again.mode} {again.full_because or ''}")
        assert self.world.project.writes() == before, "\n".join(self.log)

    def _one(self, transport: Transport) -> RunOutcome:
        as_of = self._as_of()
        self.log.append(f"{transport} as of {as_of}")
        outcome = self._commit(transport, as_of)
        self.log[-1] += f": {outcome.mode} {outcome.full_because or ''} {'historical' if outcome.historical else ''}"
        if not outcome.historical:
            self.runs.append(outcome)
            self._compare(outcome)
        return outcome

    def _compare(self, outcome: RunOutcome) -> None:
        found = problems(self.world.project, outcome, self.rng.choice(("postgres", "rest")))
        assert not found, "\n".join([*self.log, *found])

    def _commit(self, transport: Transport, as_of: str, **more: Any) -> RunOutcome:
        """A night; where its metrics are held, as somebody looks at it and accepts them. Rows may change meanwhile."""
        accepted = frozenset[str]()
        for _ in range(5):
            try:
                return self._undisturbed(transport, as_of=as_of, accept=accepted, **more)
            except RunHeld as held:
                self.log.append(f"held for {', '.join(held.values)}")
                accepted |= held.values.keys()
        raise AssertionError("\n".join([*self.log, "held again and again"]))

    def _undisturbed(self, transport: Transport, **options: Any) -> RunOutcome:
        """A night of this process. It draws charts only once a history: they are half of a small night's work."""
        with pytest.MonkeyPatch.context() as patch:
            if not self.charts:
                patch.setenv(SWITCH, "1")
            return self._run(transport, **self.options, **options)

    def _as_of(self) -> str:
        """A later instant than before, the same one again, or once in a while the clock's."""
        if self.instants and self.rng.random() < 0.8:
            self.instants = self.instants[self.rng.choice((0, 0, 1, 2)) :] or self.instants[-1:]
            return self.instants[0]
        self.instants = []
        return self.rng.choice(("now", "midnight"))

    def _killed(self, transport: Transport) -> None:
        """Up to two nights in a row that are killed: at the end of a stage, or in the middle of the next one."""
        for _ in range(self.rng.choice((1, 2))):
            stage = self.rng.choice((*STAGES, *_BEFORE_WRITING))
            later = self.rng.choice((0.0, self.rng.uniform(0, 0.2)))
            env = self.world.project.env(transport, **{**self.options, **_KILLED})
            code = run_in_child(env, self._as_of(), kill_after=stage, later=later)
            self.world.sql(_LEASE_ENDS)
            self.log.append(f"killed {later:.3f} s after {stage} over {transport}: {code}")
            self.log.append(", ".join(histories.happen(self.world)))

    def _breaks_off(self, transport: Transport) -> None:
        """A night whose load ends in its middle: what it wrote until then must not hide a change from the next one."""
        env = self.world.project.env(transport, **self.options, ETL_RETRIES="0")
        with full_disk(self.world.project):
            code = run_in_child(env, self._as_of())
        self.log.append(f"broken off over {transport}: {code}")
        self.log.append(", ".join(histories.happen(self.world)))

    def _disturbed(self) -> None:
        """A night over REST between whose requests rows change: whole in itself; what it missed is the next one's."""
        with changes_between_requests(self.world) as steps:
            outcome = self._commit("rest", self._as_of())
        self.log.append(f"rest, with {', '.join(steps)} between its requests: {outcome.mode}")
        self.world.project.assert_whole()
        for name, of in outcome.tables.items():
            written = sum(of[how] for how in ("inserted", "updated", "unchanged", "refused"))
            assert (of["read"], of["kept"]) == (of["kept"] + of["rejected"], written), (name, of, self.log)

    def _restore(self) -> None:
        """Readers see another run, the base stays."""
        if self.runs:
            earlier = self.rng.choice(self.runs)
            restore(self.world.project.settings("rest"), earlier.run_id)
            self.log.append(f"restored the run as of {earlier.as_of}")

    def _retain(self) -> None:
        """Everything old goes, but what the next night starts from and what readers see."""
        settings = self.world.project.settings("rest")
        with open_database(settings) as database:
            statuses = {row.run_id: row.status for row in Ledger(database, settings).runs(1_000)}
            base = base_run(database)
        retain(settings, statuses, now=datetime.now(UTC) + timedelta(days=400), base=base)
        self.runs.clear()
        self.log.append("retention")

    def _rehearse(self) -> None:
        """A dry run leaves everything as it was."""
        before = stored(self.world.project)
        with suppress(RunHeld):
            self._undisturbed(self.rng.choice(("postgres", "rest")), as_of=self._as_of(), dry_run=True)
        self.log.append("dry run")
        assert stored(self.world.project) == before, "\n".join(self.log)


@contextmanager
def changes_between_requests(world: World) -> Iterator[list[str]]:
    """Up to four steps of `histories`, each before some request that the pipeline sends. Yields their names."""
    names: list[str] = []
    due, lock = {world.rng.randrange(60) for _ in range(4)}, threading.Lock()
    sent, send = 0, httpx.HTTPTransport.handle_request

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        nonlocal sent
        with lock:
            if sent in due:
                step = world.rng.choice(histories.OF_ROWS)
                step(world)
                names.append(step.__name__)
            sent += 1
        return send(transport, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.HTTPTransport, "handle_request", handle)
        yield names


def play(world: World, run: Runner, nights: int) -> None:
    """A whole history, and at its end a quiet night that writes nothing."""
    histories.begin(world)
    played = Nights(world, run)
    for _ in range(nights):
        played.night()
    played.quiet_night()
