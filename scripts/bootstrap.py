"""Sets up a Prefect server for this project: work pool, deployments, notification block, automations, variable.

    PREFECT_API_URL=http://127.0.0.1:4200/api python -m scripts.bootstrap

Idempotent: what is there is brought up to date, nothing is made twice. `make ui` runs it; in production run it after
each deploy of new code. It reads ETL_CRON, ETL_TIMEZONE and ETL_ALERT_*, and needs no key of the Supabase project.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.blocks.notifications import SendgridEmail, SlackWebhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable

from deploy.automations import Places, planned, save
from tasks.settings import Settings

POOL = "nightly-pool"
BLOCK = "nightly-alerts"
ROOT = Path(__file__).parents[1]
DEPLOYMENTS = ("nightly", "backfill", "export", "compare", "restore", "retention", "watch", "doctor")
Say = Callable[[str], None]


class BootstrapError(Exception):
    """The server could not be set up; the message says what Prefect said."""


def bootstrap(settings: Settings, *, say: Say = print) -> None:
    """Everything, in the order in which one part needs the other."""
    ensure_pool()
    say(f"Work pool {POOL}")
    deploy(settings)
    say(f"Deployments: {', '.join(DEPLOYMENTS)}")
    block = ensure_alerts(settings)
    changed = [save(automation) for automation in planned(Places(deployment_ids(), block))]
    told = "" if block else " (nobody is told yet: set ETL_ALERT_SLACK_WEBHOOK or ETL_ALERT_EMAIL)"
    say(f"Automations: {len(changed)}, {sum(changed)} of them new or changed{told}")
    Variable.set("supabase_nightly_project", settings.project or "not set", overwrite=True)


def ensure_pool() -> None:
    """The process work pool, made where it is missing."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type="process", description="Runs the flows as processes of the worker.")
            )


def deploy(settings: Settings) -> None:
    """All deployments of prefect.yaml, with the schedule of the settings. BootstrapError with Prefect's own words."""
    env = {
        **os.environ,
        "ETL_CRON": settings.cron,
        "ETL_TIMEZONE": settings.timezone,
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    missing = [name for name in DEPLOYMENTS if name not in deployment_ids()]
    if done.returncode or missing:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise BootstrapError(f"`prefect deploy --all` did not deploy {', '.join(missing) or 'everything'}:\n{said}")


def deployment_ids() -> dict[str, UUID]:
    """The deployments of this project on the server, by name."""
    with get_client(sync_client=True) as client:
        return {d.name: d.id for d in client.read_deployments() if d.name in DEPLOYMENTS}


def ensure_alerts(settings: Settings) -> UUID | None:
    """The notification block that the settings ask for, saved under one name; None when they ask for none."""
    webhook = settings.alert_slack_webhook
    if webhook.get_secret_value():
        return cast(UUID, SlackWebhook(url=webhook).save(BLOCK, overwrite=True))
    if settings.alert_email and settings.alert_sendgrid_key.get_secret_value():
        block = SendgridEmail(
            api_key=settings.alert_sendgrid_key,
            sender_email=settings.alert_email_from or settings.alert_email,
            to_emails=[settings.alert_email],
        )
        return cast(UUID, block.save(f"{BLOCK}-email", overwrite=True))
    return None


def main() -> int:
    """Set up the server of PREFECT_API_URL; returns the exit code."""
    if not os.environ.get("PREFECT_API_URL"):
        print("PREFECT_API_URL is not set: name the server, like http://127.0.0.1:4200/api.", file=sys.stderr)
        return 2
    try:
        bootstrap(Settings())
    except BootstrapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
