"""A deployment's form in the browser: opened, sent, and its run followed."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import Product

TRIES, PATIENCE = 3, 10_000  # milliseconds


def open_form(page: Page, product: Product, name: str) -> None:
    page.goto(f"/deployments/deployment/{product.deployment(name)['id']}/run")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def submit(page: Page) -> dict[str, Any]:
    """Send the form; returns the run that it started.

    On a busy machine the page now and then does not hear a click that follows a choice at once, or the server's SQLite
    is locked for a moment and it answers 503: then the click comes again, as a person's would.
    """
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer) if answer.url.endswith("/create_flow_run") else None)
    for _ in range(TRIES):
        answers.clear()
        page.get_by_role("button", name="Submit").click()
        for _ in range(PATIENCE // 200):
            if answers:
                break
            page.wait_for_timeout(200)
        if answers and answers[-1].status != 503:
            assert answers[-1].ok, answers[-1].text()
            run: dict[str, Any] = answers[-1].json()
            return run
    raise AssertionError(f"the form was not taken, {TRIES} times")


def follow(page: Page, run: dict[str, Any]) -> None:
    """Stay on the page of a run until that says Completed."""
    page.goto(f"/runs/flow-run/{run['id']}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible(timeout=90_000)
