"""Reports over the API: the same numbers as the reading kit, in every format, with ETags that follow the content."""

from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.routes.reports import BY_NAME
from api.selection import Selection
from api.site.comparing import comparison
from tasks.contracts import DAILY_ACTIVITY, REPORTS, Column
from tasks.read import diff, read_report
from tests.api.conftest import Site

pytestmark = pytest.mark.xdist_group("api")

NAMES = [report.name for report in REPORTS]


def read(site: Site, name: str) -> pd.DataFrame:
    return read_report(name, settings=site.settings)


def of_arrow(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Equal values; integers that may be null come as Int64 from the kit, as float from a plain reader."""
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_holds_what_the_reading_kit_reads(site: Site, name: str) -> None:
    wanted = read(site, name)
    parquet = site.get(f"/reports/{name}?format=parquet").content
    same(of_arrow(pq.read_table(io.BytesIO(parquet))), wanted)
    stream = site.get(f"/reports/{name}?format=arrow").content
    same(of_arrow(pa.ipc.open_stream(stream).read_all()), wanted)
    csv = pl.read_csv(site.get(f"/reports/{name}?format=csv").content, try_parse_dates=True)
    assert csv.columns == list(wanted.columns)
    assert csv.height == len(wanted)
    body = site.get(f"/reports/{name}").json()
    assert [column["name"] for column in body["columns"]] == list(wanted.columns)
    assert len(body["rows"]) == len(wanted)


def test_the_csv_has_the_values(site: Site) -> None:
    csv = site.get("/reports/daily_activity?format=csv").content
    same(pd.read_csv(io.BytesIO(csv), parse_dates=["date"]), read(site, "daily_activity"))


def test_columns_in_the_order_asked_for_and_days_with_both_ends(site: Site) -> None:
    whole = read(site, "daily_activity")
    first, last = whole["date"].iloc[-5], whole["date"].iloc[-2]
    wanted = whole[whole["date"].between(first, last)][["posts", "date"]].reset_index(drop=True)
    query = f"columns=posts,date&from={first:%Y-%m-%d}&to={last:%Y-%m-%d}"
    for form in ("parquet", "arrow"):
        content = site.get(f"/reports/daily_activity?format={form}&{query}").content
        table = pq.read_table(io.BytesIO(content)) if form == "parquet" else pa.ipc.open_stream(content).read_all()
        same(of_arrow(table), wanted)
        assert table.schema.field("posts").metadata[b"unit"] == b"posts"
    rows = site.get(f"/reports/daily_activity?{query}").json()["rows"]
    assert [row["posts"] for row in rows] == list(wanted["posts"])


@pytest.mark.parametrize("name", ["daily_activity", "author_activity"])
def test_a_range_may_end_with_the_last_day_that_there_is(site: Site, name: str) -> None:
    whole = site.get(f"/reports/{name}").json()["rows"]
    assert whole
    assert site.get(f"/reports/{name}?from=0001-01-01&to=9999-12-31").json()["rows"] == whole


def test_the_whole_parquet_file_is_the_published_one(site: Site) -> None:
    answer = site.get("/reports/daily_activity?format=parquet")
    kept = read(site, "daily_activity").attrs["sha256"]
    assert hashlib.sha256(answer.content).hexdigest() == kept
    part = site.get("/reports/daily_activity?format=parquet", headers={"range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"PAR1")


def test_copies_on_this_machine_go_when_files_of_the_bucket_do(site: Site) -> None:
    """They stayed for good, and some name user ids."""
    folder = site.settings.cache_dir / "api"
    whole = site.get("/reports/author_activity?format=parquet")
    copy = folder / f"{hashlib.sha256(whole.content).hexdigest()}.parquet"
    left, noted = folder / "killed.parquet.1f0e.part", folder / "last-commit-example.com"
    for path in (copy, left, noted):
        path.touch()
        os.utime(path, (time.time() - 31 * 86_400,) * 2)
    site.get(f"/reports/signup_cohorts?format=parquet&run={site.runs[0]}")
    assert [path.exists() for path in (copy, left, noted)] == [False, False, True]
    noted.unlink()
    assert site.get("/reports/author_activity?format=parquet").content == whole.content, "it is downloaded again"


def test_an_earlier_day_and_a_run_by_its_id(site: Site) -> None:
    earlier = site.get(f"/reports/user_statistics?run={site.runs[0]}").json()["rows"][0]
    day = pd.Timestamp(earlier["as_of"]) - pd.Timedelta(days=1)
    by_day = site.get(f"/reports/user_statistics?as_of={day:%Y-%m-%d}")
    assert by_day.json()["rows"][0] == earlier
    assert by_day.headers["etl-run"] == site.runs[0]
    current = read(site, "user_statistics").attrs["run_id"]  # a test before this one may have committed another
    assert site.get("/reports/user_statistics").headers["etl-run"] == current != site.runs[0]


@pytest.mark.parametrize("form", ["json", "csv", "parquet", "arrow"])
def test_the_etag_follows_the_content(site: Site, form: str) -> None:
    path = f"/reports/data_quality?format={form}"
    first = site.get(path)
    again = site.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert site.get(path, headers={"if-none-match": '"another"'}).content == first.content
    others = {site.get(f"{path}&columns=table,rule").headers["etag"], first.headers["etag"]}
    assert len(others) == 2
    assert "private" in first.headers["cache-control"]
    assert "Authorization" in first.headers["vary"]


def test_a_new_drawing_of_the_same_rows_is_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (f"/explore/daily_activity/charts/posts.json?run={site.runs[1]}", "/quality/history.json"):
        had = {"if-none-match": f'"another", W/{site.get(path).headers["etag"]}'}  # as a proxy that packs it makes it
        assert site.get(path, headers=had).status_code == 304
        with monkeypatch.context() as patch:
            patch.setattr("api.site.pages.DRAWING", "another")
            assert site.get(path, headers=had).status_code == 200


def test_equal_content_in_two_runs_has_one_etag() -> None:
    one, other = (Selection(REPORTS[1], "csv").etag("ab" * 32) for _ in range(2))
    assert one == other


WRONG = {
    "/reports/daily": (404, "There is no report"),
    "/reports/daily_activity?columns=post": (422, "has no column post"),
    "/reports/daily_activity?format=xlsx": (422, "not usable"),
    "/reports/daily_activity?from=yesterday": (422, "not usable"),
    "/reports/daily_activity?from=1769817600": (422, "not usable"),
    "/reports/daily_activity?from=2026-02-02&to=2026-02-01": (422, "comes after"),
    "/reports/data_quality?from=2026-02-02": (422, "no column of days"),
    "/reports/daily_activity?as_of=soon": (422, "soon"),
    "/reports/daily_activity?as_of=2001-01-01": (404, "2001-01-01"),
    "/reports/daily_activity?run=nope": (404, "nope"),
    "/reports/daily_activity?run=..%2F..%2Fetc": (404, "no run"),
    "/reports/daily_activity?run=runs%2F2026-01-31%2F..": (404, "no run"),
    "/reports/daily_activity?as_of=9999-12-31": (404, "9999-12-31"),
    "/reports/daily_activity?as_of=0001-01-01T00:00%2B05:45": (422, "years 1 to 9999"),
    "/reports?cursor=e30": (422, "none of ours"),
    "/reports/daily_activity/diff": (422, "not usable"),
    "/runs/with%20space": (422, "not usable"),
    f"/history/{'x' * 20_000}": (404, "no run"),
    "/reports/daily_activity?asof=2026-01-31": (422, "no parameter 'asof'"),
    "/reports/daily_activity?columns=date&columns=posts": (422, "columns is given 2 times"),
}


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path[:60])
def test_a_mistake_is_answered_in_a_sentence(site: Site, path: str) -> None:
    status, words = WRONG[path]
    answer = site.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert "list_runs" not in answer.text


def pages(site: Site, path: str, who: str = "analyst") -> list[list[dict[str, Any]]]:
    """All pages of a list, by its cursors."""
    found, cursor = [], ""
    while True:
        body = site.get(f"{path}{cursor}", who).json()
        found.append(body["items"])
        if not body["next"]:
            return found
        cursor = f"&cursor={body['next']}"


@pytest.mark.parametrize(
    ("path", "key"),
    [("/reports?", "name"), ("/dictionary?", "name"), ("/runs?", "run_id"), ("/files?prefix=runs", "path")],
)
def test_every_list_pages_by_cursor_in_a_stable_order(site: Site, path: str, key: str) -> None:
    (whole,) = pages(site, path)
    single = pages(site, f"{path}&limit=1")
    assert [item for page in single for item in page] == whole
    assert len({item[key] for item in whole}) == len(whole) > 1


def test_the_dictionary_explains_every_column(site: Site) -> None:
    (entries,) = pages(site, "/dictionary?")
    assert {report.name for report in REPORTS} <= {entry["name"] for entry in entries}
    assert all(column["description"] for entry in entries for column in entry["columns"])


def test_a_difference_pages_through_all_rows(site: Site) -> None:
    base, run = site.runs
    body = site.get(f"/reports/daily_activity/diff?base={base}&run={run}").json()
    assert (body["base"], body["run"], body["identical"]) == (base, run, False)
    assert body["added"] == 1
    back = site.get(f"/reports/daily_activity/diff?base={run}&run={base}").json()
    assert (back["removed"], back["items"][0]["kind"]) == (1, "removed")
    path = f"/reports/author_activity/diff?base={base}&run={run}&limit=7"
    rows = [row for page in pages(site, path) for row in page]
    body = site.get(path).json()
    assert len(rows) == body["added"] + body["removed"] + body["changed"] > 7
    changed = next(row for row in rows if row["kind"] == "changed")
    assert changed["old"].keys() == changed["new"].keys()
    assert all(changed["old"][name] != changed["new"][name] for name in changed["old"])


def test_a_difference_pages_on_in_the_runs_it_began_with(site: Site) -> None:
    """Another run may have become current since its first page."""
    base, run = site.runs
    path = f"/reports/author_activity/diff?base={run}"
    first = site.get(f"{path}&run={base}&limit=3").json()
    second = site.get(f"{path}&limit=3&cursor={first['next']}").json()
    assert (second["base"], second["run"]) == (run, base)
    assert second["items"] == site.get(f"{path}&run={base}&limit=6").json()["items"][3:]


@pytest.mark.parametrize("form", ["csv", "json", "arrow"])
def test_a_run_of_before_a_change_of_the_contract_is_answered_as_it_was_published(
    site: Site, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Since then `words` was removed and `edits` added."""
    path = f"/reports/daily_activity?format={form}"
    before = site.get(f"{path}&from=1987-06-05").content
    columns = tuple(column for column in DAILY_ACTIVITY.columns if column.name != "words")
    now = replace(DAILY_ACTIVITY, columns=(*columns, Column("edits", "int", "Posts edited.")))
    monkeypatch.setitem(BY_NAME, "daily_activity", now)
    assert site.get(f"{path}&from=1987-06-06").content == before  # not the body in memory
    refused = site.get(f"{path}&columns=edits")
    assert (refused.status_code, "has no column 'edits'" in refused.json()["detail"]) == (404, True)
    assert site.get(f"{path}&columns=words&from=1987-06-07").status_code == 200, "which only such a run has"
    assert site.get(f"{path}&columns=wrods").status_code == 422


def test_a_run_against_itself_is_identical(site: Site) -> None:
    body = site.get(f"/reports/daily_activity/diff?base={site.runs[1]}&run={site.runs[1]}").json()
    assert (body["identical"], body["items"], body["next"]) == (True, [], None)


@pytest.mark.parametrize(
    "path", ["/reports/later", "/reports/later/diff?base={}", "/explore/later", "/compare?report=later"]
)
def test_a_report_that_was_added_after_the_run_is_said_to_be_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    later = replace(DAILY_ACTIVITY, name="later")
    monkeypatch.setitem(BY_NAME, "later", later)
    monkeypatch.setattr("tasks.read.options.REPORTS", (*REPORTS, later))
    answer = site.get(path.format(site.runs[0]))
    assert answer.status_code == (404 if path.startswith("/reports") else 200)
    assert "does not have the report later" in answer.text or "later is not in the run" in answer.text


def test_a_column_that_only_one_run_has_is_a_difference(site: Site) -> None:
    same = diff("daily_activity", site.runs[1], site.runs[1], engine="arrow", settings=site.settings)
    assert comparison(same, DAILY_ACTIVITY).same
    moved = replace(same, new_columns=("edits",), lost_columns=("words",))
    shown = comparison(moved, DAILY_ACTIVITY)
    assert (shown.same, shown.columns) == (False, "Only the second run has Edits. Only the first run has Words.")
    assert repr(moved).endswith("0 changed; only one of the two has edits, words>")
