"""A report over many runs: one run a day, `as_of` in front, columns that came later null before."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contracts import DAILY_ACTIVITY, REPORTS
from tasks.errors import ConfigurationError, ReadError
from tasks.files.manifest import entry_of
from tasks.files.run_files import write_files
from tasks.platform.bucket import Bucket
from tasks.publish.upload import publish
from tasks.read import diff, history, read_history, read_report
from tasks.read.frames import load_stamped
from tasks.reports.figures import RunCounts
from tests.publish.builders import AS_OF, SNAPSHOT_AT, make_workspace
from tests.read.conftest import EARLIER, LATER, Bucketful, later_of


@pytest.mark.parametrize("name", [report.name for report in REPORTS])
def test_every_report_over_two_runs(published: Bucketful, name: str) -> None:
    settings = published.settings
    found = read_history(name, settings=settings)
    parts = [read_report(name, run=run, settings=settings) for run in ("earlier", "later")]
    assert found.columns[0] == "as_of"
    assert found.attrs["runs"] == {EARLIER.as_of.isoformat(): "earlier", LATER.as_of.isoformat(): "later"}
    for part, (as_of, rows) in zip(parts, found.groupby("as_of"), strict=True):
        assert pd.Timestamp(str(as_of)) in (EARLIER.as_of, LATER.as_of)
        pd.testing.assert_frame_equal(
            rows.drop(columns="as_of").reset_index(drop=True), part.drop(columns="as_of", errors="ignore")
        )


def test_a_run_whose_file_is_lost_is_left_out_and_named(changeable: Bucketful) -> None:
    """One lost file of the last 30 days made the whole history an error, and so the site's page on quality."""
    settings = changeable.settings
    path = f"{changeable.earlier.run_path}/reports/daily_activity.parquet"
    with Bucket(settings) as bucket:
        bucket.remove([path])
    with pytest.warns(UserWarning, match=f"{path} is not in the bucket any more: its run is left out") as warned:
        found = read_history("daily_activity", settings=settings)
    assert list(found.attrs["runs"].values()) == ["later"]
    assert [of.filename for of in warned] == [__file__], "it names the reader's line"
    assert list(read_history("data_quality", settings=settings).attrs["runs"].values()) == ["earlier", "later"]
    with Bucket(settings) as bucket:
        bucket.remove([f"{changeable.later.run_path}/reports/signup_cohorts.parquet"])
    none = "No run of the last 1 days with runs has the report signup_cohorts"
    with pytest.warns(UserWarning, match="is left out"), pytest.raises(ReadError, match=none):
        read_history("signup_cohorts", days=1, settings=settings)


def test_days_columns_filters_and_engines(published: Bucketful) -> None:
    settings = published.settings
    latest = read_history("daily_activity", days=1, columns=["posts", "date"], settings=settings)
    assert latest.columns.tolist() == ["as_of", "posts", "date"]
    assert set(latest["as_of"]) == {pd.Timestamp(LATER.as_of)}
    some = read_history("daily_activity", filters=[("posts", ">", 60)], engine="polars", settings=settings)
    assert isinstance(some, pl.DataFrame)
    assert some.filter(pl.col("posts") <= 60).is_empty()
    assert not some.is_empty()
    table = read_history("user_statistics", columns=["as_of", "total_posts"], engine="arrow", settings=settings)
    assert isinstance(table, pa.Table)
    assert table.column_names == ["as_of", "total_posts"]


def test_a_night_that_really_ran_is_taken_before_a_backfill(changeable: Bucketful, tmp_path: Path) -> None:
    settings = changeable.settings
    past = later_of(run_id="past", snapshot_at=SNAPSHOT_AT + timedelta(days=3), historical=True)
    workspace = make_workspace(tmp_path, "past", users=5, posts=9)
    files = write_files(workspace, as_of=AS_OF, settings=settings, historical=True)
    publish(settings, workspace, past, files, RunCounts())
    assert list(read_history("daily_activity", settings=settings).attrs["runs"].values()) == ["earlier", "later"]
    assert read_report("daily_activity", as_of="2026-01-31", settings=settings).attrs["run_id"] == "later"


def test_a_run_of_before_a_change_of_the_contract(
    changeable: Bucketful, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`words` and `stickiness` were added later: null in it, whatever is asked for. `posts` was text: it is in all."""
    settings, old = changeable.settings, later_of(run_id="old", as_of=AS_OF - timedelta(days=9))
    workspace = make_workspace(tmp_path, "old", users=5, posts=9)
    files = write_files(workspace, as_of=old.as_of, settings=settings)
    file = workspace.files / "reports/daily_activity.parquet"
    rows = pq.read_table(file).drop_columns(["words", "stickiness"])
    rows = rows.set_column(2, "posts", rows["posts"].cast(pa.string()))
    pq.write_table(rows, file)
    entry = entry_of(file, workspace.files, rows=len(rows), version=1, kind="report")
    publish(settings, workspace, old, [entry if of.path == entry.path else of for of in files], RunCounts())
    history = read_history("daily_activity", settings=settings)
    assert history.columns.tolist() == ["as_of", *DAILY_ACTIVITY.schema.names]
    before = history[history["as_of"] == old.as_of]
    assert len(before) == len(rows)
    assert before[["words", "stickiness"]].isna().all(axis=None)
    assert str(history["words"].dtype) == "Int64"
    assert set(map(type, history["posts"])) == {str}
    some = read_history("daily_activity", columns=["words"], filters=[("words", ">=", 0)], settings=settings)
    assert some["words"].tolist() == history["words"].dropna().tolist()
    assert len(some) == 490
    again = partial(diff, "daily_activity", "old", settings=settings)
    assert again().new_columns == ("words", "stickiness")
    monkeypatch.setattr(
        sys.modules["tasks.read.diff"], "report_named", lambda _: replace(DAILY_ACTIVITY, keys=("date", "words"))
    )
    with pytest.raises(ReadError, match="run old has no column 'words', by which its rows are compared now"):
        again()


def test_wrong_questions(published: Bucketful) -> None:
    settings = published.settings
    with pytest.raises(TypeError, match="Did you mean 'days'"):
        read_history("daily_activity", day=3, settings=settings)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="at least 1"):
        read_history("daily_activity", days=0, settings=settings)
    with pytest.raises(ConfigurationError, match="It has as_of, date"):
        read_history("daily_activity", columns=["dat"], settings=settings)
    with pytest.raises(ConfigurationError, match=r"filters .* cannot be applied"):
        read_history("daily_activity", filters=[("posts", ">", "many")], settings=settings)


def test_without_any_run_it_is_said(changeable: Bucketful) -> None:
    with Bucket(changeable.settings) as bucket:
        bucket.remove([file.path for file in bucket.walk("runs")])
    with pytest.raises(ReadError, match="No run of the last 1 days with runs has the report data_quality"):
        read_history("data_quality", days=1, settings=changeable.settings)


def test_a_file_that_another_process_forgets_meanwhile_is_fetched_again(
    changeable: Bucketful, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run whose file is lost it is warned once, though all are looked for a second time."""
    forgotten: list[Path] = []
    with Bucket(changeable.settings) as bucket:
        bucket.remove([f"{changeable.earlier.run_path}/reports/daily_activity.parquet"])

    def loaded(what: str, file: Path, *rest: Any) -> pa.Table:
        if not forgotten:
            forgotten.append(file)
            file.unlink()
        return load_stamped(what, file, *rest)

    monkeypatch.setattr(history, "load_stamped", loaded)
    with pytest.warns(UserWarning, match="its run is left out") as warned:
        found = read_history("daily_activity", settings=changeable.settings)
    assert list(found.attrs["runs"].values()) == ["later"]
    assert len(warned) == 1
    assert forgotten[0].exists()
