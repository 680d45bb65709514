"""Pages that stay open while something happens: another commit, a site that is away, a start that is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from tasks.ledger.as_of import AsOf
from tests.api.conftest import Site
from tests.api.watched import PATIENCE, Watched, context, sign_in

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]

START_FORM = """async () => {
  const { startForms } = await import('/static/js/start.js');
  document.body.innerHTML = '<form data-start><input name="as_of" value="now"><input type="checkbox" name="dry_run">'
    + '<button>Start</button><p role="status"></p></form>';
  startForms(document);
}"""
STAGE = 'event: stage\ndata: {"status": "running", "stage": "publish"}\n\n'


RUN = "20200101T000000Z-00000000"
# What a browser does with a tab behind another one; without a screen each of them counts as seen.
TURN = """hidden => {
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


@pytest.fixture
def running(site: Site) -> Iterator[str]:
    """The page of a run that is not over."""
    columns = "run_id, token, as_of_mode, status, stage, transport, lease_seconds, started_at"
    row = f"'{RUN}', gen_random_uuid(), 'now', 'running', 'read users', 'rest', 120, '2020-01-01'"
    site.stack.query(f"insert into public.etl_runs ({columns}) values ({row})")
    yield f"/history/{RUN}"
    site.stack.query(f"delete from public.etl_runs where run_id = '{RUN}'")


def test_a_run_is_followed_again_after_the_site_was_away(chromium: Browser, site: Site, running: str) -> None:
    """A proxy's answer while the site starts again ends an EventSource for good."""
    answers: list[Any] = [{"status": 502}, {"content_type": "text/event-stream", "body": STAGE}]
    with context(chromium, site) as opened:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE)
        sign_in(page, site.people["analyst"])
        page.route("**/events", lambda route: route.fulfill(**(answers.pop(0) if answers else {"status": 502})))
        page.goto(running)
        expect(page.locator("[data-follow]")).to_have_text("running: publish")


def test_many_tabs_on_a_run_that_is_not_over_leave_the_site_usable(chromium: Browser, site: Site, running: str) -> None:
    """A browser has six connections to a site, and each tab kept one for as long as the run lasted."""
    with context(chromium, site) as opened:
        page = opened.new_page()
        sign_in(page, site.people["analyst"])
        for _ in range(8):
            page = opened.new_page()
            page.set_default_timeout(PATIENCE)
            with page.expect_request("**/events"):
                page.goto(running)
            page.evaluate(TURN, True)
        with page.expect_request("**/events"):
            page.evaluate(TURN, False)
        site.stack.query(f"update public.etl_runs set stage = 'publish' where run_id = '{RUN}'")
        expect(page.locator("[data-follow]")).to_have_text("running: publish")


def test_many_windows_beside_each_other_share_one_connection(chromium: Browser, site: Site, running: str) -> None:
    """The seventh window that was seen, on whatever page, waited until the run was over."""
    with context(chromium, site) as opened:
        sign_in(opened.new_page(), site.people["analyst"])
        pages = [opened.new_page() for _ in range(8)]
        for page in pages:
            page.set_default_timeout(PATIENCE)
            page.goto(running)
        for stage, seen_in in (("publish", pages), ("load and commit", pages[-1:])):
            site.stack.query(f"update public.etl_runs set stage = '{stage}' where run_id = '{RUN}'")
            for page in seen_in:
                expect(page.locator("[data-follow]")).to_have_text(f"running: {stage}")
            for page in pages[:-1]:
                page.close()  # whichever follows
        site.stack.query(f"update public.etl_runs set status = 'failed' where run_id = '{RUN}'")
        expect(pages[-1].locator("[data-follow]")).to_have_count(0)


def test_the_days_of_a_chart_that_cannot_be_drawn_can_be_chosen_on_a_phone(chromium: Browser, site: Site) -> None:
    """What says so lay on the buttons, where those have a line of their own."""
    with context(chromium, site, width=375) as opened:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE)
        sign_in(page, site.people["analyst"])
        page.route("**/charts/*.json*", lambda route: route.fulfill(status=503))
        page.goto("/explore/daily_activity")
        figure = page.locator(".chart", has_text="Active authors")
        figure.scroll_into_view_if_needed()
        expect(figure).to_contain_text("This chart could not be drawn: the site answered 503.")  # a proxy's, no JSON
        for button in figure.locator(".group button").all():
            button.click(trial=True)


def test_of_two_clicks_the_last_one_counts_whenever_their_answers_come(tab: Watched) -> None:
    """The first answer arrived late: the address, and so the next reload, named another order than the table."""
    held: list[Route] = []
    page = tab.open("/explore/daily_activity")
    page.route(re.compile("sort=-posts"), lambda route: held.append(route))
    with page.expect_request(re.compile("sort=-posts")):
        page.get_by_role("link", name="Posts", exact=True).click()
    page.get_by_role("link", name="New users", exact=True).click()
    expect(page.locator("th", has_text="New users")).to_have_attribute("aria-sort", "descending")
    with page.expect_response(re.compile("sort=-posts")):
        held[0].continue_()
    page.wait_for_load_state("networkidle")
    assert page.url.endswith("sort=-new_users")
    expect(page.locator("th", has_text="New users")).to_have_attribute("aria-sort", "descending")


def test_a_start_that_is_sent_again_keeps_its_key_and_another_takes_a_new_one(chromium: Browser, site: Site) -> None:
    """Also over plain HTTP, where a browser makes no UUIDs."""
    keys: list[str] = []

    def refuse(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.fulfill(status=503, json={"detail": f"No {len(keys)}."})

    with context(chromium, site) as opened:
        opened.add_init_script("delete Crypto.prototype.randomUUID")
        page = opened.new_page()
        page.route("**/runs", refuse)
        page.goto("/sign-in")
        page.evaluate(START_FORM)
        for number, dry in enumerate((False, False, True), start=1):
            page.get_by_role("checkbox").set_checked(dry)
            page.get_by_role("button", name="Start").click()
            expect(page.get_by_role("status")).to_have_text(f"Not started: No {number}.")
    assert keys[0] == keys[1] != keys[2]


def nightly(site: Site, folder: Path, as_of: str) -> str:
    """Another night; its id."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**site.stack.env(), "ETL_DATA_DIR": str(folder / "data")}.items():
            patch.setenv(name, value)
        return run_pipeline(RunRequest(as_of=AsOf.parse(as_of))).run_id


def test_the_overview_follows_a_commit_by_itself(tab: Watched, site: Site, tmp_path: Path) -> None:
    page = tab.open("/")
    expect(page.locator("main")).to_have_attribute("data-run", site.runs[1])
    run_id = nightly(site, tmp_path, "now")
    expect(page.locator("main")).to_have_attribute("data-run", run_id, timeout=40_000)
    expect(page.get_by_role("status").filter(has_text="A new run was committed")).to_be_visible()
    expect(page.locator("p.fresh")).to_contain_text("its last day is not over")
    tab.see_all_charts()


def test_quality_over_time_follows_a_second_run_of_the_same_instant(site: Site, tmp_path: Path) -> None:
    """As many rows of the same days, and other shares: neither the browser's copy nor the server's will do."""
    before = site.get("/quality/history.json")
    assert before.status_code == 200
    site.stack.query("update public.users set email = 'nobody' where id in (select id from public.users limit 9)")
    nightly(site, tmp_path, "midnight")
    after = site.get("/quality/history.json", "other analyst", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.content != before.content
