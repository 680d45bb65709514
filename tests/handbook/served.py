"""A Prefect server that a block started: what it answers, and a night that a worker does for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Served:
    """A Prefect server by its address, asked with its password."""

    url: str
    password: str = field(repr=False)  # `user:password`

    def api(self, path: str, body: object | None = None) -> Any:
        """What the API answers; a body makes it a POST."""
        method, user = "GET" if body is None else "POST", tuple(self.password.split(":", 1))
        answer = httpx.request(method, f"{self.url}/api{path}", json=body, auth=user, timeout=60)  # type: ignore[arg-type]
        return answer.raise_for_status().json()

    def deployments(self) -> set[str]:
        return {deployment["name"] for deployment in self.api("/deployments/filter", {})}

    def night(self, *, seconds: float = 180) -> dict[str, Any]:
        """Start `nightly` to commit, and wait until a worker has done it; returns the ended run."""
        found = self.api("/deployments/name/nightly/nightly")
        body = {"parameters": {"options": {"dry_run": False}}}
        run: dict[str, Any] = self.api(f"/deployments/{found['id']}/create_flow_run", body)
        patience = time.monotonic() + seconds
        while run["state"]["type"] in ("SCHEDULED", "PENDING", "RUNNING"):
            assert time.monotonic() < patience, run["state"]
            time.sleep(0.5)
            run = self.api(f"/flow_runs/{run['id']}")
        return run

    def artifacts(self, run: dict[str, Any]) -> set[str]:
        """The keys of what a run shows on its page."""
        asked = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 100}
        return {artifact["key"] for artifact in self.api("/artifacts/filter", asked)}
