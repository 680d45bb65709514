"""What pages say and link to, without a browser."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from api import vendor
from api.site.context import static
from api.site.runs import run_before
from api.static_files import ASK, FOREVER, Static
from scripts.api import demo_analyst
from tests.api.conftest import Site

pytestmark = pytest.mark.xdist_group("api")


def test_what_a_page_links_to_is_of_the_run_that_was_asked_for(site: Site) -> None:
    """A day may have many runs: links, the table's pages and its filter led to the last of that day."""
    run = site.runs[0]
    assert f'<th scope="row"><a href="/explore/daily_activity?run={run}">' in site.get(f"/?run={run}").text
    as_of = site.get(f"/reports?run={run}").json()["items"][0]["as_of"]
    table = site.get("/explore/daily_activity", params={"as_of": as_of}).text
    assert f'name="as_of" value="{as_of}"' in table
    assert f'href="/explore/daily_activity?{urlencode({"as_of": as_of})}&amp;sort=' in table
    compared = site.get("/compare", params={"base": as_of, "run": run}).text
    assert f'&amp;base={run}&amp;run={quote(as_of)}">Swap</a>' in compared
    assert [run_before(["c", "b", "a"], one) for one in "cba"] == ["b", "a", "b"]


def test_runs_of_other_days_can_be_compared_however_many_there_are_of_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch makes a hundred runs in eight hours: the lists had none of the day before."""
    day = site.get(f"/reports?run={site.runs[0]}").json()["items"][0]["as_of"]
    day = f"{datetime.fromisoformat(day) - timedelta(days=1):%Y-%m-%d}"
    monkeypatch.setattr("api.site.runs.CHOICES", 1)
    page = site.get("/compare").text
    assert f'<option value="{day}" selected>' in page
    assert page == site.get(f"/compare?base={day}&run={site.runs[1]}").text
    assert "Headline figures, side by side" in page


def test_a_restore_has_no_figures_to_show(site: Site) -> None:
    """Its page led to *There is no run*."""
    columns = "run_id, token, kind, as_of_mode, status, stage, transport, lease_seconds, finished_at"
    row = "'20200102T000000Z-00000000', gen_random_uuid(), 'restore', 'now', 'committed', 'restored', 'rest', 9, now()"
    site.stack.query(f"insert into public.etl_runs ({columns}) values ({row})")
    try:
        pages = [site.get(f"/history/{run}").text for run in ("20200102T000000Z-00000000", site.runs[0])]
    finally:
        site.stack.query("delete from public.etl_runs where run_id = '20200102T000000Z-00000000'")
    assert ["Its figures" in page for page in pages] == [False, True]


def test_only_this_content_of_a_file_is_kept_for_good(site: Site) -> None:
    """Under the address of another release it would still be shown after going back to that one."""
    (address,) = set(re.findall(r"/static/site\.css\?v=\w+", site.http.get("/sign-in").text))
    said = [site.http.get(path).headers["cache-control"] for path in (address, f"{address}0", "/static/site.css")]
    assert said == ["public, max-age=31536000, immutable", "public, no-cache", "public, no-cache"]


def test_an_update_beneath_a_running_site_is_not_kept_under_the_address_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages of that process went on naming it: taken back, the release before was shown with files of the next."""
    for module in ("api.site.context", "api.static_files"):
        monkeypatch.setattr(f"{module}.STATIC", tmp_path)
    (tmp_path / "site.css").write_text("a {}")
    address = static("site.css")
    assert asyncio.run(said_of(address, tmp_path)) == FOREVER
    (tmp_path / "site.css").write_text("a {} b {}")
    assert asyncio.run(said_of(address, tmp_path)) == ASK
    assert asyncio.run(said_of(static("site.css"), tmp_path)) == FOREVER


async def said_of(address: str, folder: Path) -> str:
    """How long a browser may keep a file that lies in this folder."""
    transport = httpx.ASGITransport(Static(directory=folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
        answer = await http.get(address.removeprefix("/static"))
    return str(answer.headers["cache-control"])


@pytest.mark.usefixtures("site")
def test_the_javascript_is_laid_out_again_where_that_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after an upgrade had installed the packages, the site went on with the files of before for good."""
    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    vendor.install(print)
    whole = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / ".laid-out").write_text("an earlier lock")
    (tmp_path / "vega.js").write_text("half of")
    vendor.install(print)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == whole


@pytest.mark.parametrize("kept", ["", "[]", '{"password": "of another stack"}'])
def test_the_demo_analyst_can_sign_in_whatever_was_kept(site: Site, tmp_path: Path, kept: str) -> None:
    file = tmp_path / "demo-analyst.json"
    file.write_text(kept)
    for email, password in (demo_analyst(site.stack, file), demo_analyst(site.stack, file)):
        answer = site.http.post("/auth/sign-in", json={"email": email, "password": password})
        assert answer.status_code == 200
