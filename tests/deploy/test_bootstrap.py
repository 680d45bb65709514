"""`python -m scripts.bootstrap` on a real server: what it names it sets, what it does not name it leaves alone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.alerts import TYPES
from deploy.automations import FORMER_NAMES
from deploy.prefect_services import Prefect, api, request, server
from local_stack.state import free_port
from scripts.bootstrap import main
from tests.deploy.sinks import mail_server, webhook

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bootstrap"), pytest.mark.timeout(400)]
SCHEDULE = {"ETL_CRON": "15 4 * * *", "ETL_TIMEZONE": "Europe/Berlin"}
MAIL = {"ETL_ALERT_EMAIL": "ops@example.org", "ETL_ALERT_SMTP_HOST": "127.0.0.1", "ETL_ALERT_SMTP_SECURITY": "none"}
PROJECT = "https://one.supabase.co"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server without types of notifications, as one with a new database in its old folder is."""
    prefect = Prefect.at(tmp_path_factory.mktemp("bootstrap"), port=free_port())
    with server(prefect):
        for slug in set(TYPES.values()):
            kind = api(prefect, f"/block_types/slug/{slug}")["id"]
            request(prefect, "DELETE", f"/block_types/{kind}").raise_for_status()
        yield prefect


def bootstrap(prefect: Prefect, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return bootstrap_in(ROOT, prefect, *arguments, **env)


def bootstrap_in(folder: Path, prefect: Prefect, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.bootstrap", *arguments]
    full = {**os.environ, **prefect.env, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True, timeout=200, check=False)


SWITCHED_OFF = "other flows: notify of failed and crashed runs"


def state(prefect: Prefect) -> dict[str, Any]:
    """What people would notice if it changed."""
    deployments = [deployment(prefect, name) for name in ("nightly", "retention")]
    automations = api(prefect, "/automations/filter", {})
    blocks = api(prefect, "/block_documents/filter", {})
    return {
        "paused": [of["paused"] for of in deployments],
        "schedules": [
            (s["schedule"]["cron"], s["schedule"]["timezone"], s["active"], s["parameters"].get("options"))
            for of in deployments
            for s in sorted(of["schedules"], key=lambda s: (str(s["slug"]), s["schedule"]["cron"]))
        ],
        "automations": {a["name"]: [action["type"] for action in a["actions"]] for a in automations},
        "ids": sorted(a["id"] for a in automations),
        "blocks": sorted(b["name"] for b in blocks if b["name"] and b["name"].startswith("nightly-")),
    }


@pytest.fixture(scope="module")
def named(prefect: Prefect) -> dict[str, Any]:
    """A server that was set up once with a schedule, a mail server and a webhook, each of which got a test message."""
    with mail_server() as (port, mails), webhook() as (address, posts):
        sinks = {**MAIL, "ETL_ALERT_SMTP_PORT": str(port), "ETL_ALERT_SLACK_WEBHOOK": address}
        done = bootstrap(prefect, "--test-alerts", **SCHEDULE, **sinks, SUPABASE_URL=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(mails) == 1
    assert "ops@example.org" in mails[0]
    assert "test message" in mails[0]
    assert len(posts) == 1
    assert "Alerts of supabase-nightly arrive here" in posts[0]
    return state(prefect)


def test_what_is_named_is_set(named: dict[str, Any]) -> None:
    assert [schedule[:3] for schedule in named["schedules"]] == [
        ("15 4 * * *", "Europe/Berlin", True),
        ("30 5 * * *", "Europe/Berlin", True),
    ]
    assert all(options["dry_run"] is False for *_, options in named["schedules"])
    assert named["blocks"] == ["nightly-alerts", "nightly-alerts-smtp"]
    notifying = [actions for name, actions in named["automations"].items() if "notify" in name]
    assert notifying == [["send-notification"] * 2] * 4


def test_the_folder_of_the_workers_may_be_set_in_the_file(
    prefect: Prefect, named: dict[str, Any], tmp_path: Path
) -> None:
    """It was taken for a known setting there, and not read: runs looked for the code where the bootstrap's lies."""
    (tmp_path / ".env").write_text("ETL_PROJECT_DIR=/opt/supabase-nightly\n")
    done = bootstrap_in(tmp_path, prefect, ETL_PROJECT_DIR="")
    assert done.returncode == 0, done.stdout + done.stderr
    (step,) = deployment(prefect, "nightly")["pull_steps"]
    assert [of["directory"] for of in step.values()] == ["/opt/supabase-nightly"]


def test_again_nothing_is_removed_or_changed(
    prefect: Prefect, named: dict[str, Any], changed_by_hand: list[tuple[Any, ...]]
) -> None:
    """Settings that are empty name nothing; what somebody changed of the schedules stays; both sinks are gone."""
    empty = dict.fromkeys(("ETL_ALERT_SLACK_WEBHOOK", "ETL_ALERT_EMAIL", "ETL_CRON", "ETL_TIMEZONE"), "")
    done = bootstrap(prefect, "--test-alerts", **empty)
    assert state(prefect) == named | {"paused": [False, True], "schedules": changed_by_hand}
    assert "nightly at 15 4 * * * (Europe/Berlin), switched off;" in done.stdout
    assert "0 of them new or changed" in done.stdout
    assert done.returncode == 1
    assert "nightly-alerts-smtp was not taken" in done.stdout
    assert "nightly-alerts was not taken" in done.stdout


def test_what_the_first_releases_left_on_a_server_is_taken_over(prefect: Prefect, named: dict[str, Any]) -> None:
    """Each night was due twice after an upgrade, and each alert was sent twice, by automations of another name."""
    old = {"schedule": {"cron": SCHEDULE["ETL_CRON"], "timezone": SCHEDULE["ETL_TIMEZONE"]}}
    (made,) = (s["id"] for s in deployment(prefect, "nightly")["schedules"])
    send(prefect, "DELETE", "nightly", f"/schedules/{made}")
    send(prefect, "POST", "nightly", "/schedules", [old])
    beside = {"schedule": {"cron": "30 5 * * *", "timezone": SCHEDULE["ETL_TIMEZONE"]}}
    send(prefect, "POST", "retention", "/schedules", [beside])
    automation = {key: api(prefect, "/automations/filter", {})[0][key] for key in ("trigger", "actions")}
    (off,) = (a for a in api(prefect, "/automations/filter", {}) if a["name"] == SWITCHED_OFF)
    request(prefect, "DELETE", f"/automations/{off['id']}").raise_for_status()
    for name, former in FORMER_NAMES.items():
        enabled = name != SWITCHED_OFF
        request(prefect, "POST", "/automations/", {**automation, "name": former, "enabled": enabled}).raise_for_status()
    done = bootstrap(prefect)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {a["name"]: a for a in api(prefect, "/automations/filter", {})}
    assert [name for name, of in made.items() if not of["enabled"]] == [SWITCHED_OFF], "as its former one was"
    named["ids"] = sorted({*named["ids"], made[SWITCHED_OFF]["id"]} - {off["id"]})
    assert state(prefect) == named


@pytest.fixture
def changed_by_hand(prefect: Prefect, named: dict[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Schedules as a person changes them; how they should be after a bootstrap.

    The nightly is switched off as Prefect's command line and V2 pages do it, which lose its options; that of the first
    releases, at the same time, is not.
    """
    nightly, retention = named["schedules"]
    old = {"schedule": {"cron": nightly[0], "timezone": nightly[1]}}
    noon = {"schedule": {"cron": "0 13 * * *", "timezone": "UTC"}, "parameters": {"options": {"as_of": "now"}}}
    late = {"schedule": {"cron": "0 22 * * *", "timezone": "UTC"}, "parameters": {"options": {"keep_days": 90}}}
    change(prefect, "nightly", {"active": False})
    change(prefect, "retention", late)
    send(prefect, "POST", "nightly", "/schedules", [noon, old])
    send(prefect, "POST", "retention", "/pause_deployment")
    yield [
        ("0 13 * * *", "UTC", True, {"as_of": "now"}),
        (*nightly[:2], True, None),
        (*nightly[:2], False, nightly[3]),
        ("0 22 * * *", "UTC", True, {"dry_run": False, "keep_days": 90}),
    ]
    send(prefect, "POST", "retention", "/resume_deployment")
    for name, (cron, timezone, active, options) in (("nightly", nightly), ("retention", retention)):
        schedule = {"cron": cron, "timezone": timezone}
        change(prefect, name, {"schedule": schedule, "active": active, "parameters": {"options": options}})
    for made in [s["id"] for s in deployment(prefect, "nightly")["schedules"] if s["slug"] is None]:
        send(prefect, "DELETE", "nightly", f"/schedules/{made}")


def deployment(prefect: Prefect, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api(prefect, f"/deployments/name/{name}/{name}")
    return found


def change(prefect: Prefect, name: str, facts: dict[str, Any]) -> None:
    """The schedule of a deployment, as a person does in Prefect's pages."""
    (schedule,) = (s["id"] for s in deployment(prefect, name)["schedules"] if s["slug"] == name)
    send(prefect, "PATCH", name, f"/schedules/{schedule}", facts)


def send(prefect: Prefect, method: str, name: str, path: str, body: object = None) -> None:
    """A request about a deployment."""
    request(prefect, method, f"/deployments/{deployment(prefect, name)['id']}{path}", body).raise_for_status()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ETL_ALERT_SLACK_WEBHOOK": "https://example.org/hook"}, "ETL_ALERT_SLACK_WEBHOOK is no webhook"),
        ({"ETL_ALERT_EMAIL": "ops@example.org"}, "has nothing to send through"),
        ({**MAIL, "ETL_ALERT_EMAIL": "ops"}, "ETL_ALERT_EMAIL "),
        ({**MAIL, "ETL_ALERT_SMTP_USER": "ops"}, "belong together"),
        ({"ETL_CRON": "every night"}, "ETL_CRON is no cron expression"),
        ({"ETL_TIMEZONE": "Mars/Olympus"}, "ETL_TIMEZONE is no time zone"),
        ({"ETL_ALERT_SMTP_PORT": "many"}, "ETL_ALERT_SMTP_PORT"),
        ({"SUPABASE_URL": "nonsense"}, "error: SUPABASE_URL must look like"),
        ({"ETL_ALERT_SMPT_HOST": "mail"}, "ETL_ALERT_SMTP_HOST"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_changes(
    prefect: Prefect,
    named: dict[str, Any],
    wrong: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**prefect.env, **wrong}.items():
        monkeypatch.setenv(name, value)
    try:
        assert main([]) == 2
    finally:
        gc.enable()  # which the command does without
    assert says in capsys.readouterr().err
    assert state(prefect) == named


def test_a_server_of_another_project_is_left_alone(prefect: Prefect, named: dict[str, Any]) -> None:
    done = bootstrap(prefect, "--remove-alerts", SUPABASE_URL="https://two.supabase.co")
    assert done.returncode == 1
    assert "set up for the project one.supabase.co" in done.stderr
    assert state(prefect) == named


def test_a_server_that_is_not_there_or_wants_a_password_is_a_sentence(prefect: Prefect) -> None:
    for env, says in (
        ({"PREFECT_API_URL": "http://me:hush@127.0.0.1:9/api"}, "answers at http://127.0.0.1:9/api: "),
        ({"PREFECT_API_AUTH_STRING": "admin:wrong"}, "PREFECT_API_AUTH_STRING"),
        ({"PREFECT_API_URL": ""}, "PREFECT_API_URL is not set"),
    ):
        done = bootstrap(prefect, "--remove-alerts", **{"PREFECT_CLIENT_MAX_RETRIES": "0", **env})
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert "hush" not in done.stderr


def test_alerts_are_removed_and_a_server_is_moved_only_when_that_is_asked_for(
    prefect: Prefect, named: dict[str, Any]
) -> None:
    done = bootstrap(prefect, "--remove-alerts", "--replace", SUPABASE_URL="https://two.supabase.co")
    assert done.returncode == 0, done.stderr
    after = state(prefect)
    assert after["blocks"] == []
    assert after["ids"] == named["ids"]
    assert "nobody is notified yet" in done.stdout
    assert "set up for the project two.supabase.co" in bootstrap(prefect, SUPABASE_URL=PROJECT).stderr
