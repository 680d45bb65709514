"""A schedule writes, whatever Prefect has lost of it, unless it says itself that its runs are dry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.prefect_services import api, request
from tests.flows.conftest import Deployed

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]


@pytest.fixture
def schedule(deployed: Deployed) -> Iterator[Any]:
    """The retention's schedule: call it with what is to change of it."""
    retention = api(deployed.prefect, "/deployments/name/retention/retention")
    (before,) = retention["schedules"]

    def change(**facts: object) -> None:
        path = f"/deployments/{retention['id']}/schedules/{before['id']}"
        request(deployed.prefect, "PATCH", path, facts).raise_for_status()

    yield change
    change(active=True, parameters=before["parameters"])


def scheduled(deployed: Deployed, *, days_ago: int) -> dict[str, Any]:
    """A run that the schedule of the retention starts, at its end."""
    end = datetime.now(UTC) - timedelta(days=days_ago)
    known = {run["id"] for run in due(deployed)}
    days = {"start_time": (end - timedelta(days=1)).isoformat(), "end_time": end.isoformat(), "min_runs": 1}
    path = f"/deployments/{api(deployed.prefect, '/deployments/name/retention/retention')['id']}/schedule"
    api(deployed.prefect, path, days)
    (run,) = (run for run in due(deployed) if run["id"] not in known)
    return deployed.execute("retention", run["id"])


def due(deployed: Deployed) -> list[dict[str, Any]]:
    body = {
        "flows": {"name": {"any_": ["retention"]}},
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
    assert ended["name"] == "retention, dry run: False"
    assert "Dry run" not in deployed.artifacts(ended)["retention"]


def test_a_schedule_of_dry_runs_writes_nothing(deployed: Deployed, schedule: Any) -> None:
    schedule(parameters={"options": {"dry_run": True}})
    ended = scheduled(deployed, days_ago=1)
    assert ended["name"] == "retention, dry run: True"
    assert "Dry run: nothing was removed" in deployed.artifacts(ended)["retention"]
