"""A real Prefect server with all deployments, and a project with committed runs: what a form is sent to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from data.demo import load
from deploy.prefect_services import Prefect, api, server
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack import Stack
from local_stack.state import free_port
from scripts.ui import bootstrap
from tests.conftest import temporary_stack
from tests.without_charts import SWITCH

ROOT = Path(__file__).parents[2]


@dataclass
class Deployed:
    """A Prefect server with the deployments of this project, and the project behind them."""

    prefect: Prefect
    stack: Stack
    folder: Path
    flows: dict[str, Flow[..., Any]] = field(default_factory=dict)

    def create(self, name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """A run as the form or the API creates it; None takes the deployment's own parameters."""
        deployment = api(self.prefect, f"/deployments/name/{name}/{name}")
        body = {} if options is None else {"parameters": {"options": options}}
        run: dict[str, Any] = api(self.prefect, f"/deployments/{deployment['id']}/create_flow_run", body)
        return run

    def run(self, name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Create a run and do what the worker's process does with it; returns the ended run."""
        return self.execute(name, self.create(name, options)["id"])

    def execute(self, name: str, run_id: str) -> dict[str, Any]:
        """Run it to its end in this process."""
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(UUID(run_id))
        run_flow(self.flow(name), flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
        ended: dict[str, Any] = api(self.prefect, f"/flow_runs/{run_id}")
        return ended

    def flow(self, name: str) -> Flow[..., Any]:
        """The flow, loaded as a worker loads it."""
        if name not in self.flows:
            self.flows[name] = load_flow_from_entrypoint(f"{ROOT}/flows/{name}.py:{name}")
        return self.flows[name]

    def artifacts(self, run: dict[str, Any]) -> dict[str, str]:
        """The artifacts of a run: key to data."""
        found = api(self.prefect, "/artifacts/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 100})
        return {artifact["key"]: artifact["data"] for artifact in found if artifact["key"]}

    def listed(self, run: dict[str, Any]) -> list[str]:
        """The keys of a run's artifacts as both of Prefect's pages list them: by their ids, from the highest."""
        body = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 100, "sort": "ID_DESC"}
        return [artifact["key"] for artifact in api(self.prefect, "/artifacts/filter", body) if artifact["key"]]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """All deployments, and three committed runs, on a stack of their own."""
    folder = tmp_path_factory.mktemp("forms")
    with temporary_stack() as stack:
        load(stack.db_url, users=200, posts=800, days=130)
        made = Deployed(Prefect.at(folder / "prefect", port=free_port()), stack, folder)
        with server(made.prefect):
            with worker_settings(made):
                bootstrap(made.prefect)
                for _ in range(3):  # restore goes back from the third
                    run_pipeline(RunRequest())
            yield made
            with worker_settings(made):
                APILogHandler().flush()  # while the server is there to take it
    assert "SUPABASE_URL" not in os.environ


@pytest.fixture
def deployed(deployment: Deployed) -> Iterator[Deployed]:
    """The deployments, in the environment that a worker has there. Settings are the defaults."""
    with worker_settings(deployment):
        yield deployment


@contextmanager
def worker_settings(made: Deployed) -> Iterator[None]:
    """The folder, the environment and Prefect's settings of a worker's process."""
    overrides = {
        PREFECT_API_URL: f"{made.prefect.url}/api",
        PREFECT_API_AUTH_STRING: made.prefect.password,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with pytest.MonkeyPatch.context() as patch, temporary_settings(overrides):
        patch.chdir(ROOT)
        # Without charts a run has two thirds of the artifacts, and half of the requests that bring them into order.
        for name, value in {**made.stack.env(), "ETL_DATA_DIR": str(made.folder / "data"), SWITCH: "1"}.items():
            patch.setenv(name, value)
        yield
