"""A Prefect server with all deployments, a worker and a browser: one set for all browser tests, as it takes a minute.

They work on a stack of their own: the worker uses it at moments that no other test can know.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from data.demo import load
from deploy.prefect_services import Prefect, api, request, server, worker
from deploy.server_setup import POOL
from local_stack import Stack
from local_stack.state import free_port
from scripts.chromium import MISSING, find_chromium
from scripts.ui import bootstrap
from tests.conftest import temporary_stack

USERS, POSTS = 200, 2_000
SOON = 105  # seconds; the deployments are there a minute before, also on a busy machine
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def signed_in(prefect: Prefect) -> str:
    """What both UIs keep once somebody has typed the password: a script for each new page."""
    return f"localStorage.setItem('prefect-password', '{base64.b64encode(prefect.password.encode()).decode()}')"


@dataclass
class Product:
    """What a test works with: the server's API, its pages, and the project behind it."""

    prefect: Prefect
    stack: Stack
    scheduled: datetime

    def api(self, path: str, body: object | None = None) -> Any:
        """One request to Prefect's API; a body makes it a POST."""
        return api(self.prefect, path, body)

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api(f"/deployments/name/{name}/{name}")
        return found

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Flow runs of a flow that were due by now, newest first."""
        due = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}}
        body = {"flows": {"name": {"any_": [name]}}, "flow_runs": due, "sort": "EXPECTED_START_TIME_DESC"}
        found: list[dict[str, Any]] = self.api("/flow_runs/filter", body)
        return found

    def start(self, name: str, **options: object) -> dict[str, Any]:
        """Start a run without its form; returns it."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        run: dict[str, Any] = self.api(path, {"parameters": {"options": {"dry_run": False, **options}}})
        return run

    def artifacts(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The artifacts of a run by key."""
        found = self.api("/artifacts/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 100})
        return {artifact["key"]: artifact for artifact in found if artifact["key"]}

    def finished(self, name: str, *, seconds: float = 120) -> dict[str, Any]:
        """The first run of a flow, once it has ended."""
        self.wait(lambda: bool(self.runs(name)), f"no run of {name} is due", seconds)
        return self.ended(self.runs(name)[-1]["id"])

    def ended(self, run_id: str, *, seconds: float = 120) -> dict[str, Any]:
        """A run, once it has ended."""

        def over() -> bool:
            return self.api(f"/flow_runs/{run_id}")["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        self.wait(over, f"the run {run_id} has not ended", seconds)
        run: dict[str, Any] = self.api(f"/flow_runs/{run_id}")
        return run

    def delete(self, run_id: str) -> None:
        """Delete a run."""
        answer = request(self.prefect, "DELETE", f"/flow_runs/{run_id}")
        assert answer.is_success or answer.status_code == httpx.codes.NOT_FOUND, f"the run {run_id} is not deleted"

    def pause(self, paused: bool) -> None:
        """Whether the worker gets no runs of its pool."""
        request(self.prefect, "PATCH", f"/work_pools/{POOL}", {"is_paused": paused}).raise_for_status()

    def wait(self, until: Callable[[], bool], otherwise: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"{otherwise}; the worker's log:\n{self.log('worker')}"
            time.sleep(0.5)

    def log(self, service: str) -> str:
        return (self.prefect.home / f"{service}.log").read_text()[-3000:]


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Server, deployments, automations and worker as `make ui` starts them; the nightly is due in a minute or so."""
    home = tmp_path_factory.mktemp("prefect")
    with temporary_stack() as stack:
        load(stack.db_url, users=USERS, posts=POSTS, days=130)
        settings = {**stack.env(), "ETL_DATA_DIR": str(home / "data"), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        prefect = Prefect.at(home / "prefect", port=free_port(), extra=settings)
        with server(prefect):
            # Before the server knows of the schedule: a change of one may be noticed only a minute later.
            due = (datetime.now(UTC) + timedelta(seconds=SOON)).replace(second=0, microsecond=0)
            prefect.env.update(ETL_CRON=f"{due.minute} {due.hour} * * *", ETL_TIMEZONE="UTC")
            bootstrap(prefect)
            with worker(prefect, POOL):
                yield Product(prefect, stack, due)


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium. Skips the test where none is installed."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=installed(), args=ARGUMENTS)
        yield running
        running.close()


def installed() -> str:
    """The path of the Chromium of this machine. Skips the test where there is none."""
    if (path := find_chromium()) is None:
        pytest.skip(MISSING)
    return path


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser keeps on disk: the pages' scripts, compiled, as that of a person who comes back."""
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def window(profile: Path, product: Product) -> Iterator[BrowserContext]:
    """The headless Chromium of somebody who is signed in; its tabs share what was loaded.

    It ends with its module: while it is there, no other event loop may run in this process.
    """
    options: Any = {"viewport": {"width": 1400, "height": 1300}, "timezone_id": "UTC", "locale": "en-GB"}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch_persistent_context(
            profile, executable_path=installed(), args=ARGUMENTS, base_url=product.prefect.url, **options
        )
        opened.add_init_script(signed_in(product.prefect))
        opened.set_default_timeout(30_000)
        yield opened
        opened.close()


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    """An empty tab. Addresses may be given without the server's."""
    with window.new_page() as tab:
        yield tab
