"""Prefect's API: starts deployments and says how their runs are doing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from api.problems import Problem
from tasks.platform.prefect_client import prefect_client
from tasks.settings import Settings
from tasks.settings.environment import without_user

TIMEOUT = 10.0
_SOON = 2.0  # seconds that a page of ours waits to learn which links to Prefect's pages lead somewhere
_AT_ONCE = 200  # runs; the server refuses to list more
_LOOKED_AT = 50  # completed runs, for the last that committed
# Prefect's server answers so while its database is locked, and its own clients try again: nothing was done.
_BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
_KEYS = "The operator looks at PREFECT_API_AUTH_STRING and PREFECT_API_KEY."
_ADDRESS = "The operator looks at PREFECT_API_URL, which ends in /api: without it the server's pages answer."
_PAUSES = (0.2, 0.5, 1.0)  # seconds between tries: somebody waits


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A flow run as Prefect knows it."""

    id: str
    name: str
    state: str
    state_type: str
    parameters: dict[str, Any]
    message: str
    is_new: bool = False

    @property
    def is_over(self) -> bool:
        return self.state_type in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Prefect:
    """One Prefect server. Threads may share it."""

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._url = settings.prefect_api_url.rstrip("/")
        self._pages = without_user(settings.prefect_ui_url or self._url.removesuffix("/api")).rstrip("/")
        self._http = prefect_client(settings, timeout=TIMEOUT, transport=transport)

    @property
    def is_set(self) -> bool:
        """Whether PREFECT_API_URL names a server."""
        return bool(self._url)

    def close(self) -> None:
        self._http.close()

    def page(self, flow_run_id: str | None) -> str | None:
        """The address of a run's page for people."""
        return f"{self._pages}/runs/flow-run/{flow_run_id}" if flow_run_id and self._url else None

    def pages(self, flow_run_ids: Collection[str | None]) -> dict[str | None, str | None]:
        """The addresses by flow run, of those that the server knows: another database has none of the old runs.

        Of all of them where it does not say so soon.
        """
        ids = [one for one in flow_run_ids if one]
        if not (ids and self.is_set):
            return {}
        parts = [ids[at : at + _AT_ONCE] for at in range(0, len(ids), _AT_ONCE)]
        return {one: self.page(one) for part in parts for one in self._known(part)}

    def _known(self, flow_run_ids: list[str]) -> list[str]:
        body = {"flow_runs": {"id": {"any_": flow_run_ids}}, "limit": len(flow_run_ids)}
        try:
            answer = self._http.post(f"{self._url}/flow_runs/filter", json=body, timeout=_SOON)
            return [str(run["id"]) for run in answer.raise_for_status().json()]
        except (httpx.HTTPError, ValueError):
            return flow_run_ids

    def start(self, deployment: str, options: dict[str, Any], key: str | None) -> FlowRun:
        """Start a deployment of this project. The same key gives the same run again; without one it is a new run."""
        found = self._ask("GET", f"/deployments/name/{deployment}/{deployment}")
        if key:
            self._require_free(key, found["id"])
        once = key or str(uuid.uuid4())  # a request that is sent twice starts one run
        body = {"parameters": {"options": options}, "idempotency_key": once, "tags": ["started-from-site"]}
        answer = self._send("POST", f"/deployments/{found['id']}/create_flow_run", body)
        return _flow_run(answer.json(), is_new=answer.status_code == httpx.codes.CREATED)

    def _require_free(self, key: str, deployment_id: str) -> None:
        """Problem 409 when the key has started another deployment: the server keeps a key for each flow alone."""
        body = {"flow_runs": {"idempotency_key": {"any_": [key]}}, "limit": 10}
        if any(run["deployment_id"] != deployment_id for run in self._ask("POST", "/flow_runs/filter", body)):
            raise Problem(409, "This key has started a run of another deployment.", remedy="Take a new key.")

    def run(self, flow_run_id: str) -> FlowRun | None:
        """A flow run; None when the server does not know it."""
        if not self.is_set:
            return None
        try:
            return _flow_run(self._ask("GET", f"/flow_runs/{flow_run_id}"))
        except Problem as problem:
            if problem.status == 404:
                return None
            raise

    def last_commit(self) -> datetime | None:
        """When a nightly completed last that was to commit: neither a dry run nor one for a past instant.

        None when there is none among the newest `_LOOKED_AT` that completed.
        """
        body = {
            "flows": {"name": {"any_": ["nightly"]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            "sort": "END_TIME_DESC",
            "limit": _LOOKED_AT,
        }
        ends = (run["end_time"] for run in self._ask("POST", "/flow_runs/filter", body) if _commits(run))
        return next((datetime.fromisoformat(end) for end in ends if end), None)

    def _ask(self, method: str, path: str, body: object | None = None) -> Any:
        return self._send(method, path, body).json()

    def _send(self, method: str, path: str, body: object | None = None) -> httpx.Response:
        """Problem 503 when the server cannot be reached, 404 when it knows no such thing, 422 when it refuses."""
        if not self.is_set:
            raise Problem(503, "Runs cannot be started here.", remedy="The operator sets PREFECT_API_URL.")
        try:
            answer = self._answer(method, path, body)
        except httpx.HTTPError as error:
            said = f"Prefect's server does not answer ({type(error).__name__})."
            raise Problem(503, said, remedy="Try again in a moment; the operator looks at PREFECT_API_URL.") from None
        if answer.status_code == 404:
            raise Problem(404, "Prefect knows no such run or deployment.", remedy="Run `python -m scripts.bootstrap`.")
        if answer.status_code in (409, 422):
            raise Problem(422, "Prefect refused these options.", remedy="Look at the form's fields in /openapi.json.")
        if answer.is_error:
            remedy = _KEYS if answer.status_code in (401, 403) else "Try again in a moment."
            raise Problem(503, f"Prefect's server answered {answer.status_code}.", remedy=remedy)
        if "json" not in answer.headers.get("content-type", ""):
            raise Problem(503, "What answers at PREFECT_API_URL is no API of Prefect's.", remedy=_ADDRESS)
        return answer

    def _answer(self, method: str, path: str, body: object | None) -> httpx.Response:
        """The answer, asked for again a few times while the server is busy."""
        pauses = iter(_PAUSES)
        while True:
            answer = self._http.request(method, f"{self._url}{path}", json=body)
            if answer.status_code not in _BUSY or (pause := next(pauses, None)) is None:
                return answer
            time.sleep(pause)


def _flow_run(body: dict[str, Any], *, is_new: bool = False) -> FlowRun:
    state = body.get("state") or {}
    return FlowRun(
        id=str(body["id"]),
        name=str(body.get("name") or ""),
        state=str(state.get("name") or "Scheduled"),
        state_type=str(state.get("type") or "SCHEDULED"),
        parameters=body.get("parameters") or {},
        message=str(state.get("message") or ""),
        is_new=is_new,
    )


def _commits(run: dict[str, Any]) -> bool:
    """Whether readers see what this run of the nightly made, by the form that it was started with."""
    options = (run.get("parameters") or {}).get("options") or {}
    return options.get("dry_run") is False and not options.get("instant")
