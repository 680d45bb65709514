"""A schedule writes, whatever Prefect has lost of it, unless it says itself that its runs are dry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.prefect_services import api
from deploy.prefect_services import request as send
from flows.engine.schedule import once_due
from tests.flows.conftest import Deployed

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]


@pytest.fixture
def schedule(deployed: Deployed, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The schedule of the retention, or of the deployment of the parameter: call it with what is to change of it."""
    name = getattr(request, "param", "retention")
    deployment = api(deployed.prefect, f"/deployments/name/{name}/{name}")
    (before,) = deployment["schedules"]

    def change(**facts: object) -> None:
        path = f"/deployments/{deployment['id']}/schedules/{before['id']}"
        send(deployed.prefect, "PATCH", path, facts).raise_for_status()

    yield change
    change(active=True, parameters=before["parameters"])


def scheduled(deployed: Deployed, *, days_ago: int) -> dict[str, Any]:
    """A run that the schedule of the retention starts, at its end."""
    return deployed.execute("retention", made_by_schedule(deployed, "retention", days_ago)["id"])


def made_by_schedule(deployed: Deployed, name: str, days_ago: int) -> dict[str, Any]:
    """A run that a schedule makes, and that has not begun."""
    end = datetime.now(UTC) - timedelta(days=days_ago)
    known = {run["id"] for run in due(deployed, name)}
    days = {"start_time": (end - timedelta(days=1)).isoformat(), "end_time": end.isoformat(), "min_runs": 1}
    path = f"/deployments/{api(deployed.prefect, f'/deployments/name/{name}/{name}')['id']}/schedule"
    api(deployed.prefect, path, days)
    (run,) = (run for run in due(deployed, name) if run["id"] not in known)
    return run


def due(deployed: Deployed, name: str) -> list[dict[str, Any]]:
    body = {
        "flows": {"name": {"any_": [name]}},
        "flow_runs": {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}},
    }
    runs: list[dict[str, Any]] = api(deployed.prefect, "/flow_runs/filter", body)
    return runs


def test_a_schedule_that_was_switched_off_and_on_writes_on(deployed: Deployed, schedule: Any) -> None:
    """As Prefect's V2 pages and its command line switch it: its options are gone, and the form's is a dry run."""
    schedule(active=False)
    schedule(active=True)
    ended = scheduled(deployed, days_ago=0)
    assert ended["parameters"]["options"] == {"dry_run": True}
    assert ended["name"] == "retention"
    assert "Dry run" not in deployed.artifacts(ended)["retention"]


def test_a_schedule_of_dry_runs_writes_nothing(deployed: Deployed, schedule: Any) -> None:
    schedule(parameters={"options": {"dry_run": True}})
    ended = scheduled(deployed, days_ago=1)
    assert ended["name"] == "retention (dry run)"
    assert "Dry run: nothing was removed" in deployed.artifacts(ended)["retention"]


@pytest.mark.parametrize("schedule", ["nightly"], indirect=True)
def test_a_night_that_is_started_again_after_a_crash_writes_as_it_would_have(deployed: Deployed, schedule: Any) -> None:
    """The automation hands on the options of what crashed, which are the form's where a schedule lost its own."""
    schedule(active=False)
    schedule(active=True)
    night = made_by_schedule(deployed, "nightly", days_ago=40)
    crashed, options = night["id"], night["parameters"]["options"]
    assert options["dry_run"]
    names = []
    for restart in (1, 2):
        again = {**options, "restart": restart, "restart_of": crashed, "as_of": "resume", "accept": ["nothing"]}
        ended = deployed.run("nightly", again)  # which is refused, as no metric has that name
        names.append(ended["name"][11:])
        crashed = ended["id"]
    send(deployed.prefect, "DELETE", f"/flow_runs/{night['id']}")
    assert names == ["nightly, as of resume"] * 2


def test_a_night_that_begins_before_its_time_waits_for_its_day() -> None:
    """The machine's clock may be behind that of Prefect's server, which has said that the night starts."""
    due = datetime.now(UTC) + timedelta(seconds=0.5)
    assert once_due(due) == due
    assert datetime.now(UTC) >= due


def test_a_night_of_tomorrow_that_is_tried_today_is_of_today() -> None:
    assert once_due(datetime.now(UTC) + timedelta(days=1)) <= datetime.now(UTC)


def test_a_late_night_is_of_the_day_for_which_it_was_due() -> None:
    due = datetime.now(UTC) - timedelta(days=3)
    assert once_due(due) == due
