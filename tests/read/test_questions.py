"""What a reader gets wrong: each answered with what is right, and never with other data than was asked for."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from flows.compare import compare_runs
from flows.export import make_file
from flows.forms import CompareForm, ExportForm
from tasks.errors import ConfigurationError, ReadError, ServiceUnavailable
from tasks.files.manifest import Manifest
from tasks.files.run_files import write_files
from tasks.platform.bucket import Bucket
from tasks.publish.pointer import repair_pointer
from tasks.publish.upload import publish
from tasks.read import OfflineWarning, diff, list_runs, open_run, read_report, read_table
from tasks.read.cache import Cache, forget
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tests.publish.builders import AS_OF, SNAPSHOT_AT, make_workspace
from tests.read.conftest import EARLIER, Bucketful, SignIn, later_of

Read = Callable[..., object]


@pytest.mark.parametrize(
    ("read", "options", "says"),
    [
        (read_report, {"asof": "2026-01-30"}, "Did you mean 'as_of'"),
        (read_report, {"column": ["date"]}, "Did you mean 'columns'"),
        (read_report, {"month": ["2026-01"]}, "unexpected keyword argument 'month'"),
        (read_table, {"month": ["2026-01"]}, "Did you mean 'months'"),
    ],
)
def test_an_unknown_option_is_a_type_error(
    published: Bucketful, read: Read, options: dict[str, Any], says: str
) -> None:
    name = "posts" if read is read_table else "daily_activity"
    with pytest.raises(TypeError, match=says):
        read(name, settings=published.settings, **options)


def test_an_unknown_option_of_open_run_is_a_type_error(published: Bucketful) -> None:
    run: Any = open_run
    with pytest.raises(TypeError, match="Did you mean 'as_of'"), run(settings=published.settings, asof="2026-01-30"):
        pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "spark"}, "They are pandas, arrow, polars"),
        ({"columns": "posts"}, r"As in columns=\[\"date\"\]"),
        ({"columns": ["posts", 3]}, "holds 3, which is not text"),
        ({"as_of": 20260131}, "as in ISO 8601"),
        ({"as_of": "2026-1-31"}, "as in ISO 8601"),
        ({"as_of": "31.01.2026"}, "as in ISO 8601"),
        ({"filters": [("posts", "~", 3)]}, r"cannot be applied to daily_activity: .* predicates\. They look like"),
        ({"filters": "posts > 3"}, "cannot be applied to daily_activity"),
        ({"filters": [("post", ">", 3)]}, "cannot be applied to daily_activity"),
        ({"filters": 3}, "cannot be applied to daily_activity"),
        ({"settings": 1}, "settings is of type int"),
        ({"settings": {}}, "settings is of type dict"),
    ],
)
def test_a_wrong_value_is_a_sentence(published: Bucketful, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read_report("daily_activity", **{"settings": published.settings, **options})


@pytest.mark.parametrize("months", ["2026-01", ["2026-13"], [1]])
def test_months_are_a_list_of_months(published: Bucketful, months: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"2026-01"):
        read_table("posts", months=months, settings=published.settings)


def test_what_a_run_does_not_have_is_named_with_what_it_has(changeable: Bucketful) -> None:
    settings = changeable.settings
    with pytest.raises(ReadError, match=r"does not have posts of 2019-01") as caught:
        read_table("posts", months=["2025-07", "2019-01"], settings=settings)
    tables = caught.value.remedy.rpartition(" and the tables ")[2].removesuffix(".").split(", ")
    assert {"posts from 2025-07 to 2025-07", "users"} <= set(tables)
    assert tables == sorted(tables)
    _drop(changeable, "reports/data_quality.parquet", "clean/users/part-000.parquet")
    reads: list[tuple[str, Read]] = [("the report data_quality", read_report), ("the cleaned table users", read_table)]
    for what, read in reads:
        with pytest.raises(ReadError, match=f"does not have {what}") as caught:
            read(what.split()[-1], settings=settings, run="earlier")
        assert "It has the reports author_activity" in caught.value.remedy


def _drop(bucketful: Bucketful, *paths: str) -> None:
    """Files out of the manifest of `earlier`, as an older version of this program would have left it."""
    with Bucket(bucketful.settings) as bucket:
        manifest = Manifest.model_validate_json(bucket.download(bucketful.earlier.path))
        files = tuple(entry for entry in manifest.files if entry.path not in paths)
        bucket.replace(manifest.path, manifest.model_copy(update={"files": files}).to_json())


def test_a_day_without_a_run_names_its_neighbours(published: Bucketful) -> None:
    with pytest.raises(ReadError, match="The nearest day with a run: 2026-01-31") as caught:
        read_report("daily_activity", as_of="2026-02-01", settings=published.settings)
    assert "a day names the run whose reports end with it" in caught.value.message


def test_a_frame_says_which_run_it_is_of(published: Bucketful) -> None:
    settings = published.settings
    daily = read_report("daily_activity", run="earlier", settings=settings)
    with Bucket(settings) as bucket:
        manifest = Manifest.model_validate_json(bucket.download(published.earlier.path))
    entry = manifest.file("reports/daily_activity.parquet")
    assert entry
    assert daily.attrs == {
        "run_id": "earlier", "run": published.earlier.run_path, "as_of": EARLIER.as_of.isoformat(),
        "sha256": entry.sha256,
    }  # fmt: skip
    users = read_table("users", settings=settings)
    assert list(users.attrs["sha256"]) == ["clean/users/part-000.parquet"]
    table = read_report("daily_activity", run="earlier", engine="arrow", settings=settings)
    assert table.schema.metadata[b"run_id"] == b"earlier"
    assert table.schema.metadata[b"sha256"].decode() == entry.sha256


def test_an_open_run_stays_the_same_while_others_are_committed(changeable: Bucketful, tmp_path: Path) -> None:
    settings = changeable.settings
    with open_run(settings=settings) as run:
        assert (run.run_id, run.as_of) == ("later", AS_OF)
        before = run.report("daily_activity")
        next_run = later_of(run_id="next", as_of=AS_OF + timedelta(days=1), snapshot_at=SNAPSHOT_AT + timedelta(days=1))
        workspace = make_workspace(tmp_path, "next", users=5, posts=9, seed=9)
        ref = publish(
            settings, workspace, next_run, write_files(workspace, as_of=AS_OF, settings=settings), RunCounts()
        )
        assert repair_pointer(settings, ref)
        assert read_report("daily_activity", settings=settings).attrs["run_id"] == "next"
        assert run.report("daily_activity").equals(before)
        frames = [run.report("author_activity"), run.table("users"), run.table("posts", months=["2025-07"])]
        assert {frame.attrs["run_id"] for frame in frames} == {"later"}
        with pytest.raises(TypeError, match="Did you mean 'columns'"):
            run.report("daily_activity", column=["date"])  # type: ignore[call-overload]


def test_a_token_of_another_project_is_not_taken_for_an_empty_bucket(public: Settings) -> None:
    token = _token(exp=time.time() + 600, app_metadata={"etl_role": "analyst"})
    reads: list[Read] = [list_runs, lambda **access: read_report("daily_activity", **access)]
    for read in reads:
        with pytest.raises(ReadError, match="refused the key or token") as caught:
            read(access_token=token, settings=public)
        assert token not in str(caught.value)


def _token(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("junk", "is not the token of a signed-in user"),
        ("e30.é.c2ln", "is not the token of a signed-in user"),
        ("a.b.c", "is not the token of a signed-in user"),
        (_token(), "is not the token of a signed-in user"),  # it says nothing at all
        (_token(exp=1_700_000_000, app_metadata={"etl_role": "analyst"}), r"expired at 2023-11-14 22:13 UTC"),
        (_token(app_metadata="analyst"), r"who is no analyst"),  # as a hook of the project's own may make it
    ],
)
def test_a_token_that_is_none_any_more_is_said(public: Settings, token: str, says: str) -> None:
    reads: list[Read] = [list_runs, lambda **access: read_report("daily_activity", **access)]
    for read in reads:
        with pytest.raises(ReadError, match=says) as caught:
            read(access_token=token, settings=public)
        assert token not in str(caught.value)
        assert "no run was committed" not in str(caught.value)


def test_an_empty_token_does_not_read_as_the_service(published: Bucketful) -> None:
    with pytest.raises(ReadError, match="is not the token of a signed-in user"):
        read_report("daily_activity", access_token="", settings=published.settings)


def test_what_was_read_once_is_read_without_a_network(published: Bucketful) -> None:
    settings = published.settings
    daily = read_report("daily_activity", settings=settings)
    earlier = read_report("daily_activity", as_of="2026-01-30", settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        # The same project by its name, with the network gone: every connection is refused.
        patch.setattr(httpx.HTTPTransport, "handle_request", _no_network)
        with pytest.warns(OfflineWarning, match="Reading what was downloaded before"):
            again = read_report("daily_activity", settings=settings)
        assert again.equals(daily)
        assert again.attrs == {**daily.attrs, "offline": True}
        with pytest.warns(OfflineWarning):
            assert read_report("daily_activity", as_of="2026-01-30", settings=settings).equals(earlier)
        with pytest.warns(OfflineWarning), pytest.raises(ServiceUnavailable, match=r"signup_cohorts\.parquet"):
            read_report("signup_cohorts", settings=settings)


@pytest.mark.parametrize(
    "make",
    [lambda of: make_file.fn(of, ExportForm(), of.cache_dir), lambda of: compare_runs.fn(of, CompareForm())],
)
def test_what_others_take_for_the_latest_run_is_never_what_this_machine_read_last(
    published: Bucketful, make: Callable[[Settings], object]
) -> None:
    settings = published.settings.model_copy(update={"retries": 3, "retry_base": 0.001})
    make(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.HTTPTransport, "handle_request", _no_network)
        with pytest.raises(ServiceUnavailable, match="Tried 4 times"):
            make(settings)


def _no_network(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host", request=request)


def test_the_cache_is_shared_by_processes_that_forget_at_the_same_time(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path / "cache")
    cache = Cache.of(settings)
    errors: list[BaseException] = []

    def churn() -> None:
        try:
            for _ in range(30):
                forget(cache.folder, days=-1)
        except BaseException as error:  # noqa: BLE001 - any of them is what this looks for
            errors.append(error)

    def fill() -> None:
        for number in range(300):
            (cache.folder / f"{number}.parquet").touch()

    threads = [threading.Thread(target=work) for work in (churn, churn, fill, churn)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_an_as_of_may_be_of_any_date_type(published: Bucketful) -> None:
    settings = published.settings
    choices = [
        date(2026, 1, 30),
        datetime.fromisoformat("2026-01-31T00:00:00+00:00"),
        pd.Timestamp("2026-01-31", tz="UTC"),
    ]
    for as_of in choices:
        assert read_report("data_quality", as_of=as_of, settings=settings).attrs["run_id"] == "earlier"


def test_an_analyst_sees_an_empty_bucket_as_empty(changeable: Bucketful, sign_in: SignIn) -> None:
    none = type(changeable.settings.supabase_key)("")
    settings = changeable.settings.model_copy(update={"supabase_service_key": none})
    with Bucket(changeable.settings) as bucket:
        bucket.remove([*(file.path for file in bucket.walk("runs")), "latest.json"])
    with pytest.warns(UserWarning, match="no run was committed yet"):
        assert list_runs(access_token=sign_in({"etl_role": "analyst"}), settings=settings).empty


@pytest.mark.parametrize("historical", [False, True])
def test_runs_that_no_pointer_names_yet_are_named(changeable: Bucketful, historical: bool) -> None:
    """As between the first commit and latest.json, or after a backfill alone: nobody had committed a run, it said."""
    settings = changeable.settings
    with Bucket(settings) as bucket:
        bucket.remove(["latest.json"])
        if historical:
            for ref in (changeable.earlier, changeable.later):
                body = json.loads(bucket.download(ref.path))
                bucket.replace(ref.path, json.dumps(body | {"historical": True}).encode())
    for ask in (read_report, lambda name, **access: diff(name, "earlier", **access)):
        with pytest.raises(ReadError) as raised:
            ask("daily_activity", settings=settings)
        assert "no run was committed" not in str(raised.value)
        assert ("for past instants alone" in str(raised.value)) == historical
        assert "run='later'" in raised.value.remedy
    assert list(list_runs(settings=settings)["run_id"]) == ["later", "earlier"]
    assert len(read_report("daily_activity", run="later", settings=settings))


def test_an_engine_that_is_not_installed_is_named_with_the_command(
    published: Bucketful, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)  # as Python marks a module that cannot be imported
    with pytest.raises(ConfigurationError, match="Polars, which is not installed") as raised:
        read_report("daily_activity", engine="polars", settings=published.settings)
    assert "pip install polars" in raised.value.remedy
