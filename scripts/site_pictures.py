"""The pictures of the reports site for the README: docs/site-{overview,report,compare,phone}.png.

`make screenshots` takes them after those of Prefect; `python -m scripts.site_pictures` takes them alone. Two nights of
demo data on a stack of its own, and the site in a process of its own; nothing of them is left afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import httpx
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from api import vendor
from data.demo import load
from deploy.prefect_services import ROOT
from local_stack import Stack, down, up
from local_stack.state import free_port
from scripts.api import MASTER, demo_analyst
from scripts.chromium import MISSING, find_chromium

DOCS = ROOT / "docs"
CHROMIUM = find_chromium()
USERS, POSTS = 2_000, 20_000
START_SECONDS = 90
Theme = Literal["light", "dark"]


def main() -> int:
    """Take them; returns the exit code."""
    if CHROMIUM is None:
        print(MISSING, file=sys.stderr)
        return 1
    home = Path(tempfile.mkdtemp(prefix="supabase-nightly-site-"))
    home.chmod(0o711)
    try:
        stack = up(home / "stack", empty=True)
        _run_nights(stack, home)
        with _site(stack, home) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            _take_all(browser, url, demo_analyst(stack, home / "analyst.json"))
            browser.close()
    finally:
        down(home / "stack")
        shutil.rmtree(home)
    return 0


def _run_nights(stack: Stack, home: Path) -> None:
    """Two nights, so that there is something to compare."""
    load(stack.db_url, users=USERS, posts=POSTS)
    folders = {"ETL_DATA_DIR": str(home / "data"), "PREFECT_HOME": str(home / "prefect")}
    environment = {**os.environ, **stack.env(), **folders}
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    for as_of in (yesterday, "midnight"):
        print(f"· Running the nightly, as of {as_of}", file=sys.stderr)
        command = [sys.executable, "-m", "scripts.run", "--as-of", as_of]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _site(stack: Stack, home: Path) -> Iterator[str]:
    """The address of the site, running without the service key."""
    vendor.install(lambda text: print(f"· {text}", file=sys.stderr))
    port, ours = free_port(), {"SUPABASE_JWT_SECRET": stack.jwt_secret, "ETL_CACHE_DIR": str(home / "cache")}
    environment = {n: v for n, v in {**os.environ, **stack.env(), **ours}.items() if n not in MASTER}
    command = [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory", "--port", str(port)]
    with subprocess.Popen([*command, "--no-access-log"], cwd=ROOT, env=environment) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health/live")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.3)
        else:
            return
    raise SystemExit("The site did not start.")


def _take_all(browser: Browser, url: str, account: tuple[str, str]) -> None:
    desktop = _signed_in(browser, url, account, width=1440, height=1000)
    _take(desktop, "/", "site-overview.png")
    _take(desktop, "/explore/signup_cohorts", "site-report.png")
    _take(desktop, "/compare?report=signup_cohorts", "site-compare.png")
    phone = _signed_in(browser, url, account, width=390, height=844, theme="dark")
    _take(phone, "/", "site-phone.png")


def _signed_in(
    browser: Browser,
    url: str,
    account: tuple[str, str],
    *,
    width: int,
    height: int,
    theme: Theme = "light",
) -> Page:
    size = ViewportSize(width=width, height=height)
    page = browser.new_context(base_url=url, viewport=size, color_scheme=theme, locale="en-GB").new_page()
    page.goto("/sign-in")
    page.get_by_label("E-mail").fill(account[0])
    page.get_by_label("Password").fill(account[1])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    return page


def _take(page: Page, path: str, name: str) -> None:
    """One page, once what it draws is there."""
    page.goto(path)
    for figure in page.locator(".chart").all():
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-state", "drawn", timeout=60_000)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / name)
    print(f"· docs/{name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
