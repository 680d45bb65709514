"""Every form in both of Prefect's UIs: with one wrong value, and sent as it opens.

All are sent first and looked at afterwards, so that the runs of one go on while the next page loads. Both
send the same; it runs once, as the old UI sent it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tasks.doctor.prefect import DEPLOYMENTS
from tests.browser.conftest import Product
from tests.browser.forms import PATIENCE, TRIES, press_submit, submit
from tests.flows.test_every_form import FORMS

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]
each_ui = pytest.mark.parametrize("ui", ["", "/v2"], ids=["old", "V2"])
each_form = pytest.mark.parametrize("name", DEPLOYMENTS)

# The field by its place, a value, and what the server says of it. `doctor` has only switches and lists.
WRONG = {
    "nightly": ("textarea", "users fell", "'users fell' does not match"),
    "export": ("input[type=number]", "9", "9 is greater than the maximum of 7"),
    "compare": ("textarea", "a/b", "'a/b' does not match"),
    "restore": ("textarea", "../../etc", "'../../etc' does not match"),
    "retention": ("input[type=number]", "0", "0 is less than the minimum of 1"),
    "watch": ("input[type=number]", "0", "0 is less than the minimum of 1"),
}
# V2 gives a number's bounds to the browser, which does not send the form and says so in a bubble of its own.
BUBBLES = {
    "export": "Value must be less than or equal to 7.",
    "retention": "Value must be greater than or equal to 1.",
    "watch": "Value must be greater than or equal to 1.",
}


@pytest.fixture(scope="module")
def sent() -> dict[str, str]:
    """The runs that the forms of the old UI have started, by name."""
    return {}


def wait_for_last(product: Product, name: str) -> None:
    """Wait for the last run of a flow: of most only one may run, and the next one would be cancelled."""
    for run in product.runs(name)[:1]:
        product.ended(run["id"], seconds=240)


def open_in(page: Page, product: Product, ui: str, name: str) -> None:
    page.goto(f"{ui}/deployments/deployment/{product.deployment(name)['id']}/run")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def fill_in(page: Page, name: str, field: str, value: str) -> None:
    if name == "nightly":  # whose list is empty yet
        page.get_by_role("button", name="Add item").click()
    page.locator(field).first.fill(value)


def refused(page: Page, words: str, *, bubble: str = "") -> None:
    """Send the form until it answers so: a busy page may not hear a click that follows a value at once."""
    for _ in range(TRIES):
        press_submit(page)
        with suppress(AssertionError):
            if bubble:
                expect(page.locator("input:invalid")).to_be_focused(timeout=PATIENCE)
                assert page.locator("input:invalid").evaluate("field => field.validationMessage") == bubble
            else:
                expect(page.get_by_text(words).first).to_be_visible(timeout=PATIENCE)
            return
    raise AssertionError(f"The form did not say {bubble or words!r}.")


def sent_only(page: Page, product: Product) -> dict[str, Any]:
    """Send the form while the worker takes nothing, and delete its run; returns that."""
    product.pause(True)
    try:
        run = submit(page)
        product.delete(run["id"])
    finally:
        product.pause(False)
    return run


@each_form
@each_ui
def test_a_form_refuses_a_wrong_value_and_is_sent_as_it_opens(
    page: Page, product: Product, sent: dict[str, str], ui: str, name: str
) -> None:
    if name == "nightly":
        product.finished("nightly", seconds=300)
    open_in(page, product, ui, name)
    text = page.locator("body").inner_text()
    assert [mark for mark in ("`", "**") if mark in text] == [], "plain text, whatever the UI makes of Markdown"
    assert "How often a crashed run" not in text
    if name in WRONG:
        before = len(product.runs(name))
        field, value, words = WRONG[name]
        fill_in(page, name, field, value)
        refused(page, words, bubble=BUBBLES.get(name, "") if ui else "")
        assert len(product.runs(name)) == before
        open_in(page, product, ui, name)
    if ui:
        run = sent_only(page, product)
    else:
        wait_for_last(product, name)
        run = submit(page)
        sent[name] = run["id"]
    form, opened = FORMS[name], product.deployment(name)
    assert form.model_validate(run["parameters"]["options"]) == form.model_validate(opened["parameters"]["options"])


@each_ui
def test_days_that_cannot_be_are_refused_on_the_runs_page(page: Page, product: Product, ui: str) -> None:
    """A form's schema cannot say that a day is over: today, picked as the first day, comes after yesterday."""
    open_in(page, product, ui, "backfill")
    if ui:
        page.get_by_text("Pick a date").first.click()
        page.locator(".rdp-today button").click()
    else:
        page.get_by_text("Select date").first.click()
        page.get_by_role("button", name="Today").click()
        page.get_by_role("button", name="Apply").click()
    wait_for_last(product, "backfill")
    run = submit(page)
    assert run["parameters"]["options"]["first_day"]
    ended = product.ended(run["id"], seconds=240)
    page.goto(f"{ui}/artifacts/artifact/{product.artifacts(ended)['failure']['id']}")
    expect(page.get_by_text("comes after the last day").first).to_be_visible()
    expect(page.get_by_text("Nothing: the run did not begin.").first).to_be_visible()


@each_form
def test_what_a_form_sent_as_it_opened_completes(product: Product, sent: dict[str, str], name: str) -> None:
    ended = product.ended(sent[name], seconds=240)
    if name in ("restore", "compare"):  # there may be no earlier run yet: then the page says so
        assert ended["state_type"] == "COMPLETED" or "failure" in product.artifacts(ended)
    else:
        assert ended["state_name"] == "Completed", product.artifacts(ended).get("failure")
