"""What an analyst does, in a real browser, on a real server with a real worker.

The tests follow each other: one server serves all of them, and the nightly's schedule is due while they run.
"""

from __future__ import annotations

import io
import re
from datetime import datetime

import httpx
import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tasks.doctor.prefect import DEPLOYMENTS
from tests.browser.conftest import USERS, Product
from tests.browser.forms import follow, open_form, submit

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]

ALL_DRAWN = "which => [...document.querySelectorAll(which)].every(i => i.complete && i.naturalWidth > 300)"
SIGNED = "/storage/v1/object/sign/"


def test_the_deployments_are_listed_and_explained(page: Page, product: Product) -> None:
    page.goto("/deployments")
    for name in DEPLOYMENTS:
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    page.goto(f"/deployments/deployment/{product.deployment('nightly')['id']}?tab=Description")
    for heading in ("What.", "When.", "What it writes.", "How long.", "When it fails."):
        expect(page.get_by_text(heading).first).to_be_visible()


def test_the_doctor_is_started_from_its_form_and_followed_to_its_end(page: Page, product: Product) -> None:
    open_form(page, product, "doctor")
    run = submit(page)
    follow(page, run)
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("What the doctor found").first.click()
    expect(page.get_by_text("0 to fix").first).to_be_visible()
    assert "sources" in product.artifacts(run)["doctor"]["data"]


def test_the_nightly_starts_by_its_schedule_and_leaves_its_page(page: Page, product: Product) -> None:
    run = product.finished("nightly", seconds=300)
    assert run["state_name"] == "Completed", product.log("worker")
    assert run["auto_scheduled"]
    assert datetime.fromisoformat(run["expected_start_time"]) == product.scheduled
    assert re.fullmatch(r"\d{4}-\d\d-\d\d nightly, as of midnight", run["name"])
    assert {"summary", "statistics", "cleaning", "files", "traffic", "chart-growth"} <= set(product.artifacts(run))
    page.goto(f"/runs/flow-run/{run['id']}")
    expect(page.get_by_text("stage='Read posts'").first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("What this run did, its figures, charts and files.").first.click()
    expect(page.get_by_role("heading", name="Readers now see this run")).to_be_visible()
    expect(page.get_by_text("since yesterday").first).to_be_visible()


@pytest.mark.parametrize("ui", ["", "/v2"], ids=["old", "V2"])
def test_every_artifact_of_the_night_opens_with_its_images_and_links(page: Page, product: Product, ui: str) -> None:
    found = product.artifacts(product.finished("nightly", seconds=300))
    links: set[str] = set()
    for key, artifact in found.items():
        page.goto(f"{ui}/artifacts/artifact/{artifact['id']}")
        expect(page.get_by_text(key, exact=True).first).to_be_visible()
        images = page.locator(f"img[src*='{SIGNED}']")
        expect(images).to_have_count({"report": 5, "latest-report": 5}.get(key, int(key.startswith("chart-"))))
        images.evaluate_all("images => images.forEach(image => image.loading = 'eager')")
        page.wait_for_function(ALL_DRAWN, arg=f"img[src*='{SIGNED}']")
        if artifact["type"] == "markdown":
            named = set(re.findall(rf"(?<!!)\[[^]]*\]\((http[^)]*{SIGNED}[^)]*)\)", artifact["data"]))
            shown = page.locator(f"a[href*='{SIGNED}']").evaluate_all("links => links.map(link => link.href)")
            assert named <= set(shown), key
            links |= named
    assert len(links) > 15
    assert [link for link in links if ui and httpx.head(link).status_code != 200] == []


def test_an_export_is_chosen_in_its_form_and_downloaded_by_its_link(page: Page, product: Product) -> None:
    open_form(page, product, "export")
    page.locator(".p-select button").first.press("Space")
    page.get_by_text("user_statistics").click()
    expect(page.get_by_role("option").first).to_be_hidden()
    page.get_by_role("switch").last.click()  # the dry run with which each form opens
    run = submit(page)
    follow(page, run)
    page.goto(f"/artifacts/artifact/{product.artifacts(run)['export']['id']}")
    link = page.get_by_role("link", name="Download user_statistics.parquet").get_attribute("href")
    statistics = pd.read_parquet(io.BytesIO(httpx.get(str(link)).content))
    assert len(statistics) == 1
    assert 0 < statistics["total_users"].item() <= USERS
    assert run["parameters"]["options"]["report"] == "user_statistics"
