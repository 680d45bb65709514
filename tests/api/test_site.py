"""The site in a headless Chromium on the real stack: looked at, picked, compared, downloaded, by keyboard."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from api import vendor
from api.site.charts import QUALITY
from api.site.charts.base import spec_of
from tasks.contracts import REPORTS
from tasks.read import read_report
from tests.api.conftest import Site, make_account
from tests.api.watched import PATIENCE, Watched, context, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("api"), pytest.mark.timeout(600)]

AXE = vendor.HERE / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ["/", *(f"/explore/{report.name}" for report in REPORTS), "/compare", "/quality", "/history", "/history/{run}"]
LOOKS = [(1440, "light"), (390, "dark"), (1440, "dark"), (320, "light")]


def test_a_wrong_sign_in_says_so_and_a_right_one_leads_on(chromium: Browser, site: Site) -> None:
    person = make_account(site.stack, "analyst")
    with context(chromium, site) as opened:
        page = opened.new_page()
        page.goto("/explore/daily_activity?sort=-posts")
        page.get_by_label("E-mail").fill(person.email)
        page.get_by_label("Password").fill("not the password")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The e-mail or the password is not right.")
        expect(page.get_by_label("E-mail")).to_have_value(person.email)
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.type(person.password)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{site.http.base_url}/explore/daily_activity?sort=-posts")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_customer_sees_why_there_is_nothing(chromium: Browser, site: Site) -> None:
    with context(chromium, site) as opened:
        page = opened.new_page()
        page.goto("/")
        page.get_by_label("E-mail").fill(site.people["customer"].email)
        page.get_by_label("Password").fill(site.people["customer"].password)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Not for this account")).to_be_visible()


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_every_page_reads_well(chromium: Browser, site: Site, width: int, theme: str) -> None:
    """Charts drawn, nothing wider than the screen, no serious finding of axe, no error, no request to elsewhere."""
    with context(chromium, site, width=width, theme=theme) as opened:
        watched = Watched(opened.new_page())
        sign_in(watched.page, site.people["operator"])
        for path in PAGES:
            page = watched.open(path.format(run=site.runs[1]))
            assert page.locator("html").get_attribute("data-theme") == theme
            watched.see_all_charts()
            wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, path
            if (width, theme) != LOOKS[0]:  # the marks of a chart are the same in each look, and thousands
                page.evaluate("document.querySelectorAll('.chart svg').forEach((svg) => svg.replaceChildren())")
            assert serious(page) == [], path
        watched.clean()


def serious(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the element."""
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary'][:160]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_the_pages_before_a_session_read_well_too(chromium: Browser, site: Site) -> None:
    for width, theme in LOOKS:
        with context(chromium, site, width=width, theme=theme) as opened:
            page = opened.new_page()
            page.goto("/sign-in")
            assert serious(page) == []


def day_of(site: Site, run: str) -> str:
    as_of = site.stack.query("select as_of - interval '1 day' from public.etl_runs where run_id = :'run'", {"run": run})
    return as_of[:10]


def test_a_day_is_picked_and_left_again(tab: Watched, site: Site) -> None:
    page, earlier, latest = tab.open("/"), day_of(site, site.runs[0]), day_of(site, site.runs[1])
    figure = page.locator(".tile .value").first
    now = figure.inner_text()
    page.get_by_label("Through").fill(earlier)
    expect(page).to_have_url(f"{site.http.base_url}/?as_of={earlier}")
    users = int(read_report("user_statistics", run=site.runs[0], settings=site.settings)["total_users"].iloc[0])
    expect(figure).to_have_text(f"{users:,}")
    page.get_by_role("link", name="Daily activity").first.click()
    expect(page).to_have_url(f"{site.http.base_url}/explore/daily_activity?as_of={earlier}")
    page.get_by_role("link", name="Later run").click()
    expect(page.get_by_label("Through")).to_have_value(latest)
    page.goto(f"/?as_of={earlier}")
    page.get_by_role("link", name="Latest").click()
    expect(figure).to_have_text(now)


def test_a_day_without_a_run_says_what_there_is(tab: Watched) -> None:
    page = tab.open("/?as_of=2001-02-03")
    expect(page.locator(".empty")).to_contain_text("2001-02-03")
    expect(page.locator(".empty")).to_contain_text("nearest")
    expect(page.locator(".empty")).to_contain_text("The page Runs shows what there is.")


def test_two_runs_are_compared(tab: Watched, site: Site) -> None:
    page = tab.open(f"/compare?base={site.runs[0]}&run={site.runs[1]}")
    expect(page.get_by_text("Only in the second run")).to_be_visible()
    page.get_by_role("link", name="Swap").click()
    expect(page.get_by_text("Only in the first run")).to_be_visible()
    page.wait_for_load_state()  # its script sends the form at a choice; before that there is the button
    page.get_by_label("Report").select_option("author_activity")
    expect(page.get_by_role("heading", name="Changed rows")).to_be_visible()
    body = site.get(f"/reports/author_activity/diff?base={site.runs[1]}&run={site.runs[0]}").json()
    expect(page.locator(".facts")).to_contain_text(f"changed {body['changed']:,}")


def downloaded(page: Page, name: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name, exact=True).first.click()
    path: Path = waiting.value.path()
    return path.read_bytes()


def test_downloads_are_what_the_reading_kit_reads(tab: Watched, site: Site) -> None:
    page = tab.open("/explore/daily_activity")
    wanted = read_report("daily_activity", settings=site.settings)
    parquet = pd.read_parquet(io.BytesIO(downloaded(page, "Parquet"))).assign(date=lambda f: pd.to_datetime(f["date"]))
    pd.testing.assert_frame_equal(parquet, wanted, check_dtype=False)
    csv = pd.read_csv(io.BytesIO(downloaded(page, "CSV")), parse_dates=["date"])
    pd.testing.assert_frame_equal(csv, wanted, check_dtype=False)


def test_rows_are_filtered_sorted_and_paged_without_a_new_page(tab: Watched, site: Site) -> None:
    page = tab.open("/explore/daily_activity")
    wanted = read_report("daily_activity", settings=site.settings)
    page.evaluate("window.sameDocument = true")
    page.get_by_role("link", name="Posts", exact=True).click()
    first = page.locator("#rows tbody tr").first.locator("td")
    expect(first.nth(2)).to_have_text(f"{wanted['posts'].max():,}")
    expect(page.locator("th", has_text="Posts").first).to_have_attribute("aria-sort", "descending")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("Page 2 of")).to_be_visible()
    month = f"{wanted['date'].iloc[-40]:%Y-%m}"
    page.get_by_label("Rows that contain").fill(month)
    page.keyboard.press("Enter")
    rows = int((wanted["date"].dt.strftime("%Y-%m") == month).sum())
    expect(page.locator("#rows [role=status]")).to_have_text(f"{rows} of {len(wanted):,} rows")
    assert page.evaluate("window.sameDocument") is True
    page.get_by_label("Rows that contain").fill("no row has this")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No rows")).to_be_visible()
    turned = site.get("/explore/daily_activity?from=2026-01-02&to=2026-01-01").text
    assert "The first day, 2026-01-02, comes after the last day, 2026-01-01." in turned


def test_all_of_it_goes_by_keyboard(chromium: Browser, site: Site) -> None:
    person = site.people["analyst"]
    with context(chromium, site) as opened:
        page = opened.new_page()
        page.goto("/sign-in")
        expect(page.get_by_label("E-mail")).to_be_focused()
        page.keyboard.type(person.email)
        page.keyboard.press("Tab")
        page.keyboard.type(person.password)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        tab_to(page, "Daily activity")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Daily activity")).to_be_visible()
        tab_to(page, "New users")
        page.keyboard.press("Enter")
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("New users")
        expect(page.get_by_role("link", name="New users")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("th[aria-sort=ascending]")).to_contain_text("New users")


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with that text has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText?.trim().split('\\n')[0].replace(/[↑↓]/, '')") == name:
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_the_theme_is_chosen_and_kept(tab: Watched) -> None:
    page = tab.open("/")
    page.get_by_role("button", name="Dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_without_scripts_no_page_has_a_button_that_needs_them(chromium: Browser, site: Site) -> None:
    with context(chromium, site, java_script_enabled=False, width=390) as opened:
        page = opened.new_page()
        sign_in(page, site.people["analyst"])
        for path in PAGES:
            page.goto(path.format(run=site.runs[1]))
            expect(page.get_by_role("link", name="Compare two runs")).to_be_visible()
            assert page.locator("[type=button]").filter(visible=True).all_inner_texts() == [], path


def test_a_page_prints_in_dark_letters_and_whole(chromium: Browser, site: Site) -> None:
    with context(chromium, site, theme="dark") as opened:
        watched = Watched(opened.new_page())
        sign_in(watched.page, site.people["analyst"])
        watched.page.set_viewport_size({"width": 1440, "height": 200})
        page = watched.open("/explore/daily_activity")
        for figure in page.locator(".chart").all():  # those that nobody has scrolled to were printed as *Drawing …*
            expect(figure).to_have_attribute("data-state", "drawn")
        page.emulate_media(media="print")
        ink = "(one) => getComputedStyle(one)[one.matches('text') ? 'fill' : 'color']"
        for dark in ("h1", ".scroll td", ".chart svg text"):
            assert page.locator(dark).first.evaluate(ink) == "rgb(23, 34, 43)", dark
        tall = page.locator(".scroll").first.evaluate("(one) => one.scrollHeight - one.clientHeight")
        assert tall <= 0, "no row is left out"


def test_a_chart_that_fails_says_so_and_is_drawn_at_the_second_try(chromium: Browser, site: Site) -> None:
    with context(chromium, site) as opened:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE)
        sign_in(page, site.people["analyst"])
        page.route("**/charts/*.json*", lambda route: route.abort())
        page.goto("/explore/user_statistics")
        figure = page.locator(".chart").first
        expect(figure).to_contain_text("could not be drawn")
        page.unroute("**/charts/*.json*")
        figure.get_by_role("button", name="Try again").click()
        expect(figure).to_have_attribute("data-state", "drawn")


@pytest.mark.parametrize("as_of", ["2026-02-01T00:00:00Z", "2026-02-01T02:30:00Z"])
def test_shares_over_time_have_a_date_when_there_is_one_run(chromium: Browser, site: Site, as_of: str) -> None:
    row = {"table": "users", "rule": "clean_text", "as_of": pd.Timestamp(as_of), "share": 0.1, "rows_affected": 7}
    with context(chromium, site) as opened:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE)
        sign_in(page, site.people["analyst"])
        page.route("**/history.json*", lambda route: route.fulfill(json=spec_of(QUALITY, pd.DataFrame([row]))))
        page.goto("/quality")
        expect(page.locator(".chart").filter(has_text="Shares over time")).to_contain_text("1 Feb")
