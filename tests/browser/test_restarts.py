"""A crashed night is started again by the server itself, at most twice; setting up again changes nothing.

This file comes first: it takes the time in which the nightly's schedule is not yet due.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.forms import MAX_RESTARTS
from scripts.ui import bootstrap
from tests.browser.conftest import Product

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


def crash(product: Product, run_id: str) -> None:
    """What the worker reports of a process that is gone."""
    body = {"state": {"type": "CRASHED", "message": "The process is gone."}, "force": True}
    product.api(f"/flow_runs/{run_id}/set_state", body)


@pytest.fixture
def crashed(product: Product) -> Iterator[str]:
    """A nightly that crashed. What the automation starts in its place goes afterwards, before its time comes."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}
    path = f"/deployments/{product.deployment('nightly')['id']}/create_flow_run"
    run: str = product.api(path, {"parameters": {"options": {"as_of": "midnight"}}, "state": state})["id"]
    crash(product, run)
    yield run
    for other in [run, *(again["id"] for again in restarts(product))]:
        product.delete(other)


def restarts(product: Product) -> list[dict[str, Any]]:
    """Runs that an automation started, oldest first."""
    body = {"flows": {"name": {"any_": ["nightly"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs: list[dict[str, Any]] = product.api("/flow_runs/filter", body)
    return [run for run in runs if run["parameters"]["options"].get("restart", 0) > 0]


def restarted(product: Product, times: int) -> dict[str, Any]:
    product.wait(lambda: len(restarts(product)) >= times, f"no restart {times}", 60)
    return restarts(product)[-1]


def test_a_crashed_nightly_is_started_again_twice_with_its_as_of(product: Product, crashed: str) -> None:
    for times in range(1, MAX_RESTARTS + 1):
        again = restarted(product, times)
        assert {"as_of": "resume", "restart": times}.items() <= again["parameters"]["options"].items()
        crash(product, again["id"])
    time.sleep(8)  # for a third that must not come
    assert len(restarts(product)) == MAX_RESTARTS


def test_setting_up_again_changes_nothing(product: Product) -> None:
    before = product.api("/automations/filter", {}), product.api("/deployments/count", {})
    bootstrap(product.prefect)
    assert (product.api("/automations/filter", {}), product.api("/deployments/count", {})) == before
