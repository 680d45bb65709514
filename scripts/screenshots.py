"""`make screenshots`: the pictures of the README, taken again from a real run in a real browser.

Starts a stack with demo data, Prefect's server and a worker in a temporary folder, runs the nightly from its
deployment, and writes docs/{form,run,summary,charts}.png; then those of the reports site. Needs a Chromium
(`apt-get install chromium-headless-shell`).
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from data.demo import load
from deploy.prefect_services import ROOT, Prefect, api, server, worker
from local_stack import down, up
from local_stack.state import free_port
from scripts import site_pictures
from scripts.chromium import MISSING, find_chromium
from scripts.ui import POOL, bootstrap

DOCS = ROOT / "docs"
CHROMIUM = find_chromium()
USERS, POSTS = 2_000, 20_000
WIDTH, HEIGHT = 1_280, 1_000
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def main(arguments: Sequence[str] = ()) -> int:
    """Take all pictures; returns the exit code."""
    argparse.ArgumentParser(prog="python -m scripts.screenshots", description=__doc__).parse_args(arguments)
    if CHROMIUM is None:
        print(MISSING, file=sys.stderr)
        return 1
    DOCS.mkdir(exist_ok=True)
    with _product() as prefect:
        run = _nightly(prefect)
        _pictures(prefect, run)
    return site_pictures.main()


@contextmanager
def _product() -> Iterator[Prefect]:
    """A stack with demo data, a server and a worker; nothing of them is left afterwards."""
    home = Path(tempfile.mkdtemp(prefix="supabase-nightly-screenshots-"))
    home.chmod(0o711)
    try:
        stack = up(home / "stack", empty=True)
        load(stack.db_url, users=USERS, posts=POSTS)
        settings = {**stack.env(), "ETL_DATA_DIR": str(home / "data"), "ETL_CRON": "0 3 * * *", "ETL_TIMEZONE": "UTC"}
        prefect = Prefect.at(home / "prefect", port=free_port(), extra=settings)
        with server(prefect):
            bootstrap(prefect)
            with worker(prefect, POOL):
                yield prefect
    finally:
        down(home / "stack")
        shutil.rmtree(home)


def _nightly(prefect: Prefect) -> str:
    """The id of a nightly that has completed: the second one, so that its page shows changes."""
    deployment = api(prefect, "/deployments/name/nightly/nightly")
    run_id = ""
    for as_of in ("midnight", "now"):
        print(f"· Running the nightly, as of {as_of}", file=sys.stderr)
        path = f"/deployments/{deployment['id']}/create_flow_run"
        options = {"as_of": as_of, "dry_run": False}  # the form starts as a dry run
        run_id = api(prefect, path, {"parameters": {"options": options}})["id"]
        while (state := _run(prefect, run_id)["state_type"]) not in ENDED:
            time.sleep(1)
        if state != "COMPLETED":
            raise SystemExit(f"The nightly ended as {state}; see {prefect.home}/worker.log.")
    return run_id


def _run(prefect: Prefect, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = api(prefect, f"/flow_runs/{run_id}")
    return run


def _pictures(prefect: Prefect, run_id: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(base_url=prefect.url, timezone_id="UTC", locale="en-GB")
        password = base64.b64encode(prefect.password.encode()).decode()
        context.add_init_script(f"localStorage.setItem('prefect-password', '{password}')")
        page = context.new_page()
        deployment = _run(prefect, run_id)["deployment_id"]
        filters = {"flow_runs": {"id": {"any_": [run_id]}}, "artifacts": {"key": {"any_": ["report"]}}}
        report = f"/artifacts/artifact/{api(prefect, '/artifacts/filter', filters)[0]['id']}"
        _take(page, f"/deployments/deployment/{deployment}/run", "form.png", wait="Submit", height=1_320)
        _take(page, f"/runs/flow-run/{run_id}", "run.png", wait="What this run did", click="Artifacts")
        _take(page, report, "summary.png", wait="Readers now see this run")
        _take(page, report, "charts.png", wait="Readers now see this run", scroll_to="img[alt='Growth']")
        browser.close()


def _take(
    page: Page, path: str, name: str, *, wait: str, click: str = "", scroll_to: str = "", height: int = HEIGHT
) -> None:
    """One page, once a text is there and what it loads besides has come.

    click: the tab to open. scroll_to: what shall stand at the top.
    """
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(path)
    if click:
        page.get_by_text(click, exact=True).first.click()
    page.get_by_text(wait).first.wait_for()
    page.wait_for_timeout(4_000)
    if scroll_to:
        page.locator(scroll_to).first.evaluate("element => element.scrollIntoView()")
        page.wait_for_timeout(500)
    page.screenshot(path=DOCS / name)
    print(f"· docs/{name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
