"""A crash that the automation answers twice is restarted once; a run that is committed says so in an event."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.states import Crashed

from deploy import alerts, automations
from deploy.prefect_services import api
from flows.engine.outcome import COMMITTED_EVENT
from tasks.ledger.as_of import AsOf
from tasks.ledger.ledger import Ledger, Start
from tasks.platform.functions import open_database
from tasks.settings import load_settings
from tests.deploy.sinks import webhook
from tests.flows.conftest import Deployed
from tests.source.fault_proxy import fault_proxy

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]
ALERTS = (
    "nightly: notify when no run was committed for 26 hours",
    "nightly: notify when a full night found drifted rows",
    "any flow: an unresponsive run has crashed",
)
SUSPENDED = {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_reschedule": True}}
FILTER = {"event": {"name": [COMMITTED_EVENT]}}


def failed_in_the_ledger(as_of: datetime, started_by: str) -> str:
    """A run that died before it could commit. Returns its id."""
    settings = load_settings()
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        lease = ledger.start(Start(AsOf.instant(as_of), "rest", started_by=started_by))
        ledger.fail(lease, RuntimeError())
    return lease.run_id


def newest_in_the_ledger(deployed: Deployed) -> list[str]:
    return deployed.stack.query(
        "select resumed_from, as_of at time zone 'UTC' from etl_runs order by started_at desc limit 1"
    ).split("|")


def test_a_restart_takes_over_the_run_that_crashed_and_no_other(deployed: Deployed) -> None:
    """Somebody's own run failed after the nightly's crash: its as_of must not be published in the nightly's name."""
    night, evening = (datetime(2026, 1, 31, hour, tzinfo=UTC) for hour in (0, 18))
    crashed = deployed.create("nightly", {"dry_run": False})
    run_id = failed_in_the_ledger(night, started_by=crashed["id"])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(crashed["id"]), Crashed(), force=True)
    failed_in_the_ledger(evening, started_by="somebody")
    with ended_early(deployed):
        deployed.run("nightly", {"as_of": "resume", "restart": 1, "dry_run": False})
    assert newest_in_the_ledger(deployed) == [run_id, "2026-01-31 00:00:00"]


@pytest.mark.parametrize("known", [True, False], ids=["that the ledger knows", "that the ledger never knew"])
def test_a_restart_that_died_on_its_way_leaves_the_next_one_the_first_try(deployed: Deployed, known: bool) -> None:
    """It was as of midnight, also where the first try was as of now."""
    first = deployed.create("nightly", {"as_of": "now", "dry_run": False})
    run_id = failed_in_the_ledger(datetime(2026, 1, 31, 7, tzinfo=UTC), started_by=first["id"]) if known else ""
    options = {"as_of": "resume", "dry_run": False}
    died = deployed.create("nightly", {**options, "restart": 1, "restart_of": first["id"]})
    with ended_early(deployed):
        deployed.run("nightly", {**options, "restart": 2, "restart_of": died["id"]})
    assert newest_in_the_ledger(deployed) == [run_id, "2026-01-31 07:00:00" if known else ""]
    assert asked_for(deployed).startswith("at|" if known else "now|")


@pytest.mark.parametrize(
    ("days", "modes", "covers", "again"),
    [
        (-2, ["midnight", "at"], -2, "Failed"),
        (-2, ["midnight", "at"], -2, "Suspended"),
        (1, ["midnight", "midnight"], 0, "Failed"),
    ],
    ids=["of an earlier day", "of an earlier day, suspended", "of tomorrow"],
)
def test_a_night_that_is_tried_again_moves_no_reader_back_and_reads_no_future(
    deployed: Deployed, days: int, modes: list[str], covers: int, again: str
) -> None:
    """The as_of of an earlier day stays, and is then a past instant that somebody asked for: not current behind a newer
    run. A night that was cancelled before its time, and is tried again before it, takes the midnight that has been.
    """
    due = datetime.now(UTC) + timedelta(days=days)
    nightly = api(deployed.prefect, "/deployments/name/nightly/nightly")["id"]
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
    body = {"parameters": {"options": {"dry_run": False}}, "state": state}
    run = api(deployed.prefect, f"/deployments/{nightly}/create_flow_run", body)
    found = []
    with ended_early(deployed):
        for after in ("", again):
            tried_again(deployed, run["id"], after)
            found.append(asked_for(deployed))
    day = (due + timedelta(days=covers - days)).date()
    assert found == [f"{mode}|{day}" for mode in modes]


def test_late_nights_are_one_of_the_latest_day_and_a_cancelled_one_is_tried_again_for_its_own(
    deployed: Deployed,
) -> None:
    """The page is named by the day that the run stands for; other days can still be had, one by one."""
    now = datetime.now(UTC)
    nightly = api(deployed.prefect, "/deployments/name/nightly/nightly")["id"]
    days = {"start_time": (now - timedelta(days=3)).isoformat(), "end_time": now.isoformat(), "min_runs": 3}
    api(deployed.prefect, f"/deployments/{nightly}/schedule", days)
    body = {"deployments": {"id": {"any_": [nightly]}}, "sort": "EXPECTED_START_TIME_ASC"}
    due = {"expected_start_time": {"before_": now.isoformat()}}
    known = api(deployed.prefect, "/flow_runs/filter", body | {"flow_runs": due})
    first, second, last = (run for run in known if run["auto_scheduled"])
    found = []
    with ended_early(deployed):
        for run in (first, second, second):
            name = tried_again(deployed, run["id"])["name"]
            found.append((name[:10], asked_for(deployed)))
    newest, own = (run["expected_start_time"][:10] for run in (last, second))
    assert found == [(newest, f"midnight|{newest}"), (own, f"at|{own}"), (own, f"at|{own}")]


@contextmanager
def ended_early(deployed: Deployed) -> Iterator[None]:
    """Runs fail as soon as they have said to the ledger what they are of."""
    deployed.stack.query("alter table clean_posts rename column word_count to words")
    try:
        yield
    finally:
        deployed.stack.query("alter table clean_posts rename column words to word_count")


def tried_again(deployed: Deployed, run_id: str, after: str = "") -> dict[str, Any]:
    """As the UI's buttons do it: *Retry*, and *Resume* after it was suspended."""
    suspended = after == "Suspended"
    again = SUSPENDED if suspended else {"type": "SCHEDULED", "name": "AwaitingRetry"}
    api(deployed.prefect, f"/flow_runs/{run_id}/set_state", {"state": again, "force": True})
    if suspended:
        api(deployed.prefect, f"/flow_runs/{run_id}/resume", {})
    return deployed.execute("nightly", run_id)


def asked_for(deployed: Deployed) -> str:
    """What the newest run of the ledger is as of."""
    return deployed.stack.query("select as_of_mode, as_of::date from etl_runs order by started_at desc limit 1")


def test_the_second_restart_of_one_crash_gives_way(deployed: Deployed) -> None:
    crashed = str(uuid.uuid4())
    run_id = failed_in_the_ledger(datetime(2026, 1, 30, tzinfo=UTC), started_by=crashed)
    failed_in_the_ledger(datetime(2026, 1, 31, 18, tzinfo=UTC), started_by="somebody")
    options = {"as_of": "resume", "restart": 1, "restart_of": crashed, "dry_run": False}
    runs = [deployed.create("nightly", options) for _ in range(2)]
    ended = [deployed.execute("nightly", run["id"]) for run in reversed(runs)]
    assert [run["state_type"] for run in ended] == ["CANCELLED", "COMPLETED"]
    assert "restarts the crashed run already" in ended[0]["state"]["message"]
    assert newest_in_the_ledger(deployed) == [run_id, "2026-01-30 00:00:00"]


@pytest.fixture
def alerted(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What two alerts sent: of drifted rows, and of a night that is missing, whose 26 hours are 10 seconds here.

    So are the 12 minutes after which a run without a heartbeat has crashed.
    """
    for name in ("NIGHT_AND_A_BIT", "SILENCE"):
        monkeypatch.setattr(automations, name, timedelta(seconds=10))
    with webhook() as (address, received):
        monkeypatch.setenv("ETL_ALERT_SLACK_WEBHOOK", address)
        blocks = tuple(alerts.ensure(load_settings()).values())
        nightly = api(deployed.prefect, "/deployments/name/nightly/nightly")["id"]
        planned = automations.planned(automations.Targets({"nightly": nightly}, blocks))
        assert [automations.save(alert) for alert in planned if alert.name in ALERTS] == [True] * 3
        yield received
        with get_client(sync_client=True) as client:
            for found in (found for name in ALERTS for found in client.read_automations_by_name(name)):
                client.delete_automation(found.id)
        alerts.remove()


def said_to_be_committed(deployed: Deployed) -> set[str]:
    """The flow runs of which an event says that readers see them."""
    events = api(deployed.prefect, "/events/filter", {"filter": FILTER, "limit": 50})["events"]
    related = (resource["prefect.resource.id"] for event in events for resource in event["related"])
    return {name.removeprefix("prefect.flow-run.") for name in related}


def without_a_heartbeat(deployed: Deployed, then: dict[str, Any]) -> str:
    """A run that had one, and whose process has ended since. then: the state that it was left in."""
    run: str = deployed.create("doctor", {})["id"]
    beat = {"event": {"name": [automations.HEARTBEAT]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    emit_event(automations.HEARTBEAT, {"prefect.resource.id": f"prefect.flow-run.{run}"})
    assert waited(lambda: api(deployed.prefect, "/events/filter", {"filter": beat})["events"]), "it has not arrived"
    api(deployed.prefect, f"/flow_runs/{run}/set_state", {"state": then, "force": True})
    return run


def state_of(deployed: Deployed, run: str) -> str:
    return str(api(deployed.prefect, f"/flow_runs/{run}")["state_type"])


def waited(until: Any, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(0.25)
    return bool(until())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's, which sends alerts
def test_only_a_current_commit_is_an_event(
    deployed: Deployed, alerted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dry and historical runs do not keep the alert of a missing night quiet; a committed run without links counts.

    That one is full, and finds a row that somebody changed by hand: it alerts too. Meanwhile a run whose process is
    gone is found to have crashed, and one that is suspended is not.
    """
    suspended, dead = without_a_heartbeat(deployed, SUSPENDED), without_a_heartbeat(deployed, {"type": "RUNNING"})
    not_current = ({"dry_run": True}, {"dry_run": False, "instant": "2026-01-01T00:00:00Z"})
    others = [deployed.run("nightly", options) for options in not_current]
    assert [run["state_type"] for run in others] == ["COMPLETED", "COMPLETED"]
    assert waited(lambda: alerted), "the alert has not fired"
    assert "no run was committed for 26 hours" in alerted[0]
    assert "dry runs and backfills do not count" in alerted[0]
    deployed.stack.query("update clean_posts set title = 'by hand' where id in (select id from clean_posts limit 1)")
    with fault_proxy(deployed.stack.url, ["403"], 1.0, only="/object/sign/") as proxy:
        monkeypatch.setenv("SUPABASE_URL", proxy.url)
        committed = deployed.run("nightly", {"dry_run": False, "full_refresh": True})
        assert proxy.counts["403"] == 1
    assert committed["state_type"] == "COMPLETED", "what fails after the commit fails no run"
    page = deployed.artifacts(committed)["report"]
    assert page.startswith("# Readers now see this run")
    assert "The signed links could not be made: " in page
    assert waited(lambda: committed["id"] in said_to_be_committed(deployed))
    assert not said_to_be_committed(deployed) & {run["id"] for run in others}
    assert waited(lambda: any("found rows that had drifted" in alert for alert in alerted)), "no alert of the drift"
    assert waited(lambda: state_of(deployed, dead) == "CRASHED")
    assert state_of(deployed, suspended) == "PAUSED"
