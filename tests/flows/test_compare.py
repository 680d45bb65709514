"""The compare flow through Prefect: its page says what differs, and its failures say what is missing."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flows.compare import page, verdict
from flows.forms import CompareForm
from tasks.files.manifest import Manifest
from tasks.read import Diff, list_runs
from tasks.read.difference import compare
from tests.flows.conftest import Deployed

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]


def _manifest(run_id: str, day: int) -> Manifest:
    as_of = f"2026-01-{day:02}T00:00:00+00:00"
    return Manifest.model_validate(
        {
            "run": f"runs/2026-01-{day - 1:02}/{run_id}",
            "run_id": run_id,
            "as_of": as_of,
            "started_at": as_of,
            "files": [],
        }
    )


def _diff(report: str, base: pa.Table, run: pa.Table, keys: tuple[str, ...]) -> Diff[pa.Table]:
    found = compare(base, run, keys)
    return Diff(
        report,
        keys,
        _manifest("a", 2),
        _manifest("b", 3),
        found.added,
        found.removed,
        found.changed,
        found.cells,
        False,
    )


def test_the_page_lists_counts_and_the_first_changed_rows() -> None:
    base = pa.table({"date": [1, 2, 3, 4], "posts": [5, 6, 7, 8], "share": [0.5, None, 0.25, 1.0]})
    run = pa.table({"date": [2, 3, 4, 5], "posts": [6, 9, 9, 1], "share": [None, 0.25, 0.5, 0.1]})
    found = _diff("daily_activity", base, run, ("date",))
    text = page(found, 1)
    assert text.startswith("# daily_activity: 1 added · 1 removed · 2 changed")
    assert "| `posts` | 2 |" in text
    assert "The first 1 of 2 changed rows" in text
    assert "| 3 | 7 → 9 |  |" in text
    assert "8 → 9" not in text
    assert verdict(_diff("daily_activity", base, base, ("date",))) == "no difference"


def test_a_small_change_shows_in_its_cell() -> None:
    """Shares move by less than two decimals show: their cells were empty."""
    base = pa.table({"rule": ["a", "b", "c"], "share": [0.00012, 0.3331, 1 / 3], "old": [None, float("nan"), 1.0]})
    run = pa.table({"rule": ["a", "b", "c"], "share": [0.00034, 0.3334, 1 / 3 + 1e-9], "old": [0.5, None, 1.0]})
    text = page(_diff("data_quality", base, run, ("rule",)), 20)
    assert "| a | 0.00012 → 0.00034 | – → 0.5 |" in text
    assert "| b | 0.3331 → 0.3334 | nan → – |" in text
    assert "| c | 0.3333333333333333 → 0.33333333433333334 |  |" in text


def test_user_ids_are_never_listed() -> None:
    ids = ["0198f3a0-0000-7000-8000-000000000001"]
    found = _diff(
        "author_activity",
        pa.table({"user_id": ids, "words": [1]}),
        pa.table({"user_id": ids, "words": [2]}),
        ("user_id",),
    )
    text = page(found, 20)
    assert "1 changed" in text
    assert ids[0] not in text


def test_two_runs_are_compared_from_the_form(deployed: Deployed) -> None:
    run = deployed.run("compare", {"report": "user_statistics"})
    assert run["state_name"] == "Completed"
    text = deployed.artifacts(run)["compare"]
    runs = list_runs()  # other tests leave runs that failed, are historical or no longer current
    assert runs.loc[runs["latest"], "run_id"].item() in text
    assert "`as_of`" in text


def test_a_run_that_is_not_there_ends_in_a_sentence(deployed: Deployed) -> None:
    run = deployed.run("compare", {"base": "20200101T000000Z-00000000"})
    assert run["state_name"] == "Failed"
    assert "There is no run '20200101T000000Z-00000000'" in deployed.artifacts(run)["failure"]


@pytest.mark.parametrize("wrong", ["a/b", "", "x y"])
def test_what_is_no_run_is_refused_by_the_form(wrong: str) -> None:
    with pytest.raises(ValueError, match="no run's id and no day"):
        CompareForm(base=wrong)
