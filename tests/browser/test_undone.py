"""A past day is reported again, and readers are moved back to an earlier run: both from their forms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Product
from tests.browser.forms import follow, open_form, submit
from tests.pipeline.kit import Project

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]
COMMITTED = "select run_id from public.etl_runs where status = 'committed' and not historical order by started_at desc"


@pytest.fixture(scope="module")
def project(product: Product) -> Iterator[Project]:
    """The project after a second night: there is an earlier run to go back to."""
    product.finished("nightly", seconds=300)
    product.ended(product.start("nightly", as_of="now")["id"])
    project = Project(product.stack, product.prefect.home, {"SUPABASE_SERVICE_KEY": product.stack.service_key})
    with project.bucket:
        yield project


def test_a_day_is_reported_again_and_moves_no_reader(page: Page, product: Product, project: Project) -> None:
    latest = project.latest()
    open_form(page, product, "backfill")
    for switch in page.get_by_role("switch").all():  # redo, and the dry run with which the form begins
        switch.click()
    run = submit(page)
    assert {"redo": True, "dry_run": False}.items() <= run["parameters"]["options"].items()
    follow(page, run)
    assert "runs/" in product.artifacts(run)["backfill"]["data"]
    assert project.latest() == latest


def test_readers_are_moved_back_to_the_run_before(page: Page, product: Product, project: Project) -> None:
    current, earlier = product.stack.query(COMMITTED).split()[:2]
    assert current in str(project.latest())
    open_form(page, product, "restore")
    page.get_by_role("switch").click()
    run = submit(page)
    follow(page, run)
    assert earlier in str(project.latest())
    assert earlier in product.artifacts(run)["restore"]["data"]
