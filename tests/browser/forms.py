"""A deployment's form in the browser: opened, sent, and its run followed."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, Response, expect
from playwright.sync_api import TimeoutError as Waited

from tests.browser.conftest import Product

TRIES, PATIENCE = 3, 10_000  # milliseconds
BUSY, PAUSE = 10, 1_500  # answers of 503, and milliseconds to the next click


def open_form(page: Page, product: Product, name: str) -> None:
    page.goto(f"/deployments/deployment/{product.deployment(name)['id']}/run")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def press_submit(page: Page) -> None:
    """Click the button; behind a message that Prefect's server was busy it is pressed without the mouse."""
    button = page.get_by_role("button", name="Submit")
    try:
        button.click(timeout=PATIENCE)
    except Waited:
        expect(page.get_by_text("Something went wrong").first).to_be_visible(timeout=1)
        button.dispatch_event("click")


def submit(page: Page) -> dict[str, Any]:
    """Send the form; returns the run that it started.

    On a busy machine the page now and then does not hear a click that follows a choice at once, or the server's SQLite
    is locked for a moment and it answers 503: then the click comes again, as a person's would.
    """
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer) if answer.url.endswith("/create_flow_run") else None)
    unheard = 0
    while unheard < TRIES and len(answers) < BUSY:
        before = len(answers)
        press_submit(page)
        for _ in range(PATIENCE // 200):
            if len(answers) > before:
                break
            page.wait_for_timeout(200)
        if len(answers) == before:
            unheard += 1
        elif answers[-1].status == 503:
            page.wait_for_timeout(PAUSE)
        else:
            assert answers[-1].ok, answers[-1].text()
            run: dict[str, Any] = answers[-1].json()
            return run
    raise AssertionError(f"the form was not taken: {unheard} clicks unheard, {len(answers)} answers of 503")


def follow(page: Page, run: dict[str, Any]) -> None:
    """Stay on the page of a run until that says Completed."""
    page.goto(f"/runs/flow-run/{run['id']}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible(timeout=90_000)
