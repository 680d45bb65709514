"""A deployment's form in the browser: opened, sent, and its run followed."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import Product

TRIES, PATIENCE = 3, 10_000  # milliseconds


def open_form(page: Page, product: Product, name: str) -> None:
    page.goto(f"/deployments/deployment/{product.deployment(name)['id']}/run")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def submit(page: Page) -> dict[str, Any]:
    """Send the form; returns the run that it started.

    On a busy machine the page now and then does not hear a click that follows a choice at once: then it comes again.
    """
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/create_flow_run") else None)
    for _ in range(TRIES):
        page.get_by_role("button", name="Submit").click()
        for _ in range(PATIENCE // 200):
            if sent:
                return _run(sent[0])
            page.wait_for_timeout(200)
    raise AssertionError("the form was not sent")


def _run(request: Request) -> dict[str, Any]:
    answer = request.response()
    assert answer is not None
    assert answer.ok, answer.text()
    run: dict[str, Any] = answer.json()
    return run


def follow(page: Page, run: dict[str, Any]) -> None:
    """Stay on the page of a run until that says Completed."""
    page.goto(f"/runs/flow-run/{run['id']}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible(timeout=90_000)
