"""The doctor looks at the alerts: their settings, the mail server, and what the Prefect server knows."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from tasks.doctor.alerts import somebody_is_notified
from tasks.doctor.prefect import DEPLOYMENTS, deployments_are_there
from tasks.settings import Settings
from tests.deploy.sinks import mail_server


def found(**values: object) -> list[tuple[str, str]]:
    settings = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    return [(finding.level, finding.what) for finding in somebody_is_notified(settings)]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.mark.parametrize(
    ("status", "names", "level", "said"),
    [
        (200, DEPLOYMENTS, "ok", "all deployments"),
        (200, ["nightly", "watch"], "warn", "no deployment backfill, export, compare, restore, retention, doctor."),
        (200, [], "warn", "No night starts there."),
        (401, [], "warn", "HTTP 401"),
    ],
)
def test_a_prefect_server_without_our_deployments_is_named(
    status: int, names: list[str], level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.invalid/api")
    answer = httpx.Response(status, json=[{"name": name} for name in names], request=httpx.Request("POST", "http://x"))
    monkeypatch.setattr(httpx, "post", lambda *_, **__: answer)
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
    assert found() == [("ok", "None are set (ETL_ALERT_*); PREFECT_API_URL names no server to compare with.")]
