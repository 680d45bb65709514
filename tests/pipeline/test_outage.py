"""The database away for a while at any boundary between two stages, with the default lease and retries: it ends well.

Time is a tenth, by the one setting for it: 90 seconds are 9.
"""

from __future__ import annotations

import time
from itertools import product

import pytest

from data.demo import DemoCounts
from local_stack import up
from tasks.settings import Transport
from tests.pipeline.conftest import alternating
from tests.pipeline.killed import paused_child
from tests.pipeline.kit import AS_OF, CLOCK, Project
from tests.pipeline.test_killed import STAGES, TRANSPORTS, undisturbed

SECONDS = (1, 40, 90)


def check_outage(project: Project, transport: Transport, stage: str, seconds: float) -> None:
    """Stop the database when the stage has ended, start it again later: the run ends as if nothing had happened."""
    expected, _ = undisturbed(project, transport)
    env = project.default_env(transport)
    with paused_child(env, AS_OF, stage) as (process, go):
        project.stack.kill_database()
        go.touch()
        time.sleep(seconds * CLOCK)
        up(project.stack.home, empty=True)
        process.join(200)
        assert process.exitcode == 0
    project.assert_whole()
    assert project.state() == expected
    assert not project.remove_local_runs()
    runs = project.stack.query("select status, coalesce(error, '') from etl_runs order by started_at").splitlines()
    assert runs[-1].startswith("committed")
    assert not [run for run in runs if "LeaseHeld" in run or "LeaseLost" in run], "it never loses to its own attempt"


@pytest.mark.parametrize(
    ("transport", "stage", "seconds"),
    [
        ("postgres", "Check sources", 90),
        ("rest", "Read posts", 90),
        ("postgres", "Publish", 40),
        pytest.param("rest", "Load and commit", 90, marks=pytest.mark.slow),  # readers saw the night before for a day
    ],
)
def test_the_database_is_away(
    transport: Transport, stage: str, seconds: float, project: Project, demo: DemoCounts
) -> None:
    check_outage(project, transport, stage, seconds)


@pytest.mark.soak
@alternating("transport stage seconds", product(TRANSPORTS, STAGES[:-1], SECONDS))
def test_the_database_is_away_at_each_boundary(
    transport: Transport, stage: str, seconds: float, project: Project, demo: DemoCounts
) -> None:
    """Each transport, boundary and length; the cases alternate between the service key and a signed-in user."""
    check_outage(project, transport, stage, seconds)
