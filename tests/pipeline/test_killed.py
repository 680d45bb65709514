"""Killed anywhere and started again: the state of an undisturbed run, and nothing half done visible in between."""

from __future__ import annotations

import random
import time
from itertools import product

import pytest

from data.demo import DemoCounts
from tasks.settings import Transport
from tests.pipeline.conftest import alternating
from tests.pipeline.killed import child, kill_after_seconds, run_in_child
from tests.pipeline.kit import AS_OF, Project

STAGES = (
    "Check sources",
    "Read posts",
    "Read users",
    "Recheck orphans",
    "Clean users",
    "Clean posts",
    "Build reports",
    "Compare with Postgres",
    "Guard",
    "Write files",
    "Publish",
    "Load and commit",
    "Move pointer",
)
TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")
_FORGET = """truncate clean_users, clean_posts, user_statistics, daily_activity, etl_reject_rows, etl_batches,
etl_waiting, etl_runs"""


_known: dict[tuple[str, str], tuple[dict[str, str], float]] = {}


def undisturbed(project: Project, transport: Transport) -> tuple[dict[str, str], float]:
    """The state after a run that nobody disturbs, and how long that takes; then all of it is forgotten.

    The demo and as_of are always the same, so each process of the tests needs to see that once, and again where a test
    has changed the seed of the fingerprints.
    """
    case = (transport, project.stack.query("select id from etl_seed"))
    if case not in _known:
        started = time.monotonic()
        assert run_in_child(project.env(transport), AS_OF) == 0
        _known[case] = (project.state(), time.monotonic() - started)
        forget(project)
    return _known[case]


def forget(project: Project) -> None:
    project.stack.query(_FORGET)
    project.stack.empty_bucket("reports")


def assert_recovers(project: Project, env: dict[str, str], expected: dict[str, str]) -> None:
    """What is visible is whole; a new start ends as if nothing had happened, and leaves no folder."""
    project.assert_whole()
    assert run_in_child(env, AS_OF) == 0
    project.assert_whole()
    assert project.state() == expected
    assert not project.remove_local_runs()
    statuses = project.stack.query("select status from etl_runs order by started_at").split()
    assert statuses[-1] == "committed"
    assert set(statuses) <= {"committed", "failed"}


def check_boundary(project: Project, stage: str, transport: Transport) -> None:
    env = project.env(transport)
    expected, _ = undisturbed(project, transport)
    assert run_in_child(env, AS_OF, kill_after=stage) == -9
    assert_recovers(project, env, expected)


def check_instants(project: Project, transport: Transport, seed: int, kills: int) -> None:
    """Kill several runs in a row, each somewhere else, and only then let one end."""
    env = project.env(transport)
    expected, seconds = undisturbed(project, transport)
    draw = random.Random(seed)
    for _ in range(kills):
        kill_after_seconds(env, AS_OF, draw.uniform(0, seconds))
        project.assert_whole()
    assert_recovers(project, env, expected)


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_killed_at_every_stage_boundary_in_turn(transport: Transport, project: Project, demo: DemoCounts) -> None:
    """Each start takes up what the one before left, and is killed at a later stage: every other one over each
    transport here, each one over both in `make soak`."""
    env = project.env(transport)
    expected, _ = undisturbed(project, transport)
    for stage in STAGES[TRANSPORTS.index(transport) :: 2]:
        assert run_in_child(env, as_of_to_go_on(project), kill_after=stage) == -9
        project.assert_whole()
    assert_recovers(project, env, expected)


def as_of_to_go_on(project: Project) -> str:
    """`resume` while a run is unfinished; a committed one leaves nothing to resume."""
    last = project.stack.query("select status from etl_runs order by started_at desc limit 1")
    return "resume" if last and last != "committed" else AS_OF


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_killed_at_random_instants(transport: Transport, project: Project, demo: DemoCounts) -> None:
    check_instants(project, transport, seed=7, kills=2)


@pytest.mark.soak
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_killed_at_one_boundary(stage: str, transport: Transport, project: Project, demo: DemoCounts) -> None:
    check_boundary(project, stage, transport)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@alternating("transport seed", product(TRANSPORTS, range(50)))
def test_killed_a_hundred_times(transport: Transport, seed: int, project: Project, demo: DemoCounts) -> None:
    """250 kills in a hundred tests; the seeds alternate between the service key and a signed-in user."""
    check_instants(project, transport, seed=seed, kills=1 + seed // 2 % 4)


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_run_whose_services_restart_under_it_still_ends_well(
    transport: Transport, project: Project, demo: DemoCounts
) -> None:
    env = project.env(transport, ETL_RETRIES="12")
    expected, seconds = undisturbed(project, transport)
    with child(env, AS_OF) as process:
        time.sleep(seconds / 3)
        project.stack.kill_database()
        if transport == "rest":
            project.stack.kill_api()
        from local_stack import up

        up(project.stack.home, empty=True)
        process.join(120)
        assert process.exitcode == 0
    assert project.state() == expected
