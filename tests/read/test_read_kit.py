"""The reading kit on the real Storage: which run, which part of it, as whom, and what it says when there is none."""

from __future__ import annotations

import os
import resource
import stat
import time
from dataclasses import replace
from datetime import date
from functools import partial

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tasks.contracts import DAILY_ACTIVITY, REPORTS, TABLES, Column
from tasks.errors import ConfigurationError, ReadError
from tasks.files.parquet import file_schema, report_schema
from tasks.read import list_runs, read_history, read_report, read_table
from tasks.settings import Settings
from tests.read.conftest import EARLIER, Bucketful, SignIn


def test_a_report_is_that_of_the_latest_run(published: Bucketful) -> None:
    daily = read_report("daily_activity", settings=published.settings)
    assert daily["date"].iloc[-1] == pd.Timestamp("2026-01-31")
    assert str(daily["date"].dtype).startswith("datetime64")
    for report in REPORTS:
        assert read_report(report.name, settings=published.settings).columns.tolist() == report.schema.names


def test_as_of_and_run_choose_another(published: Bucketful) -> None:
    settings = published.settings
    latest = read_report("data_quality", settings=settings)
    earlier = read_report("data_quality", run="earlier", settings=settings)
    assert not latest.equals(earlier)
    for as_of in ("2026-01-30", date(2026, 1, 30), "2026-01-31T00:00:00Z", EARLIER.as_of):
        assert read_report("data_quality", as_of=as_of, settings=settings).equals(earlier)
    for run in (published.earlier.run_path, published.earlier.path):
        assert read_report("data_quality", run=run, settings=settings).equals(earlier)


def test_columns_and_filters_on_each_engine(published: Bucketful) -> None:
    wanted = {"columns": ["date", "posts"], "filters": [("posts", ">", 60)]}
    frame = read_report("daily_activity", settings=published.settings, **wanted)  # type: ignore[call-overload]
    arrow = read_report("daily_activity", engine="arrow", settings=published.settings, **wanted)  # type: ignore[call-overload]
    polars = read_report("daily_activity", engine="polars", settings=published.settings, **wanted)  # type: ignore[call-overload]
    assert isinstance(arrow, pa.Table)
    assert isinstance(polars, pl.DataFrame)
    assert frame.columns.tolist() == arrow.column_names == polars.columns == ["date", "posts"]
    assert frame["posts"].tolist() == arrow["posts"].to_pylist() == polars["posts"].to_list()
    assert 0 < len(frame) < len(read_report("daily_activity", settings=published.settings))
    assert frame["posts"].min() > 60


def test_arrow_keeps_the_documented_schema(published: Bucketful) -> None:
    for report in REPORTS:
        table = read_report(report.name, engine="arrow", settings=published.settings)
        assert table.schema.equals(report_schema(report))
    for declared in TABLES:
        assert read_table(declared.name, engine="arrow", settings=published.settings).schema.equals(
            file_schema(declared)
        )


def test_a_whole_number_that_may_be_null_stays_one(published: Bucketful) -> None:
    statistics = read_report("user_statistics", settings=published.settings)
    assert str(statistics["posts_per_author_max"].dtype) == "Int64"
    assert str(statistics["total_posts"].dtype) == "int64"


def test_a_cleaned_table_is_all_its_parts(published: Bucketful) -> None:
    posts = read_table("posts", settings=published.settings)
    assert len(posts) == 400
    assert posts["id"].is_unique
    assert len(read_table("users", settings=published.settings)) == 40


def test_months_choose_files(published: Bucketful) -> None:
    settings = published.settings
    posts = read_table("posts", months=["2025-07", "2025-09"], settings=settings)
    assert set(posts["created_at"].dt.strftime("%Y-%m")) == {"2025-07", "2025-09"}
    assert len(list(settings.cache_dir.glob("*.parquet"))) == 2
    assert read_table("posts", months=[], columns=["id"], engine="polars", settings=settings).shape == (0, 1)


def test_runs_are_listed_latest_first(published: Bucketful) -> None:
    runs = list_runs(settings=published.settings)
    assert runs["run_id"].tolist() == ["later", "earlier"]
    assert runs["latest"].tolist() == [True, False]
    assert runs["date"].tolist() == ["2026-01-31", "2026-01-30"]
    assert str(runs["as_of"].dtype) == "datetime64[us, UTC]"
    assert runs["run"].tolist() == [published.later.run_path, published.earlier.run_path]
    assert list_runs(days=1, settings=published.settings)["run_id"].tolist() == ["later"]


def test_a_damaged_copy_is_downloaded_again(published: Bucketful) -> None:
    settings = published.settings
    first = read_report("signup_cohorts", settings=settings)
    (copy,) = settings.cache_dir.glob("*.parquet")
    copy.write_bytes(copy.read_bytes()[:-10])
    assert read_report("signup_cohorts", settings=settings).equals(first)


def test_a_disk_that_does_not_take_the_cache_is_a_sentence(published: Bucketful) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ConfigurationError, match=r"ETL_CACHE_DIR, .*/cache, cannot be written: File too large\."):
            read_report("signup_cohorts", settings=published.settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(published.settings.cache_dir.iterdir()) == []


def test_an_account_without_a_home_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_x")
    monkeypatch.setenv("ETL_CACHE_DIR", "~no-such-account/cache")
    with pytest.raises(ConfigurationError, match=r"ETL_CACHE_DIR, ~no-such-account/cache, is in a home"):
        read_report("daily_activity")


def test_the_cache_is_private_and_forgets(published: Bucketful) -> None:
    settings = published.settings
    read_report("author_activity", settings=settings)
    (copy,) = settings.cache_dir.glob("*.parquet")
    assert stat.S_IMODE(settings.cache_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    of_the_site = settings.cache_dir / "api"  # with the defaults it is there; a month without a download was an error
    of_the_site.mkdir()
    old = time.time() - 31 * 86_400
    for path in (copy, of_the_site):
        os.utime(path, (old, old))
    read_report("data_quality", settings=settings)
    assert not copy.exists()
    assert of_the_site.is_dir()


def test_an_analyst_reads_and_lists_with_the_public_key(
    published: Bucketful, public: Settings, sign_in: SignIn
) -> None:
    token = sign_in({"etl_role": "analyst"})
    assert len(read_report("daily_activity", access_token=token, settings=public)) == 245
    assert len(read_table("posts", access_token=token, settings=public)) == 400
    assert len(list_runs(access_token=f"{token}\n", settings=public)) == 2  # as a file has it


def test_a_customer_and_a_visitor_read_nothing(public: Settings, sign_in: SignIn) -> None:
    token = sign_in({"etl_role": "customer"})
    for access_token in (token, None):
        says = "who is no analyst" if access_token else "nobody is signed in"
        with pytest.raises(ReadError, match=says) as caught:
            read_report("daily_activity", access_token=access_token, settings=public)
        assert "etl_role" in str(caught.value) or access_token is None
        assert token not in str(caught.value)
        with pytest.raises(ReadError, match=says):
            list_runs(access_token=access_token, settings=public)
        with pytest.raises(ReadError, match=says):
            read_history("daily_activity", access_token=access_token, settings=public)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (
            lambda s: read_report("daily", settings=s),
            f"The reports are {', '.join(report.name for report in REPORTS)}.",
        ),
        (lambda s: read_table("clean_users", settings=s), f"They are {', '.join(table.name for table in TABLES)}."),
        (lambda s: read_table("users", months=["2026-01"], settings=s), "not split by month"),
        (lambda s: read_table("posts", months=["2026-1"], settings=s), "is not a month"),
        (lambda s: read_report("daily_activity", columns=["day"], settings=s), "It has date, new_users"),
        (lambda s: read_report("daily_activity", as_of="yesterday", settings=s), "as in ISO 8601"),
        (lambda s: read_report("daily_activity", as_of="2026-01-31T00:00", settings=s), "has no time zone"),
        (lambda s: read_report("daily_activity", as_of="2026-01-31", run="x", settings=s), "not by both"),
        (lambda s: read_report("daily_activity", settings=Settings(supabase_url="")), "SUPABASE_URL"),
    ],
)
def test_a_wrong_question_is_answered_with_the_right_ones(published: Bucketful, read: object, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(published.settings)  # type: ignore[operator]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "choice",
    [
        {"run": "none"},
        {"run": "runs/2026-01-31/none"},
        {"run": "../x"},
        {"run": "runs/2026-01-31/.."},
        {"run": "runs/2026-01-31"},
        {"run": ""},
        {"as_of": "2020-01-01"},
        {"as_of": "9999-12-31"},
        {"as_of": "0001-01-01"},
    ],
    ids=str,
)
def test_a_run_that_is_not_there_is_reported(published: Bucketful, choice: dict[str, str]) -> None:
    with pytest.raises(ReadError, match=r"There is no run|No run is as of") as caught:
        read_report("daily_activity", settings=published.settings, **choice)  # type: ignore[call-overload]
    assert "list_runs()" in caught.value.remedy


def test_columns_that_only_a_run_of_before_has_are_read(published: Bucketful, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since then `words` was removed and `edits` added."""
    kept = tuple(column for column in DAILY_ACTIVITY.columns if column.name != "words")
    now = replace(DAILY_ACTIVITY, version=2, columns=(*kept, Column("edits", "int", "Posts edited.")))
    read = partial(read_report, "daily_activity", settings=published.settings)
    before = read()["words"]
    monkeypatch.setattr("tasks.read.run.report_named", lambda _: now)
    assert read(columns=["words"])["words"].equals(before)
    with pytest.raises(ReadError, match="no column 'edits': the contract got it later"):
        read(columns=["edits"])
    with pytest.raises(ConfigurationError, match="no column wrods"):
        read(columns=["wrods"])
