"""Whatever happened between two nights, the second one leaves what a full night would: on both transports.

A few seeds here, many more in the soak: `make soak ARGS="-k histories"`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.engine.outcome import RunOutcome
from tasks.publish.restore import restore
from tasks.settings import Transport
from tests.incremental import histories
from tests.incremental.histories import World
from tests.incremental.oracle import problems
from tests.pipeline.conftest import Runner
from tests.pipeline.killed import run_in_child
from tests.pipeline.kit import Project

NIGHTS = 6
# In their order: an instant before the current run's is asked for as the past. `midnight` after `now` goes back.
AS_OFS = (
    "2025-10-20T00:00:00+00:00", "2025-11-30T12:34:56.789+00:00", "2025-12-31T23:59:59.999999+00:00",
    "2026-01-01T00:00:00+00:00", "2026-01-10T00:00:00+00:00", "2026-01-31T00:00:00+00:00",
)  # fmt: skip
STAGES = (
    "Check sources", "Find changes", "Clean users", "Clean posts", "Merge with the last run", "Build reports",
    "Compare with Postgres", "Write files", "Publish", "Load and commit", "Move pointer",
)  # fmt: skip


@pytest.fixture
def world(project: Project, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(project, random.Random(request.node.name))
    try:
        yield world
    finally:
        histories.end(world)


class Nights:
    """The nights of one history, and what is chosen for them."""

    def __init__(self, world: World, run: Runner, folder: Path) -> None:
        self.world, self._run, self.rng = world, run, world.rng
        rows = self.rng.choice((3, 7, 1_000))
        self.options = {
            "ETL_MAX_CHANGED_SHARE": "1", "ETL_MAX_REFUSED_SHARE": "1", "ETL_ROW_GROUP_ROWS": str(rows),
            "ETL_PART_ROWS": str(rows * self.rng.choice((1, 2))), "ETL_RUN_RETRIES": "0",
        }  # fmt: skip
        self.log: list[str] = []
        self.instants = list(AS_OFS)
        self.runs: list[RunOutcome] = []

    def night(self) -> None:
        """What happened, a night, and whether it left what a full one would."""
        transport: Transport = self.rng.choice(("postgres", "rest"))
        self.log.append(", ".join(histories.happen(self.world)))
        if self.rng.random() < 0.3:
            self._killed(transport)
        as_of = self._as_of()
        self.log.append(f"{transport} as of {as_of}")
        outcome = self._run(transport, as_of=as_of, **self.options)
        self.log[-1] += f": {outcome.mode} {outcome.full_because or ''} {'historical' if outcome.notes else ''}"
        if outcome.notes:
            return
        self.runs.append(outcome)
        found = problems(self.world.project, outcome, self.rng.choice(("postgres", "rest")))
        assert not found, "\n".join([*self.log, *found])
        if self.rng.random() < 0.2:
            self._between(transport)

    def _as_of(self) -> str:
        """A later instant than before, the same one again, or once in a while the clock's."""
        if self.instants and self.rng.random() < 0.8:
            self.instants = self.instants[self.rng.choice((0, 0, 1, 2)) :] or self.instants[-1:]
            return self.instants[0]
        self.instants = []
        return self.rng.choice(("now", "midnight"))

    def _killed(self, transport: Transport) -> None:
        """Two nights in a row that are killed, wherever they are."""
        for _ in range(self.rng.choice((1, 2))):
            stage = self.rng.choice(STAGES)
            env = self.world.project.env(transport, **self.options)
            code = run_in_child(env, self._as_of(), kill_after=stage)
            self.log.append(f"killed after {stage} over {transport}: {code}")
            self.log.append(", ".join(histories.happen(self.world)))

    def _between(self, transport: Transport) -> None:
        """A restore: readers see another run, the base stays."""
        earlier = self.rng.choice(self.runs)
        restore(self.world.project.settings(transport), earlier.run_id)
        self.log.append(f"restored the run as of {earlier.as_of}")


def play(world: World, run: Runner, folder: Path, nights: int) -> None:
    """A whole history, and at its end a quiet night that writes nothing."""
    histories.begin(world)
    played = Nights(world, run, folder)
    for _ in range(nights):
        played.night()


@pytest.mark.parametrize("seed", range(2))
def test_any_history_gives_what_a_full_night_gives(seed: int, world: World, run: Runner, tmp_path: Path) -> None:
    play(world, run, tmp_path, NIGHTS)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_hundreds_of_histories(seed: int, world: World, run: Runner, tmp_path: Path) -> None:
    play(world, run, tmp_path, 2 * NIGHTS)
