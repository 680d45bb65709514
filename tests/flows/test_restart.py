"""A crash that the automation answers twice is restarted once; a run that is committed says so in an event."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from deploy.prefect_services import api
from flows.engine.outcome import COMMITTED_EVENT
from tests.flows.conftest import Deployed

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]


def test_the_second_restart_of_one_crash_gives_way(deployed: Deployed) -> None:
    options = {"as_of": "resume", "restart": 1, "restart_of": str(uuid.uuid4()), "dry_run": False}
    runs = [deployed.create("nightly", options) for _ in range(2)]
    ended = [deployed.execute("nightly", run["id"]) for run in reversed(runs)]
    assert [run["state_type"] for run in ended] == ["CANCELLED", "COMPLETED"]
    assert "restarts the crashed run already" in ended[0]["state"]["message"]


def test_only_a_current_commit_is_an_event(deployed: Deployed) -> None:
    def seen() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api(deployed.prefect, "/events/filter", {"filter": FILTER})["events"]
        return found

    before = len(seen())
    for options in ({"dry_run": True}, {"dry_run": False, "instant": "2026-01-01T00:00:00Z"}, {"dry_run": False}):
        assert deployed.run("nightly", options)["state_type"] == "COMPLETED"
    deadline = time.monotonic() + 60
    while len(seen()) == before and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(2)  # for others that must not come
    assert len(seen()) == before + 1


FILTER = {"event": {"name": [COMMITTED_EVENT]}}
