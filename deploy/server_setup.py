"""A Prefect server set up for this project: pool, deployments, alerts, automations; safe to do again at any time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.variables import Variable

from deploy import alerts
from deploy.automations import Targets, planned, remove_former, save
from deploy.schedules import as_on_server, in_words, timezone_of
from tasks.doctor.prefect import DEPLOYMENTS
from tasks.platform.alerts import problems
from tasks.settings import Settings
from tasks.settings.environment import prefect_api_url, value_of, without_user

POOL = "nightly-pool"
PROJECT = "supabase_nightly_project"
ROOT = Path(__file__).parents[1]
DEPLOY_SECONDS = 300.0
# Prefect's command line. It ends soon: to look for garbage while all flows load would take a fifth of its time.
_PREFECT = "import gc, runpy; gc.disable(); runpy.run_module('prefect', run_name='__main__', alter_sys=True)"
Say = Callable[[str], None]


class SetupError(Exception):
    """The server could not be set up; the message says what Prefect said."""


def check(settings: Settings) -> list[str]:
    """What is wrong with the settings that this needs, before anything is changed."""
    found = problems(settings)
    try:
        CronSchedule(cron=settings.cron)
    except ValueError:  # Prefect has a parser of its own, which takes less than that of the settings: no 15W
        found.append("ETL_CRON is no cron expression: five fields, like 0 3 * * *.")
    if not Path(_folder_of_workers()).is_absolute():
        found.append("ETL_PROJECT_DIR is no whole path: each worker would look for it below another folder.")
    return found


def set_up(settings: Settings, *, replace: bool = False, remove_alerts: bool = False, say: Say = print) -> None:
    """Everything, in the order in which one part needs the other. SetupError says what went wrong.

    replace: also a server that is set up for another project. remove_alerts: the channels that it has, first.
    """
    with _answering():
        _require_ours(settings, replace=replace)
        if remove_alerts:
            say(f"Removed: {', '.join(alerts.remove()) or 'nothing, there were no alerts'}")
        ensure_pool()
        say(f"Work pool {POOL}")
        made = deploy(settings)
        say(f"Deployments: {', '.join(made)}")
        say(f"Schedules: {'; '.join(in_words(made))}")
        say(f"Workers run the code that lies in {_folder_of_workers()} there (ETL_PROJECT_DIR)")
        blocks = alerts.ensure(settings)
        ids = {name: deployment.id for name, deployment in made.items()}
        changed = [save(automation) for automation in planned(Targets(ids, tuple(blocks.values())))]
        remove_former()
        say(f"Automations: {len(changed)}, {sum(changed)} of them new or changed")
        say(f"Alerts: {', '.join(sorted(blocks)) or 'nobody is notified yet: set ETL_ALERT_* (see .env.example)'}")
        if settings.project:
            note_project(settings.project)


@contextmanager
def _answering() -> Iterator[None]:
    """What Prefect's client raises when its server refuses, or does not answer, is a SetupError."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        raise SetupError(_refused(error.response.status_code)) from None
    except httpx.TransportError as error:
        where = without_user(prefect_api_url())
        raise SetupError(f"No Prefect server answers at {where}: {without_user(str(error))}") from None
    except JSONDecodeError:
        where = without_user(prefect_api_url())
        raise SetupError(f"What answers at {where} is no API of Prefect's, whose address ends in /api.") from None


def _refused(status: int) -> str:
    where = without_user(prefect_api_url())
    if status in (401, 403):
        return f"{where} asks for a password or key: set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY of Prefect Cloud)."
    return f"{where} answered with status {status}. What was set up until then stays; start again."


def test_alerts(say: Say) -> bool:
    """Send a test message through every channel; True when each was taken. SetupError as `set_up`."""
    with _answering():
        return alerts.send_test(say)


def _require_ours(settings: Settings, *, replace: bool) -> None:
    """Refuse a server that is set up for another project: its deployments would run with our folder and keys."""
    known = Variable.get(PROJECT)
    if known and settings.project and known != settings.project and not replace:
        raise SetupError(
            f"This Prefect server is set up for the project {known}, and these settings name {settings.project}. "
            "Nothing was changed. Use a server of its own for each project, or --replace to move this one."
        )


def ensure_pool() -> None:
    """The process work pool, made where it is missing."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            made = WorkPoolCreate(name=POOL, type="process", description="Runs the flows as processes of the worker.")
            with suppress(ObjectAlreadyExists):  # somebody else sets this server up at the same moment
                client.create_work_pool(made)


def note_project(project: str) -> None:
    """Keep on the server which project it is set up for."""
    with suppress(ObjectAlreadyExists):  # as above
        Variable.set(PROJECT, project, overwrite=True)


def deploy(settings: Settings) -> dict[str, DeploymentResponse]:
    """All deployments of prefect.yaml, with the schedules that the server has; SetupError with Prefect's own words."""
    known = _deployments()
    named = frozenset({"cron", "timezone"} & settings.model_fields_set)
    timezone = settings.timezone if "timezone" in named else timezone_of(known) or settings.timezone
    env = {**os.environ, "ETL_CRON": settings.cron, "ETL_TIMEZONE": timezone, "NO_COLOR": "1"}
    env["ETL_PROJECT_DIR"] = _folder_of_workers()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(as_on_server(ROOT / "prefect.yaml", known, named))
        file.flush()
        done = _run(env, "--no-prompt", "deploy", "--all", "--prefect-file", file.name)
    made = _deployments()
    missing = sorted(set(DEPLOYMENTS) - set(made), key=DEPLOYMENTS.index)
    if done.returncode or missing:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise SetupError(f"`prefect deploy --all` did not deploy {', '.join(missing) or 'everything'}:\n{said}")
    _refuse_unknown_parameters(made.values())
    return {name: made[name] for name in DEPLOYMENTS}


def _run(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PREFECT, *arguments]
    try:
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=DEPLOY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        said = f"`prefect deploy --all` did not end in {DEPLOY_SECONDS:.0f} s: this machine or the server is too busy."
        raise SetupError(f"{said} What was set up until then stays; start again.") from None


def _refuse_unknown_parameters(made: Iterable[DeploymentResponse]) -> None:
    """Prefect's own schema takes a parameter that the flow does not have, and the process of the run dies of it."""
    with get_client(sync_client=True) as client:
        for deployment in made:
            schema = {**(deployment.parameter_openapi_schema or {}), "additionalProperties": False}
            client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=schema))


def _folder_of_workers() -> str:
    """Where this repository lies on the machines that work: Prefect writes it into each deployment."""
    return value_of("ETL_PROJECT_DIR") or str(ROOT)


def _deployments() -> dict[str, DeploymentResponse]:
    """The deployments of this project on the server as they are now, by name, which is also that of their flow."""
    flows = FlowFilter(name=FlowFilterName(any_=list(DEPLOYMENTS)))
    named = DeploymentFilter(name=DeploymentFilterName(any_=list(DEPLOYMENTS)))
    with get_client(sync_client=True) as client:
        return {found.name: found for found in client.read_deployments(flow_filter=flows, deployment_filter=named)}
