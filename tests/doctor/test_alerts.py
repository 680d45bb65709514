"""The doctor looks at the alerts: their settings, the mail server, and what the Prefect server knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tasks.doctor.alerts import somebody_is_notified
from tasks.doctor.prefect import DEPLOYMENTS, deployments_are_there
from tasks.settings import Settings
from tests.deploy.sinks import mail_server

STARTS = {
    "paused": False,
    "schedules": [{"active": True}],
    "work_pool_name": "nightly-pool",
    "work_queue_name": "default",
    "work_queue_id": "1",
}


def found(**values: object) -> list[tuple[str, str]]:
    settings = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    return [(finding.level, finding.what) for finding in somebody_is_notified(settings)]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.mark.parametrize(
    ("status", "names", "differs", "level", "said"),
    [
        (200, DEPLOYMENTS, {}, "ok", "all deployments"),
        (200, ["nightly", "watch"], {}, "warn", "no deployment backfill, export, compare, restore, retention, doctor."),
        (200, [], {}, "warn", "No night starts there."),
        (401, [], {}, "warn", "HTTP 401"),
        (200, DEPLOYMENTS, {"paused": True}, "warn", "The schedule of nightly is switched off"),
        (200, DEPLOYMENTS, {"schedules": [{"active": False}]}, "warn", "The schedule of nightly is switched off"),
        (200, DEPLOYMENTS, {"work_pool_name": None}, "warn", "nightly has no work pool, as somebody has deleted it"),
        (200, DEPLOYMENTS, {"pool_paused": True, "status": "PAUSED"}, "warn", "The work pool nightly-pool is paused"),
        (200, DEPLOYMENTS, {"queue_paused": True}, "warn", "The work queue default of the pool nightly-pool is paused"),
        (200, DEPLOYMENTS, {"status": "NOT_READY"}, "warn", "No worker takes runs from the work pool nightly-pool"),
    ],
)
def test_a_prefect_server_that_starts_no_night_is_named(
    status: int, names: list[str], differs: dict[str, Any], level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are those of a server where all is well but for what differs."""
    pool = {"name": "nightly-pool", "is_paused": differs.get("pool_paused", False)}
    answers: dict[str, list[dict[str, Any]]] = {
        "deployments": [{**STARTS, "name": name, **differs} for name in names],
        "work_pools": [{**pool, "status": differs.get("status", "READY")}],
        "work_queues": [{"is_paused": differs.get("queue_paused", False)}],
    }

    def post(_: httpx.Client, url: str, **__: Any) -> httpx.Response:
        return httpx.Response(status, json=answers[url.split("/")[-2]], request=httpx.Request("POST", url))

    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.invalid/api")
    monkeypatch.setattr(httpx.Client, "post", post)
    (finding,) = deployments_are_there(Settings(_env_file=None))
    assert (finding.level, said in finding.what) == (level, True), finding


def test_the_deployments_that_are_looked_for_are_ours() -> None:
    declared = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())["deployments"]
    assert [one["name"] for one in declared] == list(DEPLOYMENTS)


def test_a_mail_server_that_takes_mail_is_fine() -> None:
    with mail_server() as (port, mails):
        mail = {"alert_email": "ops@example.org", "alert_smtp_host": "127.0.0.1", "alert_smtp_security": "none"}
        assert [level for level, _ in found(**mail, alert_smtp_port=port)] == ["ok"]
        ((level, what),) = found(**{**mail, "alert_smtp_security": "starttls"}, alert_smtp_port=port)
        assert (level, "STARTTLS" in what) == ("fail", True)
    assert mails == [], "the doctor sends nothing"
    ((level, what),) = found(**mail, alert_smtp_port=port)
    assert (level, f"127.0.0.1:{port} does not answer as a mail server" in what) == ("fail", True)


def test_settings_that_cannot_notify_anybody_fail() -> None:
    assert found(alert_email="ops@example.org")[0][0] == "fail"
    assert found(alert_slack_webhook="https://example.org/x")[0][0] == "fail"
    for host in ("smtp.example.org:587", "smtps://smtp.example.org", "mail server"):
        level, said = found(alert_email="ops@example.org", alert_smtp_host=host)[0]
        assert level == "fail"
        assert said.startswith("ETL_ALERT_SMTP_HOST is no host alone")
    assert found() == [("ok", "None are set (ETL_ALERT_*); PREFECT_API_URL names no server to compare with.")]
