"""Checks of the Prefect server: whether it answers, and has what starts the nights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from tasks.doctor.findings import Finding, ok, warn
from tasks.platform.prefect_client import prefect_client
from tasks.settings import Settings
from tasks.settings.environment import without_user

CHECK = "prefect"
DEPLOYMENTS = ("nightly", "backfill", "export", "compare", "restore", "retention", "watch", "doctor")
BOOTSTRAP = "Run `python -m scripts.bootstrap` with the same PREFECT_API_URL."


def deployments_are_there(settings: Settings) -> Iterator[Finding]:
    """Whether the server of PREFECT_API_URL has our deployments, and what keeps it from starting a night."""
    if not settings.prefect_api_url:
        yield ok(CHECK, "PREFECT_API_URL is not set: something else starts the nights.")
        return
    try:
        found = {one["name"]: one for one in ask(settings, "deployments", {"name": {"any_": list(DEPLOYMENTS)}})}
        hindrances = list(_hindrances(settings, found["nightly"])) if "nightly" in found else []
    except (httpx.HTTPError, ValueError) as error:
        text = f"The Prefect server of PREFECT_API_URL does not answer as it should ({_reason(error)})."
        yield warn(CHECK, text, "Look at PREFECT_API_URL, PREFECT_API_AUTH_STRING, and whether the server runs.")
        return
    yield from (warn(CHECK, *hindrance) for hindrance in hindrances)
    if missing := [name for name in DEPLOYMENTS if name not in found]:
        text = f"The Prefect server of PREFECT_API_URL has no deployment {', '.join(missing)}."
        yield warn(CHECK, f"{text} {'No night starts there.' if 'nightly' in missing else ''}".rstrip(), BOOTSTRAP)
    elif not hindrances:
        yield ok(CHECK, "The Prefect server has all deployments, and nothing keeps their runs from starting.")


def _hindrances(settings: Settings, nightly: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Why no night starts, each with its remedy. nightly: its deployment."""
    if nightly["paused"] or not any(schedule["active"] for schedule in nightly["schedules"]):
        text = "The schedule of nightly is switched off: no night starts by itself."
        yield text, "Switch it on, on the page of the deployment in Prefect."
    if not (name := nightly["work_pool_name"]):
        yield "The deployment nightly has no work pool, as somebody has deleted it: no run starts.", BOOTSTRAP
        return
    pools = ask(settings, "work_pools", {"name": {"any_": [name]}})
    queues = ask(settings, "work_queues", {"id": {"any_": [nightly["work_queue_id"]]}})
    if any(pool["is_paused"] for pool in pools):
        yield f"The work pool {name} is paused: no run starts.", f"`prefect work-pool resume {name}`."
    elif any(queue["is_paused"] for queue in queues):
        queue = nightly["work_queue_name"]
        text = f"The work queue {queue} of the pool {name} is paused: no run starts."
        yield text, f"`prefect work-queue resume {queue} --pool {name}`."
    elif any(pool["status"] == "NOT_READY" for pool in pools):
        text = f"No worker takes runs from the work pool {name}: none starts."
        yield text, f"`prefect worker start --pool {name} --type process`, where the project's settings are."


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return f"{type(error).__name__}: {without_user(str(error))}"  # a certificate, for instance


def ask(settings: Settings, objects: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a kind, as Prefect's API filters them. Raises httpx.HTTPError; ValueError for what is no JSON."""
    with prefect_client(settings, timeout=10) as client:
        answer = client.post(f"{settings.prefect_api_url.rstrip('/')}/{objects}/filter", json={objects: wanted})
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found
