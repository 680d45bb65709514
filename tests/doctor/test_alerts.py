"""The doctor looks at the alerts: their settings, the mail server, and what the Prefect server knows."""

from __future__ import annotations

import pytest

from tasks.doctor.alerts import somebody_is_notified
from tasks.settings import Settings
from tests.deploy.sinks import mail_server


def found(**values: object) -> list[tuple[str, str]]:
    settings = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    return [(finding.level, finding.what) for finding in somebody_is_notified(settings)]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


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
