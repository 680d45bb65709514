"""The artifact `report`: who sees the run, the one meaning of its day, figures against earlier days, links."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.engine.outcome import RunOutcome
from flows.engine.report_page import report_page
from tasks.contracts import REPORTS
from tasks.reports.figures import PastRun

AS_OF = datetime(2026, 1, 31, tzinfo=UTC)


def run(days: int, users: int) -> PastRun:
    return PastRun(AS_OF - timedelta(days=days), {}, {"total_users": users})


OUTCOME = RunOutcome(
    status="committed",
    run_id="r1",
    as_of=AS_OF,
    snapshot_at=AS_OF,
    transport="postgres",
    headline={"total_users": 1_100, "posts_per_user_mean": 244.48999999999978},
    tables={"users": {"read": 1_110, "kept": 1_100, "rejected": 10}},
    quality=(),
    stages={"Publish": {"seconds": 2.4}},
    project="http://127.0.0.1:9",
    bucket="figures",
    run_path="runs/2026-01-30/r1",
    current=True,
    history=[run(1, 1_000), run(2, 900), run(7, 550)],
)


def page(**changes: object) -> str:
    return report_page(replace(OUTCOME, **changes), links={}, csv_links={})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "# Readers now see this run"),
        (
            {"current": False, "historical": True, "readers_see": "r0"},
            "# Readers still see run `r0`, because this one is as of an earlier instant",
        ),
        ({"current": False}, "# Readers still see an earlier run, because `latest.json` did not move"),
        ({"status": "dry_run", "current": False}, "# A dry run: everything was checked, nothing was written"),
    ],
)
def test_the_first_line_says_who_sees_the_run(changes: dict[str, object], sentence: str) -> None:
    assert page(**changes).splitlines()[0] == sentence


def test_figures_are_compared_with_yesterday_and_the_same_weekday_last_week() -> None:
    (row,) = [line for line in page().splitlines() if line.startswith("| **users**")]
    assert "| 1,100 | +100 (+10.0 %) | +550 (+100.0 %) |" in row
    assert "since Friday a week ago" in page()


def test_a_day_without_a_run_is_compared_with_nothing() -> None:
    (row,) = [line for line in page(history=[run(3, 5)]).splitlines() if line.startswith("| **users**")]
    assert "| 1,100 | – | – |" in row


def test_a_held_run_is_not_compared_with() -> None:
    held = replace(run(1, 5), event="held")
    (row,) = [line for line in page(history=[held, run(1, 1_000)]).splitlines() if line.startswith("| **users**")]
    assert "| 1,100 | +100 (+10.0 %) |" in row


def test_a_past_instant_is_not_compared_with_the_future() -> None:
    (row,) = [line for line in page(historical=True).splitlines() if line.startswith("| **users**")]
    assert "| 1,100 | – | – |" in row
    assert 'read_report("daily_activity", run="r1")' in page(historical=True, current=False)


def test_the_day_has_one_meaning() -> None:
    assert "as of **2026-01-31 00:00 UTC**" in page()
    assert "whole days up to and including **Friday, 30 January 2026**" in page()
    noon = page(as_of=AS_OF + timedelta(hours=12))
    assert "a part of **Saturday, 31 January 2026**, and the whole days before" in noon


def test_charts_are_inline_and_each_report_is_linked_twice() -> None:
    names = [report.name for report in REPORTS]
    links = {f"reports/{name}.parquet": f"https://p/{name}" for name in names} | {"charts/growth.png": "https://g"}
    text = report_page(OUTCOME, links=links, csv_links={name: f"https://c/{name}" for name in names})
    assert "![Growth](https://g)" in text
    for name in names:
        assert f"[Parquet](https://p/{name})" in text
        assert f"[CSV](https://c/{name})" in text


def test_the_page_says_how_the_run_read_and_why() -> None:
    assert "Full: every row was read, because there is no base run." in page(full_because="there is no base run")
    saved = page(mode="incremental", base_run="r0", not_read={"rows": 1_000_000, "bytes": 2**30})
    assert "Incremental: 1,000,000 rows (about 1.0 GiB) were not read, as they are those of run `r0`." in saved
    assert "**3 rows differ from what the incremental nights before had kept" in page(drifted=3)
    assert "Nothing had drifted since the run before it." in page(drifted=0)
