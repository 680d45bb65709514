"""Checks of the Prefect server: whether it answers, and has what starts the nights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from tasks.doctor.findings import Finding, ok, warn
from tasks.settings import Settings
from tasks.settings.environment import prefect_api_url, value_of

CHECK = "prefect"
DEPLOYMENTS = ("nightly", "backfill", "export", "compare", "restore", "retention", "watch", "doctor")
BOOTSTRAP = "Run `python -m scripts.bootstrap` with the same PREFECT_API_URL."


def deployments_are_there(settings: Settings) -> Iterator[Finding]:
    """Whether the server of PREFECT_API_URL has our deployments: one with an empty database starts no night."""
    if not prefect_api_url():
        yield ok(CHECK, "PREFECT_API_URL is not set: something else starts the nights.")
        return
    try:
        names = {one["name"] for one in ask("deployments", {"name": {"any_": list(DEPLOYMENTS)}})}
    except (httpx.HTTPError, ValueError) as error:
        text = f"The Prefect server of PREFECT_API_URL does not answer as it should ({_reason(error)})."
        yield warn(CHECK, text, "Look at PREFECT_API_URL, PREFECT_API_AUTH_STRING, and whether the server runs.")
        return
    if missing := [name for name in DEPLOYMENTS if name not in names]:
        text = f"The Prefect server of PREFECT_API_URL has no deployment {', '.join(missing)}."
        yield warn(CHECK, f"{text} {'No night starts there.' if 'nightly' in missing else ''}".rstrip(), BOOTSTRAP)
    else:
        yield ok(CHECK, "The Prefect server has all deployments.")


def _reason(error: Exception) -> str:
    return f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else type(error).__name__


def ask(objects: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a kind, as Prefect's API filters them. Raises httpx.HTTPError; ValueError for what is no JSON."""
    user, _, password = value_of("PREFECT_API_AUTH_STRING").partition(":")
    key = value_of("PREFECT_API_KEY")
    answer = httpx.post(
        f"{prefect_api_url().rstrip('/')}/{objects}/filter",
        json={objects: wanted},
        auth=(user, password) if user else None,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=10,
    )
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found
